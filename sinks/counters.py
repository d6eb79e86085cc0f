"""What one try of a batch did: added to the running totals (`cdc/runtime/counters.py`) once it has succeeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.errors import RowRefused
from cdc.model.table import TableName
from cdc.runtime import logs
from sinks.quarantine import key_hash

_TOLD = 20


@dataclass(slots=True)
class Did:
    """What one try of a batch did."""

    void: int = 0
    rows: Counter[TableName] = field(default_factory=Counter)
    """Changes taken, those that were queued included."""
    written: Counter[TableName] = field(default_factory=Counter)
    """Keys written as if every row were fit."""
    queued: Counter[TableName] = field(default_factory=Counter)
    news: list[tuple[TableName, bytes, RowRefused]] = field(default_factory=list)
    """Keys that went into quarantine."""

    def tell(self) -> None:
        """Say which keys went into quarantine."""
        by_table: dict[TableName, dict[bytes, RowRefused]] = {}
        for name, identity, error in self.news:
            by_table.setdefault(name, {})[identity] = error
        for name, refused in by_table.items():
            tell(name, refused)


def tell(name: TableName, refused: Mapping[bytes, RowRefused]) -> None:
    """One line for each key of a table that went into quarantine, up to a number that can be read."""
    log = logs.logger("quarantine")
    for identity, error in list(refused.items())[:_TOLD]:
        key = key_hash(identity)
        log.warning(
            "key_quarantined", table=".".join(name), key=key, code=error.code, sqlstate=error.sqlstate, rule=error.rule
        )
    if len(refused) > _TOLD:
        log.warning("keys_quarantined", table=".".join(name), keys=len(refused), hint="cdc quarantine list")
