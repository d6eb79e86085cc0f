"""PARTIAL_UPDATE_ROWS of MySQL (binlog_row_value_options = PARTIAL_JSON): made an ordinary update, whose images hold
whole documents.

An after image begins with its options; if JSON columns may hold differences in it, a bit for each of them says which
do. The differences are applied to the document of the before image. Values are not decoded: only their lengths are.

https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Rows__event.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymysqlreplication.constants import FIELD_TYPE

from cdc.binlog.event_bodies import lenenc
from cdc.binlog.json_document import patched
from cdc.binlog.table_map import VECTOR, MappedColumn, fields_of
from cdc.codec.layout import decimal_bytes
from cdc.errors import Halt, Malformed

_PARTIAL_JSON = 1
_JSON: int = FIELD_TYPE.JSON
_PLAIN: Mapping[int, int] = {
    FIELD_TYPE.TINY: 1, FIELD_TYPE.SHORT: 2, FIELD_TYPE.INT24: 3, FIELD_TYPE.LONG: 4, FIELD_TYPE.LONGLONG: 8,
    FIELD_TYPE.FLOAT: 4, FIELD_TYPE.DOUBLE: 8, FIELD_TYPE.TIMESTAMP: 4, FIELD_TYPE.DATE: 3, FIELD_TYPE.NEWDATE: 3,
    FIELD_TYPE.TIME: 3, FIELD_TYPE.DATETIME: 8, FIELD_TYPE.YEAR: 1,
}  # fmt: skip
"""Bytes of a value, by its type in the log."""
_FRACTIONAL: Mapping[int, int] = {FIELD_TYPE.TIMESTAMP2: 4, FIELD_TYPE.DATETIME2: 5, FIELD_TYPE.TIME2: 3}
"""Bytes of it beside those of its fraction."""
_VARCHAR = frozenset({FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING})
_SIZED = frozenset({VECTOR, FIELD_TYPE.JSON, FIELD_TYPE.BLOB, FIELD_TYPE.GEOMETRY})
"""The table map says how wide the length before a value is."""


class _Images:
    """Takes the images of one rows event apart."""

    def __init__(self, data: bytes, at: int, end: int, fields: Sequence[MappedColumn]) -> None:
        self._data, self.at, self._end, self._fields = data, at, end, fields
        self._documents = sum(field.type == _JSON for field in fields)

    def take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > self._end:
            raise Malformed("row_image", "partial update", "a row image ends too early")
        return self._data[start : self.at]

    def row(self) -> bytes:
        """The next row: both images, whole."""
        before_nulls, before = self._image(b"")
        partial = b""
        if self._options() & _PARTIAL_JSON:
            partial = self.take((self._documents + 7) // 8)
        after_nulls, after = self._image(partial)
        whole, document = [], 0
        for old, new, field in zip(before, after, self._fields, strict=True):
            is_partial = field.type == _JSON and bool(partial) and bool(partial[document >> 3] >> (document & 7) & 1)
            document += field.type == _JSON
            whole.append(_patched(old, new, field.first) if is_partial and new is not None else new or b"")
        return b"".join([before_nulls, *(value or b"" for value in before), after_nulls, *whole])

    def _options(self) -> int:
        if self.at >= self._end:
            raise Malformed("row_image", "partial update", "a row image ends too early")
        options, self.at = lenenc(self._data, self.at)
        if options & ~_PARTIAL_JSON:
            raise Halt(
                "row_image", "partial update", f"a row image has options that are not known ({options})", "upgrade cdc"
            )
        return options

    def _image(self, partial: bytes) -> tuple[bytes, list[bytes | None]]:
        """The bits of nulls, and each value with its length; None for a null."""
        nulls = self.take((len(self._fields) + 7) // 8)
        return nulls, [
            None if nulls[i >> 3] >> (i & 7) & 1 else self.take(self._size(field))
            for i, field in enumerate(self._fields)
        ]

    def _size(self, field: MappedColumn) -> int:
        fixed = size_of(field)
        if fixed is not None:
            return fixed
        prefix = length_bytes(field)
        return prefix + int.from_bytes(self._data[self.at : self.at + prefix], "little")


def size_of(field: MappedColumn) -> int | None:
    """How many bytes a value takes; None where it says so itself."""
    kind = field.real
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _FRACTIONAL:
        return _FRACTIONAL[kind] + (field.first + 1) // 2
    if kind == FIELD_TYPE.NEWDECIMAL:
        return decimal_bytes(field.first, field.second)
    if kind == FIELD_TYPE.BIT:
        return field.second + (field.first > 0)
    return field.second if kind in (FIELD_TYPE.ENUM, FIELD_TYPE.SET) else None


def length_bytes(field: MappedColumn) -> int:
    """The width of the length before a value."""
    if field.type in _VARCHAR:
        return 1 if field.size < 256 else 2
    if field.type == FIELD_TYPE.STRING:
        return 1 if field.string_size < 256 else 2
    if field.type in _SIZED:
        return field.first
    raise Halt(
        "unknown_type",
        "partial update",
        f"a column of log type {field.type} has no known length",
        "exclude the table, or upgrade cdc",
    )


def _patched(old: bytes | None, differences: bytes, width: int) -> bytes:
    if old is None:
        raise Malformed("json", "partial update", "differences to a document that is null")
    new = patched(old[width:], differences[width:]) if len(differences) > width else old[width:]
    return len(new).to_bytes(width, "little") + new


def whole(data: bytes, at: int, end: int, map_body: bytes) -> bytes:
    """The images of an ordinary update, from those of a partial one that begin at `at`;
    `map_body` as for `table_of`."""
    images = _Images(data, at, end, fields_of(map_body))
    rows = []
    while images.at < end:
        rows.append(images.row())
    return b"".join(rows)
