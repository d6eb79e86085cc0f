"""An exact read and the position that goes with it, while XA transactions are decided: neither lacks what the other has.

MariaDB logs an XA COMMIT before the engine does it, and a snapshot may be taken in between.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.synchronize import Event
from typing import Any

import pytest
from pymysql.err import MySQLError

from cdc.binlog.events import Commit, RowsEvent
from cdc.errors import Halt, Retry
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.mysql.exact_snapshot import Known, Place, Snapshots
from cdc.mysql.log_heads import Xid
from cdc.mysql.log_positions import LogPositions
from cdc.mysql.table_reader import TableReader
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position

WRITERS = 8
XAER_NOTA = 1397
TRIES, SECONDS = 60, 20.0
Work = Callable[[SourceDatabase, int, Event], None]
Seen = list[tuple[Position, dict[int, int]]]


def by_xa(source: SourceDatabase, number: int, over: Event) -> None:
    """Rows of one writer, each in an XA transaction of its own; some are decided by another session, when theirs is gone."""
    line, n = source.connect(), 0
    with source.connect() as other:
        while not over.is_set():
            xid = f"'{source.name}','{number}.{n}'"
            run(line, f"XA START {xid}", f"INSERT INTO heap VALUES ({number}, {n})", f"XA END {xid}", f"XA PREPARE {xid}")
            if n % 10:
                run(line, f"XA COMMIT {xid}")
            else:
                line.close()
                line = source.connect()
                commit(other, xid)
            n += 1
    line.close()


def run(line: Any, *statements: str) -> None:
    with line.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


def commit(line: Any, xid: str) -> None:
    while True:
        try:
            return run(line, f"XA COMMIT {xid}")
        except MySQLError as error:
            if error.args[0] != XAER_NOTA:  # the session that prepared it is not gone yet
                raise


def plain(source: SourceDatabase, number: int, over: Event) -> None:
    """Rows of one writer, each in a transaction of its own."""
    with source.connect() as line:
        n = 0
        while not over.is_set():
            run(line, f"INSERT INTO heap VALUES ({number}, {n})")
            n += 1


@contextlib.contextmanager
def writers(source: SourceDatabase, work: Work) -> Iterator[None]:
    """Processes of their own: as threads of this one they would keep it from asking in time."""
    source.execute("CREATE TABLE heap (writer INT, n INT) ENGINE=InnoDB")
    source.close()
    context = multiprocessing.get_context("fork")
    over = context.Event()
    children = [context.Process(target=work, args=(source, number, over)) for number in range(WRITERS)]
    for child in children:
        child.start()
    try:
        yield
    finally:
        over.set()
        for child in children:
            child.join()
    assert [0] * WRITERS == [child.exitcode for child in children]


@contextlib.contextmanager
def reader(source: SourceDatabase) -> Iterator[TableReader]:
    with Catalog(config(source)) as catalog:
        [table] = catalog.tables([f"{source.name}.heap"])
        found = TableReader(config(source), catalog, table)
    try:
        yield found
    finally:
        found.close()


def reads(source: SourceDatabase) -> Seen:
    found: Seen = []
    deadline = time.monotonic() + SECONDS
    with reader(source) as asked:
        while len(found) < TRIES and time.monotonic() < deadline:
            with asked.exact() as at:
                rows = asked.execute(f"SELECT writer, COUNT(*) FROM {source.name}.heap GROUP BY writer")
                found.append((at, {int(w): int(n) for w, n in rows}))
    return found


def judged(source: SourceDatabase, start: Position, seen: Seen) -> tuple[int, int]:
    """In how many reads rows are missing that the position includes, and in how many there are more."""
    log, writer = [], -1
    for event in events_since(source, start):
        if isinstance(event, RowsEvent):
            writer = int.from_bytes(event.body[event.start + 1 : event.start + 5], "little")
        elif isinstance(event, Commit) and writer >= 0:
            log.append((event.transaction, writer))
            writer = -1
    less = more = 0
    for at, rows in seen:
        included = dict.fromkeys(range(WRITERS), 0)
        for transaction, who in log:
            included[who] += at.contains(transaction)
        less += any(included[w] > rows.get(w, 0) for w in included)
        more += any(included[w] < rows.get(w, 0) for w in included)
    return less, more


TURNS = [("mariadb", plain), ("mariadb114", by_xa), ("mysql", plain)]
"""Those that the soak lane takes."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every_source", "work"),
    [("mariadb", by_xa), ("mariadb114", plain), ("mysql", by_xa), *(pytest.param(*one, marks=pytest.mark.soak) for one in TURNS)],
    indirect=["every_source"],
)
def test_an_exact_read_is_exact_while_xa_transactions_are_decided(every_source: SourceDatabase, work: Work) -> None:
    start = position(every_source)
    with writers(every_source, work):
        seen = reads(every_source)
    assert seen
    assert (0, 0) == judged(every_source, start, seen)


