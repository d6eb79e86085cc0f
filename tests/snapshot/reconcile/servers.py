"""One table on a source and on the target, written by plain SQL text on each: no code of ours carries a value across."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from pymysql.connections import Connection

from cdc.config.load import ServerUrl, SourceConfig
from cdc.model import types
from cdc.model.digest import MYSQL, POSTGRES
from cdc.model.table import Table
from cdc.mysql.connection import connect
from sinks.postgres.checksums import PostgresSide
from snapshot.reconcile.checksums import SourceSide
from tests.helpers.servers import SourceDatabase, TargetDatabase, lent


def reader(source: SourceDatabase) -> Connection[Any]:
    """The connection that verification reads by: the product's own, as the account that may only read."""
    url = ServerUrl("mysql", source.host, source.port, source.user, source.password)
    return connect(SourceConfig(url=url, tables=("*.*",), server_id=4711), raw=True)


class Pair:
    """A database on the source and a schema of the same name on the target, and how to fill and compare tables in them."""

    def __init__(self, source: SourceDatabase, postgres: TargetDatabase, read: Connection[Any]) -> None:
        self.source, self.postgres, self._read = source, postgres, read
        self._line = postgres.connect()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def flavour(self) -> str:
        return self.source.flavour

    def on_source(self, *statements: str) -> None:
        self.source.execute(*statements)

    def on_target(self, *statements: str) -> None:
        for statement in statements:
            self._line.execute(statement.encode())

    def on_both(self, *statements: str) -> None:
        """Statements that mean the same to both: bare identifiers, plain literals."""
        self.on_source(*statements)
        self.on_target(*statements)

    def create(self, table: Table, ddl: Sequence[str], options: str = "") -> None:
        """Make an empty table on both sides; `ddl` are the source's column types, the target's are the product's."""
        columns = [f"{MYSQL.quote(c.name)} {d}" for c, d in zip(table.columns, ddl, strict=True)]
        if table.key:
            columns.append("PRIMARY KEY (" + ", ".join(MYSQL.quote(table.columns[i].name) for i in table.key) + ")")
        name = f"{MYSQL.quote(table.db)}.{MYSQL.quote(table.name)}"
        self.on_source(f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({', '.join(columns)}) {options}")
        self._create_target(table)

    def _create_target(self, table: Table) -> None:
        columns = [
            f"{POSTGRES.quote(c.name)} {types.postgres(c)}" + (' COLLATE "C"' if i in table.key and c.charset else "")
            for i, c in enumerate(table.columns)
        ]
        if table.key:
            columns.append("PRIMARY KEY (" + ", ".join(POSTGRES.quote(table.columns[i].name) for i in table.key) + ")")
        name = f"{POSTGRES.quote(table.db)}.{POSTGRES.quote(table.name)}"
        self.on_target(f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({', '.join(columns)})")

    def sides(self, table: Table, *, engine: str = "InnoDB", estimate: int = 1000, **options: Any) -> tuple[SourceSide, PostgresSide]:
        return SourceSide(self._read, table, engine, estimate, **options), PostgresSide(self._line, table, table.db, table.name)

    def close(self) -> None:
        self._line.close()


@contextlib.contextmanager
def paired(source_server: Any, postgres_server: Any) -> Iterator[Pair]:
    """Both servers with an empty database and schema of the same name, gone afterwards."""
    with lent(SourceDatabase(source_server)) as source, lent(TargetDatabase(postgres_server)) as postgres:
        postgres.execute(f"CREATE SCHEMA {source.name}")
        both = Pair(source, postgres, reader(source))
        yield both
        both.close()
