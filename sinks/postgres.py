"""PostgreSQL as the target: rows and positions move in one transaction, under the fence, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from cdc import crash
from cdc.config import TargetConfig
from cdc.errors import CdcError, Halt, Retry
from cdc.lifecycle import State as Standing
from cdc.position import Position
from cdc.progress import Partition, Progress, Stored, TableState
from cdc.state import Connection, State, compact, decide, guarded
from sinks.contract import Plan, TableBatch, demand_same_policies, policies_kept
from sinks.postgres_bisect import at_row, row_refused, unfit, write_bisected
from sinks.postgres_copies import shadow_of
from sinks.postgres_fence import ONLY, SHARED, UNHURRIED, check_held, connect_writer, keep_fence, raise_fence, releases
from sinks.postgres_load import Load, Loader, forget_rows, given_up
from sinks.postgres_merge import Merge
from sinks.postgres_quarantine import Quarantine
from sinks.postgres_schema import MADE, Place, check_free, check_table, check_tables, ensure_table, found_columns, make_empty, place_of
from sinks.postgres_stored import say_pace, say_partitions, say_progress, say_tables
from sinks.postgres_wire import ANOMALY, BEGIN, COMMIT, RowName, Statement, Wire, undo
from sinks.quarantine import Unit

R = TypeVar("R")

_START_LOAD = """UPDATE cdc.tables SET state = 'copying', floor = %s, ceiling = NULL, reason = '', rows_loaded = 0,
 load_no = load_no + 1, changed_at = now() WHERE (pipeline, db, "table") = (%s, %s, %s) RETURNING load_no"""
_LOAD_NO = 'SELECT load_no FROM cdc.tables WHERE (pipeline, db, "table") = (%s, %s, %s)'
_LOADED = """SELECT coalesce(sum(c.rows), 0)::int8 FROM cdc.chunks c JOIN cdc.tables t USING (pipeline, db, "table", load_no)
 WHERE (c.pipeline, c.db, c."table") = (%s, %s, %s)"""


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
        self._wire: Wire | None = None
        self._begun = False
        self._releases = 0
        self._known: dict[Partition, tuple[int, int]] = {}

    def open(self) -> Stored:
        """Become the only writer, wait until every earlier one's transaction is gone, and read what is stored."""
        self.close()
        connection = connect_writer(self.target, self.pipeline, "apply", again=self.fence > 0)
        self._wire, self._begun = Wire(connection), False
        self._merge = Merge(connection, self._wire)
        self._quarantine = Quarantine(connection, self._wire, self.pipeline)
        self._state().migrate()
        self._take_over(connection)
        return self.read()

    def _state(self) -> State:
        return State(self.target, self.pipeline, self.connection)

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
    def wire(self) -> Wire:
        if self._wire is None:
            raise Retry("target_lost", f"pipeline {self.pipeline}", "there is no connection to the target", "open it again")
        return self._wire

    @property
    def connection(self) -> Connection:
        return self.wire.connection

    def place(self, db: str, table: str) -> Place:
        """Where a source table goes; a name that PostgreSQL cannot hold is refused."""
        return place_of(self.target, db, table)

    def check(self, plans: Iterable[Plan]) -> None:
        """Refuse, before anything is written, what `create_table` would refuse one by one; on a connection of its own."""

        def work(state: State) -> None:
            found = state.read()
            ours = {one.name: one for one in found.tables.values() if one.state not in (Standing.NEW, Standing.REFUSED)}
            made = {one.name for one in found.tables.values() if one.schema.get(MADE) and found.progress is None}  # anew, if need be
            check_tables(state.connection, self.target, [p for p in plans if (p.db, p.table) not in made - ours.keys()], ours)

        with State(self.target, self.pipeline) as state:
            guarded(str(self.target.url), starting=True)(work)(state)

    # Applying.

    def lock(self, *, immediate: bool = False) -> int:
        """Begin, and hold the fence from now on; how often others than the sink have released keys so far.

        `immediate`: constraints that would be checked at the commit are checked statement by statement, so that their row is known.
        """

        def work() -> int:
            self._begin(ONLY)
            if immediate:
                self.wire.send(Statement("SET CONSTRAINTS ALL IMMEDIATE"))
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

    def within(self, place: str, work: Callable[[Wire], R], batch: TableBatch | None = None) -> R:
        """Do work in the open transaction, which begins with it if there is none; of a `batch` a refused row is looked for and named."""

        def begun() -> R:
            self._begin(ONLY)
            return work(self.wire)

        return self._do(place, begun, batch)

    def empty(self, db: str, table: str, *, readable: bool = False) -> None:
        """Empty a table, and its quarantine, in the open transaction; `readable`: readers see the old rows until the commit."""
        place = self.place(db, table)

        def work(wire: Wire) -> None:
            wire.send(Statement(f"{'DELETE FROM' if readable else 'TRUNCATE'} {place.sql}"))
            self._quarantine.clear((db, table))

        self.within(str(place), work)

    def count_anomalies(self, db: str, table: str, found: Mapping[tuple[str, str], int]) -> None:
        """Add to the counts of (column, reason) in the open transaction."""

        def work(wire: Wire) -> None:
            for (column, reason), count in found.items():
                wire.say(ANOMALY, self.pipeline, db, table, column, reason, count)

        self.within("cdc.anomaly", work)

    def commit(self, progress: Progress | None, tables: Sequence[TableState] = ()) -> Mapping[tuple[str, str, str, str], int]:
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

    def save(self, tables: Sequence[TableState], progress: Progress | None = None) -> None:
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

    def create_table(self, plan: Plan, schema: Mapping[str, object] | None = None) -> TableState:
        """Make the table, or take the fitting one that is there; refuse one with rows in it unless it is ours or adopted."""
        place = self.place(plan.db, plan.table)
        return self._transaction(str(place), lambda: self._create(plan, place, schema or {}))

    def begin_load(self, plan: Plan, floor: Position, *, again: bool = False) -> Load:
        """Start the table's load at `floor`, or find it under way and go on; `again` empties the table and starts anew."""
        place = self.place(plan.db, plan.table)
        return self._transaction(str(place), lambda: self._begin_load(plan, place, floor, again))

    def finish_load(self, load: Load, ceiling: Position, *, floor: Position | None = None) -> TableState:
        """Every chunk is in: the table is consistent from `ceiling` on. A read at an exact position gives both the same."""
        return self._transaction(str(load.place), lambda: self._finish_load(load, ceiling, floor))

    def give_up_load(self, known: TableState, reason: str) -> None:
        """The table is not loaded any more: it is as one that was added, which is made anew and copied while the log is followed."""
        place = Place(known.target_schema, known.target_table)

        def work() -> None:
            self._save(None, [given_up(self.connection, self.pipeline, place, known, reason)])
            self.wire.flush()
            crash.point("load.given_up")

        self._transaction(str(place), work)

    def loader(self) -> Loader:
        """A further connection under our fence, for one thread that loads chunks."""
        return Loader(self.target, self.pipeline, self.fence)

    # How.

    def _place(self, batch: TableBatch) -> Place:
        place = self.place(batch.db, batch.table)
        return shadow_of(place) if batch.shadow else place

    def _begin(self, lock: Statement) -> None:
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
            self.wire.send(COMMIT, check=_check_committed)
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
        try:
            return work()
        except psycopg.Error as error:
            decision = decide(error, place)
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

    def _send(self, statement: Statement, *parameters: object) -> None:
        self.wire.say(statement, self.pipeline, *parameters)

    def _save(self, progress: Progress | None, tables: Sequence[TableState]) -> None:
        say_tables(self._send, tables)
        if progress is not None:
            say_progress(self._send, progress)
            say_pace(self._send, progress.copies)
            say_partitions(self._send, progress.partitions, self._known)

    def _stored(self, plan: Plan) -> TableState | None:
        return State(self.target, self.pipeline, self.connection).table(plan.db, plan.table)

    def _create(self, plan: Plan, place: Place, schema: Mapping[str, object]) -> TableState:
        known = self._stored(plan)
        ours = known is not None and known.state not in (Standing.NEW, Standing.REFUSED)
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
        state = TableState(plan.db, plan.table, place.schema, place.table, Standing.NEW, schema={**schema, MADE: made})
        state = policies_kept(state, plan)
        self._save(None, [state])
        self.wire.flush()
        return state

    def _begin_load(self, plan: Plan, place: Place, floor: Position, again: bool) -> Load:
        known = self._stored(plan)
        name = (self.pipeline, plan.db, plan.table)
        if known is not None and known.state == Standing.COPYING and not again:
            row = self.connection.execute(_LOAD_NO, name).fetchone()
            done = State(self.target, self.pipeline, self.connection).chunks(plan.db, plan.table)
            return Load(known, row[0] if row else 0, tuple(done), plan, place)
        row = self.connection.execute(_START_LOAD, [compact(floor.to_json()), *name]).fetchone()
        if known is None or row is None:
            raise Halt("table_unknown", str(place), "a table is loaded that was not created first")
        make_empty(self.connection, place)
        forget_rows(self.connection, name)
        return Load(replace(known, state=Standing.COPYING, floor=floor, ceiling=None, reason="", rows_loaded=0), row[0], (), plan, place)

    def _finish_load(self, load: Load, ceiling: Position, floor: Position | None) -> TableState:
        name = (self.pipeline, load.state.db, load.state.table)
        row, number = self.connection.execute(_LOADED, name).fetchone(), self.connection.execute(_LOAD_NO, name).fetchone()
        if row is None or number is None or number[0] != load.number:
            raise Halt("load_over", str(load.place), "another load of the table has begun", "start again")
        state = replace(load.state, state=Standing.CATCHING_UP, floor=floor or load.state.floor, ceiling=ceiling, rows_loaded=row[0])
        self._save(None, [state])
        self.wire.flush()
        return state


def _check_committed(result: PGresult) -> None:
    if result.command_status != b"COMMIT":
        raise Retry("target_conflict", "the commit", "PostgreSQL rolled the transaction back", "tried again")
