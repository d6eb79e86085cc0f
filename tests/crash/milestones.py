"""What the source held at places of its log: once a position covers such a place, all of that has to be in the target.

The operations are read first, then the end of the log: a transaction that can be seen stands in the log already. So a place may
say too little of what is before it, never too much.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pymysql

from tests.crash.places import file_of
from tests.helpers.servers import SourceDatabase


class Milestones:
    """Looks at the source again and again for the length of a block; while it is away nothing is learned."""

    def __init__(self, source: SourceDatabase, pause_seconds: float = 0.3) -> None:
        self._source, self._pause_seconds = source, pause_seconds
        self._known: set[int] = set()
        self._found: list[tuple[tuple[int, int], set[int]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="milestones")

    def __enter__(self) -> Milestones:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, position: dict[str, Any]) -> set[int]:
        """The operations that were committed before a place that this position covers, but for those given before."""
        covered: set[int] = set()
        while self._found and file_of(position) >= self._found[0][0]:
            covered |= self._found.pop(0)[1]
        return covered

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                with closing(self._source.connect(connect_timeout=2, read_timeout=10)) as line, line.cursor() as cursor:
                    while not self._stop.wait(self._pause_seconds):
                        self._look(cursor)
            except pymysql.err.MySQLError:
                continue

    def _look(self, cursor: Any) -> None:
        cursor.execute("SELECT op FROM ledger")
        new = {op for (op,) in cursor.fetchall()} - self._known
        cursor.execute(STATUS[self._source.flavour])
        self._found.append((place_of(cursor.fetchone()), new))
        self._known |= new


def log_end(source: SourceDatabase) -> tuple[int, int]:
    """Where the log ends now: the number of its file, and the offset within it."""
    return place_of(source.execute(STATUS[source.flavour])[0])


STATUS = {"mysql": "SHOW BINARY LOG STATUS", "mariadb": "SHOW MASTER STATUS"}


def place_of(status: Any) -> tuple[int, int]:
    return file_of({"file": status[0], "offset": status[1]})
