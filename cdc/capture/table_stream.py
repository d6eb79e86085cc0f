"""What capture holds of each followed table, and what it needs of a log."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from cdc import codec
from cdc.binlog import partial_images
from cdc.binlog.events import Event, RowsEvent, TableMap
from cdc.capture.followed_tables import TABLE_ANEW
from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.record import Partition, Record
from cdc.model.table import Table, TableName
from cdc.mysql.information_schema import as_catalogued
from cdc.protocol.control import Anomaly, Followed, Named
from cdc.protocol.copy_progress import Copies, Ended
from cdc.runtime import clock
from cdc.transport.contract import Writer


class Form(NamedTuple):
    """How images become records."""

    plan: codec.RowPlan
    schemas: tuple[int, int]
    """Ids of the schemas of key and value; 0 without a key."""


class Log(Protocol):
    """What capture needs of `BinlogReader`."""

    def __iter__(self) -> Iterable[Event]: ...
    def pending(self) -> bool: ...
    def clock_us(self) -> int: ...
    def close(self) -> None: ...


class Incremental(Protocol):
    """Copies that are made while the log is followed; `cdc.capture.incremental_snapshot.IncrementalSnapshot` is one."""

    def turn(self, log: Log) -> None:
        """The log is followed to here, a transaction's end near its own, and no window is open:
        open one if there is work."""

    def closed(self) -> None:
        """The log is followed to the end of the open window: the cut that comes next is whole."""

    def set_back(self, names: Collection[TableName]) -> None:
        """What the copies of these tables have brought does not count any more; they begin again."""

    def said(self) -> tuple[Copies, tuple[Ended, ...]]:
        """What the next whole cut says of copies; asked once for each."""


class TableStream:
    """One followed table on its way: its plan, its numbers, and the records not yet sent."""

    def __init__(self, table: Table, followed: Followed, numbers: codec.Numbers) -> None:
        self.table, self.followed, self.numbers = table, followed, numbers
        self.schemas = followed.key_schema or 0, followed.value_schema
        """Ids of the schemas of key and value; 0 without a key."""
        self.plan = codec.RowPlan(table)
        self.plans = [self.plan]
        """Every plan that may have counted anomalies."""
        self.out: list[Record] = []
        self._shapes: dict[bytes, int] = {}
        """The maps that the log showed of it, and how many columns each has that no catalog lists."""
        self._parts: dict[tuple[int, ...], Form] = {}
        """How images become records that have some columns alone."""

    def is_like(self, table: Table) -> bool:
        """Whether the catalog's description is that of the table whose rows are followed."""
        return table in (self.table, as_catalogued(self.table))

    def anomalies(self) -> Iterator[Anomaly]:
        """What the codec could not keep since this was asked last."""
        for found in [plan.anomalies for plan in self.plans]:
            if found:
                yield from (
                    Anomaly(self.table.db, self.table.name, column, reason, n) for (column, reason), n in found.items()
                )
                found.clear()

    def stamp(
        self, connector: envelope.Connector, event: RowsEvent, transaction: str | None, schemas: tuple[int, int]
    ) -> codec.Stamp:
        """What the records of an event's rows say of where it came from; `schemas`: the ids of key and value."""
        gtid = transaction if transaction and not transaction.startswith("file=") else None
        place = envelope.LogPlace(event.ts_us, event.server_id, gtid, event.file, event.offset)
        name = self.table.db, self.table.name
        return envelope.stamp(schemas, connector, name, place, clock.now_us(), transaction=transaction)

    def go_on(self, named: Mapping[Partition, Named]) -> None:
        """Number on from these last records."""
        for p in range(self.followed.partitions):
            last = named.get((self.followed.topic, p))
            self.numbers.seq[p] = last.seq if last else 0

    def encode(self, event: RowsEvent, plan: codec.RowPlan, stamp: codec.Stamp, total: int) -> tuple[int, int]:
        """Append the records of a rows event; how many rows it has, and how many records that are without tombstones.
        `total`: so many of its transaction came before."""
        self.numbers.begin(total)
        rows = codec.encode_rows(plan, event.body, event.start, event.end, event.kind, stamp, self.numbers, self.out)
        return rows, self.numbers.total - total

    def form(self, event: RowsEvent, connector: envelope.Connector, writer: Writer) -> Form:
        """How the event's images become records.

        Those that have some columns alone have a subject of their own: schemas that lack columns cannot stand in a row
        with those that do not.
        """
        if not event.columns and event.kind != "p":
            return Form(self.plan, self.schemas)
        if self.plan.unlisted:
            raise partial_images.stop(self.table.qualified, "its rows have columns that no catalog lists")
        if not event.columns:
            return Form(self.plan, self.schemas)
        if event.columns not in self._parts:
            part = envelope.some_columns(self.table, event.columns)
            names = hashlib.blake2b(repr([one.name for one in part.columns]).encode(), digest_size=8).hexdigest()
            schema = envelope.partial_schema(connector.name, part, connector.flavour, self.schemas[0])
            value_id = writer.register(f"{self.followed.topic}-partial-{names}-value", schema)
            self._parts[event.columns] = Form(codec.RowPlan(part), (self.schemas[0], value_id))
            self.plans.append(self._parts[event.columns].plan)
        return self._parts[event.columns]

    def check(self, shape: TableMap) -> None:
        """Stop when the log shows another shape of the table than the one that is followed."""
        if shape.fingerprint not in self._shapes:
            self._learn(shape)
        self.plan.unlisted = self._shapes[shape.fingerprint]

    def _learn(self, shape: TableMap) -> None:
        table = shape.table()
        if self.table not in (table, as_catalogued(table)):
            raise Halt("schema_changed", self.table.qualified, "the table's columns are not those that were copied",
                       TABLE_ANEW)  # fmt: skip
        self._shapes[shape.fingerprint] = table.unlisted
        if table != self.table:  # the log alone knows every member of an ENUM
            known, self.table = self.plan, _with_labels(self.table, table)
            self.plan = codec.RowPlan(self.table)
            self.plan.anomalies.update(known.anomalies)
            self.plans, self._parts = [self.plan, *self.plans[1:]], {}


def _with_labels(table: Table, logged: Table) -> Table:
    """The table with the members that the log knows, and with what only the catalog and the configuration know."""
    columns = zip(table.columns, logged.columns, strict=True)
    return replace(table, columns=tuple(replace(one, labels=other.labels) for one, other in columns))
