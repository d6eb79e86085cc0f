"""Whether a logged statement that could touch a followed table did: by what is followed, and by what the source's
tables are behind it. Pure but for the one question.

A statement that is passed over changed no row and no column of a followed table, and made no table that would have to
be followed. Whether a key became another is told by the tables; what a later statement did, by that statement; and the
log's next table map, against which every row is held (`TableStream.check`), has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cdc.capture.followed_tables import FollowedTables, KnownTables
from cdc.ddl.classify import Unsupported
from cdc.model.position import Position
from cdc.model.table import Table, TableName
from cdc.runtime import clock, timing


@dataclass(frozen=True, slots=True)
class Listing:
    """The source's selected tables, as they were when its log stood at `at` or behind it."""

    at: Position
    tables: Sequence[Table]
    computed: frozenset[TableName]
    """Those with columns that are computed when a row is written, or when the table is rebuilt."""


List = Callable[[], Listing]
"""Asks the source."""
_BRINGING = frozenset({"created", "renamed", "changed"})
"""Statements by which there may be a table that was not there;
of any other, a table that nobody follows is no matter."""


def passes(
    verdict: Unsupported,
    transaction: str,
    followings: FollowedTables,
    same: Callable[[Table], bool],
    ask: List | None,
) -> bool:
    """Whether the log is followed past this statement of this transaction.

    `same`: whether a followed table has the columns and the key by which its rows are read; `ask` may be None, where
    nobody can be asked.
    """
    known = followings.at(transaction)
    if not verdict.tables:  # it was not understood
        return False
    if verdict.reason == "database":
        return not known.may_be_in(verdict.tables[0][0])
    held = [name for name in verdict.tables if known.wants(*name)]
    if held and (not verdict.unless or followings.has_gone(held)):
        return False
    strangers = [name for name in verdict.tables if name not in held] if verdict.reason in _BRINGING else []
    to_compare = held if verdict.unless == "same" else []
    if not strangers and not to_compare:
        return True
    listing = _behind(transaction, ask)
    if listing is None or any(followings.named(strangers, listing.tables)):
        return False
    return _all_same(to_compare, followings, listing, same)


def _behind(transaction: str, ask: List | None) -> Listing | None:
    """The tables as this transaction left them, or later: a server shows a change a moment after its log does."""
    end = clock.monotonic() + timing.TIMES.invisible_seconds
    while ask is not None:
        listing = ask()
        if listing.at.contains(transaction):
            return listing
        if clock.monotonic() > end:
            break
        clock.sleep(timing.TIMES.position_poll_seconds)
    return None


def _all_same(
    held: Collection[TableName], followings: FollowedTables, listing: Listing, same: Callable[[Table], bool]
) -> bool:
    found = list(followings.named(held, listing.tables))
    computed = KnownTables(listing.computed, followings.fold)
    return len(found) == len(held) and all(same(one) and not computed.wants(one.db, one.name) for one in found)
