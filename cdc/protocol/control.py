"""The records of the control topic; which of them count is in `cdc/protocol/ledger.py`. Pure.

Four kinds, in one order. `start` opens an epoch (its offset is the epoch's number). `base` says where that epoch
begins: the cut it goes on from, the numbers and end offsets of every partition, and the tables followed. `cut` says
that every record it covers is acknowledged and that a consistent state ends there, unless it is `partial`. `copy` is a
barrier: what the target holds of the table gives way to the rows that follow. Cuts and bases carry how far copies are
(`cdc/protocol/copy_progress.py`).

A record counts unless it is *void*: it bears a lower epoch than a start before it, or a later base went back below it
(its cut_no is greater than that base's). Docs: docs/decisions/001-protocol.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cdc.errors import Malformed
from cdc.model.foreign_key import ForeignKey, from_json as keys_in, to_json as keys_out
from cdc.model.position import Position
from cdc.model.record import Document, Partition
from cdc.model.table import TableName
from cdc.protocol.copy_progress import NOTHING, Copies, Ended


class Named(NamedTuple):
    """The last record of a partition that a cut covers."""

    offset: int
    epoch: int
    seq: int


class Cascade(NamedTuple):
    """Where the source's engine changed rows by foreign keys and did not log it: with the changes of one table that a
    transaction made in one go. By number, so that nothing but the records themselves says what was changed."""

    topic: str
    """Of the table whose rows the log has."""
    op: str
    """What happened to them: "u" or "d"."""
    before: Mapping[Partition, int]
    """The last records that came before these, of the partitions that moved since the one before this;
    among those of the tables that foreign keys join."""
    after: Mapping[Partition, int]
    """The last ones of these."""


class Anomaly(NamedTuple):
    """Values that could not be kept as they were, since the cut before."""

    db: str
    table: str
    column: str
    reason: str
    times: int


@dataclass(frozen=True, slots=True)
class Followed:
    """A table that capture follows, and where its records go."""

    db: str
    table: str
    topic: str
    partitions: int
    key_schema: int | None
    value_schema: int


@dataclass(frozen=True, slots=True)
class Start:
    """An epoch opens."""

    id: str
    ts_ms: int
    pipeline: str = ""
    """Whose capture writes these topics: another one is refused."""


@dataclass(frozen=True, slots=True)
class Base:
    """Where an epoch begins."""

    epoch: int
    cut_no: int
    position: Position
    source_ts_us: int
    copying: bool
    """The initial copy through the topics follows: every cut is partial until it is complete."""
    ends: Mapping[Partition, int]
    named: Mapping[Partition, Named]
    """Per partition the last record that counts, as the cut that the base goes on from knew it."""
    tables: tuple[Followed, ...]
    copies: Copies = NOTHING
    uncopied: tuple[TableName, ...] = ()
    """The followed tables that are still to be copied: what the target holds of them does not count."""
    gone: tuple[TableName, ...] = ()
    """Selected tables that were followed and do not exist any more: capture stops where the log says why."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    """Those by which the source changes rows of followed tables without logging it."""

    @property
    def copied(self) -> frozenset[TableName]:
        """The followed tables that are not still to be copied."""
        return frozenset((one.db, one.table) for one in self.tables) - frozenset(self.uncopied)

    def number(self, partition: Partition) -> int:
        """The number from which a partition counts on."""
        return self.named[partition].seq if partition in self.named else 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Everything up to `position` is in the topics, below these records."""

    epoch: int
    cut_no: int
    position: Position
    source_ts_us: int
    """Up to here, by the source's clock, that is everything (`cdc.runtime.moments`); 0: unknown."""
    full: bool
    partial: bool
    partitions: Mapping[Partition, Named]
    """Every partition that changed since the last full cut; all of them when full."""
    anomalies: tuple[Anomaly, ...] = ()
    followed: tuple[TableName, ...] = ()
    """In a full cut: database and name of every table that is followed and copied,
    so that a restart need not look for the base."""
    copies: Copies = NOTHING
    ended: tuple[Ended, ...] = ()
    """The copies that end with this cut."""
    clock_offset_us: int = 0
    """How far the source's clock was ahead of capture's machine's."""
    cascades: tuple[Cascade, ...] = ()
    """In order; since the cut before."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    """In a full cut: those of the base."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A table is copied whole from here on: forget what it held. Its `r` records follow the cut before this."""

    epoch: int
    cut_no: int
    """The number that the next cut will bear: the copy stands and falls with it."""
    db: str
    table: str
    position: Position
    """`exact`: where the rows were read; else the position of the cut before, and they are newer."""
    id: str
    exact: bool = True
    """Changes up to `position` are in the rows already: a table without a key."""
    swap: bool = False
    """What it held stays readable until the copy ends."""


