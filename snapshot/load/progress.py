"""How far a copy is, told truly after a restart too: rows by table and in all, their rate, the time that is left,
how long reads took."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from cdc.runtime import timing

Report = Callable[[str, int, int], None]
"""A table, the rows of it that are in the target, and how many there are by estimate (exactly, once it is copied)."""
Took = Callable[[float, bool], None]
"""Seconds of one read of the source, and whether writers waited meanwhile."""


class LoadStatus(NamedTuple):
    """How far a copy is."""

    rows: int
    estimate: int
    """Of all rows: the server's guess for tables under way, the count for those that are copied."""
    rows_per_second: float
    """Of the last half minute."""
    remaining_seconds: float | None
    """By that rate and that guess; None: nothing moves."""


class LoadProgress:
    """Counts for all workers of a copy; `report` is told of each table as it grows, `took` of each read."""

    def __init__(
        self, report: Report, took: Took = lambda seconds, locking: None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._took, self._clock = report, took, clock
        self._lock = threading.Lock()
        self._tables: dict[str, tuple[int, int]] = {}
        self._recent = deque([(clock(), 0)])
        self._reads = {True: array("d"), False: array("d")}

    def begin(self, table: str, rows: int, estimate: int) -> None:
        """So many rows of the table are in the target already."""
        with self._lock:
            self._set(table, rows, max(rows, estimate))

    def copied(self, table: str, rows: int) -> None:
        """So many more are committed."""
        with self._lock:
            now = self._clock()
            self._recent.append((now, rows))
            while len(self._recent) > 1 and self._recent[1][0] < now - timing.TIMES.rate_seconds:
                self._recent.popleft()
            before, estimate = self._tables[table]
            self._set(table, before + rows, max(before + rows, estimate))

    def finished(self, table: str) -> None:
        """The table is copied: as many rows are expected as there were."""
        with self._lock:
            rows, _ = self._tables[table]
            self._set(table, rows, rows)

    def left(self, table: str) -> None:
        """It is none of the copy any more."""
        with self._lock:
            self._set(table, 0, 0)

    def _set(self, table: str, rows: int, estimate: int) -> None:
        self._tables[table] = rows, estimate
        self._report(table, rows, estimate)

    def took(self, seconds: float, *, locking: bool) -> None:
        """One read of the source took so long, our own part included; `locking`: writers waited meanwhile."""
        with self._lock:
            self._reads[locking].append(seconds)
        self._took(seconds, locking)

    def standing(self) -> LoadStatus:
        """How far the copy is now."""
        with self._lock:
            rows, estimate = (
                (sum(column) for column in zip(*self._tables.values(), strict=True)) if self._tables else (0, 0)
            )
            passed = self._clock() - self._recent[0][0]
            rate = sum(count for _, count in list(self._recent)[1:]) / passed if passed > 0 else 0.0
        return LoadStatus(rows, estimate, rate, (estimate - rows) / rate if rate else None)

    def reads(self) -> dict[str, dict[str, float] | None]:
        """How long the source's tables were read at a time: those whose writers wait meanwhile, and the others."""
        with self._lock:
            return {name: _summary(self._reads[locking]) for name, locking in (("locking", True), ("other", False))}


def _summary(seconds: array[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    found = sorted(seconds)
    at = {"p50_seconds": 0.5, "p99_seconds": 0.99}
    places = {name: round(found[min(len(found) - 1, int(len(found) * share))], 6) for name, share in at.items()}
    return {"pieces": len(found), **places, "max_seconds": round(found[-1], 6)}
