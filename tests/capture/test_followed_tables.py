"""Which tables an epoch follows, what is still to be copied, and whose statements matter; pure."""

from __future__ import annotations

import pytest

from cdc.binlog.events import LoggedStatement
from cdc.capture.followed_tables import FollowedTables, KnownTables, stop_for
from cdc.capture.restart import Restart
from cdc.capture.run import stored_restart
from cdc.ddl.classify import Irrelevant, Unsupported, classify
from cdc.model.position import Position
from cdc.model.selection import Selection
from cdc.model.table import Column, Table
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.copy_progress import WHOLE, Active, Copies
from cdc.protocol.table_states import TableState

SELECTS = Selection(["d.*"])


def at(number: int, offset: int | None = None) -> Position:
    return Position("mariadb", "s", f"0-1-{number}", "b.000001", number * 100 if offset is None else offset)


def table(name: str) -> Table:
    return Table("d", name, (Column("id", "int", False),), (0,))


def names(*tables: str) -> frozenset[tuple[str, str]]:
    return frozenset(("d", name) for name in tables)


def followings(*tables: str, copied: frozenset[tuple[str, str]] | None = names(), **more: frozenset[tuple[str, str]]) -> FollowedTables:
    """Listed when the log stood at transaction 10."""
    found = FollowedTables([table(name) for name in tables], at(10))
    found.settle(Restart(at(1), followed=copied, **more), SELECTS)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("why", "mend"), [("created", "start again"), ("truncated", "source.exclude"), ("dropped", "exclude the table")])
def test_a_stop_at_a_statement_names_the_way_out_that_fits_it(why, mend):
    stop = stop_for(Unsupported(why, (("d", "a"),)), LoggedStatement("", "d", "0-1-7", 0))
    assert ("statement_unsupported", True) == (stop.code, mend in stop.hint)


def reason(found: FollowedTables, sql: str, number: int) -> str:
    """Why capture stops at a statement of this transaction; "" where it goes on."""
    verdict = classify(sql, "d", found.watched(SELECTS, f"0-1-{number}"))
    assert isinstance(verdict, Irrelevant | Unsupported)
    return verdict.reason if isinstance(verdict, Unsupported) else ""


def test_what_was_not_copied_is_to_be_copied_and_what_was_and_is_gone_is_known() -> None:
    found = followings("old", "new", copied=names("old", "lost"))
    assert (names("new"), names("lost"), names("new")) == (frozenset(found.uncopied), found.gone, found.early)
    assert (("d", "old"), ("d", "lost")) == found.followed()


def test_the_statements_of_a_table_that_the_target_refuses_matter_from_the_list_on() -> None:
    """A target that lost its last commits is behind the table's creation, and knows of its refusal: each start stopped there."""
    found = followings("old", "new", copied=names("old", "new"), refused=names("new"))
    assert (set(), names("new")) == (found.uncopied, found.early)
    assert ("", "created") == (reason(found, "CREATE TABLE new (a INT)", 9), reason(found, "CREATE TABLE new (a INT)", 11))
    assert "created" == reason(found, "CREATE TABLE old (a INT)", 9)
    assert (("d", "new"), ("d", "old")) == tuple(sorted(found.followed()))


def test_where_nothing_was_followed_everything_listed_counts_as_copied() -> None:
    found = followings("a", copied=None)
    assert (set(), frozenset(), (("d", "a"),)) == (found.uncopied, found.gone, found.followed())


def test_what_left_the_selection_is_not_gone() -> None:
    found = FollowedTables([table("a")], at(10))
    found.settle(Restart(at(1), followed=names("a") | {("e", "x")}), SELECTS)
    assert frozenset() == found.gone


@pytest.mark.parametrize(
    ("sql", "before", "behind"),
    [
        ("CREATE TABLE unlisted (id INT)", "", "created"),
        ("RENAME TABLE e.x TO d.unlisted", "", "renamed"),
        ("CREATE TABLE fresh (id INT)", "", "created"),
        ("DROP TABLE fresh", "", "dropped"),
        ("ALTER TABLE old ADD v INT", "changed", "changed"),
        ("DROP TABLE lost", "dropped", "dropped"),
        ("DROP DATABASE d", "database", "database"),
        ("CREATE TABLE e.x (id INT)", "", ""),
    ],
)
def test_the_list_of_tables_knows_what_a_transaction_below_it_did_and_nothing_of_one_behind_it(sql: str, before: str, behind: str) -> None:
    """However far the log is read by then, and whether or not anybody looked how far."""
    found = followings("old", "fresh", copied=names("old", "lost"))
    assert [before, before, behind, behind] == [reason(found, sql, number) for number in (2, 10, 11, 99)]


