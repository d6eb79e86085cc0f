"""What an epoch's base makes of the tables in the target: those that join are made,
and second tables that no copy fills are dropped."""

from __future__ import annotations

from functools import partial

from cdc.errors import Halt, Refused
from cdc.model.foreign_key import to_json
from cdc.protocol.applied import FOREIGN_KEYS, TableProgress
from cdc.protocol.control import Base, Followed
from cdc.protocol.table_states import FOLLOWED, TableState
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
        schema = partial(self._schema_of, base)
        self.tables.enter(base, schema, lambda followed: self._made(base, followed))

    def drop_orphans(self, base: Base, transaction: Transaction) -> None:
        """Drop the second tables that no copy fills any more."""
        for name in self.tables.orphans(base.copies.active):
            self.copies.drop(self._target.tables_of(transaction), name)

    def make_indexes(self, base: Base, transaction: Transaction) -> None:
        """Make, of copied tables, the indexes by which children are found; without them it is slow, and no more."""
        for key in () if base.copying else base.foreign_keys:
            plan = self._plans.of(self.tables[key.child].schema)
            if self.tables[key.child].state in FOLLOWED:
                error = self._target.cascades_of(transaction).index(key, plan)
                if error is not None:
                    logs.failure(logs.logger("apply"), error, "warning")

    def _schema_of(self, base: Base, followed: Followed) -> dict[str, object]:
        keys = [key for key in base.foreign_keys if key.child == (followed.db, followed.table)]
        known = self.tables.get((followed.db, followed.table))
        renamed = self._plans[self._plans.know(followed.key_schema, followed.value_schema)].renamed
        ids: dict[str, object] = {"key_schema": followed.key_schema, "value_schema": followed.value_schema}
        if keys or (known is not None and FOREIGN_KEYS in known.schema):
            ids[FOREIGN_KEYS] = to_json(keys)
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
