"""One writer's seat: a connection that times its statements, counts the changes that stay,
and knows keys worth changing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from random import Random
from typing import Any

import pymysql
import pymysql.cursors

from cdc.demo.opendental.build import ConnectionArgs, connect
from cdc.demo.opendental.pace import Latency
from cdc.demo.opendental.rows import Filler
from cdc.demo.opendental.tables import BY_NAME

KEYS_KEPT = 4000
"""Keys remembered per table: the oldest and the newest ones at the start, then also those inserted since."""
TODAY = date(2026, 1, 5)
Tally = Counter[str]


class RolledBack(Exception):
    """Leaves a transaction by ROLLBACK, on purpose."""


class Keys:
    """Keys of one table that probably exist."""

    def __init__(self, rng: Random, keys: Sequence[int]) -> None:
        self.rng = rng
        self.keys = list(keys)

    def pick(self) -> int:
        return self.rng.choice(self.keys) if self.keys else 0

    def take(self) -> int:
        """A key that the caller is about to delete or change."""
        if not self.keys:
            return 0
        at = self.rng.randrange(len(self.keys))
        self.keys[at], self.keys[-1] = self.keys[-1], self.keys[at]
        return self.keys.pop()

    def add(self, keys: Sequence[int]) -> None:
        for key in keys:
            if len(self.keys) < KEYS_KEPT:
                self.keys.append(key)
            else:
                self.keys[self.rng.randrange(KEYS_KEPT)] = key


class Desk:
    """What an act works with. In a MyISAM practice a transaction is only a sequence of statements:
    each stays at once."""

    def __init__(self, connection_args: ConnectionArgs, database: str, engine: str, seed: int, rate: float) -> None:
        self.place = (connection_args, database)
        self.connection: pymysql.Connection[Any] | None = None
        self.transactional = engine.lower() == "innodb"
        self.seed, self.rng = seed, Random(f"{seed}/work")
        self.bulk_rows = int(min(400, max(120, 2 * rate))) if rate > 0 else 400
        self.kept, self.undone, self.pending = Tally(), Tally(), Tally()
        self.latency = Latency()
        self.acts = 0
        self._in_transaction = False
        self._last_key = 0
        self._keys: dict[str, Keys] = {}
        self._fillers: dict[tuple[str, bool], Filler] = {}

    # statements

    def run(self, verb: str, sql: str) -> int:
        """Executes one statement; its affected rows count as changes of the kind `verb`."""
        changed = self._execute(sql)
        self.pending[verb] += changed
        if not self._in_transaction:
            self._keep()
        return changed

    def update(self, table: str, change: str, where: str, verb: str = "update") -> int:
        return self.run(verb, f"UPDATE `{table}` SET {change} WHERE {where}")

    def delete(self, table: str, where: str) -> int:
        return self.run("delete", f"DELETE FROM `{table}` WHERE {where}")

    def insert(self, table: str, count: int = 1, **given: object) -> list[int]:
        """Inserts invented rows and returns their keys; `given` fixes columns,
        each by one literal or a list of them."""
        filler = self.filler(table)
        self.run(
            "insert", filler.insert(self.acts + 1, count, {name: _literals(value) for name, value in given.items()})
        )
        if not filler.spec.columns[0].automatic:
            return []
        keys = list(range(self._last_key, self._last_key + count))
        self.keys(table).add(keys)
        return keys

    def _execute(self, sql: str) -> int:
        start = time.perf_counter()
        try:
            with self._cursor() as cursor:
                cursor.execute(sql)
                self._last_key = int(cursor.lastrowid or 0)
                return cursor.rowcount
        finally:
            self.latency.add(time.perf_counter() - start)

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing on InnoDB; RolledBack, raised inside, undoes it there and is swallowed."""
        self._begin()
        try:
            yield
        except RolledBack:
            self.rollback()
        else:
            self._commit()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undoes what happens inside (InnoDB only)."""
        before = self.pending.copy()
        self._execute("SAVEPOINT corner")
        yield
        self._execute("ROLLBACK TO SAVEPOINT corner")
        self.undone += self.pending - before
        self.pending = before

    def rollback(self) -> None:
        """Leaves no open transaction behind; counts what it undid."""
        if self._in_transaction:
            self._in_transaction = False
            self.undone += self.pending
            self.pending = Tally()
            self._execute("ROLLBACK")

    def _begin(self) -> None:
        if self.transactional:
            self._execute("BEGIN")
            self._in_transaction = True

    def _commit(self) -> None:
        if self._in_transaction:
            self._execute("COMMIT")
            self._in_transaction = False
        self._keep()

    def _keep(self) -> None:
        self.kept += self.pending
        self.pending = Tally()

    # connection

    def open(self) -> None:
        """A new connection; what the one before it left open, the server undid."""
        self._in_transaction = False
        self.pending = Tally()
        self.connection = connect(*self.place)

    def close(self) -> None:
        if self.connection and self.connection.open:
            self.connection.close()

    def _cursor(self) -> pymysql.cursors.Cursor:
        if self.connection is None:
            raise pymysql.err.InterfaceError("the desk is not open")
        cursor: pymysql.cursors.Cursor = self.connection.cursor()
        return cursor

    # what to change, and into what

    def filler(self, table: str, with_key: bool = False) -> Filler:
        """Makes rows without timestamps and, unless asked for, keys: the server sets both."""
        if (table, with_key) not in self._fillers:
            spec = BY_NAME[table]
            left_out = [c.name for c in spec.columns if c.base == "timestamp" or (c.automatic and not with_key)]
            self._fillers[table, with_key] = Filler(spec, f"{self.seed}/work", 0.0, left_out)
        return self._fillers[table, with_key]

    def value(self, table: str, column: str) -> str:
        """An invented literal for the column."""
        return self.filler(table).fills[column](self.acts, 1)[0]

    def keys(self, table: str) -> Keys:
        """The table's known keys, read when they are first asked for."""
        if table not in self._keys:
            self._keys[table] = Keys(self.rng, self._read_keys(table, KEYS_KEPT // 2))
        return self._keys[table]

    def pick(self, table: str) -> int:
        return self.keys(table).pick()

    def take(self, table: str) -> int:
        return self.keys(table).take()

    def today(self, days: int = 0) -> str:
        """The practice's own calendar: 400 acts a day, so that a run's dates do not depend on the clock."""
        return f"'{TODAY + timedelta(self.acts // 400 % 3650 + days)}'"

    def _read_keys(self, table: str, limit: int) -> list[int]:
        key = BY_NAME[table].key[0]
        found: set[int] = set()
        for order in ("ASC", "DESC"):
            found.update(self.column(f"SELECT `{key}` FROM `{table}` ORDER BY `{key}` {order} LIMIT {limit}"))
        return sorted(found)

    def column(self, sql: str) -> list[Any]:
        """The first column of a SELECT; not timed: the practice's writes are what is measured."""
        with self._cursor() as cursor:
            cursor.execute(sql)
            return [row[0] for row in cursor.fetchall()]


def _literals(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
