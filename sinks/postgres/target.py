"""PostgreSQL as the target: rows and positions move in one transaction, under the fence, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from cdc.config.load import TargetConfig
from cdc.errors import Retry
from cdc.model.table import TableName
from cdc.postgres.errors import guarded
from cdc.protocol.applied import MADE, Stored
from cdc.state.store import StateStore
from sinks.contract import Plan
from sinks.halves import Foreseen
from sinks.postgres.cascade_tables import CascadeTables
from sinks.postgres.copy_tables import CopyTables
from sinks.postgres.fence import connect_writer
from sinks.postgres.owner import Owner, WholePipeline
from sinks.postgres.table_loads import TableLoads
from sinks.postgres.tables import TargetTable, check_tables, place_of
from sinks.postgres.transaction import Transaction, WriterSession


class PostgresTarget:
    """The one writer of a pipeline's target, or of one shard of it: that its owner tells.

    `open` takes over; `begin` lends transactions, one at a time. Any error undoes what is not committed. After a Retry,
    `open` again and go on from the positions that it returns: when the connection was lost during a commit they tell
    what became of it.
    """

    def __init__(self, target: TargetConfig, pipeline: str, owner: Owner | None = None) -> None:
        self.target, self.pipeline = target, pipeline
        self._owner = owner or WholePipeline()
        self._session: WriterSession | None = None
        self.foreseen: defaultdict[TableName, dict[bytes, Foreseen]] = defaultdict(dict)
        """Keys that wait from the first change of a transaction on, by table:
        what was undone is known for as long as the process lives."""
        self.strictly = False
        """Whether the transaction in pieces that comes next is to check constraints at once:
        its commit was refused, and no row named."""

    @property
    def fence(self) -> int:
        """Our number; 0 before the first `open`."""
        return self._owner.fence

    def check(self, plans: Iterable[Plan]) -> None:
        """Refuse, before anything is written, what `create_table` would refuse one by one;
        on a connection of its own."""

        def work(state: StateStore) -> None:
            found = state.read()
            ours = {one.name: one for one in found.tables.values() if one.settled}
            made = {one.name for one in found.tables.values() if one.schema.get(MADE)}  # anew, if need be
            check_tables(
                state.connection, self.target, [p for p in plans if (p.db, p.table) not in made - ours.keys()], ours
            )

        with StateStore(self.target, self.pipeline) as state:
            guarded(str(self.target.url), starting=True)(work)(state)

    def place(self, db: str, table: str) -> TargetTable:
        """Where a source table goes; a name that PostgreSQL cannot hold is refused."""
        return place_of(self.target, db, table)

    def open(self) -> Stored:
        """Become the only writer, wait until every earlier one's transaction is gone, and read what is stored."""
        self.close()
        connection = connect_writer(self.target, self.pipeline, "apply", again=self.fence > 0)
        self._session = WriterSession(self.target, self.pipeline, connection, self._owner)
        self._session.take_over()
        return self.read()

    def close(self) -> None:
        """Give up what is not committed, and the connection."""
        if self._session is not None:
            self._session.connection.close()
        self._session = None

    @property
    def session(self) -> WriterSession:
        """The open connection and what belongs to it; Retry when there is none."""
        if self._session is None:
            raise Retry(
                "target_lost", f"pipeline {self.pipeline}", "there is no connection to the target", "open it again"
            )
        return self._session

    def read(self) -> Stored:
        """What is stored, as of now."""
        return self.session.read()

    def held(self) -> Mapping[TableName, set[bytes]]:
        """The identities of rows that wait in quarantine, by table."""
        return self.session.run("cdc.quarantine", self.session.quarantine.held)

    def begin(self) -> Transaction:
        """Begin the transaction that the next batches are written in; Halt when one is open."""
        return self.session.begin()

    def rollback(self) -> None:
        """Undo what is not committed; harmless when there is nothing."""
        if self._session is not None:
            self._session.rollback()

    def tables_of(self, transaction: Transaction) -> CopyTables:
        """What copies do to tables in an open transaction."""
        return CopyTables(self.session, transaction)

    def cascades_of(self, transaction: Transaction) -> CascadeTables:
        """What foreign keys of the source do to tables in an open transaction."""
        return CascadeTables(self.session, transaction)

    @property
    def loads(self) -> TableLoads:
        """The initial load's side: tables and their states, in transactions of their own."""
        return TableLoads(self.session)
