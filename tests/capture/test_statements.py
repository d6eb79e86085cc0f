"""Statements that could have touched a followed table: passed only where what is followed, and what the source has, says they did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.capture.statements import Listing
from cdc.errors import Halt
from cdc.model.selection import Selection
from cdc.model.table import Column, Table, TableName
from cdc.runtime import clock
from cdc.transport.direct import DirectLog
from tests.helpers.logs_by_hand import HandLog, T, U, gtid, image, position, rows, statement, table, transaction

NOBODY = frozenset[TableName]()


@dataclass
class Source:
    """A source that is asked for its tables, and how often it was."""

    tables: list[Table]
    at: int = 9
    computed: frozenset[TableName] = NOBODY
    asked: int = 0

    def __call__(self) -> Listing:
        self.asked += 1
        return Listing(position(self.at), self.tables, self.computed)


@pytest.fixture(autouse=True)
def time() -> Iterator[None]:
    """Nobody waits: each look at the clock is a second later."""
    moments = iter(range(10_000))
    with clock.lend(monotonic=lambda: float(next(moments)), sleep=lambda seconds: None):
        yield


def stops(sql: str, source: Source | None, number: int = 5, *, fold: bool = False, gone: frozenset[TableName] = NOBODY) -> str:
    """The rule by which capture, which follows t and u, stops at a statement; "" where it goes on, and on."""
    capture = Capture(DirectLog("p"), "p", "mariadb", "0.1", (T, U))
    selects = Selection(["db.*"], fold_case=fold)
    capture.start(lambda: Restart(position(0)), None, selects)
    capture.followings.gone = gone
    capture.lists = source
    try:
        capture.run(HandLog([statement(sql, number), *transaction(number + 1, rows(T, "c", image(1)))]), lambda: False, selects)
    except Halt as stop:
        return stop.rule if "statement_unsupported" == stop.code and gtid(number) in stop.place else stop.code
    assert position(number + 1) == capture.position
    return ""


def test_a_table_that_is_followed_is_not_made_where_there_is_none() -> None:
    source = Source([T, U])
    assert ("", 0) == (stops("CREATE TABLE IF NOT EXISTS t (id INT)", source), source.asked), "the log itself says that it is there"
    assert "created" in stops("CREATE TABLE t (id INT)", source)
    assert "created" in stops("CREATE TABLE IF NOT EXISTS x (id INT)", source, gone=frozenset({("db", "x")}))
    assert "created" in stops("CREATE TABLE IF NOT EXISTS T (id INT)", Source([T, U, table("T")]))
    assert "" == stops("CREATE TABLE IF NOT EXISTS T (id INT)", Source([T, U]), fold=True)


@pytest.mark.parametrize("sql", ["CREATE TABLE IF NOT EXISTS x (a INT)", "CREATE TABLE x (a INT)", "RENAME TABLE other.y TO x",
                                 "ALTER TABLE other.y RENAME TO x", "ALTER TABLE x ADD b INT"])  # fmt: skip
def test_a_table_that_nobody_follows_matters_where_the_source_has_it_behind_the_statement(sql: str) -> None:
    """It is none where it is a view, was temporary, or is gone again: a start would not list it either."""
    assert "" == stops(sql, Source([T, U, table("y"), table("x", "other")]))
    assert "" != stops(sql, Source([T, U, table("x")]))
    assert "" != stops(sql, Source([T, U, table("X")]), fold=True)
    assert "" == stops(sql, Source([T, U, table("X")]))
    assert "" != stops(sql, None), "nobody can be asked"


@pytest.mark.parametrize("sql", ["DROP TABLE IF EXISTS x, y", "DROP TABLE x", "TRUNCATE x", "INSERT INTO x VALUES (1)"])
def test_what_becomes_of_a_table_that_nobody_follows_is_no_matter(sql: str) -> None:
    assert ("", "") == (stops(sql, None), stops(sql, Source([T, U, table("x")])))


@pytest.mark.parametrize("sql", ["DROP TABLE IF EXISTS x, t", "TRUNCATE t", "DROP TABLE IF EXISTS gone", "RENAME TABLE x TO y, t TO z",
                                 "ALTER TABLE t ADD b INT", "ALTER TABLE x EXCHANGE PARTITION p WITH TABLE t", "DROP DATABASE db",
                                 "DROP TABLE IF EXISTS T", "CALL p()"])  # fmt: skip
def test_what_is_followed_is_never_taken_for_untouched_by_the_look_of_it_afterwards(sql: str) -> None:
    """A table that was dropped and made again, or truncated, has the columns that it had."""
    assert "" != stops(sql, Source([T, U]), fold=True, gone=frozenset({("db", "gone")}))


def test_a_database_in_which_nothing_is_followed_may_go() -> None:
    capture_all = Selection(["*.*"])
    capture = Capture(DirectLog("p"), "p", "mariadb", "0.1", (T, U))
    capture.start(lambda: Restart(position(0)), None, capture_all)
    capture.run(HandLog([statement("DROP DATABASE IF EXISTS nothing", 5)]), lambda: False, capture_all)
    with pytest.raises(Halt, match="database"):
        capture.run(HandLog([statement("DROP DATABASE IF EXISTS db", 6)]), lambda: False, capture_all)


INDEX = "ALTER TABLE t ADD UNIQUE (d)"
KEYED_BY_DATE, WIDER = replace(T, key=(1,)), replace(T, columns=(*T.columns, Column("x", "int")))


@pytest.mark.parametrize(
    "sql", [INDEX, "CREATE INDEX i ON t (d)", "DROP INDEX i ON t", "ALTER TABLE t FORCE", "ALTER TABLE t ENGINE=MyISAM"]
)
def test_a_table_that_has_its_columns_and_its_key_behind_a_statement_that_changes_no_row_is_followed_on(sql: str) -> None:
    source = Source([T, U])
    assert ("", 1) == (stops(sql, source), source.asked)
    for now in ([KEYED_BY_DATE, U], [WIDER, U], [U]):
        assert "changed" in stops(sql, Source(now))
    assert "changed" in stops(sql, None)


def test_a_table_whose_columns_are_computed_anew_when_it_is_rebuilt_is_not() -> None:
    assert "changed" in stops(INDEX, Source([T, U], computed=frozenset({("db", "t")})))
    assert "" == stops(INDEX, Source([T, U], computed=frozenset({("db", "u")})))


def test_a_list_from_before_the_statement_proves_nothing() -> None:
    """A server shows what its log holds a moment later; it is asked again, and not for ever."""
    late = Source([T, U], at=4)
    assert ("changed" in stops(INDEX, late), True) == (True, late.asked > 1)

    def arrives() -> Listing:
        late.at += 1
        return Listing(position(late.at), [T, U], NOBODY)

    late.at = 2
    assert "" == stops(INDEX, arrives)  # type: ignore[arg-type]


def test_a_row_of_another_shape_behind_a_statement_that_was_passed_stops() -> None:
    """The source is ahead of the log: the key was another one for a while, and the list shows none of it."""
    capture = Capture(DirectLog("p"), "p", "mariadb", "0.1", (T, U))
    selects = Selection(["db.*"])
    capture.start(lambda: Restart(position(0)), None, selects)
    capture.lists = Source([T, U])
    meanwhile = transaction(6, rows(T, "c", image(1), shape=KEYED_BY_DATE))
    with pytest.raises(Halt) as stop:
        capture.run(
            HandLog([statement("DROP INDEX i ON t", 5), *meanwhile, statement("CREATE INDEX i ON t (id)", 7)]), lambda: False, selects
        )
    assert "schema_changed" == stop.value.code
