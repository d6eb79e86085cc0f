"""Whoever writes on the source: makes the tables, the backlogs, and single changes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pymysql
from pymysql.connections import Connection

from bench.tables import DATABASE, SEEDS, Shape, transactions
from cdc import stack


def connect(servers: stack.Stack) -> Connection[Any]:
    """As root, lenient as the application, in UTC."""
    return pymysql.connect(
        host=servers.source.host, port=servers.source.port, user="root", password=servers.environ["CDC_SOURCE_ADMIN_PASSWORD"],
        autocommit=True, charset="utf8mb4", init_command="SET sql_mode='', time_zone='+00:00'",
    )  # fmt: skip


class Practice:
    """Fills and changes one table at a time."""

    def __init__(self, servers: stack.Stack) -> None:
        self._servers = servers

    def prepare(self, shape: Shape) -> None:
        """The seed rows, which are not in the log, and the empty table."""
        self._run(
            "SET sql_log_bin = 0", f"CREATE DATABASE IF NOT EXISTS {SEEDS}", *shape.create(shape.seed), *shape.fill_seed(),
            "SET sql_log_bin = 1", f"CREATE DATABASE IF NOT EXISTS {DATABASE}", *shape.create(shape.name),
        )  # fmt: skip

    def insert(self, shape: Shape, low: int, high: int) -> None:
        """New rows, 1000 a transaction."""
        self._run(*(shape.insert(*one) for one in transactions(low, high)))

    def insert_singly(self, shape: Shape, low: int, high: int) -> None:
        """New rows, each in a transaction of its own; the server does not wait for its disk meanwhile."""
        self._run("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        self._run(*(shape.insert(*one) for one in transactions(low, high, 1)))
        self._run("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")

    def update(self, shape: Shape, low: int, high: int) -> None:
        """Changed rows, 1000 a transaction."""
        self._run(*(shape.update(*one) for one in transactions(low, high)))

    def _run(self, *statements: str) -> None:
        with closing(connect(self._servers)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
