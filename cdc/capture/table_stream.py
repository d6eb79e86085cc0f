"""What capture holds of each followed table, and what it needs of a log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from cdc import codec
from cdc.binlog.events import Event, TableMap
from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.record import Document, Record
from cdc.model.table import Table, TableName
from cdc.mysql.information_schema import as_catalogued
from cdc.protocol.control import Followed
from cdc.protocol.copy_progress import Copies, Ended

Register = Callable[[str, Document], int]
"""Gives a schema its id, under a subject."""


Form = tuple[codec.RowPlan, tuple[int, int]]
"""How images become records, and the ids of the schemas of key and value."""


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
        self._shapes: set[bytes] = set()
        self._parts: dict[tuple[int, ...], Form] = {}
        """Plan and schemas of images that have some columns alone."""

    def check(self, shape: TableMap) -> None:
        """Stop when the log shows another shape of the table than the one that is followed."""
        if shape.fingerprint in self._shapes:
            return
        table = shape.table()
        if self.table not in (table, as_catalogued(table)):
            raise Halt("schema_changed", self.table.qualified, "the table's columns are not those that were copied",
                       "schema changes are not followed yet: drop the pipeline's target tables and state, "
                       "and copy again")  # fmt: skip
        self._shapes.add(shape.fingerprint)
        if table != self.table:  # the log alone knows every member of an ENUM
            known, self.table, self.plan = self.plan, table, codec.RowPlan(table)
            self.plan.anomalies.update(known.anomalies)
            self.plans, self._parts = [self.plan, *self.plans[1:]], {}

    def some(self, columns: tuple[int, ...], prefix: str, flavour: str, register: Register) -> Form:
        """Plan and schemas of images that have these columns alone.

        They have a subject of their own: schemas that lack columns cannot stand in a row with those that do not.
        """
        if columns not in self._parts:
            part = envelope.some_columns(self.table, columns)
            names = hashlib.blake2b(repr([one.name for one in part.columns]).encode(), digest_size=8).hexdigest()
            schema = envelope.partial_schema(prefix, part, flavour, self.schemas[0])
            value_id = register(f"{self.followed.topic}-partial-{names}-value", schema)
            self._parts[columns] = codec.RowPlan(part), (self.schemas[0], value_id)
            self.plans.append(self._parts[columns][0])
        return self._parts[columns]
