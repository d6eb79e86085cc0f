"""XA transactions: their rows appear at XA COMMIT, never at PREPARE, once, from whichever position the reading begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cdc.binlog.events import Commit, Event, RowsEvent
from cdc.binlog.transaction import TransactionBuffer
from cdc.binlog.xa import PreparedTransactions
from cdc.errors import Halt, Retry
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.runtime import timing
from tests.helpers.refusals import until as until_true
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position, reading, said, until

Private = Callable[..., Any]


@pytest.fixture(scope="module")
def own_server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of its own: a prepared transaction holds back every other test that wants a position."""
    from tests import run

    server = run.private(request.param)
    yield server
    server.purge()


@pytest.fixture
def own(own_server: Any) -> Iterator[SourceDatabase]:
    with lent(SourceDatabase(own_server)) as database:
        database.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(2000))", "CREATE TABLE u (a INT PRIMARY KEY)")
        try:
            yield database
        finally:  # else nobody could drop the tables
            with Catalog(config(database)) as catalog:
                for number, gtrid, bqual in catalog.log.prepared():
                    database.execute(f"XA ROLLBACK X'{gtrid.hex()}',X'{bqual.hex()}',{number}")


both = pytest.mark.parametrize("own_server", ["mariadb", "mysql", pytest.param("mariadb114", marks=pytest.mark.slow)], indirect=True)


def prepared(source: SourceDatabase, xid: str, *statements: str) -> None:
    """A transaction in a session of its own, which is gone afterwards: until then nobody else may decide."""
    with closing(source.connect()) as line, line.cursor() as cursor:
        number = line.thread_id()
        for statement in (f"XA START {xid}", *statements, f"XA END {xid}", f"XA PREPARE {xid}"):
            cursor.execute(statement)
    until_true(lambda: number not in [row[0] for row in source.execute("SHOW PROCESSLIST")], "the end of the session")


def seen(events: list[Event]) -> list[int]:
    """The key of the first row of each rows event."""
    return [int.from_bytes(e.body[e.start + 1 : e.start + 5], "little", signed=True) for e in events if isinstance(e, RowsEvent)]


def work(source: SourceDatabase) -> None:
    """Overlapping XA transactions, decided by others, across a log file's end; ordinary ones between them."""
    prepared(source, "'one'", "INSERT INTO t VALUES (1, 'x')")
    source.execute("INSERT INTO t VALUES (10, 'x')")
    prepared(source, "'two',X'00ff27',4711", "INSERT INTO t VALUES (2, 'x')", "INSERT INTO u VALUES (2)", "UPDATE t SET b = '' WHERE a = 2")
    source.execute("INSERT INTO t VALUES (11, 'x')", "FLUSH BINARY LOGS")
    prepared(source, "'three'", "INSERT INTO t VALUES (3, 'x')")
    source.execute("XA ROLLBACK 'one'", "INSERT INTO t VALUES (12, 'x')", "XA COMMIT 'two',X'00ff27',4711")
    prepared(source, "'one'", "INSERT INTO t VALUES (4, 'x')")
    source.execute("XA COMMIT 'three'", "INSERT INTO t VALUES (13, 'x')", "XA COMMIT 'one'")
    source.execute("XA START 'five'", "INSERT INTO t VALUES (5, 'x')", "XA END 'five'", "XA COMMIT 'five' ONE PHASE")
    source.execute("XA START 'six'", "INSERT INTO t VALUES (6, 'x')", "XA END 'six'", "XA ROLLBACK 'six'")


@both
def test_rows_of_an_xa_transaction_appear_at_its_commit_and_those_rolled_back_never(own: SourceDatabase) -> None:
    start = position(own)
    work(own)
    events = events_since(own, start)
    assert [10, 11, 12, 2, 2, 2, 3, 13, 4, 5] == seen(events)
    assert sorted({*seen(events)}) == sorted(a for (a,) in own.execute("SELECT a FROM t"))
    last = [event for event in events if isinstance(event, Commit)][-1]
    assert last.position.floor is None


@both
def test_from_every_commit_the_rest_follows_exactly_whatever_is_prepared_there(own: SourceDatabase) -> None:
    start = position(own)
    work(own)
    whole = events_since(own, start)
    commits = [event for event in whole if isinstance(event, Commit)]
    assert 5 < len([commit for commit in commits if commit.position.floor is not None])
    for commit in commits:
        stored = Position.from_json(json.loads(json.dumps(commit.position.to_json())))
        rest = said(whole[whole.index(commit) + 1 :])
        again = events_since(own, stored)
        assert rest == said(again)[: len(rest)]
        floors = {event.transaction: floor_of(event) for event in whole if isinstance(event, Commit)}
        assert [] == [event for event in again if isinstance(event, Commit) and floor_of(event) != floors.get(event.transaction)]


def floor_of(commit: Commit) -> str | None:
    return None if commit.position.floor is None else commit.position.floor.gtids


