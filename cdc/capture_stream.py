"""What capture holds of each followed table, what it counts, and what it needs of a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cdc import codec
from cdc.binlog_events import Event, TableMap
from cdc.columns import as_catalogued
from cdc.control import Followed
from cdc.errors import Halt
from cdc.model import Record, Table
from cdc.position import Position


class Log(Protocol):
    """What capture needs of `BinlogReader`."""

    def __iter__(self) -> Iterable[Event]: ...
    def pending(self) -> bool: ...
    def clock_us(self) -> int: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Counters:
    """What has been captured since the start, for metrics; read from another thread."""

    position: Position | None = None
    source_ts_us: int = 0
    cut_no: int = 0
    epoch: int = 0
    rows: int = 0
    bytes: int = 0
    transactions: int = 0
    cuts: int = 0
    read_at: float = 0.0
    published_at: float = 0.0
    published_ts_us: int = 0
    anomalies: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that were not kept as they were."""
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, outcome) -> signals read; what is wrong with a bad one is its outcome."""
    copied: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows that copies read while the log was followed, by table."""
    copies: int = 0
    """Copies that wait or are under way."""


class Stream:
    """One followed table on its way: its plan, its numbers, and the records not yet sent."""

    def __init__(self, table: Table, followed: Followed, numbers: codec.Numbers) -> None:
        self.table, self.followed, self.numbers = table, followed, numbers
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
