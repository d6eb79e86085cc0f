"""A piece of a table by its primary key, as SQL; pure.

Bounds are SQL literals made from bytes that the server itself sent, and every comparison happens on the server, in the
key's own order and collation: nothing here compares keys. Composite keys compare as row values, spelled out because the
optimiser uses an index for `a > x OR (a = x AND b > y)` and not for `(a, b) > (x, y)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.codec.select_list import quoted
from cdc.errors import Refused
from cdc.model.table import Column, Table

Bound = tuple[str, ...]
"""One SQL literal per key column."""

_PLAIN = frozenset("tinyint smallint mediumint int bigint decimal year double".split())
_QUOTED = frozenset("date datetime timestamp time uuid inet4 inet6".split())
_BYTES = frozenset("binary varbinary tinyblob blob mediumblob longblob".split())
_TEXT = frozenset("char varchar tinytext text mediumtext longtext".split())
_NUMBERED = frozenset("enum set bit".split())
"""Ordered by number, so compared by number."""


def qualified(table: Table) -> str:
    """A table's name with its database."""
    return f"{quoted(table.db)}.{quoted(table.name)}"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys above `after` and up to `upto`; None is open."""

    after: Bound | None = None
    upto: Bound | None = None

    def condition(self, table: Table) -> str:
        """The WHERE condition that selects this range."""
        parts = []
        if self.after is not None:
            parts.append(_above(table, self.after))
        if self.upto is not None:
            parts.append(_up_to(table, self.upto))
        return " AND ".join(parts) or "TRUE"


def key_columns(table: Table) -> list[Column]:
    """The key's columns in key order."""
    return [table.columns[i] for i in table.key]


def key_list(table: Table) -> str:
    """The key's columns as an expression list for ORDER BY."""
    return ", ".join(quoted(c.name) for c in key_columns(table))


def bound_list(table: Table) -> str:
    """The key's columns as an expression list whose values `literal` turns into bounds."""
    return ", ".join(quoted(c.name) + ("+0" if c.type in _NUMBERED else "") for c in key_columns(table))


def literal(column: Column, raw: bytes) -> str:
    """The SQL literal that equals a key value, from the bytes the server sent in the column's own character set."""
    if column.type in _PLAIN or column.type in _NUMBERED:
        return raw.decode("ascii")
    if column.type in _QUOTED:
        return "'" + raw.decode("ascii").replace("'", "''") + "'"
    if column.type in _BYTES:
        return f"X'{raw.hex()}'"
    if column.type in _TEXT:
        return f"_{column.charset} X'{raw.hex()}'"
    raise _unwalkable(column)


def check_walkable(table: Table) -> None:
    """Refuse a key whose order cannot be told by literals, whatever the table's size today:
    FLOAT loses digits in text."""
    for column in key_columns(table):
        if column.type not in _PLAIN | _QUOTED | _BYTES | _TEXT | _NUMBERED:
            raise _unwalkable(column)


def _unwalkable(column: Column) -> Refused:
    return Refused(
        "key_type",
        f"column {column.name}",
        f"a primary key of type {column.type} cannot be walked in pieces",
        "exclude the table",
    )


def bound(table: Table, values: Sequence[bytes]) -> Bound:
    """The bound that a row of `bound_list` names."""
    return tuple(literal(c, v) for c, v in zip(key_columns(table), values, strict=True))


def _above(table: Table, after: Bound) -> str:
    return _compare([quoted(c.name) for c in key_columns(table)], after, ">")


def _up_to(table: Table, upto: Bound) -> str:
    names = [quoted(c.name) for c in key_columns(table)]
    equal = " AND ".join(f"{n} = {v}" for n, v in zip(names, upto, strict=True))
    if len(names) == 1:
        return f"{names[0]} <= {upto[0]}"
    return f"{names[0]} <= {upto[0]} AND ({_compare(names, upto, '<')} OR ({equal}))"


def _compare(names: Sequence[str], values: Bound, sign: str) -> str:
    if len(names) == 1:
        return f"{names[0]} {sign} {values[0]}"
    rest = _compare(names[1:], values[1:], sign)
    return f"{names[0]} {sign}= {values[0]} AND ({names[0]} {sign} {values[0]} OR ({rest}))"
