"""What an initial load does to tables and to their states, each step in a transaction of its own that may run beside
chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cdc.errors import Halt
from cdc.model.position import Position
from cdc.protocol.applied import MADE, Progress, TableProgress
from cdc.protocol.table_states import TableState
from cdc.runtime import crash_points as crash
from sinks.contract import Plan, demand_same_policies, policies_kept
from sinks.postgres.fence import UNHURRIED
from sinks.postgres.load import ChunkLoader, TableLoad, begun, finished, given_up
from sinks.postgres.statements import StatementQueue
from sinks.postgres.tables import TargetTable, check_free, check_table, ensure_table, found_columns, place_of
from sinks.postgres.transaction import WriterSession

R = TypeVar("R")


class TableLoads:
    """Of one session; nothing may be open in it."""

    def __init__(self, session: WriterSession) -> None:
        self._session = session

    def save(self, tables: Sequence[TableProgress], progress: Progress | None = None) -> None:
        """Store states of tables, and a first position."""

        def work(wire: StatementQueue) -> None:
            self._session.store(progress, tables)
            wire.flush()

        transaction = self._session.begin(shared=True)
        transaction.within("cdc.tables", work)
        transaction.finish()
        self._session.committed(progress)

    def create_table(self, plan: Plan, schema: Mapping[str, object] | None = None) -> TableProgress:
        """Make the table, or take the fitting one that is there;
        refuse one with rows in it unless it is ours or adopted."""
        place = place_of(self._session.target, plan.db, plan.table)
        return self._apart(place, lambda: created(self._session, plan, place, schema or {}))

    def begin_load(self, plan: Plan, floor: Position, *, again: bool = False) -> TableLoad:
        """Start the table's load at `floor`, or find it under way and go on;
        `again` empties the table and starts anew."""
        session, place = self._session, place_of(self._session.target, plan.db, plan.table)

        def work() -> TableLoad:
            done, known = session.state.chunks(plan.db, plan.table), session.state.table(plan.db, plan.table)
            return begun(session.connection, session.pipeline, known, done, (plan, place), floor, again)

        return self._apart(place, work)

    def finish_load(self, load: TableLoad, ceiling: Position, *, floor: Position | None = None) -> TableProgress:
        """Every chunk is in: the table is consistent from `ceiling` on.
        A read at an exact position gives both the same."""
        session = self._session

        def work() -> TableProgress:
            return _stored(session, finished(session.connection, session.pipeline, load, ceiling, floor))

        return self._apart(load.place, work)

    def give_up_load(self, known: TableProgress, reason: str) -> None:
        """The table is not loaded any more: it is as one that was added,
        which is made anew and copied while the log is followed."""
        session, place = self._session, TargetTable(known.target_schema, known.target_table)

        def work() -> None:
            _stored(session, given_up(session.connection, session.pipeline, place, known, reason))
            crash.point("load.given_up")

        self._apart(place, work)

    def loader(self) -> ChunkLoader:
        """A further connection under our fence, for one thread that loads chunks."""
        return ChunkLoader(self._session.target, self._session.pipeline, self._session.owner.fence)

    def _apart(self, place: TargetTable, work: Callable[[], R]) -> R:
        def begun(wire: StatementQueue) -> R:
            wire.enqueue(UNHURRIED)
            wire.flush()
            crash.point("target.locked")
            return work()

        transaction = self._session.begin(shared=True)
        result = transaction.within(str(place), begun)
        transaction.finish()
        return result


def created(session: WriterSession, plan: Plan, place: TargetTable, schema: Mapping[str, object]) -> TableProgress:
    """The state of a table that is made in the open transaction, or was there."""
    connection = session.connection
    known = session.state.table(plan.db, plan.table)
    ours = known is not None and known.settled
    found = found_columns(connection, place.sql)
    if known is not None and ours and not found:
        raise Halt(
            "target_missing",
            str(place),
            "the table was loaded and is not there any more",
            f"cdc copy {plan.db}.{plan.table}",
        )
    if known is not None and ours:
        demand_same_policies(known, plan, Halt)
        check_table(connection, plan, place, found)
        return known
    check_free(connection, session.pipeline, plan, place)
    made = ensure_table(connection, plan, place, adopt=session.target.adopt)
    made = made or (known is not None and bool(known.schema.get(MADE)))
    crash.point("load.created")
    state = TableProgress(plan.db, plan.table, place.schema, place.table, TableState.NEW, schema={**schema, MADE: made})
    return _stored(session, policies_kept(state, plan))


def _stored(session: WriterSession, state: TableProgress) -> TableProgress:
    session.store(None, [state])
    session.wire.flush()
    return state
