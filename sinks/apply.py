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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cdc import codec, crash
from cdc.control import Base
from cdc.errors import Halt, Retry, RowRefused
from cdc.lifecycle import Event, State, follow
from cdc.policies import Policies
from cdc.progress import Progress, Stored, TableState
from cdc.topic import Reader
from sinks.batch import Fold
from sinks.contract import TableBatch, demand_same_policies, policies_kept
from sinks.counters import Counters, Did
from sinks.cuts import BATCH_BYTES, Batch, Begin, Changes, Cuts, Enter, Opened, check_mark
from sinks.postgres import PostgresTarget
from sinks.postgres_quarantine import Quarantine, Schemas
from sinks.quarantine import Limits, Name, Records, Ward, copied_again, freed, queued

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
        self._states: dict[tuple[str, str], TableState] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._moved: set[tuple[str, int]] = set()
        self._uncommitted = False

    def run(self, stored: Stored, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply until told to stop; what is not committed by then is not applied."""
        crash.point("apply.opened")
        self._states = dict(stored.tables)
        for state in stored.tables.values():
            if "value_schema" in state.schema:
                self._know(state.schema["key_schema"], state.schema["value_schema"])
        self.ward.replace(self.target.quarantine(Quarantine.held))
        check_mark(self.reader, stored.progress)
        self.cuts = Cuts(stored.progress, self._floors(stored), self.reader.control_topic, self._open)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        while not stopped():
            arrived = self.reader.poll(IDLE_SECONDS)
            self.cuts.feed(arrived)
            self._gather(max_delay_seconds)
            while (step := self.cuts.take(BATCH_ROWS)) is not None:
                self._do(step)
            self.reader.hold(self.cuts.ahead(stuck=not arrived))
        if self._uncommitted:
            self.target.rollback()

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

    def _do(self, step: Batch | Enter | Begin) -> None:
        crash.point("apply.taken")
        if isinstance(step, Batch):
            self._apply(step)
        elif isinstance(step, Enter):
            self._enter(step.base)
        else:
            copy = step.copy
            self.target.empty(copy.db, copy.table)
            self.ward.release((copy.db, copy.table))
            self.cuts.floors[self.reader.topic(copy.db, copy.table)] = copy.position
            self._change(copy.db, copy.table, floor=copy.position)
            self._uncommitted = True
            crash.point("apply.emptied")

    # -- batches -----------------------------------------------------------------------------------------------------

    def _apply(self, batch: Batch) -> None:
        """Write a batch, with as much care as it needs; what a failed try did is undone by then, also in our own memory."""
        whole = not (batch.partial or self._uncommitted)  # else pieces would have to come again too: then with care at once
        cares = (STRAIGHT, WITH_CARE, STRICT) if whole else (WITH_CARE,)
        cares = cares if self.ward.limits.keys else (STRAIGHT,)
        before = self.ward.snapshot(), self._releases
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
        for run in _runs(changes.values):
            frame = changes.values[run.start][:5]
            plan = self._plan(frame)
            if self._states[plan.db, plan.table].state == State.REFUSED:  # it was never copied, and `status` says why
                self._did.void += run.stop - run.start
                continue
            records = self._set_aside(frame, Records(changes.keys[run], changes.values[run], changes.opened[run]))
            fold = Fold(plan)
            fold.add(records.keys, records.values, records.opened)
            folded, name = fold.take(), (plan.db, plan.table)
            self._did.rows[name] += run.stop - run.start
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

    def _set_aside(self, frame: bytes, records: Records) -> Records:
        """Queue what happens to held keys; the rest. A row that a copy brings anew takes the place of all that waits for its key."""
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        if not self.ward.held(name):
            return records
        if again := copied_again(plan, records, self.ward.held(name)):
            self.target.quarantine(lambda q: q.drop(name, again))
            self.ward.release(name, again)
        self._queue(frame, records, {})
        return freed(plan, records, self.ward.held(name))

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

    def _hold_states(self) -> None:
        """A table is quarantined for as long as keys of it are held; afterwards the next ceiling shows it as consistent."""
        for name, state in [(name, one.state) for name, one in self._states.items()]:
            count = len(self.ward.held(name))
            if count and state in (State.CATCHING_UP, State.CONSISTENT):
                self._change(*name, state=follow(".".join(name), state, Event.KEY_QUARANTINED))
            elif not count and state == State.QUARANTINED:
                self._change(*name, state=follow(".".join(name), state, Event.KEYS_RELEASED))

    def _commit(self) -> None:
        at = self.cuts.at
        if at.position is None:
            raise Halt("no_base", self.reader.control_topic, "a cut stands before any base", "is transport.prefix right?")
        self._pass_ceilings()
        moved = {p: (at.offsets[p], at.numbers.get(p, 0)) for p in self._moved if p in at.offsets}
        progress = Progress(at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us, moved, at.mark)
        changed = self.target.commit(progress, [self._states[name] for name in self._dirty])
        self._dirty.clear()
        self._moved.clear()
        self._uncommitted = False
        self._count(progress, changed)

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
        self.counters.states = Counter(str(state.state) for state in self._states.values())
        self.counters.held = self.ward.counts()

    def _pass_ceilings(self) -> None:
        at = self.cuts.at.position
        for name, state in self._states.items():
            if state.state == State.COPYING and self._copying:
                self._change(*name, state=follow(f"{name[0]}.{name[1]}", state.state, Event.COPIED), ceiling=at)
        self._hold_states()
        for name, state in self._states.items():
            if state.state == State.CATCHING_UP and state.ceiling is not None and at is not None and at.covers(state.ceiling):
                self._change(*name, state=follow(f"{name[0]}.{name[1]}", state.state, Event.CEILING_PASSED))
        self._copying = False

    def _change(self, db: str, table: str, **fields: Any) -> None:
        self._states[db, table] = replace(self._states[db, table], **fields)
        self._dirty.add((db, table))

    # -- epochs ------------------------------------------------------------------------------------------------------

    _copying = False

    def _enter(self, base: Base) -> None:
        if self._uncommitted:
            self.target.rollback()
            crash.point("apply.rewinding")
            raise Rewound
        if self.cuts.at.position is None and not base.copying:
            raise Halt("not_loaded", self.reader.control_topic, "the target holds no copy of the tables yet", "run cdc snapshot first")
        self._follow(base)
        self.cuts.enter(base)
        crash.point("apply.entered")
        self._copying = base.copying
        self._moved.update(base.ends)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        if not base.copying:
            self._commit()

    def _follow(self, base: Base) -> None:
        for followed in base.tables:
            name = (followed.db, followed.table)
            frame = self._know(followed.key_schema, followed.value_schema)
            if name not in self._states and not base.copying:
                raise Halt(
                    "table_not_copied",
                    f"{followed.db}.{followed.table}",
                    "is followed by capture and was never copied",
                    "tables cannot be added to a running pipeline yet: exclude it, or start a new pipeline",
                )
            if name not in self._states:
                self._states[name] = self.target.create_table(self._plan(frame))
            ids = {"key_schema": followed.key_schema, "value_schema": followed.value_schema}
            renamed = {"renamed": self._plan(frame).renamed} if self._plan(frame).renamed else {}
            self._change(*name, schema={**self._states[name].schema, **ids, **renamed})
            if base.copying and self._states[name].state == State.NEW:
                self._change(*name, state=follow(followed.topic, State.NEW, Event.COPY_STARTED), floor=base.position)

    def _know(self, key_schema: Any, value_schema: Any) -> bytes:
        frame = b"\0" + int(value_schema).to_bytes(4, "big")
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
            self._check_policies(plan)
            self._plans[frame] = plan
        return plan

    def _check_policies(self, plan: codec.ValuePlan) -> None:
        """Stop where these records and what the table holds were made by different policies; remember what holds from now on."""
        name = (plan.db, plan.table)
        state = self._states.get(name)
        if state is not None and state.state != State.REFUSED:
            demand_same_policies(state, plan, Halt)
            if state.schema.get("policies", {}) != plan.chosen:
                self._states[name] = policies_kept(state, plan)
                self._dirty.add(name)

    def _open(self, values: Sequence[bytes]) -> Sequence[Opened]:
        opened: list[Opened] = []
        for run in _runs(values):
            opened += self._plan(values[run.start][:5]).open(values[run])
        return opened


def _runs(values: Sequence[bytes]) -> Iterator[slice]:
    """Slices of values that bear one schema's frame; almost always one slice."""
    start = 0
    if len({value[:5] for value in values}) > 1:
        for end in range(1, len(values)):
            if values[end][:5] != values[start][:5]:
                yield slice(start, end)
                start = end
    if values:
        yield slice(start, len(values))


class Rewound(Exception):
    """Uncommitted pieces were rolled back because capture began again below them."""
