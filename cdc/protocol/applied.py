"""What the target has applied: plain values that move in the same transaction as the rows they stand for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.model.foreign_key import ForeignKey, from_json as keys_in, ordered
from cdc.model.position import Position, least
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.copy_progress import NOTHING, Copies
from cdc.protocol.table_states import FOLLOWED, TableState

MADE = "made"
"""In a table's `schema`: its place in the target is this pipeline's,
and whether it was made for it (else it was found, and taken)."""
FOREIGN_KEYS = "foreign_keys"
"""In a table's `schema`: those by which its rows change without being logged."""
REMAKE = "remake"
"""In a table's `schema`: its initial load was given up, and the sink makes its target anew."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the target is: the last whole cut, and per partition what comes next."""

    cut_no: int
    epoch: int
    control_next: int
    """Offset in the control topic from which reading goes on."""
    position: Position
    source_ts_us: int
    """Up to here, by the source's clock, the target holds everything; microseconds since the epoch, 0: unknown."""
    partitions: Mapping[Partition, tuple[int, int]] = field(default_factory=dict)
    """(topic, partition) -> (next offset, number of the last record applied).
    A commit may carry only those that moved."""
    mark: str = ""
    """Digest of the control record before `control_next` (`cdc.protocol.control.mark`).

    A broker that lost it has lost what is applied here.
    """
    copies: Copies = NOTHING
    """How far requests and the copy under way are, as of the cut."""
    since: Mapping[Partition, tuple[int, int] | None] = field(default_factory=dict)
    """Of a commit: the place that each of `partitions` had before, from which it goes on;
    None, or none: a base says where it stands."""
    clock_offset_us: int = field(default=0, compare=False)
    """How far the source's clock was ahead of this machine's at the cut:
    measured, and so a little different each time that it is read."""


@dataclass(frozen=True, slots=True)
class TableProgress:
    """Where one source table stands in the target."""

    db: str
    table: str
    target_schema: str
    target_table: str
    state: TableState = TableState.NEW
    floor: Position | None = None
    """Changes at or below it are in the copy already."""
    ceiling: Position | None = None
    """From here on the table may be shown as consistent."""
    rows_loaded: int = 0
    reason: str = ""
    schema: Mapping[str, object] = field(default_factory=dict)
    """Whatever rebuilds the table's plan (the Avro schemas of key and value)."""

    @property
    def name(self) -> TableName:
        return self.db, self.table

    @property
    def foreign_keys(self) -> tuple[ForeignKey, ...]:
        """Those of the table by which its rows change without being logged."""
        return keys_in(self.schema.get(FOREIGN_KEYS, ()))

    @property
    def ours(self) -> bool:
        """Whether the rows in its place are this pipeline's;
        a place that was refused may be somebody else's whatever happened since."""
        return MADE in self.schema or self.state in FOLLOWED

    @property
    def settled(self) -> bool:
        """Whether its place is ours and was begun to be filled: it is neither made nor looked at anew."""
        return self.ours and self.state not in (TableState.NEW, TableState.REFUSED)


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything read back at a start; `progress` is None until the first position was stored."""

    progress: Progress | None
    tables: Mapping[TableName, TableProgress]

    @property
    def foreign_keys(self) -> tuple[ForeignKey, ...]:
        """Those by which rows of the tables change without being logged, in the source's order."""
        return ordered(key for one in self.tables.values() for key in one.foreign_keys)

    @property
    def lowest_floor(self) -> Position | None:
        """The position that the floor of every table covers; None when no table has one."""
        floors = [
            state.floor
            for state in self.tables.values()
            if state.floor is not None and state.state != TableState.REFUSED
        ]
        return functools.reduce(least, floors) if floors else None


@dataclass(frozen=True, slots=True)
class LedgerChunk:
    """One ledger row of a load: the key range (low, high] that was copied, and how many rows it had."""

    number: int
    low: object = None
    """JSON form of the bound, as the loader chose it; None: open."""
    high: object = None
    rows: int = 0
