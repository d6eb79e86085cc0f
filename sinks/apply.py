"""From the topics to the target: one loop that commits consistent cuts, rows and positions in one transaction each.

The order of one batch: begin; check the fence with a row lock; write every table's folded changes; store positions; commit.
Pieces of an oversized transaction, and everything inside the window of a copy, stay uncommitted until the next whole cut.
What the process knows is never trusted over what the target stores: a start, and every error, begins by reading it back.

A batch is written as if every row were fit. When one is refused, all of it is undone and written again with care: under savepoints,
halved down to the rows that the target cannot hold. Their keys, and all that happens to them from then on, wait in quarantine.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cdc import codec
from cdc.errors import Halt, Refused, Retry, RowRefused
from cdc.model.policies import Policies
from cdc.model.position import Position
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.control import Base, Copy, Followed
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, crash_points as crash, logs, timing
from cdc.runtime.counters import ApplyCounters
from cdc.transport.contract import Reader
from sinks.careful import Careful
from sinks.copies import CopyHandling, why
from sinks.counters import Did
from sinks.cuts import BATCH_BYTES, Batch, BeginCopy, CutAssembler, Enter, Step, TopicChanges
from sinks.fold import runs
from sinks.halves import Halves
from sinks.losses import check_mark
from sinks.plans import Plans, frame_of
from sinks.postgres.shadow_table import copied_beside, is_obstacle, unread
from sinks.postgres.target import PostgresTarget
from sinks.quarantine import HeldKeys, QuarantineLimits, Records
from sinks.table_states import TableStates

BATCH_ROWS = 50_000
CONFLICTS = 6
"""So often a batch is tried that met another transaction; then it is as if the server were away."""
BELOW = "capture began again below pieces that were not committed"
STRAIGHT, WITH_CARE, STRICT = range(3)
"""How a batch is written: as if every row were fit; by savepoints; by savepoints, deferred constraints checked at once."""
_TRIED = ("_begins", "_copying", "_releases", "_uncommitted")
"""What a try changes of this process's own knowledge, beside the held keys, the states of tables and the floors."""


def _silent(error: Retry) -> None:
    """Nobody wants to hear of conflicts."""


