"""Traps in which other readers of this log have lost rows: each is laid for ours, which reads on rightly or stops with its reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cdc.binlog.event_types import FORMAT
from cdc.binlog.events import Begin, Commit, LoggedStatement, RowsEvent
from cdc.binlog.header import HEADER
from cdc.binlog.packets import dump
from cdc.binlog.reader import HANDLERS, BinlogReader
from cdc.commands.snapshot import snapshot
from cdc.config.load import load
from cdc.errors import Halt, Malformed
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.mysql.log_positions import LogPositions
from cdc.mysql.server_preflight import examine_server
from tests.binlog.test_damage import Recorded, Replay, kinds, replaying, resigned
from tests.e2e.watch import caught_up
from tests.helpers.log_values import Change, told
from tests.helpers.own_servers import mariadb_server, mysql_server  # noqa: F401
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position, reading, said

Private = Callable[..., Any]
TABLE_MAP, WRITE, XID, MARIADB_GTID = 19, 23, 16, 162


def written(source: SourceDatabase) -> Position:
    """The end of the log, with its file."""
    with Catalog(config(source)) as catalog:
        return catalog.log.written_position()


def rows(changes: list[Change]) -> list[tuple[str, str, list[tuple[Any, ...]]]]:
    """Table, kind and images of each change, as tuples."""
    return [(change.table.name, change.kind, [tuple(image.values()) for image in change.images]) for change in changes]


# -- rows that vanish


@pytest.fixture
def replay(mariadb: SourceDatabase) -> Replay:
    """A way to have packets read, and those of one insert into `t`, from the file's announcement to the commit."""
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT UNSIGNED)")
    return replaying(mariadb, "INSERT INTO t VALUES (1, 4294967295)")


def test_an_event_of_any_type_is_understood_or_stops(mariadb: SourceDatabase) -> None:
    """Unknown event types are skipped by default elsewhere: compressed transactions, fragments and incidents vanish with their rows."""
    with reading(mariadb, position(mariadb)) as reader:
        packets = [reader._packets.next()]
        while kinds(packets)[-1] != FORMAT:
            packets.append(reader._packets.next())
        for kind in set(range(256)) - set(HANDLERS):
            strange = HEADER.pack(0, kind, 1, HEADER.size + 8, 0, 0) + b"1234"
            reader._packets = Recorded([*packets, resigned(bytearray(b"\0" + strange + b"crc!"))])  # type: ignore[assignment]
            with pytest.raises(Halt) as stopped:
                list(reader)
            assert not isinstance(stopped.value, Malformed)
            assert stopped.value.code in {"unknown_event", "incident", "row_image", "row_fragments"}, kind


def test_rows_after_the_end_of_their_statement_need_a_table_map_of_their_own(replay: Any) -> None:
    """A table map that outlives its statement decodes a later table's rows by an earlier one's columns."""
    read, packets = replay
    at = kinds(packets).index(WRITE)
    with pytest.raises(Halt) as stopped:
        read([*packets[: at + 1], packets[at], *packets[at + 1 :]])
    assert "table_map_missing" == stopped.value.code


def test_a_new_file_forgets_the_table_maps_of_the_last_one(replay: Any) -> None:
    """A server that crashed begins a new file without closing the old one, and hands out the same table ids again."""
    read, packets = replay
    at, begin = kinds(packets).index(WRITE), packets[: kinds(packets).index(MARIADB_GTID)]
    with pytest.raises(Halt) as stopped:
        read([*packets[:at], *begin, *packets[at:]])
    assert "table_map_missing" == stopped.value.code
    assert [] == [event for event in read([*packets[: at + 1], *begin]) if isinstance(event, RowsEvent)]  # and what was not committed


def test_a_version_that_no_parser_expects_is_no_obstacle(replay: Any) -> None:
    """The server's version in the head of a file is free text: taking it apart for numbers fails on distributions' own names."""
    read, packets = replay
    at = kinds(packets).index(FORMAT)
    strange = bytearray(packets[at])
    strange[1 + HEADER.size + 2 : 1 + HEADER.size + 52] = b"rolling-release-x\xff".ljust(50, b"\0")
    strange[1 + 17] &= 0xFE  # not marked as still open: the checksum is over what is there
    changed = [*packets[:at], resigned(strange), *packets[at + 1 :]]
    assert said(read(packets)) == said(read(changed))


