"""Targets that hold their open transaction themselves, as a run of the sink does: what a test asks of it, or of tables, is handed on."""

from __future__ import annotations

from typing import Any

from sinks.postgres.copy_tables import CopyTables
from sinks.postgres.shard_target import ShardTarget
from sinks.postgres.statements import StatementQueue
from sinks.postgres.table_loads import TableLoads
from sinks.postgres.target import PostgresTarget
from sinks.postgres.transaction import Transaction


class HandTarget(PostgresTarget):
    """A pipeline's."""

    @property
    def transaction(self) -> Transaction:
        """The open one, or a new one."""
        return self.session.open or self.begin()

    @property
    def wire(self) -> StatementQueue:
        return self.session.wire

    def __getattr__(self, name: str) -> Any:
        if name in vars(TableLoads):
            return getattr(self.loads, name)
        if name in vars(CopyTables):
            return getattr(self.tables_of(self.transaction), name)
        if name in vars(Transaction):
            return getattr(self.transaction, name)
        raise AttributeError(name)


class HandShard(HandTarget, ShardTarget):
    """A shard's."""
