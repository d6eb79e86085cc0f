"""What copies that are made while streaming do to tables, in a transaction that is lent to them."""

from __future__ import annotations

from cdc.errors import CdcError
from cdc.model.table import TableName
from cdc.protocol.applied import TableProgress
from cdc.protocol.copy_progress import Ended
from sinks.contract import Plan
from sinks.postgres.load import fit
from sinks.postgres.shadow_table import become_equal, drop_shadow, empty, make_shadow, record
from sinks.postgres.table_loads import created
from sinks.postgres.tables import place_of
from sinks.postgres.transaction import Transaction, WriterSession


class CopyTables:
    """The tables of one open transaction. What stands in the way of a step is said,
    and the transaction is as it was before it."""

    def __init__(self, session: WriterSession, transaction: Transaction) -> None:
        self._session, self._transaction = session, transaction

    def create(self, plan: Plan) -> TableProgress | CdcError:
        """Make the table, or take the fitting one that is there."""
        place, made = place_of(self._session.target, plan.db, plan.table), list[TableProgress]()
        refused = self._transaction.attempt(str(place), lambda _: made.append(created(self._session, plan, place, {})))
        return refused or made[0]

    def fit(self, plan: Plan, known: TableProgress) -> CdcError | None:
        """Make anew what was made for other columns of a table that is not copied yet."""
        session, place = self._session, place_of(self._session.target, plan.db, plan.table)
        return self._transaction.attempt(
            str(place), lambda _: fit(session.connection, session.pipeline, plan, place, known)
        )

    def empty(self, name: TableName, *, readable: bool = False) -> CdcError | None:
        """Empty a table, and its quarantine; `readable`: readers see the old rows until the commit."""
        place = place_of(self._session.target, *name)
        refused = self._transaction.attempt(str(place), lambda wire: empty(wire, place, readable=readable))
        if refused is None:
            self._session.quarantine.clear(name)
        return refused

    def make_shadow(self, name: TableName) -> CdcError | None:
        """Make a table's second table, empty."""
        place = place_of(self._session.target, *name)
        return self._transaction.attempt(str(place), lambda wire: make_shadow(wire, place))

    def become_equal(self, plan: Plan, *, strict: bool) -> CdcError | None:
        """Make a table equal to its second one; `strict`: deferred constraints are checked here."""
        place = place_of(self._session.target, plan.db, plan.table)
        return self._transaction.attempt(str(place), lambda wire: become_equal(wire, place, plan, strict=strict))

    def drop_shadow(self, name: TableName) -> None:
        """Drop a table's second table."""
        place = place_of(self._session.target, *name)
        self._transaction.within(str(place), lambda wire: drop_shadow(wire, place))

    def record(self, ended: Ended) -> None:
        """Keep what became of a copy."""
        self._transaction.within("cdc.copy", lambda wire: record(wire, self._session.pipeline, ended))
