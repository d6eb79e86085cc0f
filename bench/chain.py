"""Real `cdc` processes over a backlog, from their start until the target has it all: what they and the servers took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.job import Failed, Figures, figures, with_peaks
from bench.machine import Meter, peak_bytes, pids
from bench.tables import Shape
from cdc import stack
from cdc.config.load import load
from cdc.model.position import Position
from cdc.state.store import StateStore

COMMANDS: Mapping[str, Sequence[str]] = {"direct": ("run",), "kafka": ("capture", "apply")}
"""The ways from a log to a target, and the commands that go them."""
SINKS: Mapping[str, Sequence[str]] = {"sink": ("apply",), "sinks": ("apply", "apply")}
"""From topics to a target: one sink, and two that share the partitions."""
PROCESSES: Mapping[str, Sequence[str]] = {**COMMANDS, **SINKS}
"""Everything that is measured as processes of its own."""
LOOK_SECONDS = 0.1
STALLED_SECONDS = 600.0
"""So long without any progress is the end: one transaction of millions of rows arrives at once."""
_LOG_END = 2000


@dataclass(slots=True)
class Running:
    """Processes at work, by name; what they have used is known once they have ended."""

    processes: dict[str, subprocess.Popen[bytes]]
    logs: dict[str, Path]
    cpu_seconds: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.processes.items()}

    def check(self) -> None:
        """All are alive."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended with {process.returncode}: {self.said()}")

    def kill(self, name: str) -> None:
        """End one as a crash would; nobody asks after it any more."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def said(self) -> str:
        """The ends of their logs."""
        return "\n".join(f"{name}: {log.read_text()[-_LOG_END:]}" for name, log in self.logs.items())


@contextmanager
def running(commands: Mapping[str, Sequence[str | Path]], folder: Path, environ: Mapping[str, str]) -> Iterator[Running]:
    """The commands as processes for the length of the block, their output in `folder`."""
    found = Running({}, {name: folder / f"{name}.log" for name in commands})
    try:
        for name, command in commands.items():
            with found.logs[name].open("wb") as log:
                found.processes[name] = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environ}
                )
        yield found
    finally:
        found.peak_bytes = {name: peak_bytes(process.pid) for name, process in found.processes.items()}
        for process in found.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in found.processes.values():
            if process.returncode is None:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                found.cpu_seconds += usage.ru_utime + usage.ru_stime


def pipeline(commands: Sequence[str], config: Path) -> dict[str, Sequence[str | Path]]:
    """The command lines of `cdc` commands; one that is there twice has a number in its name."""
    names = [command if (nth := commands[:at].count(command)) == 0 else f"{command} {nth + 1}" for at, command in enumerate(commands)]
    return {name: [sys.executable, "-m", "cdc", "--config", config.resolve(), name.partition(" ")[0]] for name in names}


@dataclass(frozen=True, slots=True)
class Point:
    """How far it was when."""

    seconds: float
    rows: float
    cpu_seconds: float
    """Of the processes that are watched."""
    cpu: Mapping[str, float]
    """Of every process."""


def watched(rows: int, probe: Callable[[], float], processes: Running, meter: Meter) -> list[Point]:
    """Ask until `probe` says that so many rows have arrived."""
    points = [Point(0.0, 0.0, 0.0, dict.fromkeys(meter.pids, 0.0))]
    moved = time.perf_counter()
    while points[-1].rows < rows:
        time.sleep(LOOK_SECONDS)
        processes.check()
        found, now = probe(), time.perf_counter()
        if found != points[-1].rows:
            used = meter.cpu()
            points.append(Point(now - meter.began, found, sum(used[name] for name in processes.processes), used))
            moved = now
        elif now - moved > STALLED_SECONDS:
            raise Failed(f"{found:.0f} of {rows} rows, and nothing more for {STALLED_SECONDS:g} s: {processes.said()}")
    return points


def second_half(points: Sequence[Point]) -> Figures:
    """Rate and cost of our processes over the second half of the rows: without their start, and warm."""
    last = points[-1]
    middle = next(point for point in points if point.rows >= (points[0].rows + last.rows) / 2)
    if middle is last:  # all arrived at once
        return {}
    rows = last.rows - middle.rows
    return {
        "warm_rows_per_second": round(rows / (last.seconds - middle.seconds)),
        "warm_cpu_seconds_per_million": round(1e6 * (last.cpu_seconds - middle.cpu_seconds) / rows, 2),
    }


def drain(
    stage: str, servers: stack.Stack, shape: Shape, config: Path, backlog: tuple[int, Position], log_bytes: Callable[[Position], int]
) -> Figures:
    """The whole way of a backlog (rows, and the position at its end) by `cdc` processes, their start included.

    How far they are in between is taken from the bytes of the log that the target has.
    """
    rows, last = backlog
    loaded, end = load(config, {**os.environ, **servers.environ}), log_bytes(last)
    with StateStore(loaded.target, loaded.pipeline.name) as state:
        at = position(state)
        first = log_bytes(at)

        def probe() -> float:
            now = position(state)
            return rows if now.covers(last) else min(rows * (log_bytes_known(now) - first) / max(1, end - first), rows - 1)

        log_bytes_known = _remembering(log_bytes)
        with running(pipeline(PROCESSES[stage.partition("_")[0]], config), config.parent, servers.environ) as processes:
            meter = Meter({**pids(servers), **processes.pids()}, os.getpid())
            with meter.watching():
                points = watched(rows, probe, processes, meter)
            other = meter.other_load()
    found = figures(
        stage, shape, rows=rows, seconds=points[-1].seconds, cpu_seconds=points[-1].cpu_seconds,
        peak_bytes=max(processes.peak_bytes.values()), cpu=points[-1].cpu, other_load=other, **second_half(points),
    )  # fmt: skip
    return with_peaks(found, {**meter.peaks, **processes.peak_bytes})


def position(state: StateStore) -> Position:
    """How far the target is."""
    progress = state.read().progress
    if progress is None:
        raise Failed("the pipeline has no position: its table was not copied")
    return progress.position


def _remembering(log_bytes: Callable[[Position], int]) -> Callable[[Position], int]:
    """Asks the server once for each file."""
    below: dict[str, int] = {}

    def known(position: Position) -> int:
        if position.file not in below:
            below[position.file] = log_bytes(position) - position.offset
        return below[position.file] + position.offset

    return known
