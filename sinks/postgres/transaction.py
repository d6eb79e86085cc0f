"""The open transaction of the target: a value that its owner lends to whoever writes in it; and what one connection has
for all of them.

A transaction begins under the lock of its owner's row. Any error undoes it whole, and becomes a decision
(`cdc/errors.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from cdc.config.load import TargetConfig
from cdc.errors import CdcError, Halt, Refused, RowRefused
from cdc.model.record import Partition
from cdc.model.table import AnomalyName
from cdc.postgres.connection import Connection
from cdc.postgres.errors import decide
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.runtime import crash_points as crash
from cdc.state.store import StateStore, clock_of
from sinks.contract import TableBatch
from sinks.postgres.bisect import at_row, located, row_refused, write_bisected
from sinks.postgres.fence import check_committed, releases
from sinks.postgres.merge import BatchWriter
from sinks.postgres.owner import Owner
from sinks.postgres.quarantine import Quarantine
from sinks.postgres.shadow_table import shadow_of
from sinks.postgres.statements import ANOMALY, BEGIN, COMMIT, IMMEDIATE, Check, Prepared, StatementQueue, undo
from sinks.postgres.tables import TargetTable, place_of
from sinks.quarantine import Unit

R = TypeVar("R")
Changed = Mapping[AnomalyName, int]
"""How many values policies changed, by (db, table, column, reason)."""
_SAVEPOINT, _RELEASE, _UNDO = (
    Prepared(sql + " cdc_attempt") for sql in ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")
)


class WriterSession:
    """What a writer has for as long as its connection lives; at most one transaction is open in it."""

    def __init__(self, target: TargetConfig, pipeline: str, connection: Connection, owner: Owner) -> None:
        self.target, self.pipeline, self.connection, self.owner = target, pipeline, connection, owner
        self.wire = StatementQueue(connection)
        self.rows = BatchWriter(connection, self.wire)
        self.quarantine = Quarantine(connection, self.wire, pipeline)
        self.state = StateStore(target, pipeline, connection, owner.share)
        self.open: Transaction | None = None
        self.types_of: dict[str, int] = {}
        """Numbers of types, by name, as far as they were asked for."""
        self._clock = clock_of(connection)
        self._known: dict[Partition, tuple[int, int]] = {}
        """Where partitions are known to stand in the target."""

    def take_over(self) -> None:
        """Become the only writer."""
        self.state.migrate()
        self.owner.take_over(self.connection, self.pipeline)

    def read(self) -> Stored:
        """What is stored, as of now."""
        stored = self.state.read()
        self._known = dict(stored.progress.partitions) if stored.progress else {}
        self.owner.went_back(stored)
        return stored

    def begin(self, *, shared: bool = False) -> Transaction:
        """Begin, at the next flush; `shared`: beside chunks of a load. Halt when a transaction is open."""
        if self.open is not None:
            self.rollback()
            raise Halt(
                "transaction_open",
                f"pipeline {self.pipeline}",
                "a batch is not committed yet",
                "this is a defect: report it",
            )
        self.open = Transaction(self, shared=shared)
        return self.open

    def rollback(self) -> None:
        """Undo what is not committed; harmless when there is nothing."""
        undo(self.wire)
        self.rows.undone()
        self.open = None

    def run(self, place: str, work: Callable[[], R]) -> R:
        """Do a piece of work; an error undoes the transaction and becomes a decision that holds nothing of the
        driver's."""
        decision: CdcError
        self.wire.about(place)
        try:
            return work()
        except psycopg.Error as error:
            decision = decide(error, self.wire.failed_at)
        except CdcError as error:
            decision = error
        self.rollback()
        refused = row_refused(decision)
        if refused is None:
            raise decision
        raise at_row(refused, self.wire.failed) if refused.sqlstate else refused

    def put(self, statement: Prepared, *parameters: object, check: Check | None = None) -> None:
        """Queue a statement about the pipeline, with its other parameters as text."""
        self.wire.say(statement, self.pipeline, *parameters, check=check)

    def store(self, progress: Progress | None, tables: Sequence[TableProgress]) -> None:
        """Queue what is to be stored of a position and of tables."""
        self.owner.store(self.put, progress, tables, self._known, self._clock)

    def committed(self, progress: Progress | None) -> None:
        """The open transaction is committed, and this position with it."""
        if progress is None:
            return
        self._known |= progress.partitions
        if then := self.owner.committed(progress):
            self.run_alone(then)

    def run_alone(self, statement: Prepared) -> None:
        """Run a statement about the pipeline in a transaction of its own."""

        def work() -> None:
            self.put(statement)
            self.wire.flush()

        self.run("cdc.progress", work)


