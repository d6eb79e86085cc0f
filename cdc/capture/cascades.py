"""Marks in cuts: where, among the records of tables that foreign keys join, the source's engine changed rows unseen.

A mark says how far the partitions of the joined tables had come before and after the logged changes of a parent, so
that a sink can do then, in their order, what the engine did. Docs: docs/decisions/051-cascades.md.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from cdc.binlog import partial_images
from cdc.binlog.events import RowsEvent
from cdc.capture.restart import Restart
from cdc.capture.table_stream import TableStream
from cdc.errors import Halt
from cdc.model.foreign_key import ForeignKey, below, ordered
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.control import Cascade
from cdc.runtime import logs

MOST_MARKS = 500
"""So many make a cut due: a control record stays small."""


class CascadeMarks:
    """The marks of one epoch since its last cut."""

    def __init__(self, keys: Sequence[ForeignKey]) -> None:
        self.keys = tuple(keys)
        self._acts = {(key.parent, op) for key in keys for op in "du" if key.action(op)}
        self._parents = {name for name, _ in self._acts}
        self._joined: list[TableStream] = []
        self._by_others = set[TableName]()
        """Parents of which children hang on other columns than the primary key's."""
        self._told: dict[Partition, int] = {}
        """Where the joined partitions stood at the last mark."""
        self._marks: list[Cascade] = []
        self._transaction: str | None = None

    def follow(self, streams: Mapping[TableName, TableStream]) -> None:
        """The tables of the epoch."""
        names = {name for key in self.keys for name in (key.child, key.parent)}
        self._joined = [stream for name, stream in streams.items() if name in names]
        tables = {name: streams[name].table for name in names if name in streams}
        key_of = {name: {table.columns[at].name for at in table.key} for name, table in tables.items()}
        updates = [key for key in self.keys if key.on_update]
        self._by_others = {key.parent for key in updates if not set(key.referenced) <= key_of.get(key.parent, set())}

    @property
    def due(self) -> bool:
        """Whether a cut should be written for their sake."""
        return len(self._marks) >= MOST_MARKS

    def acts(self, event: RowsEvent) -> bool:
        """Whether the engine changes children with such changes; stops where their images do not say which."""
        name = event.table.db, event.table.name
        if (event.columns or event.kind == "p") and not event.unchecked and name in self._parents:
            place = ".".join(name)
            raise partial_images.stop(place, "rows of other tables change with it by foreign keys, unlogged")
        return bool(self._acts) and not event.unchecked and (name, event.kind) in self._acts

    def mark(
        self, stream: TableStream, op: str, before: Sequence[int], transaction: str | None, *, moved: bool
    ) -> None:
        """The records of such an event are numbered. `before`: the numbers of its partitions then; `moved`: whether a
        row of it got another key, without which the children of most parents are as they were."""
        if op == "u" and not moved and (stream.table.db, stream.table.name) not in self._by_others:
            return
        topic = stream.followed.topic
        after = {(topic, p): seq for p, seq in enumerate(stream.numbers.seq)}
        at = {(one.followed.topic, p): seq for one in self._joined for p, seq in enumerate(one.numbers.seq)}
        came = self._moved(at | {(topic, p): seq for p, seq in enumerate(before)})
        last = self._marks[-1] if self._marks else None
        if last is None or came or transaction != self._transaction or (last.topic, last.op) != (topic, op):
            last = Cascade(topic, op, came, {})
            self._marks.append(last)
        self._marks[-1] = last._replace(after={**last.after, **self._moved(after)})
        self._transaction = transaction

    def said(self, *, full: bool) -> tuple[tuple[Cascade, ...], tuple[ForeignKey, ...]]:
        """The marks for the cut that is written now; of a full one, the keys too."""
        marks, self._marks = tuple(self._marks), []
        return marks, self.keys if full else ()

    def _moved(self, at: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where partitions stand that did not stand there at the last mark."""
        moved = {partition: seq for partition, seq in at.items() if self._told.get(partition) != seq}
        self._told |= moved
        return moved


def with_descendants(tables: Iterable[TableName], keys: Sequence[ForeignKey]) -> frozenset[TableName]:
    """These tables, and all whose rows change with theirs unseen, children of children too."""
    found = frozenset(tables)
    while more := {key.child for key in keys if key.parent in found} - found:
        found |= more
    return found


def leave_changed(keys: Sequence[ForeignKey], restart: Restart, listed: Container[TableName], *, stops: bool) -> None:
    """Take out of what was followed the copied tables that had other foreign keys where the epoch begins than they have
    now, and those that hang on them: they are copied again. `stops`: stop at the first instead."""
    known, copied = restart.foreign_keys, restart.followed or frozenset()
    both = ordered({*keys, *known})
    changed = [one for one in both if (one in keys) != (one in known) and one.child in copied and one.child in listed]
    if not known or not changed:
        return
    if stops:
        child = ".".join(changed[0].child)
        raise Halt(
            "foreign_keys_changed",
            f"{child} foreign key {changed[0].name}",
            "was added, changed or dropped, and rows of its table change by it unseen",
            f"start with {child} in source.exclude until cdc wait returns, then without: it is copied anew",
        )
    anew = {one.child for one in changed}.union(*(below(both, one, op) for one in changed for op in "du"))
    logs.logger("capture").info("foreign_keys_changed", tables=[".".join(name) for name in sorted(anew & copied)])
    restart.followed = copied - anew
