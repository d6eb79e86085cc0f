"""What an epoch's base makes of the tables in the target: those that join are made,
and second tables that no copy fills are dropped."""

from __future__ import annotations

from cdc.errors import Halt, Refused
from cdc.protocol.applied import TableProgress
from cdc.protocol.control import Base, Followed
from cdc.protocol.table_states import TableState
from cdc.runtime import logs
from sinks.contract import Plan
from sinks.copies import CopyHandling, why
from sinks.plans import Plans, frame_of
from sinks.postgres.target import PostgresTarget
from sinks.postgres.transaction import Transaction, is_obstacle
from sinks.table_states import TableStates


class Epochs:
    """Of one run of the sink, on the states of its tables."""

    def __init__(self, target: PostgresTarget, tables: TableStates, plans: Plans, copies: CopyHandling) -> None:
        self.tables, self.copies, self._target, self._plans = tables, copies, target, plans

    def enter(self, base: Base) -> None:
        """Know which tables are followed, and make those that join, each in a transaction of its own."""
        self.tables.enter(base, self._schema_of, lambda followed: self._made(base, followed))

    def drop_orphans(self, base: Base, transaction: Transaction) -> None:
        """Drop the second tables that no copy fills any more."""
        for name in self.tables.orphans(base.copies.active):
            self.copies.drop(self._target.tables_of(transaction), name)

    def _schema_of(self, followed: Followed) -> dict[str, object]:
        renamed = self._plans[self._plans.know(followed.key_schema, followed.value_schema)].renamed
        ids: dict[str, object] = {"key_schema": followed.key_schema, "value_schema": followed.value_schema}
        return ids | ({"renamed": renamed} if renamed else {})

    def _made(self, base: Base, followed: Followed) -> TableProgress:
        plan = self._plans[frame_of(followed.value_schema)]
        return self._target.loads.create_table(plan) if base.copying else self.created(plan)

    def created(self, plan: Plan) -> TableProgress:
        """A table that is added: one that the target refuses does not stop the others."""
        try:
            return self._target.loads.create_table(plan)
        except (Refused, Halt) as error:
            if not is_obstacle(error):
                raise
            logs.failure(logs.logger("apply"), error, "warning")
            place = self._target.place(plan.db, plan.table)
            return TableProgress(plan.db, plan.table, place.schema, place.table, TableState.REFUSED, reason=why(error))
