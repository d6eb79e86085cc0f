"""From a table map (binlog_row_metadata=FULL) to the `Table` that information_schema would describe. Pure.

https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Table__map__event.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

from pymysqlreplication.constants import FIELD_TYPE

from cdc.binlog.texts import text_of
from cdc.errors import Halt, Malformed
from cdc.model.position import Flavour
from cdc.model.table import Column, Table, TableName

Collations = Mapping[int, tuple[str, int]]
"""Collation id -> (character set, its longest character in bytes), as the server that wrote the log numbers them."""
Disguised = Mapping[tuple[str, str, str], str]
"""(database, table, column) -> what only information_schema tells: uuid, inet4, inet6 and vector, which MariaDB logs as
plain bytes, the fractional digits ("0" to "6") of a temporal in the old format, of which the log has the type alone,
and the columns that bear the name of a hash and are somebody's."""

_BINARY = 63
VECTOR = 242  # MySQL 9's, and MariaDB's compressed columns: mysql-replication knows neither
_BLOB_COMPRESSED, _VARCHAR_COMPRESSED = 140, 141
_PLAIN: Mapping[int, str] = {
    FIELD_TYPE.TINY: "tinyint",
    FIELD_TYPE.SHORT: "smallint",
    FIELD_TYPE.INT24: "mediumint",
    FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint",
    FIELD_TYPE.FLOAT: "float",
    FIELD_TYPE.DOUBLE: "double",
    FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date",
    FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.JSON: "json",
    FIELD_TYPE.GEOMETRY: "geometry",
    VECTOR: "vector",
}
_OLD: Mapping[int, str] = {FIELD_TYPE.TIMESTAMP: "timestamp", FIELD_TYPE.TIME: "time", FIELD_TYPE.DATETIME: "datetime"}
_FRACTIONAL: Mapping[int, str] = {
    FIELD_TYPE.TIMESTAMP2: "timestamp",
    FIELD_TYPE.DATETIME2: "datetime",
    FIELD_TYPE.TIME2: "time",
}
_YEAR: int = FIELD_TYPE.YEAR
_BIT: int = FIELD_TYPE.BIT
_DECIMAL: int = FIELD_TYPE.NEWDECIMAL
_ENUM: int = FIELD_TYPE.ENUM
_SET: int = FIELD_TYPE.SET
_VARCHAR: int = FIELD_TYPE.VARCHAR
_VAR_STRING: int = FIELD_TYPE.VAR_STRING
_STRING: int = FIELD_TYPE.STRING
_BLOB: int = FIELD_TYPE.BLOB
_GEOMETRY: int = FIELD_TYPE.GEOMETRY
_INTEGERS = frozenset({FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG})
_REALS = frozenset({FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE})
_NUMERIC = _INTEGERS | _REALS | {_DECIMAL, _YEAR}
_CHARACTER = frozenset({_VARCHAR, _BLOB, _VAR_STRING, _STRING, _BLOB_COMPRESSED, _VARCHAR_COMPRESSED})
_TWO_BYTES = frozenset({_VARCHAR, _BIT, _DECIMAL, _VAR_STRING, _STRING, _ENUM, _SET, _VARCHAR_COMPRESSED})
_ONE_BYTE = _REALS | frozenset(_FRACTIONAL) | {_BLOB, FIELD_TYPE.JSON, _GEOMETRY, VECTOR, _BLOB_COMPRESSED}
_NO_BYTES = _INTEGERS | frozenset(_OLD) | {FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, _YEAR}
_TEXTS = ("tinytext", "text", "mediumtext", "longtext")
_BLOBS = ("tinyblob", "blob", "mediumblob", "longblob")
_WIDTHS = {"uuid": 16, "inet6": 16, "inet4": 4}
_HASH = re.compile(r"DB_ROW_HASH_\d+")
"""MariaDB's column of a UNIQUE key by hash: a BIGINT UNSIGNED behind all others, in the log alone."""