class Apply(Careful):
    """One run of a pipeline's sink, from opening the target until it is told to stop or fails."""

    def __init__(
        self,
        reader: Reader,
        target: PostgresTarget,
        limits: QuarantineLimits | None = None,
        told: Callable[[Retry], None] = _silent,
        policies: Policies | None = None,
    ) -> None:
        """`told` hears of every conflict after which a batch is done again."""
        super().__init__()
        self.reader, self.target, self.policies = reader, target, policies
        self.held_keys, self._told = HeldKeys(limits or QuarantineLimits()), told
        self.counters = ApplyCounters()
        self._did = Did()
        self._releases = 0
        self._tables = TableStates({})
        self._plans = Plans(reader.schema, policies, lambda plan: self._tables.check_policies(plan))  # noqa: PLW0108 - they change
        self._uncommitted = self._copying = False
        self._begins: list[Copy] = []
        """The copies that begin in the transaction of the batch that comes next."""
        self._copies = CopyHandling(target, self.held_keys, lambda schema: self._plan(frame_of(schema)))

    def run(self, stored: Stored, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply until told to stop; what is not committed by then is not applied."""
        crash.point("apply.opened")
        self._tables, self._begins = TableStates(stored.tables), []
        for state in stored.tables.values():
            if "value_schema" in state.schema:
                self._plans.know(state.schema["key_schema"], state.schema["value_schema"])
        self._halves = Halves()
        self.held_keys.back_to_mark()
        self.held_keys.replace(self.target.quarantine(lambda waiting: waiting.held()))
        self.held_keys.mark()
        check_mark(self.reader, stored.progress)
        self.cuts = self._assembler(stored)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        while not stopped():
            arrived = self.reader.poll(timing.TIMES.idle_seconds)
            self.cuts.feed(arrived)
            self._gather(max_delay_seconds)
            while (step := self.cuts.take(BATCH_ROWS)) is not None and self._do(step):
                pass
            self.reader.hold(self.cuts.ahead(stuck=not arrived))
        if self._uncommitted:
            self.target.rollback()

    def _assembler(self, stored: Stored) -> CutAssembler:
        return CutAssembler(stored.progress, self._floors(stored), self.reader.control_topic, self._plans.open, self.reader.bounded)

    def _floors(self, stored: Stored) -> dict[str, Any]:
        at = stored.progress.position if stored.progress else None
        floors = {self.reader.topic(s.db, s.table): s.floor for s in stored.tables.values() if s.floor is not None}
        return {topic: floor for topic, floor in floors.items() if at is None or not at.covers(floor)}

    def _gather(self, max_delay_seconds: float) -> None:
        """When behind, let a batch grow: one large commit costs less than many small ones."""
        until = clock.monotonic() + max_delay_seconds
        while (messages := self.reader.poll(0)) and clock.monotonic() < until and self.cuts.buffered < BATCH_BYTES:
            self.cuts.feed(messages)
        self.cuts.feed(messages)

    def _do(self, step: Step) -> bool:
        """Do it; whether to go on with the next one at once."""
        crash.point("apply.taken")
        if isinstance(step, Batch):
            self._apply(step)
        elif isinstance(step, Enter):
            self._enter(step.base)
        elif isinstance(step, BeginCopy):
            self._announce(step.copy)
        return True

    def _announce(self, copy: Copy) -> None:
        """A copy begins with the next batch: what it does to the target is undone and done again with that."""
        self._begins.append(copy)
        if copy.exact:
            self.cuts.floors[self.reader.topic(copy.db, copy.table)] = copy.position

    # -- batches -----------------------------------------------------------------------------------------------------

    def _apply(self, batch: Batch) -> None:
        """Write a batch, with as much care as it needs; what a failed try did is undone by then, also in our own memory."""
        whole = not (batch.partial or self._uncommitted)  # else pieces would have to come again too: then with care at once
        cares = (STRAIGHT, WITH_CARE, STRICT) if whole else (STRICT if self.target.strictly else WITH_CARE,)
        cares = cares if self.held_keys.limits.keys else (STRAIGHT,)
        undone = self._mark()
        for care in cares:
            try:
                self._unhindered(lambda care=care: self._put(batch, care, undone), whole)  # type: ignore[misc]
                break
            except RowRefused:
                if cares == (WITH_CARE,):
                    self.target.strictly = True
                    self._rewind("the commit of what was written in pieces was refused: it is done again, constraints checked row by row")
                if care == cares[-1]:
                    raise
        if cares == (STRICT,) and not batch.partial:
            self.target.strictly = False
        self.reader.release(self.cuts.at.offsets, self.cuts.at.control_next)
        crash.point("apply.released")

    def _mark(self) -> Callable[[], None]:
        """Remember what we know; what is given makes it so again, as often as it is called."""
        own, floors = {name: copy.copy(getattr(self, name)) for name in _TRIED}, dict(self.cuts.floors)
        self._tables.mark()

        def undone() -> None:
            for name, value in own.items():
                setattr(self, name, copy.copy(value))
            self._tables.back_to_mark()
            self.cuts.floors = dict(floors)
            if not self._uncommitted:  # what earlier pieces hold is written, and stays
                self.held_keys.back_to_mark()

        return undone

    def _unhindered(self, work: Callable[[], None], whole: bool) -> None:
        """Do work, and do it again when it met another transaction."""

        def tell(state: RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            if isinstance(error, Retry):
                self._told(error)

        Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Retry) and e.code == "target_conflict"),
            stop=stop_after_attempt(CONFLICTS if whole else 1),
            wait=wait_random_exponential(multiplier=timing.TIMES.retry_first_seconds, max=timing.TIMES.retry_longest_seconds),
            before_sleep=tell,
            sleep=clock.sleep,
            reraise=True,
        )(work)

    def _put(self, batch: Batch, care: int, undone: Callable[[], None]) -> None:
        self._did, self._in_pieces = Did(), batch.partial
        undone()
        if care or self.held_keys:
            self._see_released(self.target.lock(immediate=care == STRICT))
        for begun in self._begins:
            self._copies.begin(self._tables, begun)
        for topic, changes in batch.topics.items():
            if changes.values:
                self._write(topic, changes, care)
        for db, table, column, reason, count in batch.anomalies:
            self.target.count_anomalies(db, table, {(column, reason): count})
        if batch.ended:
            self._copies.end(self._tables, batch.ended, self.cuts.at.position, strict=care == STRICT)
        crash.point("apply.piece_written" if batch.partial else "apply.written")
        if not batch.partial:
            self._commit()
            crash.point("apply.committed")
        self._uncommitted, self._begins = batch.partial, []
        self._count_rows()
        if not batch.partial:
            self.held_keys.mark()

    def _write(self, topic: str, changes: TopicChanges, care: int) -> None:
        for run in runs(changes.values):
            frame = changes.values[run.start][:5]
            plan = self._plan(frame)
            if not self._tables.takes((plan.db, plan.table)):  # it is not copied yet, or cannot be, and `status` says why
                self._did.void += run.stop - run.start
                continue
            records = Records(changes.keys[run], changes.values[run], changes.opened[run])
            if self._tables.is_refused((plan.db, plan.table)):
                records = unread(records)
            records, again = self._set_aside(frame, records)
            self._did.rows[plan.db, plan.table] += run.stop - run.start
            for into, part in copied_beside(records, self._tables.shadow((plan.db, plan.table)), again):
                self._write_into(into, frame, part, care)

    def _commit(self) -> None:
        at = self.cuts.at
        if at.position is None:
            raise Halt("no_base", self.reader.control_topic, "a cut stands before any base", "is transport.prefix right?")
        if self._halves.torn:
            self._rewind("a key was refused late in a transaction of which the target had written earlier pieces: it is done again")
        self._pass_ceilings(at.position)
        moved = {p: (at.offsets[p], at.numbers.get(p, 0)) for p in at.moved}
        progress = Progress(at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us, moved, at.mark, at.copies,
                            dict(at.moved), at.clock_offset_us)  # fmt: skip
        changed = self.target.commit(progress, self._tables.dirty())
        self._tables.stored()
        at.moved.clear()
        self._uncommitted = False
        self._begin_anew()
        self._count(progress, changed)

    def _pass_ceilings(self, at: Position) -> None:
        self._tables.pass_ceilings(at, lambda name: len(self.held_keys.held(name)), self._copying)
        self._copying = False

    def _count_rows(self) -> None:
        """What a try did counts once it has succeeded."""
        did, counters, now = self._did, self.counters, clock.monotonic()
        if did.void:
            self.cuts.void["refused"] += did.void
        for name, count in did.rows.items():
            counters.rows[name] = counters.rows.get(name, 0) + count
        for name, count in did.written.items():
            self.held_keys.judge(name, {}, count, now)
        for name, count in did.queued.items():
            counters.queued[name] = counters.queued.get(name, 0) + count
        did.tell()

    def _count(self, progress: Progress, changed: Mapping[tuple[str, str, str, str], int]) -> None:
        for what, times in changed.items():
            self.counters.anomalies[what] = self.counters.anomalies.get(what, 0) + times
        self.counters.cut_no = progress.cut_no
        self.counters.hear(progress.source_ts_us, progress.clock_offset_us)
        self.counters.commits += 1
        self.counters.void = dict(self.cuts.void)
        self.counters.states = Counter(str(state.state) for state in self._tables)
        self.counters.held = self.held_keys.counts()

    # -- epochs ------------------------------------------------------------------------------------------------------

    def _rewind(self, rule: str) -> NoReturn:
        self.target.rollback()
        crash.point("apply.rewinding")
        raise Rewound("rewound", f"pipeline {self.target.pipeline}", rule, "nothing is lost")

    def _enter(self, base: Base) -> None:
        if self._uncommitted or self._begins:
            self._rewind(BELOW)
        if self.cuts.at.position is None and not base.copying:
            raise Halt("not_loaded", self.reader.control_topic, "the target holds no copy of the tables yet", "run cdc snapshot first")
        self._tables.enter(base, self._schema_of, lambda followed: self._made(base, followed))
        for name in self._tables.orphans(base.copies.active):
            self._copies.drop(self._tables, name)
        self.cuts.enter(base)
        crash.point("apply.entered")
        self._copying = base.copying
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        if not base.copying:
            self._commit()

    def _schema_of(self, followed: Followed) -> dict[str, object]:
        renamed = self._plan(self._plans.know(followed.key_schema, followed.value_schema)).renamed
        ids: dict[str, object] = {"key_schema": followed.key_schema, "value_schema": followed.value_schema}
        return ids | ({"renamed": renamed} if renamed else {})

    def _made(self, base: Base, followed: Followed) -> TableProgress:
        plan = self._plan(frame_of(followed.value_schema))
        return self.target.create_table(plan) if base.copying else self._created(plan)

    def _created(self, plan: codec.ValuePlan) -> TableProgress:
        """A table that is added: one that the target refuses does not stop the others."""
        try:
            return self.target.create_table(plan)
        except (Refused, Halt) as error:
            if not is_obstacle(error):
                raise
            logs.failure(logs.logger("apply"), error, "warning")
            place = self.target.place(plan.db, plan.table)
            return TableProgress(plan.db, plan.table, place.schema, place.table, TableState.REFUSED, reason=why(error))

    def _plan(self, frame: bytes) -> codec.ValuePlan:
        return self._plans[frame]


class Rewound(Retry):
    """Uncommitted pieces were rolled back: applying begins again at what is stored."""