# What the race looks like, said again as it was said


class Said:
    """The answers of a server, of which the next one to the question for a snapshot may be replaced."""

    def __init__(self, asked: TableReader) -> None:
        self._asked, self.instead = asked, list[list[Any]]()

    def __call__(self, sql: str) -> list[Any]:
        if not sql.startswith("BEGIN NOT ATOMIC") or not self.instead:
            return self._asked._answers(sql)
        return self.instead.pop(0)


def answer(source: SourceDatabase, end: Place, *shown: str) -> list[Any]:
    """Of a snapshot that stands at the log's end, asked for when the log ended at `end` and these were prepared."""
    file, offset = place(source)
    rows = [(b"1", str(len(name)).encode(), b"0", name.encode()) for name in shown]
    return [
        [(end[0].encode(), str(end[1]).encode())],
        rows,
        [(b"Binlog_snapshot_file", file.encode()), (b"Binlog_snapshot_position", str(offset).encode())],
    ]


def place(source: SourceDatabase) -> Place:
    [(file, offset, *_)] = source.execute("SHOW MASTER STATUS")
    return file, offset


def prepared(source: SourceDatabase, xid: str) -> Any:
    """The session of a prepared transaction."""
    line = source.connect()
    run(line, f"XA START '{xid}'", "INSERT INTO heap VALUES (1, 1)", f"XA END '{xid}'", f"XA PREPARE '{xid}'")
    return line


@pytest.fixture
def heap(private: Callable[..., Any]) -> Iterator[SourceDatabase]:
    with lent(SourceDatabase(private("mariadb"))) as source:
        source.execute("CREATE TABLE heap (writer INT, n INT) ENGINE=InnoDB")
        yield source


def test_a_snapshot_below_which_the_log_decides_what_the_engine_still_has_as_prepared_is_not_taken(heap: SourceDatabase) -> None:
    """Twice: decided before the question, and between the question and the snapshot."""
    with reader(heap) as asked:
        said = Said(asked)
        known = Known(at_end(heap), frozenset())
        one = prepared(heap, "one")
        before = place(heap)
        run(one, "XA COMMIT 'one'")
        said.instead = [answer(heap, place(heap), "one"), answer(heap, before)]
        heap.execute("INSERT INTO heap VALUES (2, 2)")
        gtids, at = Snapshots(said, config(heap), "here", known).begin(True)
        assert [] == said.instead
        assert place(heap) == at
        assert [(b"2",)] == asked.execute(f"SELECT COUNT(*) FROM {heap.name}.heap")
        assert [(gtids,)] == heap.execute("SELECT @@GLOBAL.gtid_binlog_pos")
        one.close()


