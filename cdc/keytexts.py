"""Rows named by the canonical texts of their keys (`cdc.digest.Key`), as SQL of the source and as the bytes of a row packet; pure.

It holds row values: never log what comes from here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from cdc.digest import Key
from cdc.keyrange import key_columns, quoted
from cdc.model import Column, Table
from cdc.types import canonical_mysql, spelled

_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal"})
_WORDS = frozenset({"char", "varchar", "tinytext"})
"""Types whose canonical text is the column's own: of longer text it is a hash."""
_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_WIDE = frozenset({"utf16", "utf16le", "utf32", "ucs2"})
_NUMBER = re.compile(r"-?\d{1,65}(\.\d{1,38})?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{6})?)?")
_EMPTY = 0xFB  # a NULL of a row packet


def any_of(table: Table, keys: Iterable[Key]) -> str:
    """A condition that the rows of these keys meet, and perhaps others (equal in the column's collation)."""
    columns = key_columns(table)
    if len(columns) == 1 and columns[0].type in _NUMBERS:
        return f"{quoted(columns[0].name)} IN ({', '.join(_number(part) for key in keys for part in key)})"
    return " OR ".join("(" + " AND ".join(equals(c, x) for c, x in zip(columns, key, strict=True)) + ")" for key in keys)


def equals(column: Column, text: str) -> str:
    """A condition that rows with this canonical text meet; on an index where the text can be said in the column's own form."""
    name = quoted(column.name)
    if column.type in _NUMBERS:
        return f"{name} = {_number(text)}"
    if column.type in _WORDS and _says(column.charset, text):
        return f"{name} = _{column.charset} X'{text.encode().hex()}'"
    return f"{canonical_mysql(column, name)} = _utf8mb4 X'{text.encode().hex()}'"


def _says(charset: str, text: str) -> bool:
    return charset in _UTF8 or (charset not in _WIDE and text.isascii())


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text


def are_tellable(table: Table) -> bool:
    """Whether a key that is gone can be told from its texts alone: not where they are hashes, or what a policy made."""
    return bool(table.key) and all(_is_tellable(column) for column in key_columns(table))


def _is_tellable(column: Column) -> bool:
    moved = spelled(column) or (
        column.type == "timestamp" and column.policy.timestamp != "timestamptz" and column.policy.timestamp_zone != "UTC"
    )
    kinds = _NUMBERS | _WORDS | {"year", "bit", "date", "datetime", "timestamp", "enum", "set", "uuid"}
    return column.type in kinds and not moved


def expression(column: Column, text: str) -> str:
    """An SQL expression of the bytes that a SELECT of the column would send for this text; ValueError where there is none."""
    if column.type in _NUMBERS or column.type == "year":
        return f"'{_number(text)}'"
    if column.type in ("date", "datetime", "timestamp") and _MOMENT.fullmatch(text):
        return f"'{text[: 10 if column.type == 'date' else 20 + column.scale if column.scale else 19]}'"
    if column.type == "bit":
        return f"X'{int(text, 2).to_bytes((column.length + 7) // 8).hex()}'"
    if column.type == "uuid":
        return f"X'{uuid.UUID(text).bytes.hex()}'"
    if column.charset:
        return f"CONVERT(_utf8mb4 X'{text.encode().hex()}' USING {column.charset})"
    raise ValueError("no text of this type")


def packet(table: Table, raw: Iterable[bytes]) -> bytes:
    """A row packet with these values of the key, in key order, and NULL for the rest."""
    values = dict(zip(table.key, raw, strict=True))
    body = b"".join(_field(values.get(at)) for at in range(len(table.columns)))
    return len(body).to_bytes(3, "little") + b"\0" + body


def _field(value: bytes | None) -> bytes:
    if value is None:
        return bytes([_EMPTY])
    size = len(value)
    return (bytes([size]) if size < 251 else b"\xfc" + size.to_bytes(2, "little")) + value
