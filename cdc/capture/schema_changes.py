"""Tables whose definition changed under capture: the epoch ends before the statement, and the next one copies them
again as they are by then."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cdc.capture.restart import Restart
from cdc.errors import Retry
from cdc.model.table import TableName
from cdc.runtime import logs

COPIED_AGAIN = frozenset({"created", "changed", "dropped", "renamed", "truncated", "database"})
"""Kinds of statement after which a copy made later holds all that they did; what was written by a statement is none of
them: a source that logs statements would have its tables copied for ever."""


class SchemaChanges:
    """What a process remembers from the end of an epoch to the start of the next. One that dies in between meets the
    same statement again."""

    def __init__(self) -> None:
        self._names: set[TableName] = set()

    def end_epoch(self, names: Collection[TableName], place: str, rule: str) -> Retry:
        """What ends the epoch; the next one takes these tables for uncopied."""
        self._names |= set(names)
        tables = [f"{db}.{table}" for db, table in sorted(names)]
        logs.logger("capture").info("tables_changed", place=place, rule=rule, tables=tables)
        return Retry("tables_changed", place, rule, "tables that exist are copied again; nothing is to be done")

    def leave(self, restart: Restart, listed: Collection[TableName], dropped: Callable[[str, str], bool]) -> None:
        """Take out of what was followed the tables that changed, and those that `dropped` proves not to exist."""
        if restart.followed is None:
            restart.followed = None if restart.copying or not self._names else frozenset(listed) - self._names
            return
        missing = frozenset() if restart.copying else restart.followed - frozenset(listed)
        gone = frozenset(name for name in missing if dropped(*name))
        if gone:
            logs.logger("capture").warning("tables_dropped", tables=[f"{db}.{table}" for db, table in sorted(gone)])
        restart.followed -= self._names | gone

    def begun(self) -> None:
        """The next epoch's base says it."""
        self._names.clear()