Entry = Start | Base | Cut | Copy


def key(entry: Entry) -> str:
    """The record's key: compaction keeps each epoch's newest cut and newest full cut, and every start, base and copy.

    By epoch, so that a zombie's late cut, which is void, never takes the place of one that counts.
    """
    if isinstance(entry, Cut):
        return f"{'full' if entry.full else 'cut'} {entry.epoch}"
    if isinstance(entry, Start):
        return f"start {entry.id}"
    return f"base {entry.epoch}" if isinstance(entry, Base) else f"copy {entry.id}"


def mark(record: bytes) -> str:
    """A digest by which a control record is known again."""
    return hashlib.blake2b(record, digest_size=12).hexdigest()


def _spell(partition: Partition) -> str:
    return f"{partition[0]}:{partition[1]}"


def _partition(text: str) -> Partition:
    topic, _, number = text.rpartition(":")
    return topic, int(number)


def _numbers(document: Mapping[str, int]) -> dict[Partition, int]:
    return {_partition(p): int(number) for p, number in document.items()}


def _named_out(named: Mapping[Partition, Named]) -> dict[str, list[int]]:
    return {_spell(p): list(n) for p, n in named.items()}


def _named_in(document: Mapping[str, Sequence[int]]) -> dict[Partition, Named]:
    return {_partition(p): Named(*n) for p, n in document.items()}


def to_document(entry: Entry) -> Document:
    """The JSON form, as in schemas/json/control.schema.json."""
    kind = type(entry).__name__.lower()
    document: Document = {"type": kind, **{name: getattr(entry, name) for name in entry.__slots__}}
    if isinstance(entry, Base | Cut | Copy):
        document["position"] = entry.position.to_json()
    if isinstance(entry, Base):
        document["ends"] = {_spell(p): end for p, end in entry.ends.items()}
        document["named"] = _named_out(entry.named)
        document["tables"] = [{name: getattr(t, name) for name in t.__slots__} for t in entry.tables]
        document |= {name: [list(t) for t in getattr(entry, name)] for name in ("uncopied", "gone")}
    if isinstance(entry, Base | Cut):
        document["copies"] = entry.copies.to_json()
        document["foreign_keys"] = keys_out(entry.foreign_keys)
    if isinstance(entry, Cut):
        document["ended"] = [list(e) for e in entry.ended]
        document["partitions"] = _named_out(entry.partitions)
        document["anomalies"] = [list(a) for a in entry.anomalies]
        document["followed"] = [list(t) for t in entry.followed]
        document["cascades"] = [
            [one.topic, one.op, *({_spell(p): n for p, n in at.items()} for at in (one.before, one.after))]
            for one in entry.cascades
        ]
    return document


def from_document(document: Document, offset: int) -> Entry:
    """The entry that `to_document` wrote; anything else is malformed, with the offset where it stands."""
    fields: dict[str, Any] = dict(document)
    try:
        make = _KINDS[fields.pop("type")]
        if "position" in fields:
            fields["position"] = Position.from_json(fields["position"])
        for name, read in _FIELDS.items():
            if name in fields:
                fields[name] = read(fields[name])
        return make(**fields)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Malformed(
            "control_record",
            f"control offset {offset}",
            "is not a control record",
            "is transport.prefix another pipeline's?",
        ) from None


_KINDS: Mapping[str, Callable[..., Entry]] = {"start": Start, "base": Base, "cut": Cut, "copy": Copy}
_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "ends": _numbers,
    "named": _named_in,
    "partitions": _named_in,
    "anomalies": lambda d: tuple(Anomaly(*a) for a in d),
    "followed": lambda d: tuple((db, table) for db, table in d),
    "tables": lambda d: tuple(Followed(**t) for t in d),
    "uncopied": lambda d: tuple((db, table) for db, table in d),
    "gone": lambda d: tuple((db, table) for db, table in d),
    "copies": Copies.from_json,
    "foreign_keys": keys_in,
    "cascades": lambda d: tuple(
        Cascade(topic, op, _numbers(before), _numbers(after)) for topic, op, before, after in d
    ),
    "ended": lambda d: tuple(Ended(*e) for e in d),
}
