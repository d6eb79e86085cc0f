"""One measurement: what is to be run, in a process of its own, and what is reported of it."""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.tables import SHAPES, Shape
from cdc import stack
from cdc.config import Config, load
from cdc.position import Position

Figures = dict[str, Any]
Work = Callable[[], Figures]
PROFILE_LINES = 25


def configured(path: Path, servers: stack.Stack, name: str, tables: str, bootstrap: str = "") -> Path:
    """Write a pipeline's configuration; `tables` is one pattern, and without a broker's address the transport is the in-process one."""
    source, target = servers.source, servers.target
    transport = f'kind = "kafka"\nbootstrap = "{bootstrap}"' if bootstrap else 'kind = "direct"'
    path.write_text(f"""
[pipeline]
name = "{name}"
[source]
url = "mysql://cdc:${{CDC_SOURCE_PASSWORD}}@{source.host}:{source.port}/"
tables = ["{tables}"]
server_id = {100_000 + sum(name.encode())}
[target]
url = "postgresql://cdc:${{CDC_TARGET_PASSWORD}}@{target.host}:{target.port}/{target.settings.target_database}"
schema = "{name}"
[transport]
{transport}
[metrics]
listen = ""
""")
    return path


@dataclass(frozen=True, slots=True)
class Job:
    """A stage to measure, as one JSON argument of `python -m bench.stages`."""

    stage: str
    config_path: str
    label: str
    rows: int
    start: dict[str, object]
    """The position that the stage begins at."""
    end: dict[str, object]
    """The position that it has to reach."""
    log: dict[str, object]
    """The same place as `start`, with the log's file and offset."""
    profile: bool = False

    @property
    def config(self) -> Config:
        return load(self.config_path)

    @property
    def shape(self) -> Shape:
        return SHAPES[self.label]

    @property
    def first(self) -> Position:
        return Position.from_json(self.start)

    @property
    def last(self) -> Position:
        return Position.from_json(self.end)


class Failed(Exception):
    """A stage did not end well."""


def run(job: Job, environ: dict[str, str]) -> Figures:
    """Measure in a new process, so that memory is the stage's own."""
    command = [sys.executable, "-m", "bench.stages", json.dumps(asdict(job))]
    errors = None if job.profile else subprocess.PIPE
    env = {**os.environ, **environ}
    done = subprocess.run(command, check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env)
    if done.returncode != 0:
        raise Failed(f"{job.stage} of the {job.label} table ended with {done.returncode}:\n{(done.stderr or '')[-3000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(slots=True)
class Clock:
    """Time and CPU since it was started."""

    started: float = 0.0
    cpu: float = 0.0

    def start(self) -> Clock:
        self.started, self.cpu = time.perf_counter(), _cpu()
        return self

    def read(self) -> Figures:
        """What has passed."""
        return {"seconds": time.perf_counter() - self.started, "cpu_seconds": _cpu() - self.cpu}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(job: Job, work: Work) -> Figures:
    """Run the work and say what it took; what the work itself reports goes first."""
    clock = Clock().start()
    with _profiled(job):
        found = work()
    return figures(job.stage, job.shape, **{"rows": job.rows, **clock.read(), "peak_bytes": peak_bytes(), **found})


def figures(
    stage: str, shape: Shape, *, rows: int, seconds: float, cpu_seconds: float | None, peak_bytes: int | None, **more: Any
) -> Figures:
    """One line of results."""
    return {
        "stage": stage, "table": shape.label, "columns": len(shape.columns), "rows": rows, "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds), "cpu_seconds": cpu_seconds and round(cpu_seconds, 3),
        "cpu_seconds_per_million": cpu_seconds and round(cpu_seconds * 1e6 / rows, 2), "peak_mb": peak_bytes and round(peak_bytes / 2**20),
        **more,
    }  # fmt: skip


def peak_bytes(who: int = resource.RUSAGE_SELF) -> int:
    """The most memory that this process (or the largest of its children) has held."""
    return resource.getrusage(who).ru_maxrss * 1024


@contextmanager
def _profiled(job: Job) -> Iterator[None]:
    """With `profile`: cProfile of CPU time, of every thread that begins within, into bench/results, and its top on stderr."""
    if not job.profile:
        yield
        return
    profiles: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()

    threading.setprofile(begin)
    begin()
    try:
        yield
    finally:
        threading.setprofile(None)
        path = f"bench/results/{job.stage}-{job.label}.prof"
        stats = pstats.Stats(*profiles, stream=sys.stderr)
        stats.dump_stats(path)
        stats.sort_stats("tottime").print_stats(PROFILE_LINES)
        print(f"the whole profile: {path}", file=sys.stderr)
