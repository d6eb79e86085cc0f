"""Scaled mode: the sink of one shard, which applies whole cuts of its partitions and meets the others where all must
stand together.

At a base, at a copy's barrier and at a cut with which a copy ends it commits what comes before, stores that it waits
there, and reads on without applying. When all wait, the owner of shard 0 does what the record asks for and moves all
beyond it, in one commit. After a meeting, as after anything else that moved its stored place, a shard begins again from
what is stored. Docs: docs/decisions/025-scaled-sink.md; the model: tests/protocol_model/scaled.py.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.errors import Halt
from cdc.model.policies import Policies
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.applied import Stored
from cdc.protocol.control import Base, Copy
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, timing
from cdc.runtime.counters import ApplyCounters
from cdc.transport.contract import Reader
from sinks.apply import Apply, Rewound, SinkMemory
from sinks.epochs import Epochs
from sinks.losses import base_beyond
from sinks.postgres.shard_target import LEADER, Moved, ShardTarget
from sinks.postgres.transaction import Transaction
from sinks.scope import ShardScope
from sinks.steps import At, Meet
from sinks.table_states import TableStates

_UNSETTLED = (TableState.CATCHING_UP, TableState.QUARANTINED)


class ShardApply:
    """One shard's sink, from what is stored until it is told to stop, fails, or has come to `until`;
    the role of each of its runs."""

    settles = False
    """A ceiling is passed when all shards have passed it: `cdc.publish` knows."""

    def __init__(
        self,
        reader: Reader,
        target: ShardTarget,
        memory: SinkMemory,
        policies: Policies | None,
        until: int | None = None,
    ) -> None:
        """`until`: an offset of the control topic from which on nothing is taken."""
        self._reader, self._target, self._policies = reader, target, policies
        self._memory = memory
        self.scope = ShardScope(target.share, reader.topic, until)
        self._waits: int | None = None
        self._looked = 0.0

    @property
    def counters(self) -> ApplyCounters:
        """What has been applied since the start."""
        return self._memory.counters

    def run(self, stored: Stored, stopped: Callable[[], bool], max_delay_seconds: float) -> None:
        """Apply, and begin from what is stored as often as it was moved."""
        over = False
        while not (over or stopped()):
            self._waits = None
            try:
                self._following(stored).run(stopped, max_delay_seconds)
                over = True
            except (Moved, Rewound) as again:
                if isinstance(again, Rewound):
                    self._memory.told(again)
                self._target.rollback()
                self._reader.hold(frozenset())
                stored = self._target.read()

    def _following(self, stored: Stored) -> Apply:
        return Apply(self._reader, self._target, stored, self._memory, self._policies, self)

    # -- the role of a run -------------------------------------------------------------------------------------------

    def queued(self, name: TableName) -> None:
        """Say for all shards that keys of the table wait."""
        self._target.hold([name])

    def committed(self, tables: TableStates) -> None:
        """Look now and then what has become of tables, while any is unsettled."""
        if clock.monotonic() - self._looked > timing.TIMES.shards_look_seconds and any(
            table.state in _UNSETTLED for table in tables
        ):
            self._looked = clock.monotonic()
            tables.learn(self._target.tables())
            self.counters.states = tables.counts()

    def goes_on(self) -> None:
        """Wait no more."""
        self._waits = None
        self._target.wait_at(None)

    def waits(self, offset: int) -> bool:
        """Wait before this control record; False: that is to be committed first."""
        known, self._waits = self._waits, offset
        if known != offset:
            self._target.wait_at(offset)
        return known == offset

    # -- meetings ----------------------------------------------------------------------------------------------------

    def meet(self, meet: Meet, epochs: Epochs, at: At) -> bool:
        """Lead the meeting when all have come and that is ours, else wait; Moved when it is over."""
        waits, all_wait = self._target.waiting(meet.offset)
        if waits and not (all_wait and self._target.share.shard == LEADER):
            return False
        if waits:
            self._lead(meet, epochs, at)
        raise Moved

    def _lead(self, meet: Meet, epochs: Epochs, at: At) -> None:
        """Do for all shards what the record asks for, on what is stored of the tables, and move all beyond it."""
        tables, entry, partitions = epochs.tables, meet.entry, dict[Partition, tuple[int, int]]()
        tables.learn(self._target.lead())
        copies = at.copies if isinstance(entry, Copy) else entry.copies
        if isinstance(entry, Base):
            transaction = self._enter(entry, meet.offset, epochs)
            partitions = {p: (end, entry.number(p)) for p, end in entry.ends.items()}
        else:
            transaction = self._target.begin()
            self._target.lock_all(transaction, meet.offset)
            into = self._target.tables_of(transaction)
            if isinstance(entry, Copy):
                epochs.copies.begin_copy(into, entry)
            else:
                epochs.copies.end_copies(into, entry.ended, at.position, strict=True)
        self._target.move_all(transaction, (meet.offset + 1, meet.mark), copies, partitions, tables.dirty())

    def _enter(self, base: Base, offset: int, epochs: Epochs) -> Transaction:
        """Enter a base for all shards; the transaction that holds them where they wait before it."""
        if base.copying:
            raise Halt("not_loaded", self._reader.control_topic, "the initial copy through the topics is under way",
                       "one process applies it: cdc apply with apply.shards = 0")  # fmt: skip
        if base.foreign_keys:
            one = base.foreign_keys[0]
            raise Halt("unlogged_cascade", f"{'.'.join(one.child)} foreign key {one.name}",
                       "changes rows without logging it, which several sinks cannot follow",
                       "run cdc apply with apply.shards = 0")  # fmt: skip
        epochs.enter(base)
        widths = self._target.widths()
        changed = [
            table.topic for table in base.tables if widths.get(table.topic, table.partitions) != table.partitions
        ]
        transaction = self._target.begin()
        positions = self._target.lock_all(transaction, offset)
        if not all(position.covers(base.position) for position in positions):
            raise base_beyond(base)
        if changed and any(position != positions[0] for position in positions):
            raise Halt("partitions_changed", f"topic {changed[0]}", "has another number of partitions, "
                                                                    "while shards differ in position",
                       "run cdc apply with apply.shards = 0 until it has gone on, then scale again")  # fmt: skip
        epochs.drop_orphans(base, transaction)
        return transaction
