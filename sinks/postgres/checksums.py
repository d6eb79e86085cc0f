"""The target's side of verification: the same checksums as the source's, in PostgreSQL's words.
It reads and never writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.errors import error_from_result

from cdc.errors import CdcError, Halt, Refused, Retry
from cdc.model.digest import POSTGRES, Digest, Key, KeySpan, digest, row_sql
from cdc.model.names import column as target_column
from cdc.model.policy_sql import boolean
from cdc.model.table import Column, Table
from cdc.model.types import canonical_postgres
from cdc.postgres.errors import Cause, cause
from sinks.postgres.merge import fields
from sinks.postgres.tables import found_columns

SESSION = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET search_path = pg_catalog"
_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal"})
_TEXTS = frozenset({"char", "varchar", "tinytext", "enum", "set"})
"""Types whose canonical text is the column itself."""
_UNFIT = {
    "3F000": "target_missing",
    "42P01": "target_missing",
    "42703": "target_column_missing",
    "42501": "target_privilege",
    "42883": "target_type",
    "42804": "target_type",
    "42846": "target_type",
}


class PostgresSide:
    """One table of the target; `connection` is in autocommit mode and used by nobody else meanwhile."""

    def __init__(self, connection: psycopg.Connection[Any], table: Table, schema: str, name: str) -> None:
        self.table = table
        self._connection, self._schema, self._table = connection, schema, name
        self._sql = row_sql(POSTGRES, table)
        self._from = f"FROM {POSTGRES.quote(schema)}.{POSTGRES.quote(name)}"
        self._key = POSTGRES.column(table.columns[table.key[0]].name) if table.key else ""
        with _deciding(self.name):
            connection.execute(SESSION)

    @property
    def name(self) -> str:
        """The table's name with its schema."""
        return f"{self._schema}.{self._table}"

    def estimate(self) -> int:
        """The planner's row count; 0 when it has none yet."""
        found = self._query(
            f"SELECT reltuples::bigint FROM pg_class WHERE oid = {_text_literal(self._from[5:])}::regclass"
        )
        return max(0, int(found[0][0]))

    def digest(self, span: KeySpan) -> Digest:
        """See `snapshot.reconcile.sides.Side`."""
        return digest(
            self._query(f"SELECT count(*), bit_xor({self._sql.xor}), 0 {self._from} WHERE {span.condition(self._key)}")[
                0
            ]
        )

    def middle(self, span: KeySpan, skip: int) -> int | None:
        """See `snapshot.reconcile.sides.Side`."""
        found = self._query(
            f"SELECT {self._key} {self._from} WHERE {span.condition(self._key)} ORDER BY {self._key} "
            f"LIMIT 1 OFFSET {skip}"
        )
        return int(found[0][0]) if found else None

    def rows(self, span: KeySpan) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        return self._rows(span.condition(self._key))

    def buckets(self, count: int) -> Mapping[int, Digest]:
        """See `snapshot.reconcile.sides.Side`; PostgreSQL's readers hold nobody up, so this is one statement."""
        rows = self._query(
            f"SELECT b, count(*), bit_xor(x), 0 FROM "
            f"(SELECT {self._sql.bucket} & {count - 1} AS b, {self._sql.xor} AS x {self._from}) AS r GROUP BY b"
        )
        return {row[0]: digest(row[1:]) for row in rows}

    def bucket_rows(self, count: int, chosen: frozenset[int]) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        return self._rows(f"({self._sql.bucket} & {count - 1}) IN ({', '.join(map(str, sorted(chosen)))})")

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        possible = [key for key in keys if _storable(key)]
        return self._rows(self._any_of(possible)) if possible else {}

    def columns_of(self, keys: Iterable[Key]) -> dict[Key, tuple[str | None, ...]]:
        """See `snapshot.reconcile.sides.Side`."""
        parts = len(self.table.key)
        rows = self._query(
            f"SELECT {', '.join(self._sql.keys + self._sql.columns)} {self._from} WHERE {self._any_of(keys)}"
        )
        return {tuple(row[:parts]): tuple(row[parts:]) for row in rows}

    def holds(self, tuples: bytes) -> bool:
        """Whether the table has exactly this row, given as a COPY tuple of the source's columns;
        compared by its bytes."""
        names = [POSTGRES.column(column.name) for column in self.table.columns]
        with _deciding(self.name):
            there = {found.name: found for found in found_columns(self._connection, self._from[5:])}
            columns = [there[target_column(column.name)] for column in self.table.columns]
            # A numeric's bytes hold its scale, so it is given the column's.
            marks = [
                f"${n}::{one.type}" if one.type.startswith("numeric") else f"${n}" for n, one in enumerate(columns, 1)
            ]
            match = " AND ".join(f"{names[at]} = {marks[at]}" for at in self.table.key)
            sql_text = (
                f"SELECT 1 {self._from} WHERE {match} AND ROW({', '.join(names)})::record *= "
                f"ROW({', '.join(marks)})::record"
            )
            row = fields(tuples, len(names))[0]
            found = self._connection.pgconn.exec_params(
                sql_text.encode(), row, [one.oid for one in columns], [1] * len(row)
            )
        if found.status != pq.ExecStatus.TUPLES_OK:
            raise _decision(error_from_result(found), self.name)
        return found.ntuples > 0

    def whole(self) -> Digest:
        """See `snapshot.reconcile.sides.Side`."""
        xor, total = (part.replace(self._sql.row, "h") for part in (self._sql.xor, self._sql.sum))
        hashes = (
            f"SELECT {self._sql.row} "
            f"AS h {self._from} OFFSET 0"
        )  # OFFSET 0 keeps the planner from computing the hash twice
        return digest(self._query(f"SELECT count(*), bit_xor({xor}), sum({total}) FROM ({hashes}) AS r")[0])

    def _rows(self, condition: str) -> dict[Key, str]:
        rows = self._query(f"SELECT {', '.join((*self._sql.keys, self._sql.row))} {self._from} WHERE {condition}")
        return {tuple(row[:-1]): row[-1] for row in rows}

    def _any_of(self, keys: Iterable[Key]) -> str:
        columns = [self.table.columns[i] for i in self.table.key]
        if len(columns) == 1 and _is_number(columns[0]):
            return f"{self._key} IN ({', '.join(part for key in keys for part in key)})"
        return " OR ".join(
            "(" + " AND ".join(_equals(c, x) for c, x in zip(columns, key, strict=True)) + ")" for key in keys
        )

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        with _deciding(self.name):
            return self._connection.execute(statement.encode()).fetchall()