def test_reading_that_begins_between_a_table_map_and_its_rows_stops(mysql: SourceDatabase) -> None:
    """A position behind a table map, or anywhere within a transaction, loses the rows under it silently elsewhere."""
    mysql.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = written(mysql)
    mysql.execute("BEGIN", "INSERT INTO t VALUES (1), (2)", "INSERT INTO t VALUES (3)", "COMMIT")
    listed = mysql.execute(f"SHOW BINLOG EVENTS IN '{start.file}' FROM {start.offset}")
    behind = [int(end) for _, _, kind, _, end, _ in listed if kind in ("Table_map", "Write_rows")]
    assert 4 == len(behind)
    for offset in behind:
        with pytest.raises(Halt) as stopped:
            events_since(mysql, replace(start, gtids="", offset=offset))
        assert stopped.value.code in ("table_map_missing", "log_order", "gtid_off")


def test_compression_that_a_session_switches_on_loses_nothing(mysql: SourceDatabase) -> None:
    """binlog_transaction_compression is a session variable: compressed transactions come whatever the global setting says."""
    mysql.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = position(mysql)
    mysql.execute("INSERT INTO t VALUES (1)", "SET SESSION binlog_transaction_compression = ON", "INSERT INTO t VALUES (2)")
    mysql.execute("BEGIN", "UPDATE t SET a = a + 10", "DELETE FROM t WHERE a = 11", "COMMIT")
    mysql.execute("SET SESSION binlog_transaction_compression = OFF", "INSERT INTO t VALUES (3)")
    assert [[(1,)], [(2,)], [(1,), (11,)], [(2,), (12,)], [(11,)], [(3,)]] == [images for _, _, images in rows(told(mysql, start))]


IMAGES = {
    "an insert that leaves a default out": ("MINIMAL", "INSERT INTO t (id) VALUES (7)", ""),
    "an update that names what changed": ("MINIMAL", "UPDATE t SET n = 5", "p id,n"),
    "a delete by its key alone": ("MINIMAL", "DELETE FROM t", "d id"),
    "an update without its long text": ("NOBLOB", "UPDATE t SET n = 5", "p id,n"),
    "a delete without its long text": ("NOBLOB", "DELETE FROM t", "d id,n"),
    "a row that is replaced": ("MINIMAL", "REPLACE INTO t (id, n) VALUES (1, 5)", "p all"),
    "a key that is changed": ("MINIMAL", "UPDATE t SET id = 2", ""),
}
"""By the image and the statement: what an event says of which columns; nothing where it stops."""


@pytest.mark.parametrize("kind", IMAGES)
def test_a_column_that_the_log_leaves_out_is_no_null(source: SourceDatabase, kind: str) -> None:
    """binlog_row_image is a session variable: in images that are not full an absent column means its old value, or its default.

    MariaDB leaves out of an image after also what a REPLACE has set to its default: there the two cannot be told apart.
    """
    image, statement, said = IMAGES[kind]
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT DEFAULT 9, b LONGTEXT)", "INSERT INTO t VALUES (1, 1, 'b')")
    start = position(source)
    source.execute(f"SET SESSION binlog_row_image = {image}", statement)
    if statement.startswith("REPLACE"):
        assert [(1, 5, None)] == source.execute("SELECT * FROM t")
    if not said or (source.flavour == "mariadb" and said[0] == "p"):
        with pytest.raises(Halt) as stopped:
            events_since(source, start)
        assert "row_image" == stopped.value.code
        return
    [event] = [event for event in events_since(source, start) if isinstance(event, RowsEvent)]
    columns = ",".join(("id", "n", "b")[at] for at in event.columns) or "all"
    assert said == f"{event.kind} {columns}"


def test_tables_of_one_name_in_two_databases_are_two_tables(source: SourceDatabase) -> None:
    """A filter by the bare name of a table takes the rows of every database that has one of that name."""
    with lent(SourceDatabase(source.server)) as other:
        source.execute("CREATE TABLE t (a INT PRIMARY KEY)", f"CREATE TABLE {other.name}.t (a INT PRIMARY KEY, b INT)")
        start = position(source)
        source.execute(
            f"INSERT INTO {other.name}.t VALUES (1, 1)", "INSERT INTO t VALUES (2)", f"UPDATE t, {other.name}.t o SET t.a = 3, o.b = 3"
        )
        assert [("t", "c", [(2,)]), ("t", "u", [(2,), (3,)])] == rows(told(source, start))
        assert 4 == len(told(source, start, wants=lambda db, table: table == "t"))


def test_rows_of_a_failed_insert_into_myisam_stay(source: SourceDatabase) -> None:
    """MyISAM has no rollback: the rows before the one that failed stay in the table, and are in the log."""
    source.execute("CREATE TABLE m (a INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO m VALUES (3)")
    start = position(source)
    with pytest.raises(Exception, match="Duplicate"):
        source.execute("INSERT INTO m VALUES (1), (2), (3), (4)")
    assert [(1,), (2,), (3,)] == source.execute("SELECT * FROM m ORDER BY a")
    assert [(1,), (2,)] == [image for _, _, images in rows(told(source, start)) for image in images]


