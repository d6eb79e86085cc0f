"""Where an epoch of capture begins: what the control topic says of the ones before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cdc import control
from cdc.control import Base, Cut, Entry, Named, Point
from cdc.copies import NOTHING, WHOLE, Copies
from cdc.errors import Halt
from cdc.position import Position
from cdc.topic import Partition, Writer

_WINDOWS = (20_000, 500_000, 0)
"""How many of the last control records to read at a time: one full cut a minute stands among at most some thousands."""


@dataclass(slots=True)
class Restart:
    """Where an epoch goes on from."""

    position: Position
    source_ts_us: int = 0
    cut_no: int = 0
    named: Mapping[Partition, Named] = field(default_factory=dict)
    copying: bool = False
    followed: frozenset[tuple[str, str]] | None = None
    """The tables that were followed and copied; None: all of them are copied from here on."""
    copies: Copies = NOTHING
    emptied: frozenset[tuple[str, str]] = frozenset()
    """Those of the other tables whose copy has begun: what the log says of them counts from here on."""
    reached: tuple[Position, ...] = ()
    """Positions that a sink may have applied, those of void cuts too: a copy may begin only when all of them are visible."""


def from_history(writer: Writer, prefix: str, epoch: int) -> Restart | None:
    """The newest cut that the topics still hold; None when nothing was ever captured under this prefix."""
    for window in _WINDOWS:
        entries = [(offset, control.from_document(document, offset)) for offset, document in writer.control(window)]
        if not any(offset == epoch for offset, _ in entries):
            raise Halt("control_topic", f"{prefix}.control", "the start record cannot be read back", "is the topic's cleanup.policy right?")
        before = [entry for offset, entry in entries if offset < epoch]
        point = control.restart_point([each for each in entries if each[0] < epoch], lambda p, n: writer.holds(p, *n))
        if point is not None:
            return _restart(point, before)
    return None


def found_empty(writer: Writer, ends: Mapping[Partition, int]) -> bool:
    """Whether a base found the partitions empty that hold records now: then all of them were written by epochs that are known here.

    Two captures that start at once leave this: the first one's base stands behind the second one's start, and so is void.
    """
    grown = [partition for partition, end in ends.items() if end]
    entries = (control.from_document(document, offset) for offset, document in writer.control())
    return any(isinstance(entry, Base) and all(entry.ends.get(partition) == 0 for partition in grown) for entry in entries)


def _restart(point: Point, before: list[Entry]) -> Restart:
    entry = point.entry
    reached = tuple(_newest(other.position for other in before if isinstance(other, Base | Cut)))
    restart = Restart(entry.position, entry.source_ts_us, entry.cut_no, point.named, copies=entry.copies, reached=reached)
    if isinstance(entry, Base) and entry.copying:
        restart.copying = True
        return restart
    active = entry.copies.active
    emptied = frozenset({(active.db, active.table)} if active and active.kind == WHOLE and not active.swap else ())
    if point.undone is not None:  # a sink may be ahead of what the copy's progress says
        restart.copies = replace(entry.copies, active=None)
        emptied |= point.undone
    restart.followed, restart.emptied = point.followed - emptied, emptied
    return restart


def _newest(positions: Iterable[Position]) -> list[Position]:
    """The positions that no later one covers."""
    newest: list[Position] = []
    for position in positions:
        newest = [other for other in newest if not position.covers(other)] + [position]
    return newest
