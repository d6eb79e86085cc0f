"""Rows named by texts of their keys, as SQL of the source and as the bytes of a row packet; pure.

The texts are canonical ones (`cdc.model.digest.Key`), or what somebody says (`cdc copy --keys`): then text of any
length as it is, and bytes as `0x` and hexadecimal digits, where the canonical text is a hash. What is said is never
mistaken for a hash: `named` and `expression` take what is said, `any_of` what is canonical; where a key is tellable
(`are_tellable`) the two agree. It holds row values: never log what comes from here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from cdc.codec.select_list import quoted
from cdc.model.digest import Key
from cdc.model.table import Column, Table
from cdc.model.types import canonical_mysql, spelled
from cdc.mysql.key_range import key_columns

_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal"})
_WORDS = frozenset({"char", "varchar", "tinytext"})
"""Types whose canonical text is the column's own: of longer text it is a hash."""
_LONG = frozenset({"text", "mediumtext", "longtext"})
_BYTES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_MOMENTS = frozenset({"date", "datetime", "timestamp"})
_MOST = 1 << 16
"""Characters of one text: far above what an index holds of a key."""
_TELLABLE = _NUMBERS | _WORDS | _MOMENTS | {"time", "year", "bit", "enum", "set", "uuid"}
_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})
_WIDE = frozenset({"utf16", "utf16le", "utf32", "ucs2"})
_NUMBER = re.compile(r"-?\d{1,65}(\.\d{1,38})?")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:( \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)
_TIME = re.compile(r"(-?)(\d{2,3})(:[0-5]\d:[0-5]\d)(?:\.(\d{1,6}))?", re.ASCII)
_MICROS = re.compile(r"-?\d{1,13}", re.ASCII)
_HEX = re.compile(r"0x((?:[0-9a-fA-F]{2})*)", re.ASCII)
_BITS = re.compile(r"[01]{1,64}", re.ASCII)
_EMPTY = 0xFB  # a NULL of a row packet


def any_of(table: Table, keys: Iterable[Key]) -> str:
    """A condition that the rows of these keys meet, and perhaps others (equal in the column's collation)."""
    columns = key_columns(table)
    if len(columns) == 1 and columns[0].type in _NUMBERS:
        return f"{quoted(columns[0].name)} IN ({', '.join(_number(part) for key in keys for part in key)})"
    return " OR ".join(
        "(" + " AND ".join(equals(c, x) for c, x in zip(columns, key, strict=True)) + ")" for key in keys
    )


def equals(column: Column, text: str) -> str:
    """A condition that rows with this canonical text meet; on an index where the text can be said in the column's own
    form."""
    name = quoted(column.name)
    if column.type in _NUMBERS:
        return f"{name} = {_number(text)}"
    if column.type in _WORDS and _says(column.charset, text):
        return f"{name} = _{column.charset} X'{text.encode().hex()}'"
    return f"{canonical_mysql(column, name)} = _utf8mb4 X'{text.encode().hex()}'"


def named(table: Table, keys: Iterable[Key]) -> str:
    """A condition that the rows of the keys that somebody says meet, and perhaps others;
    ValueError where a text is none of its type."""
    columns = key_columns(table)
    if len(columns) == 1 and columns[0].type in _NUMBERS:
        return any_of(table, keys)
    return " OR ".join("(" + " AND ".join(_is(c, x) for c, x in zip(columns, key, strict=True)) + ")" for key in keys)


def _is(column: Column, text: str) -> str:
    name = quoted(column.name)
    if column.type in _MOMENTS or column.type == "time" or column.type in _BYTES:
        return f"{name} = {expression(column, text)}"
    if column.type == "bit":
        return f"{name} = {int(_bits(column, text), 2)}"
    if column.type in _LONG:
        said = f"X'{text.encode().hex()}'"
        return (
            f"{name} = _{column.charset} {said}"
            if _says(column.charset, text)
            else f"CONVERT({name} USING utf8mb4) = _utf8mb4 {said}"
        )
    return equals(column, text)


def _says(charset: str, text: str) -> bool:
    return charset in _UTF8 or (charset not in _WIDE and text.isascii())


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text