@both
def test_the_rows_belong_to_the_transaction_that_decides(own: SourceDatabase) -> None:
    start = position(own)
    prepared(own, "'x'", "INSERT INTO t VALUES (1, 'x')")
    own.execute("INSERT INTO t VALUES (2, 'x')", "XA COMMIT 'x'")
    events = events_since(own, start)
    rows = [event for event in events if isinstance(event, RowsEvent)]
    commit = events[events.index(rows[-1]) + 1]
    assert isinstance(commit, Commit)
    assert (rows[-1].ts_us, True) == (commit.ts_us, commit.position.contains(commit.transaction))
    assert not rows[-1].offset > commit.position.offset


@both
def test_what_is_prepared_survives_the_server_and_lies_on_disk_when_large(own: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    start = position(own)
    prepared(own, "'x'", *[f"INSERT INTO t VALUES ({n}, REPEAT('x', 1000))" for n in range(100)])
    prepared(own, "'y'", *[f"INSERT INTO t VALUES ({n}, REPEAT('x', 1000))" for n in range(100, 130)])
    own.close()
    own.server.stop()
    own.server.start()
    own.execute("INSERT INTO t VALUES (1000, 'x')", "XA COMMIT 'y'", "XA COMMIT 'x'")
    plain = said(events_since(own, start))
    assert [("c", "t")] * 131 == [event[:2] for event in plain if event[0] == "c"]
    monkeypatch.setattr("cdc.binlog.reader.TransactionBuffer", lambda: TransactionBuffer(10_000))
    monkeypatch.setattr("cdc.binlog.reader.xa.PreparedTransactions", lambda: PreparedTransactions(20_000))
    assert plain == said(events_since(own, start))[: len(plain)]


@both
def test_a_commit_whose_prepare_was_not_read_stops_and_a_rollback_does_not(own: SourceDatabase) -> None:
    before = position(own)
    prepared(own, "'lost'", "INSERT INTO t VALUES (1, 'x')")
    prepared(own, "'given up'", "INSERT INTO t VALUES (2, 'x')")
    with Catalog(config(own)) as catalog:
        start = catalog.log.written_position()
    own.execute("INSERT INTO t VALUES (3, 'x')", "XA ROLLBACK 'given up'", "INSERT INTO t VALUES (4, 'x')", "XA COMMIT 'lost'")
    with reading(own, start) as reader:
        found: list[Event] = []
        with pytest.raises(Halt) as stopped:
            found.extend(reader)
    assert "xa_unknown" == stopped.value.code
    assert [3, 4] == seen(events_since(own, before))[:2]


@both
def test_a_log_that_was_purged_below_the_floor_stops(own: SourceDatabase) -> None:
    start = position(own)
    prepared(own, "'x'", "INSERT INTO t VALUES (1, 'x')")
    own.execute("FLUSH BINARY LOGS", "INSERT INTO t VALUES (2, 'x')")
    with Catalog(config(own)) as catalog, reading(own, start) as reader:
        at = [event for event in until(reader, catalog.log.written_position()) if isinstance(event, Commit)][-1].position
    assert at.floor is not None
    purge = f"PURGE BINARY LOGS TO '{at.file}'"
    until_true(lambda: own.execute(purge, "SHOW BINARY LOGS")[0][0] == at.file, "the purge")  # MariaDB: after its next checkpoint
    with Catalog(config(own)) as catalog:
        assert not catalog.identity.purged(at)
        with pytest.raises(Halt) as stopped:
            catalog.identity.check(at)
    assert ("log_purged", True) == (stopped.value.code, "XA" in stopped.value.rule)


@both
def test_a_position_waits_for_what_is_prepared_and_finds_what_is_prepared_meanwhile(
    own: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(own, "'old'", "INSERT INTO t VALUES (1, 'x')")
    with Catalog(config(own)) as catalog:
        with monkeypatch.context() as soon, pytest.raises(Retry) as waiting:
            soon.setattr(timing, "TIMES", replace(timing.TIMES, decision_seconds=0.2))
            catalog.log.visible_position()
        assert "xa_prepared" == waiting.value.code
        plain, calls = catalog.log.prepared, 0

        def decide() -> Any:
            nonlocal calls
            calls += 1
            if calls == 3:
                prepared(own, "'new'", "INSERT INTO t VALUES (2, 'x')")
                own.execute("XA COMMIT 'old'")
            return plain()

        catalog.log.prepared = decide  # type: ignore[method-assign]  # what others do while it waits
        start = catalog.log.visible_position()
    assert start.floor is not None
    assert [(1,)] == own.execute("SELECT a FROM t")
    own.execute("XA COMMIT 'new'")
    assert [2] == seen(events_since(own, start))


@pytest.mark.slow
def test_compressed_transactions_and_files_without_gtids_hold_them_too(private: Private) -> None:
    for options in (("--binlog-transaction-compression=ON",), ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")):
        with lent(SourceDatabase(private("mysql", options=options))) as source:
            source.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(2000))", "CREATE TABLE u (a INT PRIMARY KEY)")
            source.execute("GRANT BACKUP_ADMIN ON *.* TO cdc")
            start = position(source)
            work(source)
            whole = events_since(source, start)
            assert [10, 11, 12, 2, 2, 2, 3, 13, 4, 5] == seen(whole)
            for commit in [event for event in whole if isinstance(event, Commit)]:
                rest = said(whole[whole.index(commit) + 1 :])
                assert rest == said(events_since(source, commit.position))[: len(rest)]
