"""Is a table the same on both sides? A judge of its own: stock drivers, its own SQL by type, its own rule of names.

What a column is, it asks the source's information_schema; what it expects in PostgreSQL is written down here once more. Values go
through HEX() or CAST on the source, and through PostgreSQL's own text or psycopg's types on the target.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from tests.helpers.servers import SourceDatabase, TargetDatabase

Rows = Counter[tuple[Any, ...]]
_SYSTEM = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
_COLUMNS = """
SELECT COLUMN_NAME, LOWER(DATA_TYPE) FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"""


class Reading(NamedTuple):
    """How one type is read: SQL over {} on the source and what becomes of it, SQL over {} on the target and what becomes of it."""

    source: str
    of_source: Callable[[Any], Any]
    target: str
    of_target: Callable[[Any], Any]


def _micros(clock: str) -> int:
    whole, _, part = clock.partition(".")
    hours, minutes, seconds = (int(one) for one in whole.removeprefix("-").split(":"))
    micros = (hours * 3600 + minutes * 60 + seconds) * 10**6 + int(part.ljust(6, "0") or 0)
    return -micros if clock.startswith("-") else micros


def _day(text: str) -> str | None:
    """The date, unless it is none."""
    year, month, day = (int(one) for one in text.split("-"))
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _moment(text: str) -> tuple[str, int] | None:
    day, _, clock = text.partition(" ")
    real = _day(day)
    return None if real is None else (real, _micros(clock))


def _bits(text: str) -> int:
    return int(text, 16)


def _utf8(text: str) -> str:
    return bytes.fromhex(text).decode()


def _double(value: Any) -> bytes:
    return struct.pack(">d", float(value))


def _shape(ewkb: bytes) -> tuple[int, bytes]:
    """PostGIS' own form, taken apart: where bit 29 of the type is set, four bytes of SRID follow it."""
    kind = int.from_bytes(ewkb[1:5], "little")
    if kind & 0x20000000:
        return int.from_bytes(ewkb[5:9], "little"), ewkb[:1] + (kind & ~0x20000000).to_bytes(4, "little") + ewkb[9:]
    return 0, ewkb


def _mysql_shape(text: str) -> tuple[int, bytes]:
    whole = bytes.fromhex(text)
    return int.from_bytes(whole[:4], "little"), whole[4:]


def _floats(numbers: Iterable[float]) -> bytes:
    return b"".join(struct.pack("<f", one) for one in numbers)


def _span(value: timedelta) -> int:
    return (value.days * 86400 + value.seconds) * 10**6 + value.microseconds


_INTEGER = Reading("{}+0", int, "{}", int)
_TEXT = Reading("HEX(CONVERT({} USING utf8mb4))", _utf8, "{}", str)
_BYTES = Reading("HEX({})", bytes.fromhex, "{}", bytes)
_GEOMETRY = Reading("HEX({})", _mysql_shape, "{}", lambda value: _shape(bytes(value)))

READINGS: dict[str, Reading] = {
    **dict.fromkeys(["tinyint", "smallint", "mediumint", "int", "bigint", "year"], _INTEGER),
    **dict.fromkeys(["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"], _TEXT),
    **dict.fromkeys(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"], _BYTES),
    **dict.fromkeys(
        [
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geomcollection",
            "geometrycollection",
        ],
        _GEOMETRY,
    ),
    "decimal": Reading("CAST({}+0 AS CHAR)", str, "{}::text", str),
    "float": Reading("{}*1e0", _double, "{}::float8", _double),
    "double": Reading("{}*1e0", _double, "{}", _double),
    "bit": Reading("HEX({}+0)", _bits, "{}::text", lambda text: int(text, 2)),
    "date": Reading("CAST({} AS CHAR)", _day, "{}::text", str),
    "datetime": Reading("CAST({} AS CHAR)", _moment, "{}::text", _moment),
    "timestamp": Reading("CAST({} AS CHAR)", _moment, "({} AT TIME ZONE 'UTC')::text", _moment),
    "time": Reading("CAST({} AS CHAR)", _micros, "{}", _span),
    "json": Reading("HEX(CONVERT(CAST({} AS CHAR) USING utf8mb4))", _utf8, "{}::text", str),
    "vector": Reading("HEX({})", bytes.fromhex, "{}", _floats),
    "uuid": Reading("CAST({} AS CHAR)", UUID, "{}::text", UUID),
    "inet4": Reading("CAST({} AS CHAR)", ipaddress.ip_address, "host({})", ipaddress.ip_address),
    "inet6": Reading("CAST({} AS CHAR)", ipaddress.ip_address, "host({})", ipaddress.ip_address),
}


def target_name(name: str, *, column: bool = True) -> str:
    """63 bytes are kept; else 54 of them and eight digits of the name's hash."""
    if len(name.encode()) <= 63 and not (column and name in _SYSTEM):
        return name
    return name.encode()[:54].decode(errors="ignore") + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]


