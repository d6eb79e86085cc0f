"""Tables that change in the middle of the initial load: each leaves it alone, and the others go on.

The log is followed from P, and what changed the table stands above P: a copy with this P could not be followed. So the
table's load is given up, its target is made anew, and capture copies it like a table that was added, with the columns
that it has by then. Docs: docs/decisions/024-changed-while-loaded.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.protocol.applied import REMAKE, Stored, TableProgress
from cdc.runtime import logs
from sinks.postgres.table_loads import TableLoads
from snapshot.load.progress import LoadProgress
from snapshot.load.workers import TableWork

SHAPE = "shape"
"""In a table's `schema`: the digest of its columns and key as its load knows them."""
_CHANGED = "it changed while it was loaded: it is copied anew while the log is followed"
_GONE = "it was dropped or renamed while it was loaded"


class ChangedTables:
    """Finds tables that are not any more what their load began with; nobody may be at work on them meanwhile."""

    def __init__(self, catalog: Catalog, target: TableLoads, tally: LoadProgress) -> None:
        self._catalog, self._target, self._tally = catalog, target, tally

    def as_begun(self, tables: Sequence[Table], stored: Stored) -> list[Table]:
        """Those of the tables just listed that are to be loaded: all at first;
        later those that are what they were when P was taken."""
        names, begun = (
            {(table.db, table.name) for table in tables},
            any(one.floor is not None for one in stored.tables.values()),
        )
        for name, known in stored.tables.items():
            if name not in names and REMAKE not in known.schema and not self._catalog.lists(*name):
                self._give_up(known)
        return [table for table in tables if self._belongs(table, stored.tables.get((table.db, table.name)), begun)]

    def _belongs(self, table: Table, known: TableProgress | None, begun: bool) -> bool:
        if known is None or REMAKE in known.schema:
            return known is None and not begun  # what was created since then is in the log
        same = known.schema.get(SHAPE, table.shape) == table.shape
        if not same:
            self._give_up(known)
        return same

    def remaining(self, works: Sequence[TableWork]) -> list[TableWork]:
        """The works without those whose tables changed since they were listed,
        or were seen by a worker to have changed."""
        changed = {table.qualified for table in self._catalog.changed([work.table for work in works])}
        changed |= {work.table.qualified for work in works if work.changed}
        for work in works:
            if work.table.qualified in changed:
                self._give_up(work.state)
                self._tally.left(work.table.qualified)
        return [work for work in works if work.table.qualified not in changed]

    def _give_up(self, known: TableProgress) -> None:
        reason = _CHANGED if self._catalog.lists(known.db, known.table) else _GONE
        logs.logger("snapshot").warning("load_given_up", table=f"{known.db}.{known.table}", reason=reason)
        self._target.give_up_load(known, reason)
