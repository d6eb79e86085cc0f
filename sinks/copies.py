"""Where a copy that is made while the log is followed begins and ends in the target: in its tables, and in their
states.

What the target cannot do of it (a table that a foreign key references is not emptied, a privilege is missing) is undone
by itself, and is the copy's outcome: everything else goes on, and no start of the sink meets it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cdc.errors import CdcError
from cdc.model.position import Position
from cdc.model.table import TableName
from cdc.protocol.control import Copy
from cdc.protocol.copy_progress import DONE, REFUSED, WHOLE, Ended
from cdc.protocol.table_states import TableState
from cdc.runtime import crash_points as crash, logs
from sinks.contract import Plan
from sinks.postgres.copy_tables import CopyTables
from sinks.quarantine import HeldKeys
from sinks.table_states import TableStates


class CopyHandling:
    """The copies of one run of the sink; each step is done in the transaction of the batch that it comes with,
    on the tables lent of it."""

    def __init__(self, tables: TableStates, held_keys: HeldKeys, plan: Callable[[Any], Plan]) -> None:
        """`plan` gives the plan of a value schema's id."""
        self._tables, self._held_keys, self._plan = tables, held_keys, plan

    def begin_copy(self, into: CopyTables, copy: Copy) -> None:
        """A table is copied whole from here on: empty it, or make a second one beside it;
        one that is not known is left out."""
        tables, name = self._tables, (copy.db, copy.table)
        if tables.get(name) is None:
            return
        if tables.shadow(name):  # of a copy that nobody ended
            self.drop(into, name)
        refused = self._prepare(into, copy, name)
        if refused is not None:
            logs.failure(logs.logger("apply"), refused, "warning")
            tables.refuse(copy, why(refused))
        crash.point("apply.emptied")

    def _prepare(self, into: CopyTables, copy: Copy, name: TableName) -> CdcError | None:
        tables = self._tables
        if copy.swap and not copy.exact and tables.shown(name):
            refused = into.make_shadow(name)
            if refused is None:
                tables.shade(name, copy.id)
            return refused
        if not tables[name].ours:  # what stood in the way when it was added may be mended
            made = into.create(self._plan(tables[name].schema["value_schema"]))
            if isinstance(made, CdcError):
                return made
            tables.change(name, schema={**tables[name].schema, **made.schema})
        elif (
            not tables.takes(name) or tables[name].state == TableState.COPYING
        ):  # it may have been made for other columns
            refused = into.fit(self._plan(tables[name].schema["value_schema"]), tables[name])
            if refused is not None:
                return refused
        refused = into.empty(name, readable=copy.swap)
        if refused is None:
            self._held_keys.release(name)
            tables.begin(copy)
        return refused

    def end_copies(self, into: CopyTables, ended: Sequence[Ended], at: Position | None, *, strict: bool) -> None:
        """Copies end with this commit: what became of each is stored, and a second table takes the first one's place.

        `strict`: deferred constraints are checked here, not at the commit.
        """
        tables = self._tables
        for one in ended:
            name = (one.db, one.table)
            if (
                one.kind == WHOLE
                and tables.get(name) is not None
                and tables.shadow(name)
                and tables.bears(name, one.copy)
            ):
                told = self._resolve(into, one, name, strict)
            else:
                told = tables.end(one, at)
            into.record(told)

    def _resolve(self, into: CopyTables, one: Ended, name: TableName, strict: bool) -> Ended:
        """The second table of a copy that ends has served; the first one stays as it is where it cannot become equal to
        it."""
        refused = None
        if one.outcome == DONE:
            refused = into.become_equal(self._plan(self._tables[name].schema["value_schema"]), strict=strict)
        self.drop(into, name)
        return one if refused is None else one._replace(outcome=REFUSED, reason=why(refused))

    def drop(self, into: CopyTables, name: TableName) -> None:
        """A table has no second one any more."""
        into.drop_shadow(name)
        self._tables.shade(name, "")
        crash.point("apply.swapped")


def why(error: CdcError) -> str:
    """A reason, as `cdc status` shows it."""
    return f"{error.place}: {error.rule}"
