"""From the topics to the target: one loop that commits consistent cuts, rows and positions in one transaction each.

The order of one batch: begin; check the fence with a row lock; write every table's folded changes; store positions;
commit. Pieces of an oversized transaction, and everything inside the window of a copy, stay uncommitted until the next
whole cut. What the process knows is never trusted over what the target stores: a start, and every error, begins by
reading it back.

A batch is written as if every row were fit. When one is refused, all of it is undone and written again with care: under
savepoints, halved down to the rows that the target cannot hold. Their keys, and all that happens to them from then on,
wait in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cdc.errors import Halt, Retry, RowSuspected
from cdc.model.policies import Policies
from cdc.model.position import Position
from cdc.protocol.applied import Progress, Stored
from cdc.protocol.control import Base, Copy
from cdc.runtime import clock, crash_points as crash, timing
from cdc.runtime.counters import ApplyCounters
from cdc.transport.contract import Reader
from sinks.careful import STRAIGHT, STRICT, WITH_CARE, RecordWriter, Try
from sinks.copies import CopyHandling
from sinks.counters import Did
from sinks.cuts import BATCH_BYTES, CutAssembler
from sinks.epochs import Epochs
from sinks.halves import Halves
from sinks.losses import check_mark
from sinks.plans import Plans, frame_of
from sinks.postgres.target import PostgresTarget
from sinks.postgres.transaction import Changed, Transaction
from sinks.quarantine import HeldKeys, QuarantineLimits
from sinks.roles import ALONE, Role
from sinks.steps import Batch, BeginCopy, Enter, Meet, Step
from sinks.table_states import TableStates

BATCH_ROWS = 50_000
CONFLICTS = 6
"""So often a batch is tried that met another transaction; then it is as if the server were away."""
BELOW = "capture began again below pieces that were not committed"


def _silent(error: Retry) -> None:
    """Nobody wants to hear of conflicts."""


class SinkMemory:
    """What a process keeps from one run of its sink to the next."""

    def __init__(self, limits: QuarantineLimits | None = None, told: Callable[[Retry], None] = _silent) -> None:
        """`told` hears of every conflict after which a batch is done again."""
        self.held_keys, self.told, self.counters = HeldKeys(limits or QuarantineLimits()), told, ApplyCounters()


class OpenWork(NamedTuple):
    """The open transaction of the target, and the keys that were written and refused in it."""

    transaction: Transaction
    halves: Halves


class Apply:
    """One run of a pipeline's sink, from what is stored until it is told to stop or fails."""

    def __init__(
        self,
        reader: Reader,
        target: PostgresTarget,
        stored: Stored,
        memory: SinkMemory | None = None,
        policies: Policies | None = None,
        role: Role = ALONE,
    ) -> None:
        self.reader, self.target, self._role = reader, target, role
        self._memory = memory or SinkMemory()
        self.held_keys, self.counters = self._memory.held_keys, self._memory.counters
        self._stored = stored.progress
        self._tables = TableStates(stored.tables)
        self._plans = Plans(reader.schema, policies, self._tables.check_policies)
        for state in stored.tables.values():
            if "value_schema" in state.schema:
                self._plans.know(state.schema["key_schema"], state.schema["value_schema"])
        self._copies = CopyHandling(self._tables, self.held_keys, lambda schema: self._plans[frame_of(schema)])
        self._epochs = Epochs(target, self._tables, self._plans, self._copies)
        self._writer = RecordWriter(
            self._tables, self._plans, self.held_keys, target.foreseen, reader.schema, role.queued
        )
        floors = floors_above(stored, reader)
        self.cuts = CutAssembler(
            stored.progress, floors, reader.control_topic, self._plans.open, reader.bounded, role.scope
        )
        self._opened: OpenWork | None = None
        """The transaction with the pieces that are written and not committed."""
        self._begins: list[Copy] = []
        """The copies that begin in the transaction of the batch that comes next."""
        self._copying = False
        """Whether the next whole cut ends the initial copy through the topics."""
        self._releases = 0
        """How often others than the sink had released keys when we read which are held."""

    def run(self, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply until told to stop, or to the end of the scope; what is not committed by then is not applied."""
        crash.point("apply.opened")
        self.held_keys.back_to_mark()
        self.held_keys.replace(self.target.held())
        self.held_keys.mark()
        check_mark(self.reader, self._stored)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        while not (over := self.cuts.is_over()) and not stopped():
            arrived = self.reader.poll(timing.TIMES.idle_seconds)
            self.cuts.feed(arrived)
            self._gather(max_delay_seconds)
            while (step := self.cuts.take(BATCH_ROWS)) is not None and self._do(step):
                pass
            self.reader.hold(self.cuts.ahead(stuck=not arrived))
        if over and self._opened is not None:  # pieces of what is void by what stands further on
            self._rewind(BELOW)
        if over:
            self._commit(self._begin())
        elif self._opened is not None:
            self.target.rollback()

    def _gather(self, max_delay_seconds: float) -> None:
        """When behind, let a batch grow: one large commit costs less than many small ones."""
        until = clock.monotonic() + max_delay_seconds
        while (messages := self.reader.poll(0)) and clock.monotonic() < until and self.cuts.buffered < BATCH_BYTES:
            self.cuts.feed(messages)
        self.cuts.feed(messages)

    def _do(self, step: Step) -> bool:
        """Do it; whether to go on with the next one at once."""
        crash.point("apply.taken")
        if isinstance(step, Meet):
            return self._meet(step)
        self._role.goes_on()
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
        """Write a batch, with as much care as it needs; what a failed try did is undone by then,
        also in our own memory."""
        whole = (
            not batch.partial and self._opened is None
        )  # else pieces would have to come again too: then with care at once
        cares = (STRAIGHT, WITH_CARE, STRICT) if whole else (STRICT if self.target.strictly else WITH_CARE,)
        cares = cares if self.held_keys.limits.keys else (STRAIGHT,)
        undone = self._mark()
        for care in cares:
            try:
                self._unhindered(lambda care=care: self._put(batch, care, undone), whole)  # type: ignore[misc]
                break
            except RowSuspected:
                if cares == (WITH_CARE,):
                    self.target.strictly = True
                    self._rewind(
                        "the commit of what was written in pieces was refused: it is done again, "
                        "constraints checked row by row"
                    )
                if care == cares[-1]:
                    raise
        if cares == (STRICT,) and not batch.partial:
            self.target.strictly = False
        self.reader.release(self.cuts.at.offsets, self.cuts.at.control_next)
        crash.point("apply.released")

    def _mark(self) -> Callable[[], None]:
        """Remember what we know; what is given makes it so again, as often as it is called."""
        begins, copying, releases, floors = list(self._begins), self._copying, self._releases, dict(self.cuts.floors)
        self._tables.mark()

        def undone() -> None:
            self._begins, self._copying, self._releases, self.cuts.floors = (
                list(begins),
                copying,
                releases,
                dict(floors),
            )
            self._tables.back_to_mark()
            if self._opened is None:  # what earlier pieces hold is written, and stays
                self.held_keys.back_to_mark()

        return undone

    def _unhindered(self, work: Callable[[], None], whole: bool) -> None:
        """Do work, and do it again when it met another transaction."""

        def tell(state: RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            if isinstance(error, Retry):
                self._memory.told(error)

        Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Retry) and e.code == "target_conflict"),
            stop=stop_after_attempt(CONFLICTS if whole else 1),
            wait=wait_random_exponential(
                multiplier=timing.TIMES.retry_first_seconds, max=timing.TIMES.retry_longest_seconds
            ),
            before_sleep=tell,
            sleep=clock.sleep,
            reraise=True,
        )(work)

    def _put(self, batch: Batch, care: int, undone: Callable[[], None]) -> None:
        undone()
        opened = self._begin()
        now = Try(*opened, care, batch.partial, self.cuts.at.position)
        if care or self.held_keys:
            self._see_released(opened.transaction, opened.transaction.lock(immediate=care == STRICT))
        for begun in self._begins:
            self._copies.begin_copy(self.target.tables_of(opened.transaction), begun)
        for changes in batch.topics.values():
            if changes.values:
                self._writer.write_topic(now, changes)
        for db, table, column, reason, count in batch.anomalies:
            opened.transaction.count_anomalies(db, table, {(column, reason): count})
        if batch.ended:
            self._copies.end_copies(
                self.target.tables_of(opened.transaction), batch.ended, now.at, strict=care == STRICT
            )
        crash.point("apply.piece_written" if batch.partial else "apply.written")
        if batch.partial:
            self._opened = opened
        else:
            self._commit(opened)
            crash.point("apply.committed")
        self._begins = []
        self._count_rows(now.did)
        if not batch.partial:
            self.held_keys.mark()

    def _begin(self) -> OpenWork:
        """The transaction of the pieces before, or a new one;
        ours again when what is done in it has succeeded: an error undoes it."""
        opened, self._opened = self._opened, None
        return opened or OpenWork(self.target.begin(), Halves())

    def _see_released(self, transaction: Transaction, releases: int) -> None:
        """Another process replays or discards keys under the same lock: what it freed is no longer held."""
        if self.held_keys and releases != self._releases:
            self.held_keys.replace(transaction.quarantine(lambda waiting: waiting.held()))
        self._releases = releases

    def _commit(self, opened: OpenWork) -> None:
        at = self.cuts.at
        if at.position is None:
            raise Halt(
                "no_base", self.reader.control_topic, "a cut stands before any base", "is transport.prefix right?"
            )
        if opened.halves.torn:
            self._rewind(
                "a key was refused late in a transaction of which the target had written earlier pieces: "
                "it is done again"
            )
        self._pass_ceilings(at.position)
        moved = {p: (at.offsets[p], at.numbers.get(p, 0)) for p in at.moved}
        progress = Progress(at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us, moved, at.mark,
        at.copies,
                            dict(at.moved), at.clock_offset_us)  # fmt: skip
        changed = opened.transaction.commit(progress, self._tables.dirty())
        self._tables.stored()
        at.moved.clear()
        for name, keys in opened.halves.waiting.items():  # what was foreseen of them has come
            for key in keys:
                self.target.foreseen[name].pop(key, None)
        self._count(progress, changed)
        self._role.committed(self._tables)

    def _pass_ceilings(self, at: Position) -> None:
        if self._role.settles:
            self._tables.pass_ceilings(at, lambda name: len(self.held_keys.held(name)), self._copying)
        self._copying = False

    def _count_rows(self, did: Did) -> None:
        """What a try did counts once it has succeeded."""
        counters, now = self.counters, clock.monotonic()
        if did.void:
            self.cuts.void["refused"] += did.void
        for name, count in did.rows.items():
            counters.rows[name] = counters.rows.get(name, 0) + count
        for name, count in did.written.items():
            self.held_keys.judge(name, {}, count, now)
        for name, count in did.queued.items():
            counters.queued[name] = counters.queued.get(name, 0) + count
        did.tell()

    def _count(self, progress: Progress, changed: Changed) -> None:
        for what, times in changed.items():
            self.counters.anomalies[what] = self.counters.anomalies.get(what, 0) + times
        self.counters.cut_no = progress.cut_no
        self.counters.hear(progress.source_ts_us, progress.clock_offset_us)
        self.counters.commits += 1
        self.counters.void = dict(self.cuts.void)
        self.counters.states = self._tables.counts()
        self.counters.held = self.held_keys.counts()

    # -- epochs ------------------------------------------------------------------------------------------------------

    def _rewind(self, rule: str) -> NoReturn:
        self.target.rollback()
        crash.point("apply.rewinding")
        raise Rewound("rewound", f"pipeline {self.target.pipeline}", rule, "nothing is lost")

    def _enter(self, base: Base) -> None:
        if self._opened is not None or self._begins:
            self._rewind(BELOW)
        if self.cuts.at.position is None and not base.copying:
            raise Halt(
                "not_loaded",
                self.reader.control_topic,
                "the target holds no copy of the tables yet",
                "run cdc snapshot first",
            )
        self._epochs.enter(base)
        opened = self._begin()
        self._epochs.drop_orphans(base, opened.transaction)
        self.cuts.enter(base)
        crash.point("apply.entered")
        self._copying = base.copying
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        if base.copying:
            opened.transaction.finish()
        else:
            self._commit(opened)

    def _meet(self, meet: Meet) -> bool:
        """Stand before a record that concerns all shards until what it asks for is done."""
        if self._opened is not None:
            self._rewind(BELOW)
        if not self._role.waits(meet.offset):
            self._commit(self._begin())
            crash.point("shard.waiting")
        return self._role.meet(meet, self._epochs, self.cuts.at)


class Rewound(Retry):
    """Uncommitted pieces were rolled back: applying begins again at what is stored."""


def floors_above(stored: Stored, reader: Reader) -> dict[str, Position]:
    """By topic, how far the copy of its table has its changes, where that is further than what is applied."""
    at = stored.progress.position if stored.progress else None
    floors = {
        reader.topic(state.db, state.table): state.floor for state in stored.tables.values() if state.floor is not None
    }
    return {topic: floor for topic, floor in floors.items() if at is None or not at.covers(floor)}
