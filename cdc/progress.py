"""What the target has applied: plain values that move in the same transaction as the rows they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.copies import NOTHING, Copies
from cdc.lifecycle import State
from cdc.position import Position

REMAKE = "remake"
"""In a table's `schema`: its initial load was given up, and the sink makes its target anew."""
Partition = tuple[str, int]
"""A topic and a partition of it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the target is: the last whole cut, and per partition what comes next."""

    cut_no: int
    epoch: int
    control_next: int
    """Offset in the control topic from which reading goes on."""
    position: Position
    source_ts_us: int
    """Source clock at the cut, microseconds since the epoch."""
    partitions: Mapping[Partition, tuple[int, int]] = field(default_factory=dict)
    """(topic, partition) -> (next offset, number of the last record applied). A commit may carry only those that moved."""
    mark: str = ""
    """Digest of the control record before `control_next` (`cdc.control.mark`): a broker that lost it has lost what is applied here."""
    copies: Copies = NOTHING
    """How far requests and the copy under way are, as of the cut."""


@dataclass(frozen=True, slots=True)
class TableState:
    """Where one source table stands in the target."""

    db: str
    table: str
    target_schema: str
    target_table: str
    state: State = State.NEW
    floor: Position | None = None
    """Changes at or below it are in the copy already."""
    ceiling: Position | None = None
    """From here on the table may be shown as consistent."""
    rows_loaded: int = 0
    reason: str = ""
    schema: Mapping[str, object] = field(default_factory=dict)
    """Whatever rebuilds the table's plan (the Avro schemas of key and value)."""

    @property
    def name(self) -> tuple[str, str]:
        return self.db, self.table


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything read back at a start; `progress` is None until the first position was stored."""

    progress: Progress | None
    tables: Mapping[tuple[str, str], TableState]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One ledger row of a load: the key range (low, high] that was copied, and how many rows it had."""

    number: int
    low: object = None
    """JSON form of the bound, as the loader chose it; None: open."""
    high: object = None
    rows: int = 0
