"""Makes the practice: the database with its tables, then their rows, streamed in multi-row inserts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pymysql

from cdc.demo.opendental.columns import Spec
from cdc.demo.opendental.rows import Filler
from cdc.demo.opendental.tables import TABLES, rows_at

ConnectionArgs = Mapping[str, Any]
UNLOGGED = "SET SESSION sql_log_bin = 0"
STATEMENT_VALUES = 12_000
"""Values per INSERT: some 150 wide rows or 2,000 narrow ones, 100 to 400 kB, far below max_allowed_packet."""


def connect(connection_args: ConnectionArgs, database: str | None = None) -> pymysql.Connection[Any]:
    """A connection as the application opens it: lenient sql_mode (sentinel and zero dates), UTC, autocommit."""
    init = "SET sql_mode='', time_zone='+00:00'"
    return pymysql.connect(
        **{"charset": "utf8mb4", **connection_args}, database=database, autocommit=True, init_command=init
    )


def create(
    connection_args: ConnectionArgs,
    database: str = "opendental",
    engine: str = "MyISAM",
    *,
    replace: bool = False,
    log: bool = True,
) -> None:
    """Makes the database and its empty tables; a table that exists is an error,
    unless `replace` drops the database first."""
    with closing(connect(connection_args)) as connection, connection.cursor() as cursor:
        if not log:
            cursor.execute(UNLOGGED)
        if replace:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci")
        cursor.execute(f"USE `{database}`")
        for spec in TABLES:
            cursor.execute(spec.ddl(engine))


def load(
    connection_args: ConnectionArgs, database: str = "opendental", *, size: float = 1.0, seed: int = 1, log: bool = True
) -> dict[str, int]:
    """Fills the empty tables, the same rows for the same seed and size;
    returns the rows per table. Memory does not grow with the size."""
    with closing(connect(connection_args, database)) as connection, connection.cursor() as cursor:
        if not log:
            cursor.execute(UNLOGGED)
        for spec in TABLES:
            for statement in inserts(spec, size, seed):
                cursor.execute(statement)
    return {spec.name: rows_at(spec, size) for spec in TABLES}


def sample(
    connection_args: ConnectionArgs, database: str = "opendental", engine: str = "MyISAM", *, size: float = 1.0
) -> dict[str, int]:
    """Makes and fills the practice where the database has no table; the rows per table, none where it has one."""
    with closing(connect(connection_args)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s", (database,))
        (there,) = cursor.fetchone() or (0,)
    if there:
        return {}
    create(connection_args, database, engine)
    return load(connection_args, database, size=size)


def inserts(spec: Spec, size: float, seed: int) -> Iterator[str]:
    """The statements that fill one table."""
    total = rows_at(spec, size)
    filler = Filler(spec, str(seed), size)
    step = max(1, STATEMENT_VALUES // len(spec.columns))
    for first in range(1, total + 1, step):
        yield filler.insert(first, min(step, total + 1 - first))
