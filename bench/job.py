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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import Meter, peak_bytes
from bench.tables import SHAPES, Shape
from cdc import stack
from cdc.config.load import Config, load
from cdc.model.position import Position

Figures = dict[str, Any]
Work = Callable[[], Figures]
PROFILE_LINES = 25


def configured(path: Path, servers: stack.Stack, name: str, tables: str, bootstrap: str = "", shards: int = 0) -> Path:
    """Write a pipeline's configuration; `tables` is one pattern, and without a broker's address the transport is the in-process one.

    `shards`: so many sinks share two partitions; 0: topics have one partition, for one sink.
    """
    source, target = servers.source, servers.target
    transport = f'kind = "kafka"\nbootstrap = "{bootstrap}"' if bootstrap else 'kind = "direct"'
    transport += "\npartitions = 2" if shards else ""
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
[apply]
shards = {shards if shards > 1 else 0}
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
    servers: dict[str, int]
    """The servers' processes, whose CPU time is taken with ours."""
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


class Clock:
    """Time and CPU since it was started: our own, and that of the servers."""

    def __init__(self, servers: Mapping[str, int]) -> None:
        self._meter = Meter(servers, os.getppid())
        self.start()

    def start(self) -> None:
        """From here on."""
        self._meter.begin()
        self._started, self._cpu = time.perf_counter(), _cpu()

    def read(self) -> Figures:
        """What has passed."""
        seconds, own = time.perf_counter() - self._started, _cpu() - self._cpu
        return {"seconds": seconds, "cpu_seconds": own, "cpu": self._meter.cpu(), "other_load": self._meter.other_load(own)}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(job: Job, work: Work) -> Figures:
    """Run the work and say what it took; what the work itself reports goes first."""
    clock = Clock(job.servers)
    with _profiled(job):
        found = work()
    told = {"rows": job.rows, **clock.read(), "peak_bytes": peak_bytes(), **found}
    if told["rows"] != job.rows:
        raise Failed(f"{job.stage} of the {job.label} table carried {told['rows']} of {job.rows} rows")
    return figures(job.stage, job.shape, **told)


def figures(
    stage: str, shape: Shape, *, rows: int, seconds: float, cpu_seconds: float | None, peak_bytes: int | None,
    cpu: Mapping[str, float] | None = None, **more: Any,
) -> Figures:  # fmt: skip
    """One line of results; `cpu` holds the CPU seconds of the processes beside ours, or of each of ours."""
    processes = {name: {"cpu_seconds_per_million": round(used * 1e6 / rows, 2)} for name, used in (cpu or {}).items()}
    return {
        "stage": stage, "table": shape.label, "columns": len(shape.columns), "engine": shape.engine, "rows": rows,
        "seconds": round(seconds, 3), "rows_per_second": round(rows / seconds), "cpu_seconds": cpu_seconds and round(cpu_seconds, 3),
        "cpu_seconds_per_million": cpu_seconds and round(cpu_seconds * 1e6 / rows, 2), "peak_mb": peak_bytes and megabytes(peak_bytes),
        "processes": processes, **more,
    }  # fmt: skip


def with_bytes(found: Figures, size: int) -> Figures:
    """The same with MB/s of log (or of table, for a load), which holds `size` bytes for these rows."""
    return {**found, "row_bytes": round(size / found["rows"]), "mb_per_second": round(size / found["seconds"] / 1e6, 1)}


def with_peaks(found: Figures, peaks: Mapping[str, int]) -> Figures:
    """The same with the most memory of each process."""
    processes = {name: {**known, "peak_mb": megabytes(peaks[name])} for name, known in found["processes"].items()}
    return {**found, "processes": processes}


def megabytes(size: int) -> int:
    """Whole MiB."""
    return round(size / 2**20)


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
        path = Path(f"bench/results/{job.stage}-{job.label}.prof")
        path.parent.mkdir(exist_ok=True)
        stats = pstats.Stats(*profiles, stream=sys.stderr)
        stats.dump_stats(path)
        stats.sort_stats("tottime").print_stats(PROFILE_LINES)
        print(f"the whole profile: {path}", file=sys.stderr)