def test_what_the_log_holds_as_undecided_does_not_stand_in_the_way(heap: SourceDatabase) -> None:
    """Prepared since the place that is known, or known there; one that nobody knows of does, until it is decided."""
    with reader(heap) as asked:
        early = prepared(heap, "early")
        known = Known(at_end(heap), frozenset({Xid(1, b"early", b"")}))
        late = prepared(heap, "late")
        snapshots = Snapshots(asked._answers, config(heap), "here", known)
        assert place(heap) == snapshots.begin(True)[1]
        asked.execute("COMMIT")
        with pytest.raises(Retry) as waiting:
            replace(snapshots, known=Known(known.position, frozenset())).begin(True)
        assert "xa_prepared" == waiting.value.code
        run(early, "XA COMMIT 'early'")
        run(late, "XA ROLLBACK 'late'")
        with asked.exact() as at:
            assert [(b"1",)] == asked.execute(f"SELECT COUNT(*) FROM {heap.name}.heap")
        assert [(at.gtids,)] == heap.execute("SELECT @@GLOBAL.gtid_binlog_pos")
        early.close()
        late.close()


def at_end(source: SourceDatabase) -> Position:
    with Catalog(config(source)) as catalog:
        return catalog.log.written_position()


def test_the_position_of_a_keyed_copy_waits_for_what_is_decided_below_it(heap: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is slow to commit what the log has decided between the two positions that are looked at."""
    flying = frozenset({Xid(1, b"one", b"")})
    shown = [frozenset[Xid](), frozenset[Xid](), flying, flying, flying, frozenset[Xid]()]

    def one_after_the_other(log: LogPositions) -> frozenset[Xid]:
        if len(shown) == 5:
            heap.execute("INSERT INTO heap VALUES (1, 1)")  # the log goes on
        return shown.pop(0)

    monkeypatch.setattr(LogPositions, "prepared", one_after_the_other)
    with Catalog(config(heap)) as catalog:
        at = catalog.log.visible_position()
        assert [] == shown
        shown = [flying, flying, frozenset()]
        assert catalog.log.shows(at)
        shown = [flying]
        assert catalog.log.shows(at, flying)
        shown = [flying] * 100
        assert not catalog.log.shows(at)


# Events above max_allowed_packet


def test_a_table_without_a_key_is_copied_behind_an_event_above_the_packet_limit(heap: SourceDatabase) -> None:
    """BINLOG_GTID_POS gives NULL then: for every place behind it in its file."""
    heap.execute("CREATE TABLE large (a LONGBLOB, b LONGBLOB)", "SET GLOBAL max_allowed_packet = 1048576")
    heap.close()
    heap.execute("INSERT INTO large VALUES (REPEAT('x', 700000), REPEAT('y', 700000))", "INSERT INTO heap VALUES (1, 1)")
    file, offset = place(heap)
    assert [(None,)] == heap.execute(f"SELECT BINLOG_GTID_POS('{file}', {offset})")
    with reader(heap) as asked, asked.exact() as at:
        assert [(at.gtids,)] == heap.execute("SELECT @@GLOBAL.gtid_binlog_pos")
    with Catalog(config(heap)) as catalog:
        catalog.identity.check(at)
        with pytest.raises(Halt) as stopped:
            catalog.identity.check(replace(at, gtids="0-1-2"))
        assert "log_rewritten" == stopped.value.code


@pytest.mark.parametrize("own", ["mariadb", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True)
def test_a_snapshot_stays_where_it_was_taken_whatever_isolation_the_server_presets(own: SourceDatabase) -> None:
    """WITH CONSISTENT SNAPSHOT is a word without effect in any other isolation than REPEATABLE READ."""
    own.execute("CREATE TABLE heap (writer INT, n INT) ENGINE=InnoDB", "INSERT INTO heap VALUES (1, 1)")
    own.execute("SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED")
    with Catalog(config(own)) as catalog:
        [table] = catalog.tables([f"{own.name}.heap"])
        reader = TableReader(config(own), catalog, table)
    with contextlib.closing(reader), reader.exact():
        own.execute("INSERT INTO heap VALUES (1, 2)")
        assert [(b"1", b"1")] == reader.execute(f"SELECT * FROM {own.name}.heap")
