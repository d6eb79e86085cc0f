"""A log made by hand for capture, and what capture made of it, read back from the in-process transport."""

from __future__ import annotations

import datetime as dt
import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro

from cdc.binlog.events import Begin, Commit, Event, Heartbeat, LoggedStatement, RowsEvent, TableMap
from cdc.codec import envelope
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import Column, Table
from cdc.protocol.control import Entry, from_document
from cdc.transport.direct import DirectLog

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
"""When the first transaction of a test is committed, in microseconds."""


def table(name: str, db: str = "db") -> Table:
    """A key and a date."""
    return Table(db, name, (Column("id", "int", nullable=False), Column("d", "date")), (0,))


T, U = table("t"), table("u")


def position(number: int) -> Position:
    """The end of the transaction of this number."""
    return Position("mariadb", "s", f"0-1-{number}" if number else "", "b.000001", number * 100)


def gtid(number: int) -> str:
    return f"0-1-{number}"


def when(number: int) -> int:
    """When a transaction was committed: one a second."""
    return START + number * SECOND


def image(id_: int, date: str | None = "2024-02-29") -> bytes:
    """A row as the log has it; "" is the date that there is not."""
    if date is None:
        return b"\x02" + struct.pack("<i", id_)
    year, month, day = map(int, date.split("-")) if date else (0, 0, 0)
    return b"\x00" + struct.pack("<i", id_) + (year << 9 | month << 5 | day).to_bytes(3, "little")


def begin(number: int) -> Begin:
    return Begin(gtid(number), when(number))


def rows(of: Table, kind: Any, *images: bytes, number: int = 1, shape: Table | None = None, offset: int = 44) -> RowsEvent:
    """A rows event; of an update the images are pairs. `shape`: what its table map says, if not the table itself."""
    body = b"head" + b"".join(images) + b"tail"
    shown = shape or of
    described = TableMap(7, of.db, of.name, repr(shown).encode(), b"", lambda raw: shown)
    return RowsEvent(described, kind, body, 4, len(body) - 4, 5, "b.000001", offset, when(number))


def commit(number: int, ts_us: int | None = None) -> Commit:
    return Commit(position(number), gtid(number), when(number) if ts_us is None else ts_us)


def transaction(number: int, *events: Event) -> list[Event]:
    """All events of one transaction."""
    return [begin(number), *events, commit(number)]


def heartbeat(number: int, ts_us: int | None = None) -> Heartbeat:
    return Heartbeat(position(number), when(number) if ts_us is None else ts_us)


def statement(sql: str, number: int = 1, db: str = "db") -> LoggedStatement:
    return LoggedStatement(sql, db, gtid(number), when(number))


@dataclass
class HandLog:
    """A log that ends with its events. `busy`: more has always arrived, as long as there is more."""

    events: Sequence[Event]
    busy: bool = False
    source_us: int = 0
    """The source's clock; 0: an hour behind the last commit, so that nothing is young."""
    left: list[Event] = field(init=False)

    def __iter__(self) -> Iterator[Event]:
        self.left = list(self.events)
        while self.left:
            yield self.left.pop(0)

    def pending(self) -> bool:
        return self.busy and bool(self.left)

    def clock_us(self) -> int:
        return self.source_us or when(3600)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Put:
    """A data record as its reader finds it."""

    place: tuple[str, int, int]
    """Table, partition, offset."""
    epoch: int
    seq: int
    op: str
    key: int
    id: str
    """Of its transaction."""
    order: tuple[int, int]
    """In the transaction, and among its table's records in it."""
    document: dict[str, Any] = field(compare=False, repr=False)


class Written:
    """Reads what was written, each record once, in the order in which it was."""

    def __init__(self, log: DirectLog, *tables: Table) -> None:
        self._log, self._tables = log, {log.topic(one.db, one.name): one for one in tables or (T, U)}
        log.assign({}, log._ends[log.control_topic, 0])

    def all(self) -> list[Entry | Put]:
        """What has been written since the last call; tombstones are left out."""
        found: list[Entry | Put] = []
        for topic, partition, offset, key, value in self._log.poll(0):
            if topic == self._log.control_topic:
                found.append(from_document(json.loads(value or b""), offset))
            elif value is not None:
                found.append(self._put((topic, partition), offset, key, value))
        return found

    def _put(self, partition: Partition, offset: int, key: bytes | None, value: bytes) -> Put:
        of = self._tables[partition[0]]
        schema = fastavro.parse_schema(envelope.value_schema("p", of, "mariadb"))
        document: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
        epoch, _, seq = document["source"]["sequence"].strip("[]\"'").partition(".")
        row = document["after"] or document["before"] or self._keyed(of, key)  # of one that is gone, and was only asked for
        block = document["transaction"] or {"id": "", "total_order": 0, "data_collection_order": 0}
        order = block["total_order"], block["data_collection_order"]
        return Put((of.name, partition[1], offset), int(epoch), int(seq), document["op"], row["id"], block["id"], order, document)

    @staticmethod
    def _keyed(of: Table, key: bytes | None) -> Any:
        return fastavro.schemaless_reader(io.BytesIO((key or b"")[5:]), fastavro.parse_schema(envelope.key_schema("p", of) or {}))


def days(date: str) -> int:
    """A date as it is on the wire."""
    return (dt.date.fromisoformat(date) - dt.date(1970, 1, 1)).days