def test_replacing_two_rows_by_one_is_a_delete_and_a_changed_key(source: SourceDatabase) -> None:
    """REPLACE that meets two rows logs DELETE of one and UPDATE of the other one's key."""
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE)", "INSERT INTO t VALUES (1, 10), (2, 20)")
    start = position(source)
    source.execute("REPLACE INTO t VALUES (1, 20)")
    left = {1: (1, 10), 2: (2, 20)}
    for change in told(source, start):
        before, after = (None if image is None else tuple(image.values()) for image in (change.before, change.after))
        if before is not None:
            assert before == left.pop(before[0])
        if after is not None:
            left[after[0]] = after
    assert {1: (1, 20)} == left
    assert [(1, 20)] == source.execute("SELECT * FROM t")


# -- rows that are taken for others


def test_after_a_crash_a_table_id_is_another_table_s(private: Private) -> None:
    """Table ids live in the server's memory: a crash starts them anew, and a reader that kept its maps takes one table for another."""
    server = private("mariadb", durable=True)
    with lent(SourceDatabase(server)) as source:
        source.execute("CREATE TABLE wanted (a INT PRIMARY KEY)", "CREATE TABLE other (a INT PRIMARY KEY)")
        start = position(source)
        source.execute("INSERT INTO wanted VALUES (1)")
        ids_before = [event.table.table_id for event in events_since(source, start) if isinstance(event, RowsEvent)]
        server.kill()
        server.start()
        source.close()
        source.execute("INSERT INTO other VALUES (66)", "INSERT INTO other VALUES (67)", "INSERT INTO wanted VALUES (2)")
        found = told(source, start, wants=lambda db, table: (db, table) == (source.name, "wanted"))
        assert [("wanted", "c", [(1,)]), ("wanted", "c", [(2,)])] == rows(found)
        both = [event.table for event in events_since(source, start) if isinstance(event, RowsEvent)]
        assert set(ids_before) == {table.table_id for table in both if table.name == "other"}, "the trap was not laid"


def test_a_row_has_the_names_that_its_columns_had_when_it_was_written(source: SourceDatabase) -> None:
    """Names taken from today's information_schema swap the values of columns that were renamed into one another."""
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)")
    start = position(source)
    source.execute(
        "INSERT INTO t VALUES (1, 10, 20)", "ALTER TABLE t CHANGE a b INT, CHANGE b a INT", "INSERT INTO t (id, a, b) VALUES (2, 30, 40)"
    )
    assert [{"id": 1, "a": 10, "b": 20}, {"id": 2, "b": 40, "a": 30}] == [change.after for change in told(source, start)]
    assert [(1, 20, 10), (2, 30, 40)] == source.execute("SELECT id, a, b FROM t ORDER BY id")


def test_a_table_that_changes_while_its_copy_begins_is_copied_with_its_new_columns(
    source: SourceDatabase, pipeline: Any, postgres: Any, monkeypatch: Any
) -> None:
    """A change between the listing of the tables and the copy's position is in neither: the copy would read bytes by old columns."""
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET latin1)", "INSERT INTO t VALUES (1, 'caf\u00e9')")
    made = pipeline(source, postgres)
    visible = LogPositions.visible_position

    def late(log: LogPositions) -> Position:
        source.execute("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4")
        return visible(log)

    monkeypatch.setattr(LogPositions, "visible_position", late)
    copied = snapshot(load(made.path, made.environ), threading.Event(), lambda *_: None)
    assert (True, ["new"]) == (copied["complete"], [table["state"] for table in copied["tables"]])
    monkeypatch.undo()
    running = made.start("run")
    caught_up(made)
    assert [(1, "caf\u00e9")] == postgres.execute(f'SELECT * FROM "{source.name}".t')
    assert 0 == running.stop()


# -- positions