class Transaction:
    """One transaction of a session, until it is committed or anything fails in it."""

    def __init__(self, session: WriterSession, *, shared: bool = False) -> None:
        self._session, self._wire = session, session.wire
        self._releases = 0
        self._wire.about("cdc.pipeline")
        self._wire.enqueue(BEGIN)
        self._wire.enqueue(*session.owner.lock(session.pipeline, shared=shared), self._locked)

    def _locked(self, result: PGresult) -> None:
        self._session.owner.check(self._session.pipeline, result)
        self._releases = releases(result)

    def lock(self, *, immediate: bool = False) -> int:
        """Hold the fence from now on; how often others than the sink have released keys so far.

        `immediate`: constraints that would be checked at the commit are checked statement by statement, so that their
        row is known.
        """

        def work(wire: StatementQueue) -> int:
            if immediate:
                wire.enqueue(IMMEDIATE)
            wire.flush()
            return self._releases

        return self.within("cdc.pipeline", work)

    # -- rows --------------------------------------------------------------------------------------------------------

    def write(self, batch: TableBatch, *, locate: bool = True) -> None:
        """Apply a batch; `locate`: a row that is refused is looked for and named."""
        place, rows = self._place(batch), self._session.rows
        try:
            return self.within(str(place), lambda _: rows.merge_batch(batch, place))
        except RowRefused as error:
            refused = error
        if locate:
            refused = self._located(refused, batch, place)
        raise refused

    def _located(self, refused: RowRefused, batch: TableBatch, place: TargetTable) -> RowRefused:
        """The same refusal with its row, which is looked for in a transaction that is undone,
        if the refused statement does not name it."""
        if refused.sqlstate and self._wire.failed[0]:
            return refused
        try:
            self._session.begin()
            return located(refused, self._session.rows, batch, place)
        finally:
            self._session.rollback()

    def write_bisected(self, batch: TableBatch, room: int) -> list[Unit]:
        """Apply what the target can hold of a batch; the rest, each key with its reason.
        Halt when more than `room` are refused."""
        place, rows = self._place(batch), self._session.rows
        return self.within(str(place), lambda wire: write_bisected(rows, wire, batch, place, room))

    def _place(self, batch: TableBatch) -> TargetTable:
        place = place_of(self._session.target, batch.db, batch.table)
        return shadow_of(place) if batch.shadow else place

    def count_anomalies(self, db: str, table: str, found: Mapping[tuple[str, str], int]) -> None:
        """Add to the counts of (column, reason)."""

        def work(_: StatementQueue) -> None:
            for (column, reason), count in found.items():
                self._session.put(ANOMALY, db, table, column, reason, count)

        self.within("cdc.anomaly", work)

    # -- whatever else -----------------------------------------------------------------------------------------------

    def quarantine(self, work: Callable[[Quarantine], R]) -> R:
        """Read, add to or take from the quarantine."""
        return self.within("cdc.quarantine", lambda _: work(self._session.quarantine))

    def within(self, place: str, work: Callable[[StatementQueue], R]) -> R:
        """Do work that is about this place."""
        assert self._session.open is self, "the transaction is over"
        return self._session.run(place, lambda: work(self._wire))

    def attempt(self, place: str, work: Callable[[StatementQueue], None]) -> CdcError | None:
        """Do work, or leave the transaction as it was: then what stands in the way. What passes by itself is raised.

        The work uses the wire, not methods of the transaction: these undo all at an error.
        """
        return self.within(place, lambda wire: _attempted(wire, work))

    # -- the end -----------------------------------------------------------------------------------------------------

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Changed:
        """Store the position and the tables that changed, and commit all;
        what policies changed in the rows, counted in cdc.anomaly too."""
        session = self._session

        def work(wire: StatementQueue) -> None:
            if session.rows.asks:
                wire.flush()
            for what, times in session.rows.changed.items():
                session.put(ANOMALY, *what, times)
            session.store(progress, tables)
            wire.flush()

        self.within("cdc.progress", work)
        crash.point("target.stored")
        changed = dict(session.rows.changed)
        self.finish()
        session.committed(progress)
        return changed

    def finish(self) -> None:
        """Commit what was said, without a position."""

        def work(wire: StatementQueue) -> None:
            wire.enqueue(COMMIT, check=check_committed)
            wire.flush()

        self.within("the commit", work)
        crash.point("target.committed")
        self._session.rows.committed()
        self._session.open = None

    def rollback(self) -> None:
        """Undo it."""
        if self._session.open is self:
            self._session.rollback()


def _attempted(wire: StatementQueue, work: Callable[[StatementQueue], None]) -> CdcError | None:
    wire.enqueue(_SAVEPOINT)
    wire.flush()
    error: CdcError
    try:
        work(wire)
        wire.enqueue(_RELEASE)
        wire.flush()
    except psycopg.Error as refusal:
        error = decide(refusal, wire.failed_at)
    except CdcError as refusal:
        error = refusal
    else:
        return None
    if not is_obstacle(error):
        raise error
    wire.clear()
    wire.enqueue(_UNDO)
    wire.enqueue(_RELEASE)
    wire.flush()
    return error


def is_obstacle(error: CdcError) -> bool:
    """Whether it is about what was wanted of one table, and neither passes by itself nor concerns the pipeline."""
    return isinstance(error, Refused | RowRefused) or error.code in ("target_denied", "target_error")