def test_each_transaction_is_asked_for_by_itself() -> None:
    """Of a domain that the list does not cover, and without GTIDs by its end."""
    found = followings("old", copied=names("old"))
    assert isinstance(classify("CREATE TABLE n (id INT)", "d", found.watched(SELECTS, "7-1-1")), Unsupported)
    found.listed_at = Position("mysql", "s", "", "b.000001", 1000)
    ends = [classify("CREATE TABLE n (id INT)", "d", found.watched(SELECTS, f"file=b.000001,pos={end}")) for end in (1000, 1001)]
    assert [Irrelevant, Unsupported] == [type(end) for end in ends]


def test_from_where_the_tables_were_listed_on_all_of_them_are_followed() -> None:
    found = followings("old", "fresh", copied=names("old"))
    assert (False, names("fresh")) == (found.reached(at(9)), found.early)
    assert (True, frozenset(), {("d", "fresh")}) == (found.reached(at(10)), found.early, found.uncopied)
    assert "created" == reason(found, "CREATE TABLE n (id INT)", 2)


def test_known_names_fold_their_case_where_the_server_does() -> None:
    folding, exact = (KnownTables(names("A"), fold) for fold in (True, False))
    assert (True, True, False) == (folding("D", "a"), exact("d", "A"), exact("d", "a"))
    assert (True, False) == (folding.may_be_in("D"), exact.may_be_in("D"))


def test_a_copy_that_has_begun_is_not_early() -> None:
    active = Active("i", "", "d", "new", WHOLE, ("1",), 5, False)
    found = FollowedTables([table("new"), table("newer")], at(10))
    found.settle(Restart(at(1), followed=names(), emptied=names("new"), copies=Copies(0, 0, None, False, active)), SELECTS)
    assert names("newer") == found.early


@pytest.mark.parametrize(
    ("tables", "transaction", "expected"),
    [
        (("late",), "0-1-10", {"late"}),
        (("late", "later"), "0-1-10", {"late", "later"}),
        (("late", "old"), "0-1-10", set()),
        (("old",), "0-1-10", set()),
        (("late",), "0-1-11", set()),
        (("late",), None, set()),
        (("",), "0-1-10", set()),
    ],
)
def test_a_table_still_to_be_copied_is_set_back_by_a_change_that_the_list_knows_and_by_no_other(
    tables: tuple[str, ...], transaction: str | None, expected: set[str]
) -> None:
    """Its copy had begun, so that its log counted; now it counts from the list on."""
    found = followings("old", "late", "later", copied=names("old"), emptied=names("late", "later"))
    assert frozenset() == found.early
    late = found.set_back([("d", one) for one in tables], transaction)
    assert names(*expected) == late == found.early
    assert frozenset() == found.set_back([("d", one) for one in tables], transaction)


def test_a_table_is_set_back_whatever_the_case_of_its_name_where_the_server_compares_without() -> None:
    found = FollowedTables([table("late")], at(10))
    found.settle(Restart(at(1), followed=names(), emptied=names("late")), Selection(["d.*"], fold_case=True))
    assert names("late") == found.set_back([("D", "LATE")], "0-1-3")


def test_in_process_a_copy_has_begun_when_its_progress_counts() -> None:
    """One that was set back has none: its table may be half full, and is copied anew."""
    active = Active("i", "", "d", "going", WHOLE, ("1",), 5, False)
    tables = {("d", one): TableProgress("d", one, "d", one, TableState.COPYING) for one in ("going", "back")}
    stored = Stored(Progress(1, 0, 1, at(5), 7, copies=Copies(0, 0, None, False, active), clock_offset_us=3), tables)
    restart = stored_restart(stored)
    assert restart is not None
    assert (names("going"), frozenset(), 3) == (restart.emptied, restart.followed, restart.clock_offset_us)


def test_a_table_that_came_during_a_copy_through_the_topics_is_copied_after_it_and_one_that_went_is_forgotten() -> None:
    """The copy begins again at its first position, below the statement that made the table."""
    found = FollowedTables([table("old"), table("fresh")], at(10))
    found.settle(Restart(at(1), copying=True, followed=names("old", "lost")), SELECTS)
    assert ({("d", "fresh")}, names("fresh"), frozenset()) == (found.uncopied, found.early, found.gone)
    assert "" == reason(found, "CREATE TABLE fresh (id INT)", 5)
