"""What the sink has done: running totals for metrics, and what one try of a batch adds to them once it has succeeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc import logs
from cdc.errors import RowRefused
from sinks.quarantine import Name, key_hash

_TOLD = 20


@dataclass(slots=True)
class Counters:
    """What has been applied since the start, for metrics; read from another thread."""

    cut_no: int = 0
    source_ts_us: int = 0
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    commits: int = 0
    void: Mapping[str, int] = field(default_factory=dict)
    anomalies: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that the sink's policies changed."""
    applied_at: float = 0.0
    states: Mapping[str, int] = field(default_factory=dict)
    """How many tables are in each state."""
    held: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many keys of each table wait in quarantine."""
    queued: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many changes were queued there."""


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
