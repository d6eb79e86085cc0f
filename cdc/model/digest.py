"""A row, a key and a set of rows as one short number, by SQL that gives the same number on every server.

The canonical text of a column comes from `cdc.model.types`; here columns become rows (injectively), rows become
SHA-256, and rows of a set become count, XOR of 64 bits and, for tables without a key, SUM of 60 other bits (XOR alone
cannot see a pair of twins). MySQL 9 has no MD5(); SHA2(x, 256) and PostgreSQL's sha256(bytea) are the pair that all
servers have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cdc.model import names, types
from cdc.model.policy_sql import boolean
from cdc.model.table import Column, Table

Key = tuple[str, ...]
"""The canonical texts of a key's columns, in key order. It holds row values: never log it, never write it down."""

_TOKENS = frozenset({
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit",
    "year", "date", "datetime", "timestamp", "time",
})  # fmt: skip
"""Types whose canonical text can hold neither a comma nor '~', so that they need no length in front."""
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_MASK_64 = (1 << 64) - 1


class Digest(NamedTuple):
    """What is compared of a set of rows. `sum` is 0 for tables with a key: their rows cannot be twins."""

    rows: int = 0
    xor: int = 0
    sum: int = 0


class KeySpan(NamedTuple):
    """Integer keys above `after` and up to `upto`; None is open."""

    after: int | None = None
    upto: int | None = None

    def condition(self, column: str) -> str:
        """The WHERE condition of this span, the same text on every server."""
        bounds = [(">", self.after), ("<=", self.upto)]
        return " AND ".join(f"{column} {sign} {value}" for sign, value in bounds if value is not None) or "TRUE"


def merge(parts: Iterable[Digest]) -> Digest:
    """The digest of a set from those of its disjoint parts."""
    rows = xor = total = 0
    for part in parts:
        rows, xor, total = rows + part.rows, xor ^ part.xor, total + part.sum
    return Digest(rows, xor, total)


def digest(row: Sequence[object]) -> Digest:
    """A digest from a result row (count, xor, sum), whose numbers may be signed, NULL or text, as the server likes."""
    count, xor, total = (
        int(str(value, "ascii") if isinstance(value, bytes) else str(value)) if value is not None else 0
        for value in row
    )
    return Digest(count, xor & _MASK_64, total)


def by_value(table: Table) -> bool:
    """Whether the key is one integer: such a table is cut into spans that mean the same on every server."""
    return (
        len(table.key) == 1
        and table.columns[table.key[0]].type in _INTEGERS
        and not boolean(table.columns[table.key[0]])
    )


def key_hash(key: Key) -> str:
    """How a row is named in reports: 16 hex digits of the SHA-256 of its key text,
    which each server can compute (`RowSql.name`)."""
    text = "".join(f"{len(part.encode())}:{part}" for part in key)
    return short_hash(text.encode())


def short_hash(data: bytes) -> str:
    """16 hex digits of the SHA-256: how a row is named where no value may be shown."""
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RowSql:
    """The expressions of one table on one server."""

    keys: tuple[str, ...]
    """Canonical text of each key column."""
    columns: tuple[str, ...]
    """Hash of each column, NULL when the column's canonical text is."""
    row: str
    """SHA-256 of the row, 64 hex digits."""
    bucket: str
    """32 bits of the key's SHA-256 as an integer; empty without a key."""
    name: str
    """What `key_hash` computes; empty without a key."""
    xor: str
    """64 bits of the row's hash as an integer."""
    sum: str
    """60 other bits."""


class Dialect(NamedTuple):
    """How one server spells what is the same everywhere."""

    canonical: Callable[[Column, str], str]
    quote: Callable[[str], str]
    column: Callable[[str], str]
    """The quoted name of a source column there."""
    join: Callable[[Sequence[str]], str]
    length: Callable[[str], str]
    hash: Callable[[str], str]
    number: Callable[[str, int, int], str]
    """(hex text, first digit from 1, number of digits) -> integer."""


def row_sql(dialect: Dialect, table: Table) -> RowSql:
    """The expressions for a table; the two dialects give equal values for equal rows and different ones for different
    rows."""
    texts = [dialect.canonical(c, dialect.column(c.name)) for c in table.columns]
    row = dialect.hash(dialect.join([_field(dialect, c, x) for c, x in zip(table.columns, texts)]))
    keys = [texts[i] for i in table.key]
    named = dialect.hash(dialect.join([_sized(dialect, x) for x in keys])) if keys else ""
    return RowSql(
        keys=tuple(keys),
        columns=tuple(dialect.hash(x) for x in texts),
        row=row,
        bucket=dialect.number(named, 57, 8) if keys else "",
        name=f"LEFT({named}, 16)" if keys else "",
        xor=dialect.number(row, 1, 16),
        sum=dialect.number(row, 50, 15),
    )


def _field(dialect: Dialect, column: Column, text: str) -> str:
    # The length form names `text` twice, which the servers compute twice: 10 to 25 % of a checksum's time on tables of
    # numbers.
    closed = (
        dialect.join([text, "','"]) if column.type in _TOKENS and not types.spelled(column) else _sized(dialect, text)
    )
    return f"COALESCE({closed}, '~')"


def _sized(dialect: Dialect, text: str) -> str:
    return dialect.join([dialect.length(text), "':'", text])


def _mysql_number(text: str, first: int, digits: int) -> str:
    return f"CAST(CONV(SUBSTR({text}, {first}, {digits}), 16, 10) AS UNSIGNED)"


def _postgres_number(text: str, first: int, digits: int) -> str:
    return f"('x' || substr({text}, {first}, {digits}))::bit({4 * digits})::bigint"


def _mysql_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _postgres_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


MYSQL = Dialect(
    canonical=types.canonical_mysql,
    quote=_mysql_name,
    column=_mysql_name,
    join=lambda parts: f"CONCAT({', '.join(parts)})",
    length=lambda text: f"LENGTH({text})",
    hash=lambda text: f"SHA2({text}, 256)",
    number=_mysql_number,
)
POSTGRES = Dialect(
    canonical=types.canonical_postgres,
    quote=_postgres_name,
    column=lambda name: _postgres_name(names.column(name)),
    join=lambda parts: (
        "(" + " || ".join(parts) + ")"
    ),  # NULL when any part is, as MySQL's CONCAT; PostgreSQL's skips NULL
    length=lambda text: f"octet_length({text})",
    hash=lambda text: f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')",
    number=_postgres_number,
)
