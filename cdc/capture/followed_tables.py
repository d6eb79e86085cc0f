"""Which of the selected tables an epoch of capture follows, and which of them are still to be copied; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdc.binlog.events import LoggedStatement
from cdc.capture.restart import Restart
from cdc.ddl.classify import Unsupported
from cdc.errors import Halt
from cdc.model.foreign_key import ForeignKey
from cdc.model.position import Position
from cdc.model.selection import Selection
from cdc.model.table import Table, TableName

REASONS: Mapping[str, str] = {
    "created": "a table was created that the selection covers",
    "changed": "the columns of a followed table were changed",
    "dropped": "a followed table was dropped",
    "renamed": "a followed table was renamed",
    "truncated": "a followed table was truncated",
    "written": "rows of a followed table were changed by a statement instead of row images",
    "database": "a database that holds followed tables was changed",
    "unknown": "the log holds a statement that cannot be proven irrelevant",
}
TABLE_ANEW = (
    "cdc reset the table, and start again (over Kafka: start with it in source.exclude until cdc wait returns, "
    "then without): it is copied anew"
)
"""The way on for one table that changed in a way that is not followed."""
_WAY_OUT = "everything before it is published; exclude the table, or cdc reset --all, and start again"
_ANEW = f"everything before it is published; {TABLE_ANEW}"
_WAYS_OUT: Mapping[str, str] = {
    "created": "everything before it is published; start again: the table is copied then, or exclude it",
    "changed": _ANEW,
    "truncated": _ANEW,
}
Selects = Callable[[str, str], bool]


class KnownTables(Selection):
    """Selects what was followed before: a statement from before the tables were listed changes no other one that
    matters."""

    def __init__(self, names: Collection[TableName], fold_case: bool = False) -> None:
        super().__init__(())
        self._names = {(db.lower(), table.lower()) for db, table in names} if fold_case else set(names)
        self.fold = fold_case

    def wants(self, db: str, table: str) -> bool:
        """Whether the table was followed."""
        return ((db.lower(), table.lower()) if self.fold else (db, table)) in self._names

    __call__ = wants

    def may_be_in(self, db: str) -> bool:
        """Whether a followed table is in this database."""
        return any((db.lower() if self.fold else db) == of for of, _ in self._names)


@dataclass(slots=True)
class FollowedTables:
    """The selected tables of an epoch, as they were listed when the log stood at `listed_at` or behind it."""

    tables: Sequence[Table]
    listed_at: Position | None = None
    uncopied: set[TableName] = field(default_factory=set)
    """Followed and still to be copied: a selection that grew, or a copy that does not count any more."""
    gone: frozenset[TableName] = frozenset()
    """Selected tables that were followed and do not exist any more: their rows in the log must not be passed over."""
    early: frozenset[TableName] = frozenset()
    """Those of `uncopied` whose copy has not begun, or does not count any more, and those that the target refuses:
    their log begins where the tables were listed."""
    fold: bool = False
    """Whether the server's names mean the same in upper and lower case."""
    _between: frozenset[TableName] = frozenset()
    """Parents of copied tables that their foreign keys change unlogged: what becomes of these tables hangs on them."""

    def names(self) -> frozenset[TableName]:
        """The tables that were listed."""
        return frozenset((table.db, table.name) for table in self.tables)

    def meant(self, tables: Collection[TableName]) -> frozenset[TableName]:
        """Those that are listed or gone among the named ones; a name without a table is its whole database."""
        named = KnownTables(tables, self.fold)
        return frozenset(name for name in self.names() | self.gone if named.wants(*name) or named.wants(name[0], ""))

    def was_listed_behind(self, transaction: str | None) -> bool:
        """Whether the tables were listed behind this transaction: what became of them by then is known."""
        return self.listed_at is not None and transaction is not None and self.listed_at.contains(transaction)

    def settle(self, restart: Restart, selects: Selects | None, keys: Sequence[ForeignKey] = ()) -> None:
        """Compare with what was followed and copied where the epoch begins; `keys`: by which rows change unseen."""
        names = self.names()
        active = restart.copies.active
        if (
            active is not None and (active.db, active.table) not in names
        ):  # nobody follows what changes behind its chunks
            restart.copies = replace(restart.copies, active=None)
        self.fold = isinstance(selects, Selection) and selects.fold_case
        if restart.followed is None:
            return
        if not restart.copying:
            self.gone = frozenset(name for name in restart.followed - names if selects is not None and selects(*name))
        self.uncopied = set(names - restart.followed)
        early = (self.uncopied - restart.emptied) | (restart.refused & names)
        needed = {key.parent for key in keys if key.child not in early}  # their changes are their children's too
        self.early = frozenset(early - needed) if self.listed_at is not None else frozenset()
        self._between = frozenset(key.parent for key in keys if key.child not in self.uncopied)

    def followed(self) -> tuple[TableName, ...]:
        """Those that are copied, for a full cut; what is gone stays, so that a restart stops there again."""
        return (*sorted(self.names() - self.uncopied), *sorted(self.gone))

    def reached(self, position: Position) -> bool:
        """Whether the log is read past where the tables were listed; from then on all of them are followed."""
        if self.listed_at is not None and position.covers(self.listed_at):
            self.listed_at, self.early = None, frozenset()
        return self.listed_at is None

    def watched(self, selects: Selects, transaction: str) -> Selects:
        """Whose statements matter in this transaction: what the list of tables cannot know yet concerns every table
        that is selected."""
        return self.at(transaction) if self.was_listed_behind(transaction) else selects

    def at(self, transaction: str) -> KnownTables:
        """The tables that are followed in this transaction, and those that were and are gone."""
        early = self.early if self.was_listed_behind(transaction) else frozenset()
        return KnownTables(self.names() - early | self.gone, self.fold)

    def has_gone(self, names: Collection[TableName]) -> bool:
        """Whether one of them was followed and does not exist any more."""
        return any(KnownTables(self.gone, self.fold).wants(*name) for name in names)

    def named(self, names: Collection[TableName], tables: Iterable[Table]) -> Iterator[Table]:
        """Which of the tables these names mean."""
        meant = KnownTables(names, self.fold)
        return (table for table in tables if meant.wants(table.db, table.name))

    def set_back(self, tables: Collection[TableName], transaction: str | None) -> frozenset[TableName]:
        """Tables that this transaction changed in a way that is not followed, where nothing is lost by that; else none.

        All of them are still to be copied, and the list knows what became of them: what their copies have brought does
        not count any more, and their log begins where the tables were listed.
        """
        meant = KnownTables(tables, self.fold)
        late = frozenset(name for name in self.uncopied - self.early if meant.wants(*name))
        known = self.was_listed_behind(transaction)
        if not known or len(late) < len(set(tables)) or late & self._between:
            return frozenset()
        self.early |= late
        return late


def where(verdict: Unsupported, event: LoggedStatement) -> str:
    """What a statement names, and where it stands."""
    names = ", ".join(f"{db}.{table}" if table else db for db, table in verdict.tables) or event.db
    return f"{names} at {event.transaction}"


def stop_for(verdict: Unsupported, event: LoggedStatement) -> Halt:
    """Why the log cannot be followed past a statement."""
    return Halt(
        "statement_unsupported",
        where(verdict, event),
        REASONS[verdict.reason],
        _WAYS_OUT.get(verdict.reason, _WAY_OUT),
    )


def vanished(db: str, table: str) -> Halt:
    """Why rows of a table that was followed and is not listed any more cannot be passed over."""
    return Halt(
        "table_gone",
        f"{db}.{table}",
        "the account sees no such table any more, and rows of it from before are still to be read",
        "was SELECT revoked, GRANT it and start again; was it dropped or renamed, exclude it, "
        "or cdc reset --all, and start again",
    )
