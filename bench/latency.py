"""From the commit on the source to the row's appearance on the target, at a steady rate, for real `cdc` processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.job import Failed, Figures, figures
from bench.practice import connect
from bench.tables import Shape
from cdc import stack

Target = psycopg.Connection[tuple[Any, ...]]

RATE = 100.0
FIRST_KEY = 1_000_000_000
POLL_SECONDS = 0.001
_ARRIVAL_SECONDS = 60.0


@dataclass(slots=True)
class Watch:
    """When each of `count` keys from `key` on was committed and when it was first seen; one clock for both."""

    shape: Shape
    key: int
    count: int
    committed: dict[int, float] = field(default_factory=dict)
    seen: dict[int, float] = field(default_factory=dict)
    looks: list[float] = field(default_factory=list)
    """How long each look at the target took, the pause before it included."""
    failed: BaseException | None = None

    def milliseconds(self) -> list[float]:
        """Of every key, in order."""
        return sorted(1000 * (self.seen[key] - at) for key, at in self.committed.items())


@dataclass(slots=True)
class Ended:
    """What the processes of a pipeline have used."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


@contextmanager
def pipeline(commands: Sequence[str], config: Path, environ: dict[str, str]) -> Iterator[Ended]:
    """The commands as processes for the length of the block; what they used is known after it."""
    processes = [_start(command, config, environ) for command in commands]
    used = Ended()
    try:
        yield used
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
            used.cpu_seconds += usage.ru_utime + usage.ru_stime
            used.peak_bytes = max(used.peak_bytes, usage.ru_maxrss * 1024)


def _start(command: str, config: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with config.with_suffix(f".{command}.log").open("wb") as log:
        arguments = [sys.executable, "-m", "cdc.cli", "--config", str(config), command]
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environ})


def measure(
    servers: stack.Stack, shape: Shape, place: tuple[str, str], config: Path, commands: Sequence[str], seconds: float, key: int
) -> Figures:
    """`seconds` of single-row inserts, one a transaction; rows get keys from `key` on."""
    with pipeline(commands, config, servers.environ) as used, closing(psycopg.connect(servers.target_admin_url, autocommit=True)) as target:
        _run(servers, target, shape, place, key, 1)  # the pipeline is up when the first change is there
        watch = _run(servers, target, shape, place, key + 1, max(1, round(RATE * seconds)))
    ordered = watch.milliseconds()
    lost = len(watch.committed) - len(ordered)
    return figures(
        f"latency_{'kafka' if len(commands) > 1 else 'direct'}", shape, rows=len(ordered), seconds=seconds, cpu_seconds=None,
        peak_bytes=used.peak_bytes, p50_ms=_share(ordered, 0.5), p99_ms=_share(ordered, 0.99), max_ms=round(ordered[-1], 1), lost=lost,
        resolution_ms=_share(sorted(1000 * look for look in watch.looks), 0.5), process_cpu_seconds=round(used.cpu_seconds, 2),
    )  # fmt: skip


def _share(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)


def _run(servers: stack.Stack, target: Target, shape: Shape, place: tuple[str, str], key: int, count: int) -> Watch:
    watch = Watch(shape, key, count)
    writer = threading.Thread(target=_write, args=(servers, watch))
    writer.start()
    try:
        _look(target, place, watch)
    finally:
        writer.join()
    return watch


def _write(servers: stack.Stack, watch: Watch) -> None:
    try:
        with closing(connect(servers)) as connection, connection.cursor() as cursor:
            started = time.perf_counter()
            for number in range(watch.count):
                time.sleep(max(0.0, started + number / RATE - time.perf_counter()))
                cursor.execute(watch.shape.insert_one(watch.key + number, number))
                watch.committed[watch.key + number] = time.perf_counter()
    except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
        watch.failed = error


def _look(target: Target, place: tuple[str, str], watch: Watch) -> None:
    """Ask for the next keys until all were seen."""
    name = sql.Identifier(watch.shape.key)
    text = sql.SQL("SELECT {} FROM {} WHERE {} >= %s AND {} < %s ORDER BY 1").format(name, sql.Identifier(*place), name, name)
    query, next_key, end = text.as_bytes(target), watch.key, watch.key + watch.count
    before = time.perf_counter()
    deadline = before + watch.count / RATE + _ARRIVAL_SECONDS
    while next_key < end:
        time.sleep(POLL_SECONDS)
        rows = target.execute(query, [next_key, end]).fetchall()
        now = time.perf_counter()
        watch.looks.append(now - before)
        before = now
        for (found,) in rows:
            watch.seen[found] = now
            next_key = found + 1
        if watch.failed is not None:
            raise watch.failed
        if now > deadline:
            missing = watch.count - len(watch.seen)
            raise Failed(
                f"{missing} of {watch.count} changes of the {watch.shape.label} table did not arrive within {_ARRIVAL_SECONDS:g} s"
            )