@dataclass(slots=True)
class MappedColumn:
    """One column as the map's fixed part gives it."""

    type: int
    first: int
    """First metadata byte (or the low byte of a two-byte one)."""
    second: int
    nullable: bool

    @property
    def size(self) -> int:
        """The two metadata bytes as a number."""
        return self.first | self.second << 8

    @property
    def real(self) -> int:
        """The type, with the real one of enum and set, which hide in a STRING's metadata."""
        return self.first if self.type == _STRING and self.first in (_ENUM, _SET) else self.type

    @property
    def string_size(self) -> int:
        """Bytes of a CHAR or BINARY: lengths above 255 put two bits, inverted, into the type's byte."""
        return self.second | ((self.first & 0x30) ^ 0x30) << 4


@dataclass(slots=True)
class _Extra:
    """The map's optional part, field by field; indexes count the columns of the kind that each field is about."""

    signedness: bytes = b""
    names: list[str] = field(default_factory=list)
    default_charset: list[int] = field(default_factory=list)
    charsets: list[int] = field(default_factory=list)
    label_default_charset: list[int] = field(default_factory=list)
    label_charsets: list[int] = field(default_factory=list)
    sets: list[list[bytes]] = field(default_factory=list)
    enums: list[list[bytes]] = field(default_factory=list)
    key: list[int] = field(default_factory=list)


