"""Tables that come and go beside the lane's own, and who writes into them: rows are only ever added, each once, with a number of its own.

So what a table has to hold at a place of the source's log can be said by its numbers alone, and a row that is there twice has a name.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
import pymysql

from tests.crash.workload import BULK_ROWS, patiently
from tests.helpers.servers import SourceDatabase, TargetDatabase

STILL = "still"
"""A table that nobody writes to, save that its newest row goes."""
FOREIGN_ROWS = 3
_COLUMNS = "op BIGINT NOT NULL, note VARCHAR(40) NULL"
_LARGE = 6
"""A large table has so many times the rows of `number`."""


@dataclass
class Comer:
    """One such table."""

    name: str
    keyed: bool
    foreign: bool = False
    """Whether rows of somebody else are in its place in the target."""
    selected: bool = True
    busy: bool = True
    """Whether rows are added now."""
    there: bool = True
    engine: str = "InnoDB"
    ever_away: bool = False
    """Whether it has left the selection at some time."""


class Comers:
    """The tables, and a writer at work for the length of a block."""

    def __init__(self, source: SourceDatabase, target: TargetDatabase, seed: int, *, myisam: bool, pause_seconds: float = 0.03) -> None:
        self.source, self.target, self._myisam, self._pause_seconds = source, target, myisam, pause_seconds
        self.tables: dict[str, Comer] = {}
        self.may_work = threading.Event()
        self.may_work.set()
        self.ahead_seconds = 0
        """How far the writer's session is in the future, or in the past."""
        self._rng, self._op = Random(f"comers {seed}"), 5_000_000_000
        self._lock, self._counter = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._guard, name="comers")

    def __enter__(self) -> Comers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self.may_work.set()
        self._thread.join()
        assert [] == self._errors

    def prepare(self) -> None:
        """What is there from the beginning: a table that is left alone, one with a key and one without."""
        self._create(Comer(STILL, keyed=True, busy=False), 5)
        self._create(Comer("keyed0", keyed=True), 10)
        self._create(Comer("keyless0", keyed=False), 10)

    def create(self, rng: Random, *, foreign: bool, large: bool = False) -> Comer:
        """One more table, of a few rows or of many; where it is to be in the target may be taken."""
        keyed = rng.random() < 0.6
        comer = Comer(f"{'keyed' if keyed else 'keyless'}{len(self.tables)}", keyed, foreign, busy=rng.random() < 0.7)
        if foreign:
            self.occupy(comer)
        self._create(comer, _LARGE * BULK_ROWS if large else rng.choice((0, 3, 3, _LARGE * BULK_ROWS)))
        return comer

    def occupy(self, comer: Comer) -> None:
        """Somebody else's rows are in its place."""
        key = " PRIMARY KEY" if comer.keyed else ""
        rows = ", ".join(f"({-number - 1}, 'foreign')" for number in range(FOREIGN_ROWS))
        self.target.execute(
            f'CREATE TABLE "{self.source.name}".{comer.name} (op bigint{key}, note varchar(40))',
            f'INSERT INTO "{self.source.name}".{comer.name} VALUES {rows}',
        )

    def empty_still(self) -> None:
        """The newest row of the table that is left alone goes."""
        patiently(lambda: self.source.execute(f"DELETE FROM {STILL} ORDER BY op DESC LIMIT 1"), self.source)

    def drop(self, comer: Comer) -> None:
        with self._lock:
            comer.there = comer.busy = False
        patiently(lambda: self.source.execute(f"DROP TABLE IF EXISTS {comer.name}"), self.source)

    def burst(self, rows: int) -> None:
        """Many small transactions at once, into the tables that are written to."""
        with self._lock:
            names = [comer.name for comer in self.tables.values() if comer.busy and comer.there]
        if not names:
            return

        def work() -> None:
            with closing(self.source.connect()) as line, line.cursor() as cursor:
                for _ in range(rows):
                    cursor.execute(f"INSERT INTO {self._rng.choice(names)} VALUES ({self._next()}, 'burst')")

        patiently(work, self.source)

    def judged(self) -> list[str]:
        """The tables whose numbers say what they have to hold."""
        with self._lock:
            named = [comer for comer in self.tables.values() if comer.name != STILL]
            return [comer.name for comer in named if comer.there and comer.engine == "InnoDB"]  # what MyISAM shows may not be logged yet

    def followed(self) -> list[str]:
        """Those that have to be consistent in the end."""
        return [comer.name for comer in self.tables.values() if comer.there and comer.selected and not comer.foreign]

    def always_selected(self) -> set[str]:
        """Those that never left the selection: nothing of them may be passed over."""
        with self._lock:
            return {comer.name for comer in self.tables.values() if comer.there and not comer.ever_away}

    def _create(self, comer: Comer, rows: int) -> None:
        comer.engine = "MyISAM" if self._myisam and self._rng.random() < 0.3 else "InnoDB"
        key = ", PRIMARY KEY (op)" if comer.keyed else ""
        statements = [f"CREATE TABLE {comer.name} ({_COLUMNS}{key}) ENGINE={comer.engine}"]
        if rows > BULK_ROWS:
            first = self._reserved(rows)
            parts = [f"SELECT {first + part * BULK_ROWS} + n, REPEAT('x', 30) FROM number" for part in range(rows // BULK_ROWS)]
            statements += [f"INSERT INTO {comer.name} {part}" for part in parts]
        elif rows:
            statements.append(f"INSERT INTO {comer.name} VALUES " + ", ".join(f"({self._next()}, 'first')" for _ in range(rows)))
        with self._lock:
            patiently(lambda: self.source.execute(*statements), self.source)
            self.tables[comer.name] = comer

    def _next(self) -> int:
        return self._reserved(1)

    def _reserved(self, count: int) -> int:
        with self._counter:
            self._op += count
            return self._op - count + 1

    def _guard(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with closing(self.source.connect()) as line, line.cursor() as cursor:
                        self._write(cursor)
                except (pymysql.err.OperationalError, pymysql.err.InterfaceError):
                    self._stop.wait(0.1)
        except BaseException as error:  # noqa: BLE001 - handed to the owner, whom it fails
            self._errors.append(error)

    def _write(self, cursor: Any) -> None:
        ahead = 0
        while not self._stop.wait(self._pause_seconds * self._rng.random() * 2):
            self.may_work.wait()
            if ahead != self.ahead_seconds:
                ahead = self.ahead_seconds
                cursor.execute(f"SET timestamp = {time.time() + ahead if ahead else 'DEFAULT'}")
            with self._lock:
                names = [comer.name for comer in self.tables.values() if comer.busy and comer.there]
                if names:
                    rows = ", ".join(f"({self._next()}, 'row')" for _ in range(self._rng.choice((1, 1, 3))))
                    cursor.execute(f"INSERT INTO {self._rng.choice(names)} VALUES {rows}")


def foreign_rows(target: TargetDatabase, schema: str, name: str) -> int:
    """How many of somebody else's rows are there still."""
    try:
        return int(target.execute(f'SELECT count(*) FROM "{schema}".{name} WHERE op < 0')[0][0])
    except psycopg.Error:
        return 0
