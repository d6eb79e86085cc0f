"""What the sink does next: the steps that cuts make of control records and rows, and how far they reach;
plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc.codec.records import Opened
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.protocol.control import Anomaly, Base, Cascade, Copy, Cut
from cdc.protocol.copy_progress import NOTHING, Copies, Ended


@dataclass(slots=True)
class TopicChanges:
    """The records of one topic that are to be applied, in order."""

    values: list[bytes] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Of which partition they are, piece by piece: its number, and how many records there are up to the piece's end."""


@dataclass(slots=True)
class Batch:
    """Changes up to the end of a cut; a `partial` one ends no consistent state and must not be committed."""

    cut: Cut
    topics: dict[str, TopicChanges]
    rows: int
    partial: bool
    anomalies: list[Anomaly] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    """The copies that end with its cuts."""
    bytes: int = 0
    cascades: list[Cascade] = field(default_factory=list)
    """Where the source changed rows by foreign keys, in order."""
    floors: dict[str, Position] = field(default_factory=dict)
    """Of these topics' tables changes up to there are in the copy already, those by foreign keys too."""


@dataclass(slots=True)
class Enter:
    """An epoch's base: numbers and offsets become the base's, then reading goes on at its end offsets."""

    base: Base


@dataclass(slots=True)
class BeginCopy:
    """A table is copied whole from here on: what it holds gives way to the rows that follow."""

    copy: Copy


@dataclass(slots=True)
class Meet:
    """In scaled mode: all shards are to stand here before anyone goes on.
    `offset` and `mark` are the control record's."""

    offset: int
    entry: Base | Copy | Cut
    mark: str


Step = Batch | Enter | BeginCopy | Meet


@dataclass(slots=True)
class At:
    """How far the records taken so far reach; becomes `Progress` when it is committed."""

    cut_no: int = 0
    epoch: int = -1
    control_next: int = 0
    position: Position | None = None
    source_ts_us: int = 0
    mark: str = ""
    """Of the control record before `control_next`."""
    offsets: dict[Partition, int] = field(default_factory=dict)
    numbers: dict[Partition, int] = field(default_factory=dict)
    moved: dict[Partition, tuple[int, int] | None] = field(default_factory=dict)
    """Partitions that moved since the last commit, with the offset and number that they had at it;
    None: a base has set them."""
    copies: Copies = NOTHING
    clock_offset_us: int = 0
