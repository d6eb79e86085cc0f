"""PostgreSQL as the target: rows and positions move in one transaction, under the fence, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from cdc.config.load import TargetConfig
from cdc.errors import CdcError, Halt, Retry
from cdc.model.position import Position
from cdc.postgres.connection import Connection
from cdc.postgres.errors import decide, guarded
from cdc.protocol.applied import MADE, Partition, Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Ended
from cdc.protocol.table_states import TableState
from cdc.runtime import crash_points as crash
from cdc.state.store import StateStore, clock_of
from sinks.contract import Plan, TableBatch, demand_same_policies, policies_kept
from sinks.halves import Foreseen
from sinks.postgres.bisect import at_row, row_refused, unfit, write_bisected
from sinks.postgres.fence import ONLY, SHARED, UNHURRIED, check_committed, check_held, connect_writer, keep_fence, raise_fence, releases
from sinks.postgres.load import ChunkLoader, TableLoad, begun, finished, fit, given_up
from sinks.postgres.merge import BatchWriter
from sinks.postgres.positions import say_pace, say_partitions, say_progress, say_tables
from sinks.postgres.quarantine import Quarantine
from sinks.postgres.shadow_table import attempted, become_equal, drop_shadow, empty, make_shadow, record, shadow_of
from sinks.postgres.statements import ANOMALY, BEGIN, COMMIT, IMMEDIATE, Check, Prepared, RowName, StatementQueue, undo
from sinks.postgres.tables import TargetTable, check_free, check_table, check_tables, ensure_table, found_columns, place_of
from sinks.quarantine import Unit

R = TypeVar("R")


class PostgresTarget:
    """The one writer of a pipeline's target.

    `open` takes the pipeline over; `write` any number of batches, then `commit` them with the position they lead to.
    Any error undoes what is not committed. After a Retry, `open` again and go on from the positions that it returns:
    when the connection was lost during a commit they tell what became of it.
    """

    def __init__(self, target: TargetConfig, pipeline: str) -> None:
        self.target, self.pipeline = target, pipeline
        self.fence = 0
        """Our number; 0 before the first `open`."""
        self._wire: StatementQueue | None = None
        self._begun = False
        self._releases = 0
        self._known: dict[Partition, tuple[int, int]] = {}
        self.foreseen: defaultdict[tuple[str, str], dict[bytes, Foreseen]] = defaultdict(dict)
        """Keys that wait from the first change of a transaction on, by table: what was undone is known for as long as the process lives."""
        self.strictly = False
        """Whether the transaction in pieces that comes next is to check constraints at once: its commit was refused, and no row named."""

    def open(self) -> Stored:
        """Become the only writer, wait until every earlier one's transaction is gone, and read what is stored."""
        self.close()
        connection = connect_writer(self.target, self.pipeline, "apply", again=self.fence > 0)
        self._wire, self._begun, self._clock = StatementQueue(connection), False, clock_of(connection)
        self._merge = BatchWriter(connection, self._wire)
        self._quarantine = Quarantine(connection, self._wire, self.pipeline)
        self._state().migrate()
        self._take_over(connection)
        return self.read()

    def _state(self) -> StateStore:
        return StateStore(self.target, self.pipeline, self.connection)

    def _take_over(self, connection: Connection) -> None:
        if self.fence:
            keep_fence(connection, self.pipeline, self.fence)
        else:
            self.fence = raise_fence(connection, self.pipeline)

    def read(self) -> Stored:
        """What is stored, as of now."""
        stored = self._state().read()
        self._known = dict(stored.progress.partitions) if stored.progress else {}
        return stored

    def close(self) -> None:
        """Give up what is not committed, and the connection."""
        if self._wire is not None:
            self._wire.connection.close()
        self._wire, self._begun = None, False

    @property
    def wire(self) -> StatementQueue:
        if self._wire is None:
            raise Retry("target_lost", f"pipeline {self.pipeline}", "there is no connection to the target", "open it again")
        return self._wire

    @property
    def connection(self) -> Connection:
        return self.wire.connection

    def place(self, db: str, table: str) -> TargetTable:
        """Where a source table goes; a name that PostgreSQL cannot hold is refused."""
        return place_of(self.target, db, table)

    def check(self, plans: Iterable[Plan]) -> None:
        """Refuse, before anything is written, what `create_table` would refuse one by one; on a connection of its own."""

        def work(state: StateStore) -> None:
            found = state.read()
            ours = {one.name: one for one in found.tables.values() if one.settled}
            made = {one.name for one in found.tables.values() if one.schema.get(MADE)}  # anew, if need be
            check_tables(state.connection, self.target, [p for p in plans if (p.db, p.table) not in made - ours.keys()], ours)

        with StateStore(self.target, self.pipeline) as state:
            guarded(str(self.target.url), starting=True)(work)(state)

    # Applying.

    def lock(self, *, immediate: bool = False) -> int:
        """Begin, and hold the fence from now on; how often others than the sink have released keys so far.

        `immediate`: constraints that would be checked at the commit are checked statement by statement, so that their row is known.
        """

        def work() -> int:
            self._begin(ONLY)
            if immediate:
                self.wire.send(IMMEDIATE)
            self.wire.flush()
            return self._releases

        return self._do("cdc.pipeline", work)

    def write(self, batch: TableBatch, *, locate: bool = True) -> None:
        """Apply a batch in the open transaction, which begins with the first one; `locate`: a refused row is looked for and named."""
        place = self._place(batch)
        self.within(str(place), lambda _: self._merge.write(batch, place), batch if locate else None)

    def write_bisected(self, batch: TableBatch, room: int) -> list[Unit]:
        """Apply what the target can hold of a batch; the rest, each key with its reason. Halt when more than `room` are refused."""
        place = self._place(batch)
        return self.within(str(place), lambda wire: write_bisected(self._merge, wire, batch, place, room))

    def quarantine(self, work: Callable[[Quarantine], R]) -> R:
        """Read, add to or take from the quarantine, in the open transaction if there is one."""
        return self._do("cdc.quarantine", lambda: work(self._quarantine))

    def within(self, place: str, work: Callable[[StatementQueue], R], batch: TableBatch | None = None) -> R:
        """Do work in the open transaction, which begins with it if there is none; of a `batch` a refused row is looked for and named."""

        def begun() -> R:
            self._begin(ONLY)
            return work(self.wire)

        return self._do(place, begun, batch)

    def empty(self, db: str, table: str, *, readable: bool = False) -> CdcError | None:
        """Empty a table, and its quarantine, in the open transaction, or say as `attempt` what stands in the way.

        `readable`: readers see the old rows until the commit.
        """
        place = self.place(db, table)
        refused = self.attempt(str(place), lambda wire: empty(wire, place, readable=readable))
        if refused is None:
            self._quarantine.clear((db, table))
        return refused

    def attempt(self, place: str, work: Callable[[StatementQueue], None]) -> CdcError | None:
        """Do work in the open transaction, or leave that as it was: then what stands in the way. What passes by itself is raised.

        The work uses the wire, not methods of the target: these undo all at an error.
        """
        return self.within(place, lambda wire: attempted(wire, place, work))

    def make_shadow(self, db: str, table: str) -> CdcError | None:
        """Make a table's second table, empty, or say as `attempt` what stands in the way."""
        place = self.place(db, table)
        return self.attempt(str(place), lambda wire: make_shadow(wire, place))

    def become_equal(self, plan: Plan, *, strict: bool) -> CdcError | None:
        """Make a table equal to its second one, or say as `attempt` what stands in the way; `strict`: constraints are checked here."""
        place = self.place(plan.db, plan.table)
        return self.attempt(str(place), lambda wire: become_equal(wire, place, plan, strict=strict))

    def drop_shadow(self, db: str, table: str) -> None:
        """Drop a table's second table, in the open transaction."""
        place = self.place(db, table)
        self.within(str(place), lambda wire: drop_shadow(wire, place))

    def record(self, ended: Ended) -> None:
        """Keep what became of a copy, in the open transaction."""
        self.within("cdc.copy", lambda wire: record(wire, self.pipeline, ended))

    def count_anomalies(self, db: str, table: str, found: Mapping[tuple[str, str], int]) -> None:
        """Add to the counts of (column, reason) in the open transaction."""

        def work(wire: StatementQueue) -> None:
            for (column, reason), count in found.items():
                wire.say(ANOMALY, self.pipeline, db, table, column, reason, count)

        self.within("cdc.anomaly", work)

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Mapping[tuple[str, str, str, str], int]:
        """Store the position and the tables that changed, and commit all; what policies changed in the rows, counted in cdc.anomaly too."""

        def work() -> None:
            self._begin(ONLY)
            for what, times in self._merge.changed.items():
                self._send(ANOMALY, *what, times)
            self._save(progress, tables)
            self.wire.flush()

        self._do("cdc.progress", work)
        crash.point("target.stored")
        changed = dict(self._merge.changed)
        self._commit()
        if progress is not None:
            self._known |= progress.partitions
        return changed

    def rollback(self) -> None:
        """Undo what is not committed; harmless when there is nothing."""
        if self._wire is not None:
            undo(self._wire)
            self._merge.undone()
        self._begun = False

    # Tables and loads.

    def save(self, tables: Sequence[TableProgress], progress: Progress | None = None) -> None:
        """Store states of tables, and a first position, in a transaction of their own that may run beside chunks."""

        def work() -> None:
            self._begin(SHARED)
            self._save(progress, tables)
            self.wire.flush()

        self._idle()
        self._do("cdc.tables", work)
        self._commit()
        if progress is not None:
            self._known |= progress.partitions

    def create_table(self, plan: Plan, schema: Mapping[str, object] | None = None) -> TableProgress:
        """Make the table, or take the fitting one that is there; refuse one with rows in it unless it is ours or adopted."""
        place = self.place(plan.db, plan.table)
        return self._transaction(str(place), lambda: self._create(plan, place, schema or {}))

    def create_within(self, plan: Plan) -> TableProgress:
        """The same in the transaction that is open, as a part of an `attempt`."""
        return self._create(plan, self.place(plan.db, plan.table), {})

    def begin_load(self, plan: Plan, floor: Position, *, again: bool = False) -> TableLoad:
        """Start the table's load at `floor`, or find it under way and go on; `again` empties the table and starts anew."""
        place = self.place(plan.db, plan.table)
        return self._transaction(str(place), lambda: self._begin_load(plan, place, floor, again))

    def finish_load(self, load: TableLoad, ceiling: Position, *, floor: Position | None = None) -> TableProgress:
        """Every chunk is in: the table is consistent from `ceiling` on. A read at an exact position gives both the same."""
        return self._transaction(str(load.place), lambda: self._finish_load(load, ceiling, floor))

    def give_up_load(self, known: TableProgress, reason: str) -> None:
        """The table is not loaded any more: it is as one that was added, which is made anew and copied while the log is followed."""
        place = TargetTable(known.target_schema, known.target_table)

        def work() -> None:
            self._save(None, [given_up(self.connection, self.pipeline, place, known, reason)])
            self.wire.flush()
            crash.point("load.given_up")

        self._transaction(str(place), work)

    def fit_within(self, plan: Plan, known: TableProgress) -> None:
        """In the open transaction, as a part of an `attempt`: what was made for other columns of a table not copied yet is made anew."""
        fit(self.connection, self.pipeline, plan, self.place(plan.db, plan.table), known)

    def loader(self) -> ChunkLoader:
        """A further connection under our fence, for one thread that loads chunks."""
        return ChunkLoader(self.target, self.pipeline, self.fence)

    # How.

    def _place(self, batch: TableBatch) -> TargetTable:
        place = self.place(batch.db, batch.table)
        return shadow_of(place) if batch.shadow else place

    def _begin(self, lock: Prepared) -> None:
        if not self._begun:
            self._begun = True
            self.wire.send(BEGIN)
            self.wire.send(lock, [self.pipeline.encode(), b"%d" % self.fence], self._locked)

    def _locked(self, result: PGresult) -> None:
        check_held(self.pipeline, result)
        self._releases = releases(result)

    def _idle(self) -> None:
        if self._begun:
            self.rollback()
            raise Halt("transaction_open", f"pipeline {self.pipeline}", "a batch is not committed yet", "this is a defect: report it")

    def _commit(self) -> None:
        def work() -> None:
            self.wire.send(COMMIT, check=check_committed)
            self.wire.flush()

        self._do("the commit", work)
        crash.point("target.committed")
        self._begun = False
        self._merge.committed()

    def _transaction(self, place: str, work: Callable[[], R]) -> R:
        def begun() -> R:
            self._begin(SHARED)
            self.wire.send(UNHURRIED)
            self.wire.flush()
            crash.point("target.locked")
            return work()

        self._idle()
        result = self._do(place, begun)
        self._commit()
        return result

    def _do(self, place: str, work: Callable[[], R], batch: TableBatch | None = None) -> R:
        """Run a piece of work; an error undoes the transaction and becomes a decision that holds nothing of the driver's."""
        decision: CdcError
        failed = ("", b"")
        if self._wire is not None:
            self._wire.about(place)
        try:
            return work()
        except psycopg.Error as error:
            decision = decide(error, (self._wire and self._wire.failed_at) or place)
            failed = self._wire.failed if self._wire else failed
        except CdcError as error:
            decision = error
        self.rollback()
        refused = row_refused(decision)
        if refused is not None and not refused.sqlstate and batch is not None:
            refused = at_row(refused, (refused.place, unfit(batch)))
        elif refused is not None and refused.sqlstate:
            refused = at_row(refused, failed if failed[0] or batch is None else self._locate(batch))
        raise refused or decision

    def _locate(self, batch: TableBatch) -> RowName:
        """Which row of a batch the target refuses, by applying them one by one and undoing that."""
        try:
            self._begin(ONLY)
            self._merge.write_singly(batch, self._place(batch))
        except (psycopg.Error, CdcError):
            return self._wire.failed if self._wire else ("", b"")
        finally:
            self.rollback()
        return "", b""

    def _send(self, statement: Prepared, *parameters: object, check: Check | None = None) -> None:
        self.wire.say(statement, self.pipeline, *parameters, check=check)

    def _save(self, progress: Progress | None, tables: Sequence[TableProgress]) -> None:
        say_tables(self._send, tables)
        if progress is not None:
            say_progress(self._send, progress, self._clock)
            say_pace(self._send, progress.copies)
            say_partitions(self._send, progress.partitions, self._known, progress.since)

    def _stored(self, plan: Plan) -> TableProgress | None:
        return self._state().table(plan.db, plan.table)

    def _create(self, plan: Plan, place: TargetTable, schema: Mapping[str, object]) -> TableProgress:
        known = self._stored(plan)
        ours = known is not None and known.settled
        found = found_columns(self.connection, place.sql)
        if known is not None and ours and not found:
            raise Halt("target_missing", str(place), "the table was loaded and is not there any more", f"cdc copy {plan.db}.{plan.table}")
        if known is not None and ours:
            demand_same_policies(known, plan, Halt)
            check_table(self.connection, plan, place, found)
            return known
        check_free(self.connection, self.pipeline, plan, place)
        made = ensure_table(self.connection, plan, place, adopt=self.target.adopt)
        made = made or (known is not None and bool(known.schema.get(MADE)))
        crash.point("load.created")
        state = TableProgress(plan.db, plan.table, place.schema, place.table, TableState.NEW, schema={**schema, MADE: made})
        state = policies_kept(state, plan)
        self._save(None, [state])
        self.wire.flush()
        return state

    def _begin_load(self, plan: Plan, place: TargetTable, floor: Position, again: bool) -> TableLoad:
        done = self._state().chunks(plan.db, plan.table)
        return begun(self.connection, self.pipeline, self._stored(plan), done, (plan, place), floor, again)

    def _finish_load(self, load: TableLoad, ceiling: Position, floor: Position | None) -> TableProgress:
        self._save(None, [state := finished(self.connection, self.pipeline, load, ceiling, floor)])
        self.wire.flush()
        return state
