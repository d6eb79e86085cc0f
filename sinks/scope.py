"""Whose cuts are assembled: all partitions of a pipeline, or those of one shard,
which stops at what concerns all of them; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard

from cdc.protocol.control import Base, Copy, Cut, Entry
from cdc.state.shards import Share


class Scope(Protocol):
    """What of the control records concerns a sink."""

    @property
    def end(self) -> int | None:
        """An offset of the control topic from which on nothing is taken; None: it has no end."""

    def ends_at(self, offset: int) -> bool: ...
    def ours(self, entry: Entry) -> Entry:
        """A control record with what concerns us alone."""

    def meets(self, entry: Entry | None) -> TypeGuard[Base | Copy | Cut]:
        """Whether all shards are to stand before this record, before anyone goes on."""


class _Whole:
    """One sink applies all, and waits for nobody."""

    end = None

    def ends_at(self, offset: int) -> bool:
        return False

    def ours(self, entry: Entry) -> Entry:
        return entry

    def meets(self, entry: Entry | None) -> TypeGuard[Base | Copy | Cut]:
        return False


WHOLE: Scope = _Whole()


@dataclass(frozen=True, slots=True)
class ShardScope:
    """The partitions of one share."""

    share: Share
    topic: Callable[[str, str], str]
    """The topic of a table, by database and name."""
    end: int | None = None

    def ends_at(self, offset: int) -> bool:
        """Whether the record at this offset is beyond the end."""
        return self.end is not None and offset >= self.end

    def ours(self, entry: Entry) -> Entry:
        """A cut with our partitions alone, and what was odd in tables whose first partition is ours."""
        if not isinstance(entry, Cut):
            return entry
        partitions = {p: named for p, named in entry.partitions.items() if self.share.has(p)}
        anomalies = tuple(one for one in entry.anomalies if self.share.has((self.topic(one.db, one.table), 0)))
        return replace(entry, partitions=partitions, anomalies=anomalies)

    def meets(self, entry: Entry | None) -> TypeGuard[Base | Copy | Cut]:
        """Bases, copies' barriers, and cuts with which a copy ends."""
        return isinstance(entry, Base | Copy) or (isinstance(entry, Cut) and bool(entry.ended))