class _Reader:
    """A cursor over bytes; reading past the end is malformed."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self.at = data, at

    def left(self) -> bool:
        return self.at < len(self._data)

    def take(self, count: int) -> bytes:
        found = self._data[self.at : self.at + count]
        if len(found) < count:
            raise Malformed("table_map", "table map", "ends too early")
        self.at += count
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """A length-encoded integer."""
        first = self.byte()
        return (
            first if first < 251 else int.from_bytes(self.take({252: 2, 253: 3, 254: 8}.get(first, 1 << 30)), "little")
        )

    def text(self) -> bytes:
        return self.take(self.number())

    def numbers(self) -> list[int]:
        found = []
        while self.left():
            found.append(self.number())
        return found


def names_of(event: bytes, at: int) -> TableName:
    """Database and table of a table map, `at` being right behind its flags; the only part read for every shape."""
    length = event[at]
    db = event[at + 1 : at + 1 + length]
    at += length + 2
    return db.decode("utf-8", "surrogateescape"), event[at + 1 : at + 1 + event[at]].decode("utf-8", "surrogateescape")


def column_count(event: bytes, at: int) -> int:
    """The number of columns in a table map, `at` being right behind its flags."""
    at += event[at] + 2
    return _Reader(event, at + event[at] + 2).number()


def table_of(map_body: bytes, flavour: Flavour, collations: Collations, disguised: Disguised) -> Table:
    """The table that a map describes; `map_body` begins right behind the flags, without the checksum."""
    db, name = names_of(map_body, 0)
    reader = _behind_names(map_body)
    fields = _fields(reader)
    extra = _extra(reader, f"{db}.{name}")
    if len(extra.names) != len(fields):
        raise Halt(
            "row_metadata",
            f"{db}.{name}",
            "the log does not name the columns",
            "SET GLOBAL binlog_row_metadata = FULL, reconnect the writers, then cdc reset --all, and start again",
        )
    columns = tuple(_Shapes(fields, extra, flavour, collations, f"{db}.{name}").columns())
    if flavour == "mariadb":
        columns = tuple(
            _undisguised(column, disguised.get((db, name, column.name), ""), f"{db}.{name}") for column in columns
        )
    listed = len(columns) - _hashes(db, name, columns, disguised) if flavour == "mariadb" else len(columns)
    return Table(db, name, columns[:listed], tuple(extra.key), len(columns) - listed)


def _hashes(db: str, table: str, columns: tuple[Column, ...], disguised: Disguised) -> int:
    """How many of the last columns are hashes of UNIQUE keys."""
    names = [one.name if one.type == "bigint" and one.unsigned else "" for one in reversed(columns)]
    hashes = takewhile(lambda name: _HASH.fullmatch(name) and (db, table, name) not in disguised, names)
    return sum(1 for _ in hashes)


def fields_of(map_body: bytes) -> list[MappedColumn]:
    """How a map describes the values of its columns, for who walks over them; `map_body` as for `table_of`."""
    return _fields(_behind_names(map_body))


def _behind_names(map_body: bytes) -> _Reader:
    reader = _Reader(map_body, map_body[0] + 2)
    reader.at += map_body[reader.at] + 2
    return reader


def _undisguised(column: Column, real: str, table: str) -> Column:
    if column.storage == "old":
        if not real.isdecimal():
            rule = "a date or time in the format before MySQL 5.6, of which the log does not tell the fractional digits"
            hint = "ALTER TABLE .. FORCE with mysql56_temporal_format = ON, then cdc reset --all, and start again"
            raise Halt("old_temporal", f"{table}.{column.name}", rule, hint)
        return replace(column, scale=int(real))
    if column.type == "binary" and column.length == _WIDTHS.get(real):
        return Column(column.name, real, nullable=column.nullable)
    if column.type == "varbinary" and real == "vector":
        return replace(column, type=real)
    return column


def _fields(reader: _Reader) -> list[MappedColumn]:
    types = reader.take(reader.number())
    metadata = _Reader(reader.text())
    nulls = reader.take((len(types) + 7) // 8)
    fields = []
    for index, kind in enumerate(types):
        nullable = bool(nulls[index >> 3] >> (index & 7) & 1)
        first = metadata.byte() if kind in _TWO_BYTES or kind in _ONE_BYTE else 0
        second = metadata.byte() if kind in _TWO_BYTES else 0
        if kind not in _TWO_BYTES and kind not in _ONE_BYTE and kind not in _NO_BYTES:
            raise Halt(
                "unknown_type",
                "table map",
                f"column {index + 1} has the unknown log type {kind}",
                "exclude the table, or upgrade cdc",
            )
        fields.append(MappedColumn(kind, first, second, nullable))
    if metadata.left():
        raise Malformed("table_map", "table map", "has more metadata than its columns take")
    return fields


def _extra(reader: _Reader, place: str) -> _Extra:
    extra = _Extra()
    while reader.left():
        kind = reader.byte()
        value = reader.text()
        if kind in _EXTRA:
            try:
                _EXTRA[kind](extra, _Reader(value))
            except UnicodeDecodeError:
                raise Malformed("table_map", place, "names a column in bytes that are no UTF-8") from None
        elif kind not in _UNUSED_EXTRA:
            raise Malformed("table_map", place, f"has optional metadata of unknown kind {kind}")
    return extra


def _take_signedness(extra: _Extra, reader: _Reader) -> None:
    while reader.left():
        extra.signedness += reader.take(1)


def _take_names(extra: _Extra, reader: _Reader) -> None:
    while reader.left():
        extra.names.append(reader.text().decode("utf-8"))


def _labels(reader: _Reader) -> list[list[bytes]]:
    found = []
    while reader.left():
        found.append([reader.text() for _ in range(reader.number())])
    return found


def _take_prefixed_key(extra: _Extra, reader: _Reader) -> None:
    extra.key = reader.numbers()[::2]  # index, prefix length: key columns are taken whole


# mysql-replication has these numbers only within its reader of events (row_event.MetadataFieldType), without 13.
_EXTRA: Mapping[int, Callable[[_Extra, _Reader], None]] = {
    1: _take_signedness,
    2: lambda extra, reader: extra.default_charset.extend(reader.numbers()),
    3: lambda extra, reader: extra.charsets.extend(reader.numbers()),
    4: _take_names,
    5: lambda extra, reader: extra.sets.extend(_labels(reader)),
    6: lambda extra, reader: extra.enums.extend(_labels(reader)),
    8: lambda extra, reader: extra.key.extend(reader.numbers()),
    9: _take_prefixed_key,
    10: lambda extra, reader: extra.label_default_charset.extend(reader.numbers()),
    11: lambda extra, reader: extra.label_charsets.extend(reader.numbers()),
}
_UNUSED_EXTRA = frozenset({7, 12, 13})
"""Kinds of geometry (the value says it too), visibility, dimensions of a vector (its length says them)."""


def _spread(default: list[int], explicit: list[int], count: int) -> list[int]:
    """Collations of `count` columns: each explicit, or a default followed by (index, collation) exceptions."""
    if explicit:
        return explicit
    found = [default[0] if default else _BINARY] * count
    for index, collation in zip(default[1::2], default[2::2]):
        found[index] = collation
    return found


class _Shapes:
    """Puts a map's fixed and optional parts together, column by column."""

    def __init__(
        self, fields: list[MappedColumn], extra: _Extra, flavour: Flavour, collations: Collations, place: str
    ) -> None:
        self._fields, self._extra, self._collations, self._place = fields, extra, collations, place
        kinds = [one.real for one in fields]
        self._with_collation = _CHARACTER | {_GEOMETRY} if flavour == "mariadb" else _CHARACTER | {VECTOR}
        self._kinds = kinds
        self._text_collations = iter(
            _spread(extra.default_charset, extra.charsets, sum(kind in self._with_collation for kind in kinds))
        )
        self._label_collations = iter(
            _spread(extra.label_default_charset, extra.label_charsets, sum(kind in (_ENUM, _SET) for kind in kinds))
        )
        self._enums, self._sets = iter(extra.enums), iter(extra.sets)
        self._numbers = 0

    def columns(self) -> Iterator[Column]:
        for kind, one, name in zip(self._kinds, self._fields, self._extra.names):
            unsigned = kind in _NUMERIC and self._next_sign() and kind != _YEAR
            collation = next(self._text_collations) if kind in self._with_collation else 0
            if kind in _PLAIN and kind not in _CHARACTER:
                yield Column(name, _PLAIN[kind], unsigned, one.nullable)
            elif kind in _OLD:  # MySQL's own have no fraction
                yield Column(name, _OLD[kind], nullable=one.nullable, storage="old")
            elif kind in _FRACTIONAL:
                yield Column(name, _FRACTIONAL[kind], nullable=one.nullable, scale=one.first)
            elif kind == _DECIMAL:
                yield Column(name, "decimal", unsigned, one.nullable, one.first, one.second)
            elif kind == _BIT:
                yield Column(name, "bit", nullable=one.nullable, length=one.second * 8 + one.first)
            elif kind in (_ENUM, _SET):
                yield self._labelled(kind, name, one.nullable)
            else:
                yield self._text(kind, name, one, collation)

    def _next_sign(self) -> bool:
        index, self._numbers = self._numbers, self._numbers + 1
        return bool(self._extra.signedness[index >> 3] << (index & 7) & 0x80)

    def _text(self, kind: int, name: str, one: MappedColumn, collation: int) -> Column:
        charset, longest = ("", 1) if collation == _BINARY else self._charset(collation, name)
        storage = "compressed" if kind in (_BLOB_COMPRESSED, _VARCHAR_COMPRESSED) else ""
        if kind in (_BLOB, _BLOB_COMPRESSED):
            if not 1 <= one.first <= len(_TEXTS):
                raise Malformed("table_map", self._place, "has a text of impossible size")
            kind_of_text = (_TEXTS if charset else _BLOBS)[one.first - 1]
            return Column(name, kind_of_text, nullable=one.nullable, charset=charset, storage=storage)
        fixed = kind == _STRING
        size = one.string_size if fixed else one.size - len(storage[:1])  # a compressed value has a byte before it
        name_of_type = ("char" if fixed else "varchar") if charset else ("binary" if fixed else "varbinary")
        return Column(
            name, name_of_type, nullable=one.nullable, length=size // longest, charset=charset, storage=storage
        )

    def _labelled(self, kind: int, name: str, nullable: bool) -> Column:
        collation = next(self._label_collations)
        charset, _ = ("", 1) if collation == _BINARY else self._charset(collation, name)
        labels = tuple(self._label(raw, charset, name) for raw in next(self._enums if kind == _ENUM else self._sets))
        return Column(name, "enum" if kind == _ENUM else "set", nullable=nullable, charset=charset, labels=labels)

    def _label(self, raw: bytes, charset: str, column: str) -> str:
        found = text_of(charset, raw) if charset else raw.decode("latin-1")
        if found is None:
            raise Halt("bad_label", f"{self._place}.{column}", f"a label is not valid {charset}", "exclude the table")
        return found

    def _charset(self, collation: int, column: str) -> tuple[str, int]:
        if collation not in self._collations:
            raise Halt(
                "unknown_collation",
                f"{self._place}.{column}",
                f"the server does not list collation {collation}",
                "exclude the table",
            )
        return self._collations[collation]