def test_a_domain_that_begins_later_is_read_from_its_beginning_and_never_again(mariadb: SourceDatabase) -> None:
    """MariaDB's position is one number per domain: a domain that it lacks is sent from its beginning, each time, without a word."""
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = position(mariadb)
    mariadb.execute("INSERT INTO t VALUES (1)", "SET SESSION gtid_domain_id = 4711, server_id = 777777")  # nobody that others meet
    mariadb.execute("INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
    mariadb.execute("SET SESSION gtid_domain_id = 0", "INSERT INTO t VALUES (4)")
    whole = events_since(mariadb, start)
    mine = [event for event in whole if isinstance(event, Commit) and event.transaction.startswith("4711-")]
    assert 2 == len(mine)
    assert "4711-" in mine[0].position.gtids
    for commit in mine:
        rest = said(whole[whole.index(commit) + 1 :])
        assert rest == said(events_since(mariadb, commit.position))[: len(rest)]


def test_positions_hold_where_events_say_nothing_of_their_end(mariadb114: SourceDatabase) -> None:
    """MariaDB from 11.4 on writes end_log_pos 0 into events within a transaction: only commits tell where they end."""
    mariadb114.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(100))")
    start = position(mariadb114)
    mariadb114.execute("BEGIN", *[f"INSERT INTO t VALUES ({n}, REPEAT('x', 90))" for n in range(9)], "COMMIT", "UPDATE t SET b = 'y'")
    whole = events_since(mariadb114, start)
    within = [event for event in whole if isinstance(event, RowsEvent)]
    assert sorted(event.offset for event in within) == [event.offset for event in within]
    ends = {int(row[4]) for row in mariadb114.execute(f"SHOW BINLOG EVENTS IN '{start.file or written(mariadb114).file}'")}
    for commit in [event for event in whole if isinstance(event, Commit)]:
        assert commit.position.offset in ends
        rest = said(whole[whole.index(commit) + 1 :])
        assert rest == said(events_since(mariadb114, commit.position))[: len(rest)]


def test_a_place_beyond_4_gib_that_only_its_offset_names_stops(mysql: SourceDatabase) -> None:
    """The question for the log has 32 bits for an offset: asked for modulo 4 GiB, the server would send other rows."""
    start = replace(written(mysql), gtids="", offset=(1 << 32) + 4)
    with pytest.raises(Halt) as stopped:
        dump(None, start, 1, "here", 1.0, 0.5)  # type: ignore[arg-type]  # it is not asked at all
    assert "offset_too_large" == stopped.value.code


def test_a_group_without_begin_or_commit_is_a_transaction(mariadb: SourceDatabase) -> None:
    """MariaDB opens groups by a GTID event; a statement alone has no end, MyISAM's ends in the statement COMMIT, InnoDB's in an XID."""
    start = position(mariadb)
    mariadb.execute(
        "CREATE TABLE i (a INT)", "CREATE TABLE m (a INT) ENGINE=MyISAM", "INSERT INTO m VALUES (1)", "INSERT INTO i VALUES (2)"
    )
    mine = [event for event in events_since(mariadb, start) if not isinstance(event, LoggedStatement) or event.db == mariadb.name]
    names = [type(event).__name__ for event in mine]
    groups = "".join({Begin: "(", Commit: ")", RowsEvent: "r", LoggedStatement: "s"}[type(event)] for event in mine).replace("()", "")
    assert "(s)(s)(r)(r)" == groups, names


def test_an_alter_in_two_phases_is_one_change(mariadb: SourceDatabase) -> None:
    """MariaDB from 10.8 on logs a long ALTER twice, at its beginning and at its end: rows of the old shape may stand between."""
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = position(mariadb)
    mariadb.execute("SET SESSION binlog_alter_two_phase = ON", "ALTER TABLE t ADD b INT", "INSERT INTO t VALUES (1, 2)")
    found = [event for event in events_since(mariadb, start) if isinstance(event, RowsEvent | LoggedStatement)]
    assert ["ALTER TABLE t ADD b INT"] * 2 == [event.sql for event in found if isinstance(event, LoggedStatement)]
    assert [{"a": 1, "b": 2}] == [change.after for change in told(mariadb, start)]


def test_no_question_leaves_a_transaction_open(source: SourceDatabase) -> None:
    """A connection that asks for a position in a snapshot and forgets to end it keeps old row versions alive for days."""
    source.execute("CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with Catalog(config(source)) as catalog:
        catalog.log.visible_position()
        catalog.log.written_position()
        catalog.tables([f"{source.name}.*"])
        examine_server(catalog)
        mine = int(catalog.session.one("SELECT CONNECTION_ID()"))
        assert [] == source.execute(f"SELECT trx_id FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = {mine}")


def test_an_account_with_the_default_authentication_reads_the_log_over_plain_tcp_and_tls(mysql: SourceDatabase) -> None:
    """MySQL 8.4 and 9 have no mysql_native_password: caching_sha2_password needs TLS, or the server's RSA key."""
    name = mysql.name[:20]
    mysql.execute(
        f"CREATE USER {name} IDENTIFIED WITH caching_sha2_password BY 'p'",
        f"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {name}",
    )
    try:
        start = position(mysql)
        for mode in ("disabled", "required"):
            with reading(mysql, start, user=name, password="p", ssl_mode=mode) as reader:
                assert isinstance(reader, BinlogReader)
                assert next(iter(reader)) is not None
    finally:
        mysql.execute(f"DROP USER {name}")
