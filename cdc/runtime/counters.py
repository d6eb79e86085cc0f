"""What the stages count as they go, for metrics: written by the stage's thread, read from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cdc.model.position import Position
from cdc.model.table import AnomalyName, TableName
from cdc.runtime import clock
from cdc.runtime.moments import SteadyClock, believed


@dataclass(slots=True)
class CaptureCounters:
    """What has been captured since the start."""

    position: Position | None = None
    source_ts_us: int = 0
    cut_no: int = 0
    epoch: int = 0
    rows: int = 0
    bytes: int = 0
    transactions: int = 0
    cuts: int = 0
    published_ts_us: int = 0
    anomalies: dict[AnomalyName, int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that were not kept as they were."""
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, outcome) -> signals read; what is wrong with a bad one is its outcome."""
    copied: Counter[TableName] = field(default_factory=Counter)
    """Rows that copies read while the log was followed, by table."""
    copies: int = 0
    """Copies that wait or are under way."""

    def count_cut(
        self, number: int, position: Position, source_ts_us: int, anomalies: Iterable[tuple[str, str, str, str, int]]
    ) -> None:
        """A cut is published; the last of an anomaly's five fields is how often."""
        self.cut_no, self.position, self.published_ts_us = number, position, source_ts_us
        self.cuts += 1
        for anomaly in anomalies:
            self.anomalies[anomaly[:4]] = self.anomalies.get(anomaly[:4], 0) + anomaly[4]


@dataclass(slots=True)
class ApplyCounters:
    """What has been applied since the start."""

    cut_no: int = 0
    source_ts_us: int = 0
    source_clock: SteadyClock = field(default_factory=SteadyClock)
    """The source's, as the newest cut has it."""
    rows: dict[TableName, int] = field(default_factory=dict)
    commits: int = 0
    void: Mapping[str, int] = field(default_factory=dict)
    anomalies: dict[AnomalyName, int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that the sink's policies changed."""
    states: Mapping[str, int] = field(default_factory=dict)
    """How many tables are in each state."""
    held: Mapping[TableName, int] = field(default_factory=dict)
    """How many keys of each table wait in quarantine."""
    queued: dict[TableName, int] = field(default_factory=dict)
    """How many changes were queued there."""

    def hear(self, source_ts_us: int, clock_offset_us: int) -> None:
        """The target holds everything up to there, by a clock that is so far ahead of this machine's."""
        now_us = clock.now_us() + clock_offset_us
        self.source_ts_us = believed(source_ts_us, now_us, now_us if source_ts_us else 0)
        self.source_clock.set(now_us)