def _equals(column: Column, text: str) -> str:
    name = POSTGRES.column(column.name)
    if _is_number(column):
        return f"{name} = {text}"
    return f"{name if column.type in _TEXTS else canonical_postgres(column, name)} = {_text_literal(text)}"


def _is_number(column: Column) -> bool:
    return column.type in _NUMBERS and not boolean(column)


def _text_literal(text: str) -> str:
    return sql.Literal(text).as_string()


def _storable(key: Key) -> bool:
    return not any("\0" in part for part in key)


@contextmanager
def _deciding(place: str) -> Iterator[None]:
    """Run statements; a driver's error comes out as a decision, by SQLSTATE alone: its text may carry values."""
    try:
        yield
    except psycopg.Error as e:
        raise _decision(e, place) from None


def _decision(error: psycopg.Error, place: str) -> CdcError:
    state = error.sqlstate or ""
    if state in _UNFIT:
        return Refused(
            _UNFIT[state],
            place,
            f"the target table cannot be compared (SQLSTATE {state})",
            "copy the table first; its columns must be those of the source",
        )
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if cause(state, lost=lost)[0] in (Cause.AWAY, Cause.CONFLICT):
        return Retry(
            "target_lost", place, f"the connection was lost or the server is busy (SQLSTATE {state or 'none'})"
        )
    return Halt("target_statement", place, f"the server rejects a statement (SQLSTATE {state or 'none'})")
