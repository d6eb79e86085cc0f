"""Marks in cuts: where, among the records of tables that foreign keys join, the source's engine changed rows unseen.

A mark says how far the partitions of the joined tables had come before and after the logged changes of a parent, so
that a sink can do then, in their order, what the engine did. Docs: docs/decisions/051-cascades.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cdc.binlog.events import RowsEvent
from cdc.capture.table_stream import TableStream
from cdc.errors import Halt
from cdc.model.foreign_key import ForeignKey
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.control import Cascade

MOST_MARKS = 500
"""So many make a cut due: a control record stays small."""


class CascadeMarks:
    """The marks of one epoch since its last cut."""

    def __init__(self, keys: Sequence[ForeignKey]) -> None:
        self.keys = tuple(keys)
        self._acts = {(key.parent, op) for key in keys for op in "du" if key.action(op)}
        self._joined: list[TableStream] = []
        self._told: dict[Partition, int] = {}
        """Where the joined partitions stood at the last mark."""
        self._marks: list[Cascade] = []
        self._transaction: str | None = None

    def follow(self, streams: Mapping[TableName, TableStream]) -> None:
        """The tables of the epoch."""
        names = {name for key in self.keys for name in (key.child, key.parent)}
        self._joined = [stream for name, stream in streams.items() if name in names]

    @property
    def due(self) -> bool:
        """Whether a cut should be written for their sake."""
        return len(self._marks) >= MOST_MARKS

    def begin(self, event: RowsEvent, transaction: str | None) -> bool:
        """Called before the event's records are numbered; whether `end` is to be called behind them."""
        if not self._acts or event.unchecked or ((event.table.db, event.table.name), event.kind) not in self._acts:
            return False
        before = self._moved(self._joined)
        last = self._marks[-1] if self._marks else None
        goes_on = not before and transaction is not None and transaction == self._transaction
        if last is None or not goes_on or (last.topic, last.op) != (self._topic(event), event.kind):
            self._marks.append(Cascade(self._topic(event), event.kind, before, {}))
        self._transaction = transaction
        return True

    def end(self, stream: TableStream) -> None:
        """The event's records are numbered."""
        last = self._marks[-1]
        self._marks[-1] = last._replace(after={**last.after, **self._moved([stream])})

    def take(self) -> tuple[Cascade, ...]:
        """The marks for the cut that is written now."""
        marks, self._marks = tuple(self._marks), []
        return marks

    def _topic(self, event: RowsEvent) -> str:
        names = (event.table.db, event.table.name)
        return next(one.followed.topic for one in self._joined if (one.table.db, one.table.name) == names)

    def _moved(self, streams: Iterable[TableStream]) -> dict[Partition, int]:
        """How far partitions have come that moved since the last mark."""
        at = {(one.followed.topic, p): seq for one in streams for p, seq in enumerate(one.numbers.seq)}
        moved = {partition: seq for partition, seq in at.items() if self._told.get(partition) != seq}
        self._told |= moved
        return moved


def check_unchanged(keys: Sequence[ForeignKey], known: Sequence[ForeignKey], copied: Iterable[TableName]) -> None:
    """Stop when tables that are copied had other foreign keys where the epoch begins than they have now."""
    names = set(copied)
    now, then = ({key for key in some if key.child in names} for some in (keys, known))
    for key in sorted((now ^ then) if known else ()):
        raise Halt(
            "foreign_keys_changed",
            f"{'.'.join(key.child)} foreign key {key.name}",
            "was added, changed or dropped, and rows of its table change by it unseen",
            f"start with {'.'.join(key.child)} in source.exclude until cdc wait returns, "
            "then without: it is copied anew",
        )
