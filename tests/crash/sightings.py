"""What the source was seen to hold, when, and where its log ended then: the truth by which positions, lags and states are judged.

The rows are read first, then the end of the log: what can be seen stands in the log already. So a sighting may say too little of what
is before its place, never too much.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, NamedTuple

import pymysql

from tests.crash.milestones import STATUS, place_of
from tests.crash.places import file_of
from tests.helpers.servers import SourceDatabase


class Sighting(NamedTuple):
    """New rows, by table."""

    place: tuple[int, int]
    at: float
    """By the monotonic clock: they were committed by then."""
    ops: dict[str, set[int]]


class Sightings:
    """Looks at the source again and again for the length of a block; while it is away nothing is learned."""

    def __init__(self, source: SourceDatabase, tables: Callable[[], Iterable[str]], pause_seconds: float = 0.1) -> None:
        self._source, self._tables, self._pause_seconds = source, tables, pause_seconds
        self._known: dict[str, set[int]] = {}
        self._waiting: list[Sighting] = []
        self._owed: dict[str, set[int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightings")

    def __enter__(self) -> Sightings:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def owed(self, position: dict[str, Any]) -> dict[str, set[int]]:
        """By table, the rows that were committed before this position."""
        reached = file_of(position)
        with self._lock:
            while self._waiting and self._waiting[0].place <= reached:
                for table, ops in self._waiting.pop(0).ops.items():
                    self._owed.setdefault(table, set()).update(ops)
        return self._owed

    def oldest_missing(self, table: str, there: set[int]) -> float | None:
        """When the oldest row beyond the last position was seen that is not there: so old is what is missing, at least."""
        with self._lock:
            return next((sighting.at for sighting in self._waiting if sighting.ops.get(table, set()) - there), None)

    def now(self, cursor: Any) -> dict[str, set[int]]:
        """All rows that can be seen at this moment."""
        return {table: ops for table in self._tables() if (ops := _ops(cursor, table)) is not None}

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                with closing(self._source.connect(connect_timeout=2, read_timeout=10)) as line, line.cursor() as cursor:
                    while not self._stop.wait(self._pause_seconds):
                        self._look(cursor)
            except pymysql.err.MySQLError:
                continue

    def _look(self, cursor: Any) -> None:
        new = {table: ops - self._known.setdefault(table, set()) for table, ops in self.now(cursor).items()}
        at = time.monotonic()
        cursor.execute(STATUS[self._source.flavour])
        with self._lock:
            self._waiting.append(Sighting(place_of(cursor.fetchone()), at, {table: ops for table, ops in new.items() if ops}))
        for table, ops in new.items():
            self._known[table] |= ops


def _ops(cursor: Any, table: str) -> set[int] | None:
    try:
        cursor.execute(f"SELECT op FROM {table}")
    except pymysql.err.ProgrammingError:
        return None  # it is gone by now
    return {op for (op,) in cursor.fetchall()}