def _doubled(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _ticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class Judge:
    """One connection to each side."""

    def __init__(self, source: SourceDatabase, target: TargetDatabase) -> None:
        self._name = source.name
        self._source = source.connect(init_command="SET time_zone = '+00:00', sql_mode = ''", ssl_disabled=True)
        self._target = target.connect(sslmode="disable")

    def close(self) -> None:
        self._source.close()
        self._target.close()

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Name and type of every column, invisible ones too."""
        with self._source.cursor() as cursor:
            cursor.execute(_COLUMNS, (self._name, table))
            return [(str(name), str(kind)) for name, kind in cursor.fetchall()]

    def source_rows(self, table: str, columns: list[tuple[str, str]]) -> Rows:
        """What the source holds."""
        asked = ", ".join(_put(READINGS[kind].source, _ticked(name)) for name, kind in columns)
        with self._source.cursor() as cursor:
            cursor.execute(f"SELECT {asked} FROM {_ticked(table)}")
            return Counter(_values(row, [READINGS[kind].of_source for _, kind in columns]) for row in cursor.fetchall())

    def target_rows(self, table: str, columns: list[tuple[str, str]]) -> Rows:
        """What the target holds."""
        asked = ", ".join(_put(READINGS[kind].target, _doubled(target_name(name))) for name, kind in columns)
        found = self._target.execute(f"SELECT {asked} FROM {self.place(table)}".encode()).fetchall()
        return Counter(_values(row, [READINGS[kind].of_target for _, kind in columns]) for row in found)

    def place(self, table: str) -> str:
        """The table in the target, quoted."""
        return f"{_doubled(target_name(self._name, column=False))}.{_doubled(target_name(table, column=False))}"

    def difference(self, table: str) -> tuple[int, str]:
        """How many rows the source has, and what is wrong with the target; empty when nothing is."""
        columns = self.columns(table)
        left, right = self.source_rows(table, columns), self.target_rows(table, columns)
        missing, extra = left - right, right - left
        counts = f"{missing.total()} rows missing and {extra.total()} too many of {left.total()}"
        if not missing or not extra:
            return left.total(), counts * bool(missing or extra)
        one, other = min(((a, b) for a in missing for b in extra), key=lambda pair: sum(x != y for x, y in zip(*pair)))
        unlike = [f"{name} ({kind}): {x!r:.200} became {y!r:.200}" for (name, kind), x, y in zip(columns, one, other) if x != y]
        return left.total(), "; ".join([counts, *unlike])

    def bend(self, table: str, random: Random) -> bool:
        """Change or take one row of the target behind the pipeline's back, if there is one."""
        place, column = self.place(table), _doubled(target_name(random.choice(self.columns(table))[0]))
        one = f"ctid = (SELECT min(ctid) FROM {place})"
        try:
            if self._target.execute(f"UPDATE {place} SET {column} = NULL WHERE {one} AND {column} IS NOT NULL".encode()).rowcount:
                return True
        except psycopg.errors.NotNullViolation:
            pass  # a column of the key: the row goes instead
        return bool(self._target.execute(f"DELETE FROM {place} WHERE {one}".encode()).rowcount)


def _put(template: str, name: str) -> str:
    return template.replace("{}", name)


def _values(row: Iterable[Any], kinds: list[Callable[[Any], Any]]) -> tuple[Any, ...]:
    return tuple(None if value is None else kind(value) for value, kind in zip(row, kinds, strict=True))
