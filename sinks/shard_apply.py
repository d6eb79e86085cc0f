"""Scaled mode: the sink of one shard, which applies whole cuts of its partitions and meets the others where all must stand together.

At a base, at a copy's barrier and at a cut with which a copy ends it commits what comes before, stores that it waits there, and reads
on without applying. When all wait, the owner of shard 0 does what the record asks for and moves all beyond it, in one commit.
After a meeting, as after anything else that moved its stored place, a shard begins again from what is stored.
Docs: docs/decisions/025-scaled-sink.md; the model: tests/protocol_model/scaled.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from cdc.errors import Halt, Retry, RowRefused
from cdc.model.policies import Policies
from cdc.model.position import Position
from cdc.protocol.applied import Partition, Progress, Stored
from cdc.protocol.control import Base, Copy, Cut, Entry
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, crash_points as crash, timing
from cdc.state.shards import shard_of
from cdc.transport.contract import Reader
from sinks.apply import BELOW, Apply, Rewound
from sinks.cuts import Batch, CutAssembler, Meet, Open, Step
from sinks.losses import base_beyond
from sinks.postgres.shard_target import LEADER, Moved, ShardTarget
from sinks.quarantine import QuarantineLimits, Records
from sinks.table_states import TableStates

_UNSETTLED = (TableState.CATCHING_UP, TableState.QUARANTINED)


class ShardCuts(CutAssembler):
    """Assembles what cuts say of some of the partitions, and stops at what concerns all of them."""

    def __init__(
        self,
        stored: Progress | None,
        floors: Mapping[str, Position],
        reader: Reader,
        open_: Open,
        mine: Callable[[Partition], bool],
        until: int | None,
    ) -> None:
        """`until`: an offset of the control topic from which on nothing is taken."""
        super().__init__(stored, floors, reader.control_topic, open_)
        self._topic, self._is_mine, self._until = reader.topic, mine, until
        self._closing = -1
        """The cut whose rows are taken, and which is not passed yet."""

    def _mine(self, entry: Entry) -> Entry:
        """A cut with our partitions alone, and what was odd in tables whose first partition is ours."""
        if not isinstance(entry, Cut):
            return entry
        partitions = {p: named for p, named in entry.partitions.items() if self._is_mine(p)}
        anomalies = tuple(one for one in entry.anomalies if self._is_mine((self._topic(one.db, one.table), 0)))
        return replace(entry, partitions=partitions, anomalies=anomalies)

    def _stops_before(self, offset: int, entry: Entry | None) -> bool:
        return (self._until is not None and offset >= self._until) or (_is_met(entry) and not self._is_void(entry))

    def take(self, limit_rows: int) -> Step | None:
        """The next step that is complete, or the meeting that comes next."""
        step = super().take(limit_rows)
        if step is not None or not self._pending:
            return step
        offset, entry, seen = self._pending[0]
        if (self._until is not None and offset >= self._until) or not self._stops_before(offset, entry):
            return None
        if isinstance(entry, Cut) and offset != self._closing:
            return self._closed(offset, entry)
        assert isinstance(entry, Base | Copy | Cut)
        return Meet(offset, entry, seen) if not isinstance(entry, Copy) or self._is_followed_up() else None

    def is_there(self) -> bool:
        """Whether nothing is left below `until`, where compaction may have left nothing; the place is `until` then."""
        if self._until is None:
            return False
        if self.at.control_next < self._until and self._pending and self._pending[0][0] >= self._until:
            self.at.control_next, self.at.mark = self._until, ""
        return self.at.control_next >= self._until

    def _closed(self, offset: int, cut: Cut) -> Batch | None:
        """The rows of a cut with which a copy ends; its record is not passed before all have applied theirs."""
        if not self._complete(cut):
            return None
        self._closing, again = offset, self.at.cut_no == cut.cut_no
        batch = self._add(None, cut)
        batch.ended = []
        if again:  # its rows were committed before, and counted with them what was odd
            batch.anomalies = []
        return batch


def _is_met(entry: Entry | None) -> bool:
    return isinstance(entry, Base | Copy) or (isinstance(entry, Cut) and bool(entry.ended))


class ShardApply(Apply):
    """One shard's sink, from what is stored until it is told to stop, fails, or has come to `until`."""

    cuts: ShardCuts

    def __init__(
        self,
        reader: Reader,
        target: ShardTarget,
        limits: QuarantineLimits,
        told: Callable[[Retry], None],
        policies: Policies,
        until: int | None = None,
    ) -> None:
        super().__init__(reader, target, limits, told, policies)
        self._shard, self._until = target, until
        self._waits: int | None = None
        self._looked = 0.0

    def run(self, stored: Stored, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply, and begin from what is stored as often as it was moved."""
        there = False

        def ended() -> bool:
            nonlocal there
            there = self._is_there()
            return there or stopped()

        while not (there or stopped()):
            self._waits, self._uncommitted = None, False
            try:
                super().run(stored, ended, max_delay_seconds)
            except (Moved, Rewound) as again:
                if isinstance(again, Rewound):
                    self._told(again)
                self.target.rollback()
                self.reader.hold(frozenset())
                stored = self.target.read()
        if there:
            self._commit()

    def _is_there(self) -> bool:
        if not self.cuts.is_there():
            return False
        if self._uncommitted:  # pieces of what is void by what stands further on
            self._rewind(BELOW)
        return True

    def _assembler(self, stored: Stored) -> CutAssembler:
        shard, shards = self._shard.shard, self._shard.shards
        return ShardCuts(
            stored.progress, self._floors(stored), self.reader, self._plans.open, lambda p: shard_of(p, shards) == shard, self._until
        )

    def _do(self, step: Step) -> bool:
        if isinstance(step, Meet):
            return self._meet(step)
        self._shard.waits_at = self._waits = None
        return super()._do(step)

    # -- commits -----------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        super()._commit()
        if clock.monotonic() - self._looked > timing.TIMES.shards_look_seconds and any(table.state in _UNSETTLED for table in self._tables):
            self._looked = clock.monotonic()
            self._tables = TableStates(self._shard.tables())
            self.counters.states = Counter(str(table.state) for table in self._tables)

    def _pass_ceilings(self, at: Position) -> None:
        """A ceiling is passed when all shards have passed it: `cdc.publish` knows."""

    def _queue(self, frame: bytes, records: Records, held: Container[bytes], refused: Mapping[bytes, RowRefused]) -> None:
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        before = self._did.queued[name]
        super()._queue(frame, records, held, refused)
        if self._did.queued[name] > before:
            self._shard.hold([name])

    # -- meetings ----------------------------------------------------------------------------------------------------

    def _meet(self, meet: Meet) -> bool:
        if self._uncommitted:
            self._rewind(BELOW)
        if self._waits != meet.offset:
            self._shard.waits_at = meet.offset
            self._commit()
            crash.point("shard.waiting")
            self._waits = meet.offset
        waits, all_wait = self._shard.waiting(meet.offset)
        if waits and not (all_wait and self._shard.shard == LEADER):
            return False
        if waits:
            self._lead(meet)
        raise Moved

    def _lead(self, meet: Meet) -> None:
        """Do for all shards what the record asks for, on what is stored of the tables, and move all beyond it."""
        self._tables = TableStates(self._shard.lead())
        entry, copies, partitions = meet.entry, self.cuts.at.copies, dict[Partition, tuple[int, int]]()
        if isinstance(entry, Base):
            self._enter_all(entry, meet.offset)
            copies, partitions = entry.copies, {p: (end, entry.number(p)) for p, end in entry.ends.items()}
        elif isinstance(entry, Copy):
            self._shard.lock_all(meet.offset)
            self._copies.begin(self._tables, entry)
        else:
            copies = entry.copies
            self._shard.lock_all(meet.offset)
            self._copies.end(self._tables, entry.ended, self.cuts.at.position, strict=True)
        self._shard.move_all(meet.offset + 1, meet.mark, copies, partitions, self._tables.dirty())

    def _enter_all(self, base: Base, offset: int) -> None:
        if base.copying:
            raise Halt("not_loaded", self.reader.control_topic, "the initial copy through the topics is under way",
                       "one process applies it: cdc apply with apply.shards = 0")  # fmt: skip
        self._tables.enter(base, self._schema_of, lambda followed: self._made(base, followed))
        widths = self._shard.widths()
        changed = [table.topic for table in base.tables if widths.get(table.topic, table.partitions) != table.partitions]
        positions = self._shard.lock_all(offset)
        if not all(position.covers(base.position) for position in positions):
            raise base_beyond(base)
        if changed and any(position != positions[0] for position in positions):
            raise Halt("partitions_changed", f"topic {changed[0]}", "has another number of partitions, while shards differ in position",
                       "run cdc apply with apply.shards = 0 until it has gone on, then scale again")  # fmt: skip
        for name in self._tables.orphans(base.copies.active):
            self._copies.drop(self._tables, name)
