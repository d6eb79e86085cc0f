"""Where an epoch of capture begins: what the control topic says of the ones before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from cdc.errors import Halt
from cdc.model.foreign_key import ForeignKey
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol import control
from cdc.protocol.control import Base, Cut, Entry, Named
from cdc.protocol.copy_progress import NOTHING, WHOLE, Copies
from cdc.protocol.ledger import Point, restart_point
from cdc.transport.contract import Writer

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
    followed: frozenset[TableName] | None = None
    """The tables that were followed and copied, or are those that an initial copy through the topics began with;
    None: all of them."""
    copies: Copies = NOTHING
    emptied: frozenset[TableName] = frozenset()
    """Those of the other tables whose copy has begun: what the log says of them counts from here on."""
    reached: tuple[Position, ...] = ()
    """Positions that a sink may have applied, those of void cuts too:
    a copy may begin only when all of them are visible."""
    clock_offset_us: int = 0
    """How far the source's clock was ahead of capture's machine's then."""
    refused: frozenset[TableName] = frozenset()
    """Those of the followed tables that the target cannot take:
    nothing that the log says of them before they were listed matters."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    """Those that were known there; empty: none, or it is not known."""


def from_history(writer: Writer, prefix: str, epoch: int) -> Restart | None:
    """The newest cut that the topics still hold; None when nothing was ever captured under this prefix."""
    holds = cache(
        lambda partition, named: writer.holds(partition, *named)
    )  # of an idle table every cut names the same record
    for window in _WINDOWS:
        entries = [(offset, control.from_document(document, offset)) for offset, document in writer.control(window)]
        if not any(offset == epoch for offset, _ in entries):
            raise Halt(
                "control_topic",
                f"{prefix}.control",
                "the start record cannot be read back",
                "is the topic's cleanup.policy right?",
            )
        before = [entry for offset, entry in entries if offset < epoch]
        point = restart_point([each for each in entries if each[0] < epoch], holds)
        if point is not None:
            return _restart(point, before)
    return None


def found_empty(writer: Writer, ends: Mapping[Partition, int]) -> bool:
    """Whether a base found the partitions empty that hold records now: then all of them were written by epochs that are
    known here.

    Two captures that start at once leave this: the first one's base stands behind the second one's start, and so is
    void.
    """
    grown = [partition for partition, end in ends.items() if end]
    entries = (control.from_document(document, offset) for offset, document in writer.control())
    return any(
        isinstance(entry, Base) and all(entry.ends.get(partition) == 0 for partition in grown) for entry in entries
    )


def without_cut(prefix: str) -> Halt:
    """Topics with records that nothing says how to go on from."""
    rule = "hold records, but the control topic has no cut to go on from"
    return Halt(
        "no_cut", f"topics {prefix}.*", rule, "give the pipeline another transport.prefix, or delete its topics"
    )


def _restart(point: Point, before: list[Entry]) -> Restart:
    entry = point.entry
    reached = tuple(_newest(other.position for other in before if isinstance(other, Base | Cut)))
    restart = Restart(
        entry.position, entry.source_ts_us, entry.cut_no, point.named, copies=entry.copies, reached=reached
    )
    restart.clock_offset_us = entry.clock_offset_us if isinstance(entry, Cut) else 0
    restart.foreign_keys = point.foreign_keys
    if isinstance(entry, Base) and entry.copying:
        restart.copying, restart.followed = True, point.followed
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
