"""Which of the selected tables an epoch of capture follows, and which of them are still to be copied; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cdc.binlog_events import Statement
from cdc.columns import Selection
from cdc.ddl import Unsupported
from cdc.epoch import Restart
from cdc.errors import Halt
from cdc.model import Table
from cdc.position import Position

_REASONS: Mapping[str, str] = {
    "created": "a table was created that the selection covers",
    "changed": "the columns of a followed table were changed",
    "dropped": "a followed table was dropped",
    "renamed": "a followed table was renamed",
    "truncated": "a followed table was truncated",
    "written": "rows of a followed table were changed by a statement instead of row images",
    "database": "a database that holds followed tables was changed",
    "unknown": "the log holds a statement that cannot be proven irrelevant",
}
Name = tuple[str, str]
Selects = Callable[[str, str], bool]


class Known(Selection):
    """Selects what was followed before: a statement from before the tables were listed changes no other one that matters."""

    def __init__(self, names: Collection[Name], fold_case: bool = False) -> None:
        super().__init__(())
        self._names = {(db.lower(), table.lower()) for db, table in names} if fold_case else set(names)
        self._fold = fold_case

    def wants(self, db: str, table: str) -> bool:
        """Whether the table was followed."""
        return ((db.lower(), table.lower()) if self._fold else (db, table)) in self._names

    __call__ = wants

    def may_be_in(self, db: str) -> bool:
        """Whether a followed table is in this database."""
        return any((db.lower() if self._fold else db) == of for of, _ in self._names)


@dataclass(slots=True)
class Followings:
    """The selected tables of an epoch, as they were listed when the log stood at `listed_at` or behind it."""

    tables: Sequence[Table]
    listed_at: Position | None = None
    uncopied: set[Name] = field(default_factory=set)
    """Followed and still to be copied: a selection that grew, or a copy that does not count any more."""
    gone: frozenset[Name] = frozenset()
    """Selected tables that were followed and do not exist any more: their rows in the log must not be passed over."""
    early: frozenset[Name] = frozenset()
    """Those of `uncopied` whose copy has not begun: their log begins where the tables were listed."""

    def settle(self, restart: Restart, selects: Selects | None) -> None:
        """Compare with what was followed and copied where the epoch begins."""
        if restart.followed is None:
            return
        names = {(table.db, table.name) for table in self.tables}
        self.gone = frozenset(name for name in restart.followed - names if selects is not None and selects(*name))
        self.uncopied = names - restart.followed
        self.early = frozenset(self.uncopied - restart.emptied) if self.listed_at is not None else frozenset()

    def followed(self) -> tuple[Name, ...]:
        """Those that are copied, for a full cut; what is gone stays, so that a restart stops there again."""
        names = {(table.db, table.name) for table in self.tables}
        return (*sorted(names - self.uncopied), *sorted(self.gone))

    def reached(self, position: Position) -> bool:
        """Whether the log is read past where the tables were listed; from then on all of them are followed."""
        if self.listed_at is not None and position.covers(self.listed_at):
            self.listed_at, self.early = None, frozenset()
        return self.listed_at is None

    def watched(self, selects: Selects) -> Selects:
        """Whose statements matter now."""
        if self.listed_at is None:
            return selects
        known = {(table.db, table.name) for table in self.tables} - self.early | self.gone
        return Known(known, isinstance(selects, Selection) and selects.fold_case)


def stop_for(verdict: Unsupported, event: Statement) -> Halt:
    """Why the log cannot be followed past a statement."""
    names = ", ".join(f"{db}.{table}" if table else db for db, table in verdict.tables) or event.db
    return Halt(
        "statement_unsupported",
        f"{names} at {event.transaction}",
        _REASONS[verdict.reason],
        "everything before it is published; exclude the table, or copy all into a fresh pipeline",
    )
