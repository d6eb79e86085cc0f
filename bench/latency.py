"""From the commit on the source to the row's appearance on the target, at a steady rate, for real processes, idle and beside load."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from bench.chain import Running
from bench.job import Failed, Figures, figures, with_peaks
from bench.machine import Meter, pids
from bench.practice import connect
from bench.tables import Shape
from cdc import stack

Target = psycopg.Connection[tuple[Any, ...]]

FIRST_KEY, FIRST_LOAD_KEY = 1_000_000_000, 2_000_000_000
POLL_SECONDS = 0.001
LOAD_ROWS, LOAD_PER_SECOND = 100, 20
"""The load beside: rows a transaction, transactions a second."""
WARM_SECONDS = 3.0
"""Of the same work, before anything is measured; never longer than what is measured."""
_ARRIVAL_SECONDS = 300.0


@dataclass(slots=True)
class Watch:
    """When each of `count` keys from `key` on was committed and when it was first seen; one clock for both."""

    shape: Shape
    key: int
    count: int
    rate: float
    committed: dict[int, float] = field(default_factory=dict)
    seen: dict[int, float] = field(default_factory=dict)
    looks: list[float] = field(default_factory=list)
    """How long each look at the target took, the pause before it included."""
    failed: BaseException | None = None

    def milliseconds(self) -> list[float]:
        """Of every key, in order."""
        return sorted(1000 * (self.seen[key] - at) for key, at in self.committed.items())


@dataclass(slots=True)
class Load:
    """Rows that others write meanwhile."""

    rows: int = 0
    failed: BaseException | None = None


class Latency:
    """Single changes through one running pipeline; keys are never used twice."""

    def __init__(self, servers: stack.Stack, shape: Shape, place: tuple[str, str], rate: float) -> None:
        """`place` is the schema and the table where rows appear, `rate` changes a second, one a transaction."""
        self._servers, self._shape, self._place, self._rate = servers, shape, place, rate
        self._key, self._load_key = FIRST_KEY, FIRST_LOAD_KEY

    def measure(self, name: str, processes: Running, seconds: float, warm_seconds: float = WARM_SECONDS) -> Iterator[Figures]:
        """First idle, then beside load, each after some time of the same work: two lines of results."""
        warm = max(1, round(self._rate * min(warm_seconds, seconds)))
        with closing(psycopg.connect(self._servers.target_admin_url, autocommit=True)) as target:
            self._run(target, 1, processes)  # the pipeline is up when the first change is there
            yield self._figures(f"latency_{name}", target, processes, (warm, seconds), Load())
            with self._beside() as load:
                yield self._figures(f"latency_{name}_loaded", target, processes, (warm, seconds), load)

    def _figures(self, stage: str, target: Target, processes: Running, spans: tuple[int, float], load: Load) -> Figures:
        warm, seconds = spans
        self._run(target, warm, processes)
        meter, count = Meter({**pids(self._servers), **processes.pids()}, os.getpid()), max(1, round(self._rate * seconds))
        before = load.rows
        with meter.watching():
            watch = self._run(target, count, processes)
        took, used, ordered = time.perf_counter() - meter.began, meter.cpu(), watch.milliseconds()
        found = figures(
            stage, self._shape, rows=count, seconds=took, cpu_seconds=sum(used[name] for name in processes.processes), peak_bytes=None,
            p50_ms=_share(ordered, 0.5), p99_ms=_share(ordered, 0.99), max_ms=round(ordered[-1], 1), lost=count - len(ordered),
            resolution_ms=_share(sorted(1000 * look for look in watch.looks), 0.5), cpu=used, other_load=meter.other_load(),
            load_rows_per_second=round((load.rows - before) / took), changes_per_second=self._rate,
            cpu_percent={name: round(100 * seconds_used / took, 1) for name, seconds_used in used.items()},
        )  # fmt: skip
        found["peak_mb"] = max(round(meter.peaks[name] / 2**20) for name in processes.processes)
        return with_peaks(found, meter.peaks)

    def _run(self, target: Target, count: int, processes: Running) -> Watch:
        watch = Watch(self._shape, self._key, count, self._rate)
        self._key += count
        writer = threading.Thread(target=_write, args=(self._servers, watch))
        writer.start()
        try:
            _look(target, self._place, watch, processes)
        finally:
            writer.join()
        if watch.failed is not None:
            raise watch.failed
        return watch

    @contextmanager
    def _beside(self) -> Iterator[Load]:
        """For the length of the block, 20 transactions of 100 rows a second."""
        load, stop = Load(), threading.Event()
        thread = threading.Thread(target=self._write_load, args=(load, stop))
        thread.start()
        try:
            yield load
        finally:
            stop.set()
            thread.join()
        if load.failed is not None:
            raise load.failed

    def _write_load(self, load: Load, stop: threading.Event) -> None:
        try:
            with closing(connect(self._servers)) as line, line.cursor() as cursor:
                started, number = time.perf_counter(), 0
                while not stop.wait(max(0.0, started + number / LOAD_PER_SECOND - time.perf_counter())):
                    load.rows += cursor.execute(self._shape.insert(self._load_key, self._load_key + LOAD_ROWS))
                    self._load_key += LOAD_ROWS
                    number += 1
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            load.failed = error


def _share(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)


def _write(servers: stack.Stack, watch: Watch) -> None:
    try:
        with closing(connect(servers)) as connection, connection.cursor() as cursor:
            started = time.perf_counter()
            for number in range(watch.count):
                time.sleep(max(0.0, started + number / watch.rate - time.perf_counter()))
                cursor.execute(watch.shape.insert_one(watch.key + number, number))
                watch.committed[watch.key + number] = time.perf_counter()
    except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
        watch.failed = error


def _look(target: Target, place: tuple[str, str], watch: Watch, processes: Running) -> None:
    """Ask for the next keys until all were seen."""
    name = sql.Identifier(watch.shape.key)
    text = sql.SQL("SELECT {} FROM {} WHERE {} >= %s AND {} < %s ORDER BY 1").format(name, sql.Identifier(*place), name, name)
    query, next_key, end = text.as_bytes(target), watch.key, watch.key + watch.count
    before = time.perf_counter()
    deadline = before + watch.count / watch.rate + _ARRIVAL_SECONDS
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
            processes.check()
            missing = watch.count - len(watch.seen)
            raise Failed(
                f"{missing} of {watch.count} changes of the {watch.shape.label} table did not arrive within {_ARRIVAL_SECONDS:g} s"
            )
