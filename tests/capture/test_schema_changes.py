"""A followed table that changes ends the epoch, and is uncopied in the next one; over a log that is made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from cdc.binlog.events import Event, RowsEvent
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.capture.schema_changes import SchemaChanges
from cdc.errors import CdcError, Halt, Retry
from cdc.model.selection import Selection
from cdc.model.table import Column, Table
from cdc.protocol.control import Base, Cut
from cdc.runtime import clock
from cdc.transport.direct import DirectLog
from tests.helpers.logs_by_hand import HandLog, Put, T, U, Written, begin, commit, gtid, heartbeat, image, position, rows, statement, when

SELECTED = Selection(["db.*"])
NAMES = frozenset({("db", "t"), ("db", "u")})
WIDER = Table("db", "t", (*T.columns, Column("more", "int")), (0,))


@pytest.fixture(autouse=True)
def time() -> Iterator[None]:
    with clock.lend(now=lambda: when(0) / 1_000_000, monotonic=lambda: 1000.0, fresh_id=lambda: "fresh"):
        yield


Ended = tuple[Base, list[Any], CdcError | None]


@dataclass
class Process:
    """A capture process: what it remembers, and the topics."""

    changes: SchemaChanges = field(default_factory=SchemaChanges)
    log: DirectLog = field(default_factory=lambda: DirectLog("p"))
    missing: frozenset[tuple[str, str]] = frozenset()

    def epoch(
        self, restart: Restart, listed: int, *events: Event, tables: tuple[Table, ...] = (T, U)
    ) -> tuple[Base, list[Any], CdcError | None]:
        """One epoch over these events: its base, what was written behind it, and what ended it."""
        written = Written(self.log, T, U)
        written.all()
        capture = Capture(self.log, "p", "mariadb", "0.1", tables, listed_at=position(listed), changes=self.changes)
        capture.start(lambda: restart, restart, SELECTED, lambda *name: name in self.missing)
        found, ended = written.all(), None
        read = [one for one in events if not isinstance(one, RowsEvent) or capture.wants(one.table.db, one.table.name)]
        try:
            capture.run(HandLog(read), lambda: False, SELECTED)
        except CdcError as error:
            ended = error
        [base] = [one for one in found if isinstance(one, Base)]
        return base, written.all(), ended


def followed(*names: tuple[str, str], at: int = 0) -> Restart:
    return Restart(position(at), when(0), followed=frozenset(names or NAMES))


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("ALTER TABLE t ADD x INT", {("db", "t")}),
        ("TRUNCATE u", {("db", "u")}),
        ("RENAME TABLE t TO v, u TO t", NAMES),
        ("DROP TABLE u", {("db", "u")}),
        ("DROP DATABASE db", NAMES),
        ("CREATE TABLE fresh (a INT)", frozenset()),
    ],
)
def test_a_changed_table_ends_the_epoch_behind_a_cut_and_is_uncopied_in_the_next(sql: str, left: frozenset[tuple[str, str]]) -> None:
    process = Process()
    events: list[Event] = [begin(1), rows(T, "c", image(1)), commit(1), begin(2), statement(sql, 2), commit(2)]
    _, found, ended = process.epoch(followed(), 0, *events)
    assert isinstance(ended, Retry)
    assert ("tables_changed", position(1)) == (ended.code, [one for one in found if isinstance(one, Cut)][-1].position)
    base, found, ended = process.epoch(followed(at=1), 2, begin(2), statement(sql, 2), commit(2), heartbeat(3))
    assert ended is None
    assert left == set(base.uncopied)
    assert [position(3)] == [one.position for one in found if isinstance(one, Cut)][-1:]
    base, *_ = process.epoch(followed(at=3), 3)
    assert () == base.uncopied, "what the base has said is not remembered"


def test_rows_of_a_shape_from_before_a_change_that_the_list_knows_are_left_to_the_copy_and_of_any_other_stop() -> None:
    process = Process()
    wider: list[Event] = [begin(1), rows(T, "c", image(1), shape=WIDER), commit(1)]
    _, _, ended = process.epoch(followed(), 2, *wider)
    assert isinstance(ended, Retry)
    base, found, ended = process.epoch(followed(), 2, *wider, heartbeat(2))
    assert ((("db", "t"),), None, []) == (base.uncopied, ended, [one for one in found if isinstance(one, Put)])
    _, _, ended = Process().epoch(followed(), 0, begin(1), rows(T, "c", image(1), shape=WIDER), commit(1))
    assert isinstance(ended, Halt)
    assert "schema_changed" == ended.code, "nothing in the log explains it: a copy would meet it again"


def test_a_statement_that_writes_rows_or_cannot_be_read_stops() -> None:
    for sql in ("INSERT INTO t VALUES (1, NULL)", "what is this"):
        _, _, ended = Process().epoch(followed(), 0, begin(1), statement(sql, 1))
        assert isinstance(ended, Halt)
        assert ("statement_unsupported", True) == (ended.code, gtid(1) in ended.place)


def test_a_table_that_the_source_lacks_has_left_and_one_that_may_only_be_hidden_stops_at_its_rows() -> None:
    early: list[Event] = [begin(1), rows(U, "c", image(1)), commit(1), begin(2), statement("DROP TABLE u", 2), commit(2), heartbeat(3)]
    base, _, ended = Process(missing=frozenset({("db", "u")})).epoch(followed(), 2, *early, tables=(T,))
    assert (None, ()) == (ended, base.gone)
    for events, code in ((early, "table_gone"), (early[3:], "statement_unsupported")):
        base, _, ended = Process().epoch(followed(), 2, *events, tables=(T,))
        assert ended is not None
        assert ((("db", "u"),), code) == (base.gone, ended.code)


def test_a_first_epoch_that_knows_of_no_copy_follows_what_did_not_change() -> None:
    process = Process()
    _, _, ended = process.epoch(Restart(position(0)), 0, begin(1), statement("TRUNCATE t", 1))
    assert isinstance(ended, Retry)
    base, _, ended = process.epoch(Restart(position(0)), 1, begin(1), statement("TRUNCATE t", 1), commit(1))
    assert ((("db", "t"),), None) == (base.uncopied, ended)
