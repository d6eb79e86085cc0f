"""What the source's engine changed by foreign keys and did not log: done in the target at its place among the records.

A cut marks the logged changes of parents. A batch with such marks is written in segments: what came before a mark, the
parents' changes, then their children's, which the rows in the target tell; and on to the next mark. What cannot be told
exactly so makes its table `refused`, by name, until it is copied again. Docs: docs/decisions/051-cascades.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cdc.model.foreign_key import ForeignKey, below, next_of, ordered
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.control import Cascade
from cdc.protocol.table_states import FOLLOWED, TableEvent, TableState
from cdc.runtime import logs
from sinks.careful import RecordWriter, Try
from sinks.contract import NamedPlan
from sinks.fold import runs
from sinks.parents import Changed, parents_of
from sinks.plans import Plans
from sinks.postgres.cascade_tables import CascadeTables, Values
from sinks.quarantine import HeldKeys
from sinks.steps import Batch, TopicChanges
from sinks.table_states import TableStates

AGAIN = "cdc copy brings it up to date"
PASSED = "a foreign key's changes came to it through a table that was not complete here"
MOVED = "a foreign key changed its rows while they were copied"
WAITING = "a foreign key changed its rows while keys of it waited in quarantine"
UNTOLD = "which of its rows a foreign key of text changed is not known here"
"""Why the rows of a table are not known any more."""


class Segments:
    """The records of some topics, given out up to one mark after the other."""

    def __init__(self, topics: Mapping[str, TopicChanges]) -> None:
        self._lots = {p: lot for topic, changes in topics.items() for p, lot in _by_partition(topic, changes)}
        self._given = dict.fromkeys(self._lots, 0)

    def until(self, marks: Mapping[Partition, int]) -> dict[str, TopicChanges]:
        """What was not given out of these partitions, up to these numbers."""
        ends = {
            partition: bisect_right(lot.opened, marks[partition], key=lambda one: one.seq)
            for partition, lot in self._lots.items()
            if partition in marks
        }
        return self._give(ends)

    def rest(self) -> dict[str, TopicChanges]:
        """What was not given out at all."""
        return self._give({partition: len(lot.values) for partition, lot in self._lots.items()})

    def _give(self, ends: Mapping[Partition, int]) -> dict[str, TopicChanges]:
        found: dict[str, TopicChanges] = {}
        for partition, end in ends.items():
            start = self._given[partition]
            if end > start:
                _add(found.setdefault(partition[0], TopicChanges()), self._lots[partition], slice(start, end))
                self._given[partition] = end
        return found


def _by_partition(topic: str, changes: TopicChanges) -> Iterator[tuple[Partition, TopicChanges]]:
    found: dict[Partition, TopicChanges] = {}
    start = 0
    for number, end in changes.pieces:
        _add(found.setdefault((topic, number), TopicChanges()), changes, slice(start, end))
        start = end
    yield from found.items()


def _add(into: TopicChanges, changes: TopicChanges, part: slice) -> None:
    into.values += changes.values[part]
    into.keys += changes.keys[part]
    into.opened += changes.opened[part]


@dataclass(slots=True)
class CascadeWriter:
    """Writes batches with marks, by what a run of the sink knows."""

    tables: TableStates
    plans: Plans
    held_keys: HeldKeys
    writer: RecordWriter
    topic: Callable[[str, str], str]
    keys: tuple[ForeignKey, ...] = ()
    joined: frozenset[str] = frozenset()
    """The topics of the tables that they join."""
    copied: set[str] = field(default_factory=set)
    """Topics of which rows that were read lie in the open transaction: these tables are no state of the source yet."""

    def learn(self) -> None:
        """Know the keys of the tables, as the last base said them."""
        self.keys = ordered(key for one in self.tables for key in one.foreign_keys)
        self.joined = frozenset(self.topic(*name) for key in self.keys for name in (key.child, key.parent))

    def note(self, batch: Batch) -> None:
        """See which of the joined tables are being copied."""
        topics = {topic: batch.topics[topic] for topic in self.joined & batch.topics.keys()}
        self.copied |= {topic for topic, changes in topics.items() if any(one.op == "r" for one in changes.opened)}

    def write_batch(self, now: Try, batch: Batch, target: CascadeTables, copying: TableName | None) -> None:
        """Write the changes of a batch and what the marks mean. `copying`: a table of which a copy is under way."""
        act = _Act(self, target, batch.floors, copying)
        segments = Segments({topic: changes for topic, changes in batch.topics.items() if topic in self.joined})
        for cascade in batch.cascades:
            self.write(now, segments.until(cascade.before))
            parents = segments.until(cascade.after)
            self.write(now, parents)
            for changes in parents.values():
                act.follow(cascade, changes)
        self.write(now, segments.rest())
        self.write(now, {topic: changes for topic, changes in batch.topics.items() if topic not in self.joined})

    def write(self, now: Try, topics: Mapping[str, TopicChanges]) -> None:
        """Write changes that no mark lies between."""
        for changes in topics.values():
            if changes.values:
                self.writer.write_topic(now, changes)

    def refuse(self, name: TableName, reason: str) -> None:
        """The rows of a table, and of those that hang on it, are not known any more."""
        if self.tables[name].state in FOLLOWED:
            self.tables.renew(name)
            self.tables.happen(name, TableEvent.REFUSED, reason=f"{reason}: {AGAIN}")
            logs.logger("apply").warning("cascade_refused", table=".".join(name), rule=reason, hint=AGAIN)


@dataclass(frozen=True, slots=True)
class _Act:
    """What the marks of one batch do."""

    owner: CascadeWriter
    target: CascadeTables
    floors: Mapping[str, Position]
    copying: TableName | None

    def follow(self, cascade: Cascade, changes: TopicChanges) -> None:
        """Do what the changes of parents did to their children."""
        for run in runs(changes.values):
            plan = self.owner.plans[changes.values[run.start][:5]]
            name = (plan.db, plan.table)
            keys = [key for key in self.owner.keys if key.parent == name and key.action(cascade.op)]
            names = sorted({column for key in keys for column in key.referenced})
            found = parents_of(plan, names, cascade.op, changes, run) if keys else []
            for transaction, rows in groupby(found, key=lambda one: one.transaction):
                self._all(name, cascade.op, list(rows), transaction)

    def _all(self, parent: TableName, op: str, rows: list[Changed], transaction: str) -> None:
        """One after the other where an order may matter; deletions go level by level."""
        if op == "d":
            self._deleted(parent, [one.old for one in rows], transaction)
        else:
            for one in rows:
                self._updated(parent, [(one.old, one.new)], transaction)

    def _deleted(self, parent: TableName, olds: Sequence[Values], transaction: str) -> None:
        for key in self._of(parent, "d"):
            rows = self._done(key, "d", [(old, {}) for old in olds], transaction)
            if key.on_delete == "cascade" and rows:
                self._deleted(key.child, rows, transaction)
            elif rows:
                nulls: Values = dict.fromkeys(key.columns)
                self._updated(key.child, [(row, row | nulls) for row in rows], transaction)

    def _updated(self, parent: TableName, pairs: Sequence[tuple[Values, Values]], transaction: str) -> None:
        for key in self._of(parent, "u"):
            changed = [pair for pair in pairs if any(pair[0].get(one) != pair[1].get(one) for one in key.referenced)]
            for pair in changed:
                rows = self._done(key, "u", [pair], transaction)
                values = dict(zip(key.columns, (pair[1].get(one) for one in key.referenced), strict=True))
                if key.on_update == "set null":
                    values = dict.fromkeys(key.columns)
                self._updated(key.child, [(row, row | values) for row in rows], transaction)

    def _of(self, parent: TableName, op: str) -> list[ForeignKey]:
        return [key for key in self.owner.keys if key.parent == parent and key.action(op)]

    def _done(self, key: ForeignKey, op: str, pairs: Sequence[tuple[Values, Values]], transaction: str) -> list[Values]:
        """Change the children; what those held that grandchildren hang on."""
        pairs = [pair for pair in pairs if all(pair[0].get(one) is not None for one in key.referenced)]
        owner, child = self.owner, key.child
        if not pairs or not self._may(key, op, transaction):
            return []
        wanted = sorted({one for other, _ in next_of(self.owner.keys, key, op) for one in other.referenced})
        plans, shadow = (self._plan(key.parent), self._plan(child)), owner.tables.shadow(child)
        rows = self.target.change(key, plans, op, pairs, wanted, shadowed=bool(shadow))
        if rows is None:
            owner.refuse(child, UNTOLD)
            self._refuse_below(key, op)
        return rows or []

    def _plan(self, name: TableName) -> NamedPlan:
        return self.owner.plans.of(self.owner.tables[name].schema)

    def _may(self, key: ForeignKey, op: str, transaction: str) -> bool:
        """Whether the children are in the target as they were; where what follows is not, that is said."""
        owner, child = self.owner, key.child
        state = owner.tables[child].state
        floor, waiting = self.floors.get(owner.topic(*child)), bool(owner.held_keys.held(child))
        if state not in FOLLOWED or waiting or (floor is not None and floor.contains(transaction)):
            if waiting:
                owner.refuse(child, WAITING)
            self._refuse_below(key, op)
            return False
        complete = state in (TableState.CONSISTENT, TableState.QUARANTINED)
        if not complete or child == self.copying or owner.topic(*child) in owner.copied:
            self._refuse_below(key, op)
            if key.action(op) == "cascade" and op == "u":
                owner.refuse(child, MOVED)
                return False
        return True

    def _refuse_below(self, key: ForeignKey, op: str) -> None:
        for name in sorted(below(self.owner.keys, key, op)):
            self.owner.refuse(name, PASSED)
