"""From the topics to the target: one loop that commits consistent cuts, rows and positions in one transaction each.

The order of one batch: begin; check the fence with a row lock; write every table's folded changes; store positions; commit.
Pieces of an oversized transaction, and everything inside the window of a copy, stay uncommitted until the next whole cut.
What the process knows is never trusted over what the target stores: a start, and every error, begins by reading it back.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cdc import codec, crash
from cdc.control import Base
from cdc.errors import Halt
from cdc.lifecycle import Event, State, follow
from cdc.progress import Progress, Stored, TableState
from cdc.topic import Reader
from sinks.batch import Fold
from sinks.cuts import Batch, Begin, Changes, Cuts, Enter, Opened
from sinks.postgres import PostgresTarget

BATCH_ROWS = 50_000
IDLE_SECONDS = 0.2


@dataclass(slots=True)
class Counters:
    """What has been applied since the start, for metrics; read from another thread."""

    cut_no: int = 0
    source_ts_us: int = 0
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    commits: int = 0
    void: Mapping[str, int] = field(default_factory=dict)
    applied_at: float = 0.0
    states: Mapping[str, int] = field(default_factory=dict)
    """How many tables are in each state."""


class Apply:
    """One run of a pipeline's sink, from opening the target until it is told to stop or fails."""

    def __init__(self, reader: Reader, target: PostgresTarget) -> None:
        self.reader, self.target = reader, target
        self.counters = Counters()
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
        self.cuts = Cuts(stored.progress, self._floors(stored), self.reader.control_topic, self._open)
        self.reader.assign(self.cuts.next_offsets(), self.cuts.next_control())
        while not stopped():
            self.cuts.feed(self.reader.poll(IDLE_SECONDS))
            self._gather(max_delay_seconds)
            while (step := self.cuts.take(BATCH_ROWS)) is not None:
                self._do(step)
        if self._uncommitted:
            self.target.rollback()

    def _floors(self, stored: Stored) -> dict[str, Any]:
        at = stored.progress.position if stored.progress else None
        floors = {self.reader.topic(s.db, s.table): s.floor for s in stored.tables.values() if s.floor is not None}
        return {topic: floor for topic, floor in floors.items() if at is None or not at.covers(floor)}

    def _gather(self, max_delay_seconds: float) -> None:
        """When behind, let a batch grow: one large commit costs less than many small ones."""
        until = time.monotonic() + max_delay_seconds
        while (messages := self.reader.poll(0)) and time.monotonic() < until:
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
            self.cuts.floors[self.reader.topic(copy.db, copy.table)] = copy.position
            self._change(copy.db, copy.table, floor=copy.position)
            self._uncommitted = True
            crash.point("apply.emptied")

    # -- batches -----------------------------------------------------------------------------------------------------

    def _apply(self, batch: Batch) -> None:
        for topic, changes in batch.topics.items():
            if changes.values:
                self._write(topic, changes)
        for db, table, column, reason, count in batch.anomalies:
            self.target.count_anomalies(db, table, {(column, reason): count})
        self._moved.update(batch.cut.partitions)
        self._uncommitted = True
        crash.point("apply.piece_written" if batch.partial else "apply.written")
        if not batch.partial:
            self._commit()
            crash.point("apply.committed")
        self.reader.release(self.cuts.at.offsets, self.cuts.at.control_next)
        crash.point("apply.released")

    def _write(self, topic: str, changes: Changes) -> None:
        for run in _runs(changes.values):
            plan = self._plan(changes.values[run.start][:5])
            if self._states[plan.db, plan.table].state == State.REFUSED:  # it was never copied, and `status` says why
                self.cuts.void["refused"] += run.stop - run.start
                continue
            fold = Fold(plan)
            fold.add(changes.keys[run], changes.values[run], changes.opened[run])
            self.target.write(fold.take())
            name = (plan.db, plan.table)
            self.counters.rows[name] = self.counters.rows.get(name, 0) + run.stop - run.start

    def _commit(self) -> None:
        at = self.cuts.at
        if at.position is None:
            raise Halt("no_base", self.reader.control_topic, "a cut stands before any base", "is transport.prefix right?")
        self._pass_ceilings()
        moved = {p: (at.offsets[p], at.numbers.get(p, 0)) for p in self._moved if p in at.offsets}
        progress = Progress(at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us, moved)
        self.target.commit(progress, [self._states[name] for name in self._dirty])
        self._dirty.clear()
        self._moved.clear()
        self._uncommitted = False
        self._count(progress)

    def _count(self, progress: Progress) -> None:
        self.counters.cut_no, self.counters.source_ts_us = progress.cut_no, progress.source_ts_us
        self.counters.commits += 1
        self.counters.void = dict(self.cuts.void)
        self.counters.applied_at = time.time()
        self.counters.states = Counter(str(state.state) for state in self._states.values())

    def _pass_ceilings(self) -> None:
        at = self.cuts.at.position
        for name, state in self._states.items():
            if state.state == State.COPYING and self._copying:
                self._change(*name, state=follow(f"{name[0]}.{name[1]}", state.state, Event.COPIED), ceiling=at)
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
            renamed = {"renamed": self._plan(frame).renamed} if self._plan(frame).renamed else {}
            self._change(*name, schema={"key_schema": followed.key_schema, "value_schema": followed.value_schema, **renamed})
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
            plan = codec.ValuePlan(self.reader.schema(value), None if key is None else self.reader.schema(key))
            self._plans[frame] = plan
        return plan

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
