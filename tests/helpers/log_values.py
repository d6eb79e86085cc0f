"""What the log says, value by value, in the words of the server: our reader and codec, Avro read by fastavro."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import fastavro

from cdc import codec
from cdc.binlog.events import RowsEvent
from cdc.codec import envelope
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.model.table import Column, Table
from tests.codec.test_types import stamp
from tests.helpers.servers import SourceDatabase
from tests.helpers.source_log import events_since

Row = dict[str, Any]
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times without a zone, as DATETIME is


@dataclass(frozen=True)
class Change:
    """One row's change as the log has it: kind is c, u or d; a changed key is one change here."""

    table: Table
    kind: str
    before: Row | None
    after: Row | None

    @property
    def images(self) -> list[Row]:
        """The rows that it holds: one, or of an update two."""
        return [image for image in (self.before, self.after) if image is not None]


def told(source: SourceDatabase, start: Position, wants: Callable[[str, str], bool] | None = None) -> list[Change]:
    """Every change of a test's tables since a position, decoded."""
    return [change for changes in told_by_event(source, start, wants) for change in changes]


def told_by_event(source: SourceDatabase, start: Position, wants: Callable[[str, str], bool] | None = None) -> list[list[Change]]:
    """The same, the changes of each rows event together."""
    return [list(_changes(event, source.flavour)) for event in events_since(source, start, wants=wants) if isinstance(event, RowsEvent)]


def _changes(event: RowsEvent, flavour: str) -> Iterable[Change]:
    table = event.table.table()
    schema = fastavro.parse_schema(envelope.value_schema("od", table, flavour))
    out: list[Record] = []
    codec.encode_rows(codec.RowPlan(table), event.body, event.start, event.end, event.kind, stamp(), codec.Numbers(1, 1), out)
    gone: Row | None = None
    for record in out:
        if record.value is None:
            continue
        document: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema)
        if event.kind == "u" and document["op"] == "d":  # the first half of a changed key
            gone = document["before"]
        else:
            yield Change(table, event.kind, gone or document["before"], document["after"])
            gone = None


# The server's own words for a value, and ours for the same: texts that must be equal

HEXED = frozenset("binary varbinary tinyblob blob mediumblob longblob geometry vector".split())
_NUMBERS = frozenset("tinyint smallint mediumint int bigint decimal".split())
_TEXTS = frozenset("char varchar tinytext text mediumtext longtext enum set".split())
_BAD_DATE = "YEAR(`v`)=0 OR MONTH(`v`)=0 OR DAYOFMONTH(`v`)=0 OR DAYOFMONTH(`v`)>DAYOFMONTH(LAST_DAY(DATE_FORMAT(`v`,'%Y-%m-01')))"


def kind_of(column: Column) -> str:
    """The column's type, those of older servers' formats and of MariaDB's compressed columns under their plain names."""
    return column.type.split(" ")[0]


def asked(column: Column) -> str:
    """The SQL expression of the server's own text of column `v`; NULL for dates that no calendar has, which are null on the wire."""
    kind = kind_of(column)
    if kind in ("float", "double"):  # the eight bytes themselves: no text shows all of their digits
        return "HEX(REVERSE(SUBSTR(POINT(`v`,0),10,8)))"
    if kind == "bit":
        return f"LPAD(BIN(`v`+0),{column.length},'0')"
    if kind == "inet6":  # one address has many spellings
        return "HEX(CAST(`v` AS BINARY(16)))"
    if kind in HEXED:
        return "HEX(`v`)"
    if kind in _TEXTS:
        return "HEX(CONVERT(`v` USING utf8mb4))"
    if kind in ("date", "datetime"):
        return f"CASE WHEN {_BAD_DATE} THEN NULL ELSE CAST(`v` AS CHAR) END"
    if kind == "timestamp":
        return "CASE WHEN `v`=0 THEN NULL ELSE CAST(`v` AS CHAR) END"
    return "CAST(`v`+0 AS CHAR)" if kind in _NUMBERS else "CAST(`v` AS CHAR)"  # the sum drops the zeros of ZEROFILL


def said(column: Column, value: Any) -> str | None:
    """Our value, out of its Avro form, as the server would print it."""
    kind = kind_of(column)
    if value is None:
        return None
    if kind in _SAYINGS:
        return _SAYINGS[kind](column, value)
    if kind in HEXED:
        return bytes(value).hex().upper()
    if kind in _TEXTS:
        return str(value).encode().hex().upper()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def stamped(column: Column, when: dt.datetime) -> str:
    """A date and time with as many digits behind the point as its column has."""
    text = when.isoformat(" ", "microseconds").rjust(26, "0")
    return text[: 20 + column.scale] if column.scale else text[:19]


def clocked(column: Column, micros: int) -> str:
    """A TIME, any number of hours long and either sign."""
    seconds, fraction = divmod(abs(micros), 1_000_000)
    text = f"{'-' if micros < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}"[: len(text) + 1 + column.scale] if column.scale else text


def doubled(value: float) -> str:
    """The eight bytes of a number."""
    return struct.pack(">d", value).hex().upper()


def _bits(column: Column, value: Any) -> str:
    number = int(value) if isinstance(value, bool) else int.from_bytes(value, "little")
    return format(number, f"0{column.length}b")


def _wall_clock(column: Column, value: int) -> str:
    return stamped(column, EPOCH + dt.timedelta(microseconds=value * (1000 if column.scale <= 3 else 1)))


def _moment(column: Column, value: str) -> str:
    return stamped(column, dt.datetime.fromisoformat(value).astimezone(dt.UTC).replace(tzinfo=None))


def _geometry(column: Column, value: Row) -> str:
    return struct.pack("<I", value["srid"] or 0).hex().upper() + bytes(value["wkb"]).hex().upper()


def _vector(column: Column, value: list[float]) -> str:
    return struct.pack(f"<{len(value)}f", *value).hex().upper()


_SAYINGS: dict[str, Callable[[Column, Any], str]] = {
    "float": lambda column, value: doubled(value),
    "double": lambda column, value: doubled(value),
    "bit": _bits,
    "year": lambda column, value: f"{value:04d}",
    "date": lambda column, value: (EPOCH.date() + dt.timedelta(days=value)).isoformat().rjust(10, "0"),
    "datetime": _wall_clock,
    "timestamp": _moment,
    "time": clocked,
    "geometry": _geometry,
    "vector": _vector,
    "inet6": lambda column, value: ipaddress.IPv6Address(value).packed.hex().upper(),
}
