"""How each source column lies in a row image: the plan of a table, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.codec import charsets, ops
from cdc.errors import Halt
from cdc.model import types
from cdc.model.table import Column, Table

LENGTH_BYTES = {"tiny": 1, "medium": 3, "long": 4}
STRIPPED, COMPRESSED = 1, 2  # flags of a text or bytes slot, in `c`
# Bytes of a temporal, by its fractional digits. The old forms with a fraction are those of MariaDB 5.3.
_BYTES = {
    "datetime": (5, 6, 6, 7, 7, 8, 8),
    "timestamp": (4, 5, 5, 6, 6, 7, 7),
    "time": (3, 4, 4, 5, 5, 6, 6),
}
_OLD_BYTES = {
    "datetime": (8, 6, 6, 7, 7, 7, 8),
    "timestamp": (4, 5, 5, 6, 6, 7, 7),
    "time": (3, 4, 4, 5, 5, 5, 6),
}
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of a decimal's group of so many digits


@dataclass(frozen=True, slots=True)
class Slot:
    """One column: the opcode, up to three numbers whose meaning the opcode gives,
    and what does not fit into a number."""

    op: int
    a: int = 0
    b: int = 0
    c: int = 0
    charset: str = ""
    labels: tuple[bytes, ...] = ()


def decimal_bytes(precision: int, scale: int) -> int:
    """How many bytes a packed decimal takes in a row image: nine digits in four, before and after the point."""
    return sum(digits // 9 * 4 + _DIGIT_BYTES[digits % 9] for digits in (precision - scale, scale))


def slots(table: Table) -> list[Slot]:
    """The slots of a table's columns; Halt where one is not understood."""
    for column in (table.columns[i] for i in table.key):
        if len(set(column.labels)) < len(column.labels) or (column.type == "set" and "" in column.labels):
            rule = "the key has members of equal text, so that two of its rows could become one"
            raise Halt("key_labels", f"{table.qualified}.{column.name}", rule, "exclude the table")
    return [slot(column, f"{table.qualified}.{column.name}") for column in table.columns]


def slot(column: Column, place: str) -> Slot:
    """The slot of one column."""
    name = types.of(column).op
    build = _BUILDERS.get(name)
    return build(column, place) if build else Slot(getattr(ops, name))


def _varying(max_bytes: int) -> int:
    return 1 if max_bytes < 256 else 2


def _length_bytes(kind: str) -> int:
    """The width of the length of a text or blob type."""
    return next((width for prefix, width in LENGTH_BYTES.items() if kind.startswith(prefix)), 2)


def _text(column: Column, place: str) -> Slot:
    charset = charsets.of(column.charset, place)
    fixed = column.type in ("char", "varchar")
    width = _varying(column.length * charset.max_bytes + _header(column)) if fixed else _length_bytes(column.type)
    flags = (STRIPPED if column.type == "char" else 0) | (COMPRESSED if column.storage == "compressed" else 0)
    return Slot(ops.TEXT, width, charset.kind, flags, column.charset)


def _bytes(column: Column, place: str) -> Slot:
    width = _varying(column.length + _header(column)) if column.type == "varbinary" else _length_bytes(column.type)
    return Slot(ops.BYTES, width, 0, COMPRESSED if column.storage == "compressed" else 0)


def _header(column: Column) -> int:
    """MariaDB counts the first byte of a compressed value into the column's length."""
    return int(column.storage == "compressed")


def _decimal(column: Column, place: str) -> Slot:
    whole = column.length - column.scale
    if not (0 < column.length <= 65 and 0 <= column.scale <= 38 and whole >= 0):
        raise Halt("column_type", place, "a decimal of impossible precision or scale")
    return Slot(ops.DECIMAL, column.length, column.scale, decimal_bytes(column.length, column.scale))


def _bits(column: Column, place: str) -> Slot:
    if not 1 <= column.length <= 64:
        raise Halt("column_type", place, "a bit column of impossible length")
    return Slot(ops.BIT if column.length == 1 else ops.BITS, (column.length + 7) // 8, column.length)


def _fraction(column: Column, place: str) -> Slot:
    if not 0 <= column.scale <= 6:
        raise Halt("column_type", place, "fractional digits beyond 6")
    old = column.storage == "old"
    size = (_OLD_BYTES if old else _BYTES)[column.type][column.scale]
    return Slot(getattr(ops, types.of(column).op), column.scale, int(old), size)


def _fixed(column: Column, place: str) -> Slot:
    size = {"inet4": 4, "inet6": 16, "uuid": 16}.get(column.type, column.length)
    return Slot(getattr(ops, types.of(column).op), 1, size)


def _members(column: Column, place: str) -> Slot:
    count = len(column.labels)
    if column.type == "enum":
        width = 1 if count < 256 else 2
    else:
        width = (count + 7) // 8 if count <= 32 else 8
    charset = charsets.of(column.charset, place)
    labels = tuple(label.encode() for label in column.labels)
    return Slot(ops.ENUM if column.type == "enum" else ops.SET, width, charset.kind, count, column.charset, labels)


def _json(column: Column, place: str) -> Slot:
    # MariaDB's JSON is text in a character set; MySQL's is binary and has none.
    if column.charset:
        return Slot(ops.TEXT, 4, charsets.of(column.charset, place).kind, 0, column.charset)
    return Slot(ops.JSON, 4)


def _long_bytes(column: Column, place: str) -> Slot:
    # MariaDB keeps a vector like a varbinary (with a length), MySQL like a longblob.
    width = _varying(column.length) if column.length else 4
    return Slot(getattr(ops, types.of(column).op), width)


_BUILDERS = {
    "TEXT": _text,
    "BYTES": _bytes,
    "DECIMAL": _decimal,
    "BITS": _bits,
    "DATETIME": _fraction,
    "TIMESTAMP": _fraction,
    "TIME": _fraction,
    "FIXED": _fixed,
    "UUID": _fixed,
    "INET4": _fixed,
    "INET6": _fixed,
    "ENUM": _members,
    "SET": _members,
    "JSON": _json,
    "GEOMETRY": _long_bytes,
    "VECTOR": _long_bytes,
}
