"""What capture holds of each followed table, what it counts, and what it needs of a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cdc import codec
from cdc.binlog.events import Event, TableMap
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.model.table import Table
from cdc.mysql.information_schema import as_catalogued
from cdc.protocol.control import Followed
from cdc.protocol.copy_progress import Copies, Ended


class Log(Protocol):
    """What capture needs of `BinlogReader`."""

    def __iter__(self) -> Iterable[Event]: ...
    def pending(self) -> bool: ...
    def clock_us(self) -> int: ...
    def close(self) -> None: ...


class Incremental(Protocol):
    """Copies that are made while the log is followed; `cdc.capture.incremental_snapshot.IncrementalSnapshot` is one."""

    def turn(self, log: Log) -> None:
        """The log is followed to here, a transaction's end near its own, and no window is open: open one if there is work."""

    def closed(self) -> None:
        """The log is followed to the end of the open window: the cut that comes next is whole."""

    def set_back(self, names: Collection[tuple[str, str]]) -> None:
        """What the copies of these tables have brought does not count any more; they begin again."""

    def said(self) -> tuple[Copies, tuple[Ended, ...]]:
        """What the next whole cut says of copies; asked once for each."""


@dataclass(slots=True)
class CaptureCounters:
    """What has been captured since the start, for metrics; read from another thread."""

    position: Position | None = None
    source_ts_us: int = 0
    cut_no: int = 0
    epoch: int = 0
    rows: int = 0
    bytes: int = 0
    transactions: int = 0
    cuts: int = 0
    published_ts_us: int = 0
    anomalies: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that were not kept as they were."""
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, outcome) -> signals read; what is wrong with a bad one is its outcome."""
    copied: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows that copies read while the log was followed, by table."""
    copies: int = 0
    """Copies that wait or are under way."""


class TableStream:
    """One followed table on its way: its plan, its numbers, and the records not yet sent."""

    def __init__(self, table: Table, followed: Followed, numbers: codec.Numbers) -> None:
        self.table, self.followed, self.numbers = table, followed, numbers
        self.schemas = followed.key_schema or 0, followed.value_schema
        """Ids of the schemas of key and value; 0 without a key."""
        self.plan = codec.RowPlan(table)
        self.out: list[Record] = []
        self._shapes: set[bytes] = set()

    def check(self, shape: TableMap) -> None:
        """Stop when the log shows another shape of the table than the one that is followed."""
        if shape.fingerprint in self._shapes:
            return
        table = shape.table()
        if self.table not in (table, as_catalogued(table)):
            raise Halt("schema_changed", self.table.qualified, "the table's columns are not those that were copied",
                       "schema changes are not followed yet: drop the pipeline's target tables and state, and copy again")  # fmt: skip
        self._shapes.add(shape.fingerprint)
        if table != self.table:  # the log alone knows every member of an ENUM
            known, self.table, self.plan = self.plan, table, codec.RowPlan(table)
            self.plan.anomalies.update(known.anomalies)