def are_tellable(table: Table) -> bool:
    """Whether a key that is gone can be told from its canonical texts alone:
    not where they are hashes, or what a policy made."""
    return bool(table.key) and all(column.type in _TELLABLE and not _is_moved(column) for column in key_columns(table))


def can_be_said(table: Table) -> bool:
    """Whether somebody can say a key of this table, also one that is gone."""
    kinds = _TELLABLE | _BYTES | _LONG
    return bool(table.key) and all(column.type in kinds and not _is_moved(column) for column in key_columns(table))


def _is_moved(column: Column) -> bool:
    zoned = (
        column.type == "timestamp"
        and column.policy.timestamp != "timestamptz"
        and column.policy.timestamp_zone != "UTC"
    )
    return spelled(column) or zoned


def expression(column: Column, text: str) -> str:
    """An SQL expression of the bytes that a SELECT of the column would send for this text;
    ValueError where there is none."""
    if column.type in _NUMBERS or column.type == "year":
        return f"'{_number(text)}'"
    if column.type in _MOMENTS:
        return f"'{_moment(column, text)}'"
    if column.type == "time":
        return f"'{_clock(column, text)}'"
    if column.type == "bit":
        return f"X'{int(_bits(column, text), 2).to_bytes((column.length + 7) // 8).hex()}'"
    if column.type in _BYTES:
        return f"X'{_octets(column, text)}'"
    if column.type == "uuid":
        return f"X'{uuid.UUID(text).bytes.hex()}'"
    if column.charset and len(text) <= _MOST:
        return f"CONVERT(_utf8mb4 X'{text.encode().hex()}' USING {column.charset})"
    raise ValueError("no text of this type")


def may_lose(column: Column) -> bool:
    """Whether the column's character set may lack what a text says:
    the server then puts a question mark, which is another key."""
    return bool(column.charset) and column.charset != "utf8mb4"


def given_back(column: Column, text: str) -> str:
    """An SQL expression of the UTF-8 bytes of a text that went through the column's character set."""
    return f"CONVERT({expression(column, text)} USING utf8mb4)"


def _moment(column: Column, text: str) -> str:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError("no date")
    return (
        found[1] if column.type == "date" else found[1] + (found[2] or " 00:00:00") + _fraction(found[3], column.scale)
    )


def _clock(column: Column, text: str) -> str:
    """A TIME as the server prints it; its canonical text is a number of microseconds."""
    if _MICROS.fullmatch(text):
        seconds, micros = divmod(abs(int(text)), 1_000_000)
        text = f"{'-' * (int(text) < 0)}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("no time")
    return f"{found[1]}{int(found[2]):02}{found[3]}{_fraction(found[4], column.scale)}"


def _fraction(digits: str | None, scale: int) -> str:
    padded = (digits or "").ljust(6, "0")
    if padded[scale:].strip("0"):
        raise ValueError("more digits than the column has")
    return f".{padded[:scale]}" if scale else ""


def _octets(column: Column, text: str) -> str:
    """Bytes as hexadecimal digits; the server fills up what is shorter than a BINARY."""
    found = _HEX.fullmatch(text)
    fixed = column.type == "binary"
    if found is None or len(found[1]) > 2 * (column.length if fixed else _MOST):
        raise ValueError("no bytes")
    return found[1].ljust(2 * column.length, "0") if fixed else found[1]


def _bits(column: Column, text: str) -> str:
    if not _BITS.fullmatch(text) or len(text) > column.length:
        raise ValueError("no bits")
    return text


def packet(table: Table, raw: Iterable[bytes]) -> bytes:
    """A row packet with these values of the key, in key order, and NULL for the rest."""
    values = dict(zip(table.key, raw, strict=True))
    body = b"".join(_field(values.get(at)) for at in range(len(table.columns)))
    return len(body).to_bytes(3, "little") + b"\0" + body


def _field(value: bytes | None) -> bytes:
    if value is None:
        return bytes([_EMPTY])
    size = len(value)
    if size < _EMPTY:
        return bytes([size]) + value
    return (b"\xfc" + size.to_bytes(2, "little") if size < 1 << 16 else b"\xfd" + size.to_bytes(3, "little")) + value
