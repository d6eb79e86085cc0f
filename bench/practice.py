"""Whoever writes on the source: makes the tables, the backlogs, and single changes."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import psycopg
import pymysql
from pymysql.connections import Connection

from bench.job import Failed
from bench.tables import DATABASE, ROUND, SEEDS, Shape, transactions
from cdc import stack
from cdc.model.position import Position


def connect(servers: stack.Stack) -> Connection[Any]:
    """As root, lenient as the application, in UTC."""
    return pymysql.connect(
        host=servers.source.host, port=servers.source.port, user="root", password=servers.environ["CDC_SOURCE_ADMIN_PASSWORD"],
        autocommit=True, charset="utf8mb4", init_command="SET sql_mode='', time_zone='+00:00'",
    )  # fmt: skip


class Practice:
    """Fills and changes one table at a time; each method that writes returns how many rows it changed."""

    def __init__(self, servers: stack.Stack, shape: Shape) -> None:
        self._servers, self._shape = servers, shape

    def prepare(self, rows: int) -> None:
        """The seed rows, which are not in the log, and the table with as many rows, newly made."""
        shape = self._shape
        self._run(
            "SET sql_log_bin = 0", f"CREATE DATABASE IF NOT EXISTS {SEEDS}", *shape.create(shape.seed), *shape.fill_seed(),
            "SET sql_log_bin = 1", f"CREATE DATABASE IF NOT EXISTS {DATABASE}", *shape.create(shape.name),
        )  # fmt: skip
        self.insert(0, rows)

    def forget(self) -> None:
        """The table goes; the log stays."""
        self._run(f"DROP TABLE IF EXISTS {self._shape.name}")

    def insert(self, low: int, high: int) -> int:
        """New rows, 1000 a transaction."""
        return self._run(*(self._shape.insert(*one) for one in transactions(low, high)))

    def insert_singly(self, low: int, high: int) -> int:
        """New rows, each by a statement and in a transaction of its own; the server does not wait for its disk meanwhile."""
        self._run("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        count = self._run(*(self._shape.insert(*one) for one in transactions(low, high, 1)))
        self._run("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        return count

    def insert_at_once(self, low: int, high: int) -> int:
        """New rows, all in one transaction."""
        return self._run(*(self._shape.insert(*one) for one in transactions(low, high)), together=True)

    def update(self, low: int, high: int) -> int:
        """Changed rows, 1000 a transaction."""
        return self._run(*(self._shape.update(*one) for one in transactions(low, high)))

    def mixed(self, rows: int, changes: int) -> int:
        """Inserts, updates and deletes in turn on a table of `rows` rows, 1000 changes a transaction."""
        rounds, at_once = changes // sum(ROUND), 10
        with closing(connect(self._servers)) as line, line.cursor() as cursor:
            count = 0
            for first in range(0, rounds, at_once):
                cursor.execute("BEGIN")
                for number in range(first, min(first + at_once, rounds)):
                    count += sum(cursor.execute(statement) for statement in self._shape.mixed(number, rounds, rows))
                cursor.execute("COMMIT")
        return count

    def compare(self, schema: str, seconds: float = 0.0) -> None:
        """What the table amounts to in a schema of the target is what it amounts to here, within so many seconds."""
        wanted, deadline = self._sums(), time.monotonic() + seconds
        while (found := self._arrived(schema)) != wanted:
            if time.monotonic() >= deadline:
                raise Failed(f"{schema}: rows, keys and values amount to {found}, and to {wanted} at the source")
            time.sleep(0.1)

    def _sums(self) -> tuple[float, ...]:
        with closing(connect(self._servers)) as line, line.cursor() as cursor:
            cursor.execute(self._question(self._shape.name, ""))
            return tuple(float(value or 0) for value in cursor.fetchone())

    def _arrived(self, schema: str) -> tuple[float, ...]:
        with psycopg.connect(self._servers.target_admin_url) as target:
            row = target.execute(self._question(f"{schema}.{self._shape.table}", '"').encode()).fetchone() or ()
            return tuple(float(value or 0) for value in row)

    def _question(self, table: str, quote: str) -> str:
        key, checked = (f"{quote}{name}{quote}" for name in (self._shape.key, self._shape.checked))
        return f"SELECT COUNT(*), SUM({key}), SUM({checked}) FROM {table}"

    def table_bytes(self) -> int:
        """How large its rows are in the engine's files, about."""
        with closing(connect(self._servers)) as line, line.cursor() as cursor:
            cursor.execute(f"ANALYZE TABLE {self._shape.name}")
            cursor.execute(
                "SELECT data_length FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
                (DATABASE, self._shape.table),
            )
            return int(cursor.fetchone()[0])

    def start_log_anew(self) -> None:
        """Whoever reads the log from its beginning finds only what is written from here on."""
        try:
            self._run("RESET MASTER")
        except pymysql.err.ProgrammingError:  # MySQL 8.4 and newer
            self._run("RESET BINARY LOGS AND GTIDS")

    def log_bytes(self, position: Position | None = None) -> int:
        """How many bytes the log holds, or holds below a position."""
        with closing(connect(self._servers)) as line, line.cursor() as cursor:
            cursor.execute("SHOW BINARY LOGS")
            sizes = {row[0]: int(row[1]) for row in cursor.fetchall()}
        if position is None:
            return sum(sizes.values())
        return sum(size for name, size in sizes.items() if name < position.file) + position.offset

    def _run(self, *statements: str, together: bool = False) -> int:
        with closing(connect(self._servers)) as connection, connection.cursor() as cursor:
            connection.autocommit(not together)
            count: int = sum(cursor.execute(statement) for statement in statements)
            connection.commit()
            return count
