"""Records into the open transaction: what is held waits, what is refused is found and queued,
and the rest is folded and written."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass, field

from cdc.errors import RowRefused
from cdc.model.position import Position
from cdc.model.record import Document
from cdc.model.table import TableName
from cdc.runtime import clock
from sinks.contract import Plan, TableBatch
from sinks.counters import Did
from sinks.fold import FRAME, Fold, runs
from sinks.halves import Foreseen, Halves
from sinks.plans import Plans
from sinks.postgres.quarantine import Schemas
from sinks.postgres.transaction import Transaction
from sinks.quarantine import HeldKeys, Queued, Records, freed, queued, set_aside
from sinks.steps import TopicChanges
from sinks.table_states import TableStates

STRAIGHT, WITH_CARE, STRICT = range(3)
"""How a batch is written: as if every row were fit; by savepoints;
by savepoints, deferred constraints checked at once."""


@dataclass(slots=True)
class Try:
    """One try of a batch."""

    transaction: Transaction
    halves: Halves
    """Of that transaction."""
    care: int
    partial: bool
    """Whether what is written is a piece of something, and more may come before the commit."""
    at: Position | None
    did: Did = field(default_factory=Did)


@dataclass(frozen=True, slots=True)
class RecordWriter:
    """Writes the records of one run of the sink, by what it knows of tables, schemas and held keys."""

    tables: TableStates
    plans: Plans
    held_keys: HeldKeys
    foreseen: MutableMapping[TableName, dict[bytes, Foreseen]]
    schema: Callable[[int], Document]
    """A schema by its id."""
    hold: Callable[[TableName], None]
    """Is told of a table of which changes are queued."""

    def write_topic(self, now: Try, changes: TopicChanges) -> None:
        """Write the changes of one topic, schema by schema."""
        for run in runs(changes.values):
            frame = changes.values[run.start][:5]
            plan = self.plans[frame]
            name = (plan.db, plan.table)
            if not self.tables.takes(name):  # it is not copied yet, or cannot be, and `status` says why
                now.did.void += run.stop - run.start
                continue
            records = Records(changes.keys[run], changes.values[run], changes.opened[run])
            if self.tables.is_refused(name):
                records = unread(records)
            records, again = self._set_aside(now, frame, records)
            now.did.rows[name] += run.stop - run.start
            for shadow, part in copied_beside(records, self.tables.shadow(name), again):
                self._write_into(now, shadow, frame, part)

    def _write_into(self, now: Try, shadow: str, frame: bytes, records: Records) -> None:
        plan = self.plans[frame]
        name = (plan.db, plan.table)
        if shadow and self.held_keys.held(name):  # what the first table has just refused waits
            records = freed(plan, records, self.held_keys.held(name))
        fold = Fold(plan)
        fold.add(records.keys, records.values, records.opened)
        folded = fold.take()
        folded.shadow = shadow
        if now.care:
            self._write_bisected(now, frame, records, folded)
        else:
            now.transaction.write(folded, locate=not self.held_keys.limits.keys)
            now.did.written[name] += len(folded)
        if now.partial:
            now.halves.wrote(plan, records)

    def _write_bisected(self, now: Try, frame: bytes, records: Records, folded: TableBatch) -> None:
        name, room = (folded.db, folded.table), self.held_keys.room(len(folded))
        refused = {unit.identity: unit.error for unit in now.transaction.write_bisected(folded, room) if unit.error}
        self.held_keys.judge(name, refused, len(folded) - len(refused), clock.monotonic())
        if refused:
            plan = self.plans[frame]
            self._queue(now, frame, queued(plan, records, refused.keys(), refused), refused)
            self.foreseen[name].update(now.halves.tears(plan, records, refused))

    # -- what waits --------------------------------------------------------------------------------------------------

    def _set_aside(self, now: Try, frame: bytes, records: Records) -> tuple[Records, Set[bytes]]:
        """Queue what happens to held keys; the rest, and the keys of which a copy has brought a row in place of all
        that waited."""
        plan = self.plans[frame]
        name = (plan.db, plan.table)
        foreseen = self._foreseen(now, plan, records)
        if not self.held_keys.held(name):
            return records, frozenset()
        aside = set_aside(plan, records, self.held_keys.held(name), foreseen, now.halves.waiting[name])
        if aside.again:
            now.transaction.quarantine(lambda q: q.drop(name, aside.again))
            self.held_keys.release(name, aside.again)
        self._queue(now, frame, aside.waiting, foreseen)
        return aside.rest, aside.again

    def _foreseen(self, now: Try, plan: Plan, records: Records) -> Mapping[bytes, RowRefused]:
        """Hold the keys that wait from here on because a try before has seen them refused late;
        each with its reason."""
        name = (plan.db, plan.table)
        known = self.foreseen[name]
        found = now.halves.come_again(plan, records, known)
        if found:
            found = {identity: error for identity, error in found.items() if identity not in self.held_keys.held(name)}
            known.update(now.halves.tears(plan, records, found, known))
            self.held_keys.judge(name, found, 0, clock.monotonic())
        return found

    def _queue(self, now: Try, frame: bytes, waiting: Sequence[Queued], refused: Mapping[bytes, RowRefused]) -> None:
        """Queue changes; `refused`: the keys that are held from here on, and why."""
        plan = self.plans[frame]
        name = (plan.db, plan.table)
        if waiting:
            key, value = self.plans.ids(frame)
            schemas = Schemas(value, None if key is None else self.schema(key), self.schema(value))
            now.transaction.quarantine(lambda q: q.add(name, schemas, waiting, now.at))
            now.did.queued[name] += len(waiting)
            self.hold(name)
        now.did.news += [(name, identity, error) for identity, error in refused.items()]


def copied_beside(records: Records, shadow: str, again: Container[bytes]) -> Iterator[tuple[str, Records]]:
    """What goes into a table and, where there is a second one, into that: changes into both, rows that were read into
    the second alone.

    But the rows of keys that waited in quarantine and are free `again` go into both: the first table is shown, and
    lacks what waited.
    """
    if not shadow:
        yield "", records
        return
    changes = [
        at for at, opened in enumerate(records.opened) if opened.op != "r" or (records.keys[at] or b"")[FRAME:] in again
    ]
    if changes:
        yield "", _picked(records, changes)
    yield shadow, records


def unread(records: Records) -> Records:
    """The changes without the rows that were read."""
    return _picked(records, [at for at, opened in enumerate(records.opened) if opened.op != "r"])


def _picked(records: Records, at: Sequence[int]) -> Records:
    return Records(
        [records.keys[one] for one in at], [records.values[one] for one in at], [records.opened[one] for one in at]
    )
