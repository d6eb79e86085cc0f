"""From the topics to the target: one loop that commits consistent cuts, rows and positions in one transaction each.

The order of one batch: begin; check the fence with a row lock; write every table's folded changes; store positions; commit.
Pieces of an oversized transaction, and everything inside the window of a copy, stay uncommitted until the next whole cut.
What the process knows is never trusted over what the target stores: a start, and every error, begins by reading it back.

A batch is written as if every row were fit. When one is refused, all of it is undone and written again with care: under savepoints,
halved down to the rows that the target cannot hold. Their keys, and all that happens to them from then on, wait in quarantine.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cdc import codec, crash, logs
from cdc.control import Base, Copy, Followed
from cdc.copies import DONE, WHOLE, Ended
from cdc.errors import Halt, Refused, Retry, RowRefused
from cdc.lifecycle import State
from cdc.policies import Policies
from cdc.position import Position
from cdc.progress import Progress, Stored, TableState
from cdc.topic import Reader
from sinks.batch import Fold, runs
from sinks.contract import TableBatch
from sinks.counters import Counters, Did
from sinks.cuts import BATCH_BYTES, Batch, Begin, Changes, Cuts, Enter, Opened, Step, check_mark
from sinks.postgres import PostgresTarget
from sinks.postgres_copies import copied_beside, make_shadow, record, resolve_shadow
from sinks.postgres_quarantine import Quarantine, Schemas
from sinks.quarantine import Limits, Name, Records, Ward, copied_again, freed, queued
from sinks.standings import Standings

BATCH_ROWS = 50_000
IDLE_SECONDS = 0.2
CONFLICTS = 6
"""So often a batch is tried that met another transaction; then it is as if the server were away."""
STRAIGHT, WITH_CARE, STRICT = range(3)
"""How a batch is written: as if every row were fit; by savepoints; by savepoints, deferred constraints checked at once."""


def _silent(error: Retry) -> None:
    """Nobody wants to hear of conflicts."""


class Apply:
    """One run of a pipeline's sink, from opening the target until it is told to stop or fails."""

    def __init__(
        self,
        reader: Reader,
        target: PostgresTarget,
        limits: Limits | None = None,
        told: Callable[[Retry], None] = _silent,
        policies: Policies | None = None,
    ) -> None:
        """`told` hears of every conflict after which a batch is done again."""
        self.reader, self.target, self.policies = reader, target, policies
        self.ward, self._told = Ward(limits or Limits()), told
        self.counters = Counters()
        self._did = Did()
        self._releases = 0
        self._plans: dict[bytes, codec.ValuePlan] = {}
        self._ids: dict[bytes, tuple[int | None, int]] = {}
        self._tables = Standings({})
        self._moved: set[tuple[str, int]] = set()
        self._uncommitted = False

    def run(self, stored: Stored, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply until told to stop; what is not committed by then is not applied."""
        crash.point("apply.opened")
        self._tables = Standings(stored.tables)
        for state in stored.tables.values():
            if "value_schema" in state.schema:
                self._know(state.schema["key_schema"], state.schema["value_schema"])
        self.ward.replace(self.target.quarantine(Quarantine.held))
        check_mark(self.reader, stored.progress)
        self.cuts = self._assembler(stored)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        while not stopped():
            arrived = self.reader.poll(IDLE_SECONDS)
            self.cuts.feed(arrived)
            self._gather(max_delay_seconds)
            while (step := self.cuts.take(BATCH_ROWS)) is not None and self._do(step):
                pass
            self.reader.hold(self.cuts.ahead(stuck=not arrived))
        if self._uncommitted:
            self.target.rollback()

    def _assembler(self, stored: Stored) -> Cuts:
        return Cuts(stored.progress, self._floors(stored), self.reader.control_topic, self._open)

    def _floors(self, stored: Stored) -> dict[str, Any]:
        at = stored.progress.position if stored.progress else None
        floors = {self.reader.topic(s.db, s.table): s.floor for s in stored.tables.values() if s.floor is not None}
        return {topic: floor for topic, floor in floors.items() if at is None or not at.covers(floor)}

    def _gather(self, max_delay_seconds: float) -> None:
        """When behind, let a batch grow: one large commit costs less than many small ones."""
        until = time.monotonic() + max_delay_seconds
        while (messages := self.reader.poll(0)) and time.monotonic() < until and self.cuts.buffered < BATCH_BYTES:
            self.cuts.feed(messages)
        self.cuts.feed(messages)

    def _do(self, step: Step) -> bool:
        """Do it; whether to go on with the next one at once."""
        crash.point("apply.taken")
        if isinstance(step, Batch):
            self._apply(step)
        elif isinstance(step, Enter):
            self._enter(step.base)
        elif isinstance(step, Begin) and self._can_begin(step.copy):
            self._begin(step.copy)
        return True

    # -- batches -----------------------------------------------------------------------------------------------------

    def _apply(self, batch: Batch) -> None:
        """Write a batch, with as much care as it needs; what a failed try did is undone by then, also in our own memory."""
        whole = not (batch.partial or self._uncommitted)  # else pieces would have to come again too: then with care at once
        cares = (STRAIGHT, WITH_CARE, STRICT) if whole else (WITH_CARE,)
        cares = cares if self.ward.limits.keys else (STRAIGHT,)
        before = self.ward.snapshot(), self._releases
        self._tables.mark()
        for care in cares:
            try:
                self._unhindered(lambda care=care: self._put(batch, care, *before), whole)  # type: ignore[misc]
                break
            except RowRefused:
                if care == cares[-1]:
                    raise
        self.reader.release(self.cuts.at.offsets, self.cuts.at.control_next)
        crash.point("apply.released")

    def _unhindered(self, work: Callable[[], None], whole: bool) -> None:
        """Do work, and do it again when it met another transaction."""

        def tell(state: RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            if isinstance(error, Retry):
                self._told(error)

        Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Retry) and e.code == "target_conflict"),
            stop=stop_after_attempt(CONFLICTS if whole else 1),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            before_sleep=tell,
            reraise=True,
        )(work)

    def _put(self, batch: Batch, care: int, held: Mapping[Name, set[bytes]], releases: int) -> None:
        self._did = Did()
        self._tables.back_to_mark()
        if self.ward or held:
            self.ward.replace(held)
        self._releases = releases
        if care or self.ward:
            self._see_released(self.target.lock(immediate=care == STRICT))
        for topic, changes in batch.topics.items():
            if changes.values:
                self._write(topic, changes, care)
        for db, table, column, reason, count in batch.anomalies:
            self.target.count_anomalies(db, table, {(column, reason): count})
        if batch.ended:
            self._end(batch.ended)
        self._moved.update(batch.cut.partitions)
        crash.point("apply.piece_written" if batch.partial else "apply.written")
        if not batch.partial:
            self._commit()
            crash.point("apply.committed")
        self._uncommitted = batch.partial
        self._count_rows()

    def _see_released(self, releases: int) -> None:
        """Another process replays or discards keys under the same lock: what it freed is no longer held."""
        if self.ward and releases != self._releases:
            self.ward.replace(self.target.quarantine(Quarantine.held))
        self._releases = releases

    def _write(self, topic: str, changes: Changes, care: int) -> None:
        for run in runs(changes.values):
            frame = changes.values[run.start][:5]
            plan = self._plan(frame)
            if not self._tables.takes((plan.db, plan.table)):  # it is not copied yet, or cannot be, and `status` says why
                self._did.void += run.stop - run.start
                continue
            records, again = self._set_aside(frame, Records(changes.keys[run], changes.values[run], changes.opened[run]))
            self._did.rows[plan.db, plan.table] += run.stop - run.start
            for into, part in copied_beside(records, self._tables.shadow((plan.db, plan.table)), again):
                self._write_into(into, frame, part, care)

    def _write_into(self, shadow: str, frame: bytes, records: Records, care: int) -> None:
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        if shadow and self.ward.held(name):  # what the first table has just refused waits
            records = freed(plan, records, self.ward.held(name))
        fold = Fold(plan)
        fold.add(records.keys, records.values, records.opened)
        folded = fold.take()
        folded.shadow = shadow
        if care:
            self._write_bisected(frame, records, folded)
        else:
            self.target.write(folded, locate=not self.ward.limits.keys)
            self._did.written[name] += len(folded)

    def _write_bisected(self, frame: bytes, records: Records, folded: TableBatch) -> None:
        name = (folded.db, folded.table)
        refused = {unit.identity: unit.error for unit in self.target.write_bisected(folded, self.ward.room(len(folded))) if unit.error}
        self.ward.judge(name, refused, len(folded) - len(refused), time.monotonic())
        if refused:
            self._queue(frame, records, refused)

    # -- quarantine --------------------------------------------------------------------------------------------------

    def _set_aside(self, frame: bytes, records: Records) -> tuple[Records, Set[bytes]]:
        """Queue what happens to held keys; the rest, and the keys of which a copy has brought a row in place of all that waited."""
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        if not self.ward.held(name):
            return records, frozenset()
        if again := copied_again(plan, records, self.ward.held(name)):
            self.target.quarantine(lambda q: q.drop(name, again))
            self.ward.release(name, again)
        self._queue(frame, records, {})
        return freed(plan, records, self.ward.held(name)), again

    def _queue(self, frame: bytes, records: Records, refused: Mapping[bytes, RowRefused]) -> None:
        """Queue the changes of held keys; of those just refused, or of all."""
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        waiting = queued(plan, records, refused.keys() or self.ward.held(name), refused)
        if waiting:
            key, value = self._ids[frame]
            schemas = Schemas(value, None if key is None else self.reader.schema(key), self.reader.schema(value))
            self.target.quarantine(lambda q: q.add(name, schemas, waiting, self.cuts.at.position))
            self._did.queued[name] += len(waiting)
        self._did.news += [(name, identity, error) for identity, error in refused.items()]

    def _commit(self) -> None:
        at = self.cuts.at
        if at.position is None:
            raise Halt("no_base", self.reader.control_topic, "a cut stands before any base", "is transport.prefix right?")
        self._pass_ceilings(at.position)
        moved = {p: (at.offsets[p], at.numbers.get(p, 0)) for p in self._moved if p in at.offsets}
        progress = Progress(at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us, moved, at.mark, at.copies)
        changed = self.target.commit(progress, self._tables.dirty())
        self._tables.stored()
        self._moved.clear()
        self._uncommitted = False
        self._count(progress, changed)

    def _pass_ceilings(self, at: Position) -> None:
        self._tables.pass_ceilings(at, lambda name: len(self.ward.held(name)), self._copying)
        self._copying = False

    def _count_rows(self) -> None:
        """What a try did counts once it has succeeded."""
        did, counters, now = self._did, self.counters, time.monotonic()
        if did.void:
            self.cuts.void["refused"] += did.void
        for name, count in did.rows.items():
            counters.rows[name] = counters.rows.get(name, 0) + count
        for name, count in did.written.items():
            self.ward.judge(name, {}, count, now)
        for name, count in did.queued.items():
            counters.queued[name] = counters.queued.get(name, 0) + count
        did.tell()

    def _count(self, progress: Progress, changed: Mapping[tuple[str, str, str, str], int]) -> None:
        for what, times in changed.items():
            self.counters.anomalies[what] = self.counters.anomalies.get(what, 0) + times
        self.counters.cut_no, self.counters.source_ts_us = progress.cut_no, progress.source_ts_us
        self.counters.commits += 1
        self.counters.void = dict(self.cuts.void)
        self.counters.applied_at = time.time()
        self.counters.states = Counter(str(state.state) for state in self._tables)
        self.counters.held = self.ward.counts()

    # -- copies while streaming ----------------------------------------------------------------------------------------

    def _begin(self, copy: Copy) -> None:
        """A table is copied whole from here on, in the open transaction: empty it, or make a second one beside it."""
        name, topic = (copy.db, copy.table), self.reader.topic(copy.db, copy.table)
        if copy.swap and not copy.exact and self._tables.takes(name):
            self.target.within(str(self.target.place(*name)), lambda wire: make_shadow(wire, self.target.place(*name)))
            self._tables.shade(name, copy.id)
        else:
            if self._tables.shadow(name):  # of a copy into a second table that nobody ended
                self._resolve(name, done=False)
            self.target.empty(*name, readable=copy.swap)
            self.ward.release(name)
            self._tables.begin(copy)
            if copy.exact:
                self.cuts.floors[topic] = copy.position
        self._uncommitted = True
        crash.point("apply.emptied")

    def _can_begin(self, copy: Copy) -> bool:
        """Whether the table is known, and what the target refused when it was added is mended."""
        known = self._tables.get((copy.db, copy.table))
        if known is None or known.state != State.REFUSED:
            return known is not None
        return self._created(_frame(known.schema["value_schema"])).state != State.REFUSED

    def _end(self, ended: Sequence[Ended]) -> None:
        """Copies end with this commit: what became of each is stored, and a second table takes the first one's place."""
        for one in ended:
            name = (one.db, one.table)
            shadow = self._tables.shadow(name) if self._tables.get(name) else ""
            self._tables.end(one, self.cuts.at.position)
            self.target.within("cdc.copy", lambda wire, one=one: record(wire, self.target.pipeline, one))  # type: ignore[misc]
            if shadow and one.kind == WHOLE:
                self._resolve(name, done=one.outcome == DONE)

    def _resolve(self, name: Name, *, done: bool) -> None:
        """The second table of a copy that ends has served."""
        place, plan = self.target.place(*name), self._plan(_frame(self._tables[name].schema["value_schema"]))
        self.target.within(str(place), lambda wire: resolve_shadow(wire, place, plan, done))
        self._tables.shade(name, "")

    # -- epochs ------------------------------------------------------------------------------------------------------

    _copying = False

    def _rewind(self) -> NoReturn:
        self.target.rollback()
        crash.point("apply.rewinding")
        raise Rewound

    def _enter(self, base: Base) -> None:
        if self._uncommitted:
            self._rewind()
        if self.cuts.at.position is None and not base.copying:
            raise Halt("not_loaded", self.reader.control_topic, "the target holds no copy of the tables yet", "run cdc snapshot first")
        self._tables.enter(base, self._schema_of, lambda followed: self._made(base, followed))
        self.cuts.enter(base)
        crash.point("apply.entered")
        self._copying = base.copying
        self._moved.update(base.ends)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        if not base.copying:
            self._commit()

    def _schema_of(self, followed: Followed) -> dict[str, object]:
        renamed = self._plan(self._know(followed.key_schema, followed.value_schema)).renamed
        ids: dict[str, object] = {"key_schema": followed.key_schema, "value_schema": followed.value_schema}
        return ids | ({"renamed": renamed} if renamed else {})

    def _made(self, base: Base, followed: Followed) -> TableState:
        frame = _frame(followed.value_schema)
        return self.target.create_table(self._plan(frame)) if base.copying else self._created(frame)

    def _created(self, frame: bytes) -> TableState:
        """A table that is added: one that the target refuses does not stop the others."""
        plan = self._plan(frame)
        try:
            return self.target.create_table(plan)
        except Refused as error:
            logs.failure(logs.logger("apply"), error, "warning")
            place = self.target.place(plan.db, plan.table)
            return TableState(plan.db, plan.table, place.schema, place.table, State.REFUSED, reason=f"{error.place}: {error.rule}")

    def _know(self, key_schema: Any, value_schema: Any) -> bytes:
        frame = _frame(value_schema)
        self._ids[frame] = (key_schema, value_schema)
        self._plans.pop(frame, None)
        return frame

    def _plan(self, frame: bytes) -> codec.ValuePlan:
        plan = self._plans.get(frame)
        if plan is None:
            if frame not in self._ids:
                raise Halt("schema_unknown", f"schema id {int.from_bytes(frame[1:], 'big')}", "no base names this schema")
            key, value = self._ids[frame]
            plan = codec.ValuePlan(self.reader.schema(value), None if key is None else self.reader.schema(key), self.policies)
            self._tables.check_policies(plan)
            self._plans[frame] = plan
        return plan

    def _open(self, values: Sequence[bytes]) -> Sequence[Opened]:
        opened: list[Opened] = []
        for run in runs(values):
            opened += self._plan(values[run.start][:5]).open(values[run])
        return opened


def _frame(value_schema: Any) -> bytes:
    return b"\0" + int(value_schema).to_bytes(4, "big")


class Rewound(Exception):
    """Uncommitted pieces were rolled back because capture began again below them."""
