"""What the sink has done: running totals for metrics, and what one try of a batch adds to them once it has succeeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.errors import RowRefused
from cdc.runtime import clock, logs
from cdc.runtime.moments import SteadyClock, believed
from sinks.quarantine import Name, key_hash

_TOLD = 20


@dataclass(slots=True)
class ApplyCounters:
    """What has been applied since the start, for metrics; read from another thread."""

    cut_no: int = 0
    source_ts_us: int = 0
    source_clock: SteadyClock = field(default_factory=SteadyClock)
    """The source's, as the newest cut has it."""
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    commits: int = 0
    void: Mapping[str, int] = field(default_factory=dict)
    anomalies: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that the sink's policies changed."""
    states: Mapping[str, int] = field(default_factory=dict)
    """How many tables are in each state."""
    held: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many keys of each table wait in quarantine."""
    queued: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many changes were queued there."""

    def hear(self, source_ts_us: int, clock_offset_us: int) -> None:
        """The target holds everything up to there, by a clock that is so far ahead of this machine's."""
        now_us = clock.now_us() + clock_offset_us
        self.source_ts_us = believed(source_ts_us, now_us, now_us if source_ts_us else 0)
        self.source_clock.set(now_us)


@dataclass(slots=True)
class Did:
    """What one try of a batch did."""

    void: int = 0
    rows: Counter[Name] = field(default_factory=Counter)
    """Changes taken, those that were queued included."""
    written: Counter[Name] = field(default_factory=Counter)
    """Keys written as if every row were fit."""
    queued: Counter[Name] = field(default_factory=Counter)
    news: list[tuple[Name, bytes, RowRefused]] = field(default_factory=list)
    """Keys that went into quarantine."""

    def tell(self) -> None:
        """Say which keys went into quarantine."""
        by_table: dict[Name, dict[bytes, RowRefused]] = {}
        for name, identity, error in self.news:
            by_table.setdefault(name, {})[identity] = error
        for name, refused in by_table.items():
            tell(name, refused)


def tell(name: Name, refused: Mapping[bytes, RowRefused]) -> None:
    """One line for each key of a table that went into quarantine, up to a number that can be read."""
    log = logs.logger("quarantine")
    for identity, error in list(refused.items())[:_TOLD]:
        key = key_hash(identity)
        log.warning("key_quarantined", table=".".join(name), key=key, code=error.code, sqlstate=error.sqlstate, rule=error.rule)
    if len(refused) > _TOLD:
        log.warning("keys_quarantined", table=".".join(name), keys=len(refused), hint="cdc quarantine list")
