"""The log as whole transactions: nothing lost, repeated, undone or invented, from whichever position the reading begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysqlreplication
import pytest
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from cdc.binlog.events import Begin, Commit, Event, Heartbeat, LoggedStatement, RowsEvent
from cdc.binlog.reader import BinlogReader
from cdc.binlog.transaction import TransactionBuffer
from cdc.errors import Halt, Retry
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from tests.helpers.own_servers import mariadb_server, mysql_server  # noqa: F401
from tests.helpers.servers import PASSWORD, SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position, reading, said, until

Private = Callable[..., Any]
# fmt: off
WORK = [
    "CREATE TABLE i (a INT PRIMARY KEY, b VARCHAR(2000)) ENGINE=InnoDB",
    "CREATE TABLE m (a INT PRIMARY KEY, b VARCHAR(2000)) ENGINE=MyISAM",
    "INSERT INTO i VALUES (1, 'x'), (2, NULL)",
    "INSERT INTO m VALUES (1, 'x'), (2, NULL)",
    "BEGIN", "UPDATE i SET b = 'y'", "DELETE FROM i WHERE a = 2", "SAVEPOINT s", "INSERT INTO i VALUES (3, 'z')", "ROLLBACK TO s",
    "COMMIT",
    "BEGIN", "INSERT INTO i VALUES (4, 'gone')", "ROLLBACK",
    "FLUSH BINARY LOGS",
    "INSERT INTO i SELECT a.a + 10 * b.a + 100 * c.a + 1000, REPEAT('p', 500) FROM (SELECT 1 a UNION SELECT 2 UNION SELECT 3) a, "
    "(SELECT 1 a UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) b, (SELECT 1 a UNION SELECT 2 UNION SELECT 3) c",
    "UPDATE m SET a = a + 10", "DELETE FROM m WHERE a = 11", "REPLACE INTO i VALUES (1, 'again')", "ALTER TABLE i ADD c INT",
    "INSERT INTO i VALUES (5, 'five', 5)",
]
# fmt: on


def changes(events: list[Event]) -> list[tuple[str, str, bytes]]:
    return [(event.kind, event.table.name, event.body[event.start : event.end]) for event in events if isinstance(event, RowsEvent)]


def oracle(source: SourceDatabase, start: Position, end: Position) -> list[tuple[str, str, int]]:
    """Kind, table and number of rows of each rows event, as mysql-replication reads them."""
    settings = {"host": source.host, "port": source.port, "user": "root", "password": PASSWORD}
    kinds = {WriteRowsEvent: "c", UpdateRowsEvent: "u", DeleteRowsEvent: "d"}
    where = config(source)
    stream = pymysqlreplication.BinLogStreamReader(
        connection_settings=settings, server_id=where.server_id, only_events=list(kinds), only_schemas=[source.name],
        log_file=start.file, log_pos=start.offset, resume_stream=True,
    )  # fmt: skip
    found = [(kinds[type(event)], event.table, len(event.rows)) for event in stream]
    stream.close()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pymysql")
def test_the_oracle_sees_the_same_rows(source: SourceDatabase) -> None:
    with Catalog(config(source)) as catalog:
        start = catalog.log.written_position()
        source.execute(*WORK)
        end = catalog.log.written_position()
    events = events_since(source, start)
    ours = [(event.kind, event.table.name, rows_in(event)) for event in events if isinstance(event, RowsEvent)]
    assert oracle(source, start, end) == ours
    assert 10 < len(ours)


def rows_in(event: RowsEvent) -> int:
    """Rows of the tables of WORK in one event, walked by hand: null bits, an INT, a text with a 2-byte length, an INT."""
    count, at, columns = 0, event.start, len(event.table.table().columns)
    while at < event.end:
        nulls = event.body[at]
        at += 1 + 4
        if not nulls & 2:
            at += 2 + int.from_bytes(event.body[at : at + 2], "little")
        if columns == 3 and not nulls & 4:
            at += 4
        count += 1
    assert at == event.end
    return count // 2 if event.kind == "u" else count


def test_from_every_commit_the_rest_follows_exactly(source: SourceDatabase) -> None:
    start = position(source)
    source.execute(*WORK)
    whole = events_since(source, start)
    commits = [event for event in whole if isinstance(event, Commit)]
    assert 8 < len(commits)
    for commit in commits:
        rest = whole[whole.index(commit) + 1 :]
        assert said(rest) == said(events_since(source, commit.position))[: len(said(rest))]


def test_every_statement_that_is_no_transaction_control_is_handed_over(source: SourceDatabase) -> None:
    start = position(source)
    source.execute(*WORK)
    found = [
        event.sql.split("(")[0].strip()
        for event in events_since(source, start)
        if isinstance(event, LoggedStatement) and event.db == source.name
    ]
    assert ["CREATE TABLE i", "CREATE TABLE m", "ALTER TABLE i ADD c INT"] == found


def test_rows_stand_between_their_begin_and_commit(source: SourceDatabase) -> None:
    start = position(source)
    source.execute(*WORK)
    open_transaction = None
    for event in events_since(source, start):
        if isinstance(event, Begin):
            assert open_transaction is None
            open_transaction = event.transaction
        elif isinstance(event, Commit):
            assert open_transaction == event.transaction
            assert event.position.contains(event.transaction)
            open_transaction = None
        else:
            assert open_transaction is not None
    assert open_transaction is None


def test_rolled_back_rows_never_appear_and_myisam_rows_stay(mariadb: SourceDatabase) -> None:
    """MariaDB logs rows and undoes them later, once a temporary table or a MyISAM table was touched meanwhile."""
    mariadb.execute("CREATE TABLE i (a INT PRIMARY KEY)", "CREATE TABLE m (a INT) ENGINE=MyISAM")
    start = position(mariadb)
    mariadb.execute("BEGIN", "INSERT INTO i VALUES (1)", "CREATE TEMPORARY TABLE t (a INT)", "DROP TEMPORARY TABLE t", "ROLLBACK")
    mariadb.execute("BEGIN", "INSERT INTO i VALUES (2)", "SAVEPOINT s", "INSERT INTO i VALUES (3)", "INSERT INTO m VALUES (4)")
    mariadb.execute("ROLLBACK TO s", "INSERT INTO i VALUES (5)", "COMMIT")
    mariadb.execute("BEGIN", "INSERT INTO i VALUES (6)", "INSERT INTO m VALUES (7)", "ROLLBACK")
    logged = " ".join(str(row) for row in mariadb.execute(f"SHOW BINLOG EVENTS IN '{start.file}' FROM {start.offset}"))
    assert "ROLLBACK TO" in logged
    assert "'ROLLBACK'" in logged
    found = [(table, int.from_bytes(body[1:], "little")) for _, table, body in changes(events_since(mariadb, start))]
    assert [("m", 4), ("i", 2), ("i", 5), ("m", 7)] == found


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_compressed_logs_read_as_plain_ones(private: Private, flavour: str) -> None:
    compressed = {"mariadb": ("--log-bin-compress=ON", "--log-bin-compress-min-len=10"), "mysql": ("--binlog-transaction-compression=ON",)}
    with lent(SourceDatabase(private(flavour, options=compressed[flavour]))) as source:
        start = position(source)
        source.execute(
            *WORK[:-2], "CREATE TABLE long_enough_to_be_compressed (a INT COMMENT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')"
        )
        packed = said(events_since(source, start))
        off = "SET GLOBAL log_bin_compress = OFF" if flavour == "mariadb" else "SET SESSION binlog_transaction_compression = OFF"
        source.execute("DROP TABLE i", "DROP TABLE m", "DROP TABLE long_enough_to_be_compressed", off)
        start = position(source)
        source.execute(
            *WORK[:-2], "CREATE TABLE long_enough_to_be_compressed (a INT COMMENT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')"
        )
        plain = said(events_since(source, start))
    assert [event for event in plain if event[0] not in ("begin", "commit")] == [
        event for event in packed if event[0] not in ("begin", "commit")
    ]
    assert len(plain) == len(packed)


def test_compressed_transactions_end_where_their_position_says(private: Private) -> None:
    with lent(SourceDatabase(private("mysql", options=("--binlog-transaction-compression=ON",)))) as source:
        start = position(source)
        source.execute(*WORK)
        whole = events_since(source, start)
        for commit in [event for event in whole if isinstance(event, Commit)]:
            rest = said(whole[whole.index(commit) + 1 :])
            assert rest == said(events_since(source, commit.position))[: len(rest)]


def test_a_quiet_server_sends_heartbeats_with_the_written_position(source: SourceDatabase) -> None:
    with Catalog(config(source)) as catalog, reading(source, catalog.log.visible_position()) as reader:
        source.execute("FLUSH BINARY LOGS")
        end = catalog.log.written_position()
        before = time.time_ns() // 1000
        beats = [event for event in takewhile_uncovered(reader, end) if isinstance(event, Heartbeat)]
        assert beats[-1].at.covers(end)
        assert abs(beats[-1].ts_us - before) < 30_000_000


def takewhile_uncovered(reader: BinlogReader, end: Position) -> list[Event]:
    found: list[Event] = []
    deadline = time.monotonic() + 60
    for event in reader:
        found.append(event)
        if isinstance(event, Heartbeat) and event.at.covers(end) and event.ts_us:  # 0: the line was not seen silent yet
            break
        assert time.monotonic() < deadline
    return found


def test_a_reader_that_has_caught_up_has_nothing_pending(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (a INT)")
    start = position(source)
    with reading(source, start) as reader:
        source.execute("INSERT INTO t VALUES (1)")
        with Catalog(config(source)) as catalog:
            until(reader, catalog.log.written_position())
        assert reader.position.covers(start)


def test_the_newer_of_two_readers_with_one_server_id_wins(source: SourceDatabase) -> None:
    start = position(source)
    source_config = config(source)
    older = BinlogReader(source_config, source_config.server_id, start, heartbeat_seconds=0.1, wants=lambda db, table: True)
    newer = BinlogReader(source_config, source_config.server_id, start, heartbeat_seconds=0.1, wants=lambda db, table: True)
    try:
        with pytest.raises(Halt, match="another reader") as stopped:
            for _ in zip(range(1000), older):
                pass
        assert "server_id_taken" == stopped.value.code
        assert any(isinstance(event, Heartbeat) for _, event in zip(range(1000), newer))
    finally:
        older.close()
        newer.close()


def test_a_stopped_server_is_a_lost_source(private: Private) -> None:
    server = private("mariadb")
    with reading(server, position(server), wants=lambda db, table: True) as reader:
        assert isinstance(next(event for event in reader if isinstance(event, Heartbeat)), Heartbeat)
        server.stop()
        with pytest.raises(Retry) as lost:
            for _ in reader:
                pass
        assert "source_lost" == lost.value.code


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_purged_files_stop(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        start = position(source)
        source.execute("CREATE TABLE t (a INT)", "FLUSH BINARY LOGS")
        last = source.execute("SHOW BINARY LOGS")[-1][0]
        deadline = time.monotonic() + 60
        while [last] != [row[0] for row in source.execute(f"PURGE BINARY LOGS TO '{last}'", "SHOW BINARY LOGS")]:
            assert time.monotonic() < deadline, "the server keeps the file"  # MariaDB: until a checkpoint no longer needs it
        with pytest.raises(Halt) as stopped, reading(source, start) as reader:
            next(iter(reader))
        assert "log_purged" == stopped.value.code


def test_without_gtids_files_and_offsets_do(private: Private) -> None:
    options = ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
    with lent(SourceDatabase(private("mysql", options=options))) as source:
        source.execute("GRANT BACKUP_ADMIN ON *.* TO cdc")
        start = position(source)
        assert start.by_file
        source.execute(*WORK, "BEGIN", "INSERT INTO i VALUES (70, 'a', 1)", "SAVEPOINT s", "INSERT INTO i VALUES (71, 'b', 1)",
                       "INSERT INTO m VALUES (72, 'c')", "ROLLBACK TO s", "COMMIT")  # fmt: skip
        whole = events_since(source, start)
        assert b"b" not in [body[-5:-4] for _, table, body in changes(whole) if table == "i"][-1]
        for commit in [event for event in whole if isinstance(event, Commit)]:
            assert f"file={commit.position.file},pos={commit.position.offset}" == commit.transaction
            rest = said(whole[whole.index(commit) + 1 :])
            assert rest == said(events_since(source, commit.position))[: len(rest)]


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_a_log_without_checksums_is_read(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour, options=("--binlog-checksum=NONE",)))) as source:
        start = position(source)
        source.execute(
            "CREATE TABLE t (a INT PRIMARY KEY)",
            "INSERT INTO t VALUES (1)",
            "SET GLOBAL binlog_checksum = CRC32",
            "INSERT INTO t VALUES (2)",
        )
        assert [b"\x01", b"\x02"] == [body[1:2] for _, _, body in changes(events_since(source, start))]


def test_an_encrypted_log_is_read_as_a_plain_one(private: Private, tmp_path: Path) -> None:
    """MariaDB announces the encryption of its file (START_ENCRYPTION) and sends what was in it."""
    keys = tmp_path / "keys"
    keys.write_text(f"1;{'a7' * 16}\n")
    options = ("--plugin-load-add=file_key_management", f"--loose-file-key-management-filename={keys}", "--encrypt-binlog=ON")
    with lent(SourceDatabase(private("mariadb", options=options))) as source:
        start = position(source)
        source.execute(*WORK)
        assert "Start_encryption" in [row[2] for row in source.execute("SHOW BINLOG EVENTS LIMIT 3")]
        whole = events_since(source, start)
        assert 8 < len([event for event in whole if isinstance(event, Commit)])
        for commit in [event for event in whole if isinstance(event, Commit)][::3]:
            rest = said(whole[whole.index(commit) + 1 :])
            assert rest == said(events_since(source, commit.position))[: len(rest)]


def test_tagged_gtids_are_followed(mysql: SourceDatabase) -> None:
    mysql.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = position(mysql)
    mysql.execute("SET gtid_next = 'AUTOMATIC:health_1'", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
    mysql.execute("SET gtid_next = 'AUTOMATIC'", "INSERT INTO t VALUES (3)")
    whole = events_since(mysql, start)
    mine = [event for event in whole if isinstance(event, Commit) and ":health_1:" in event.transaction]
    assert 2 == len(mine)
    assert ":health_1:" in mine[-1].position.gtids
    assert abs(mine[-1].ts_us - time.time() * 1e6) < 60_000_000
    rest = said(whole[whole.index(mine[0]) + 1 :])
    assert rest == said(events_since(mysql, mine[0].position))[: len(rest)]


def test_rows_that_lack_columns_stop(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)", "INSERT INTO t VALUES (1, 1)")
    start = position(source)
    source.execute("SET SESSION binlog_row_image = MINIMAL", "INSERT INTO t (a) VALUES (2)")
    with pytest.raises(Halt) as stopped:
        events_since(source, start)
    assert "row_image" == stopped.value.code
    assert said([]) == said(events_since(source, start, wants=lambda db, table: False))


def test_a_row_larger_than_a_packet_is_read_whole(source: SourceDatabase) -> None:
    [[limit]] = source.execute("SELECT @@GLOBAL.max_allowed_packet")
    assert limit >= 16 << 20
    source.execute("CREATE TABLE t (a LONGBLOB, b LONGBLOB)")
    start = position(source)
    source.execute("INSERT INTO t VALUES (REPEAT('x', 10000000), REPEAT('y', 9000000))")
    [(kind, table, body)] = changes(events_since(source, start))
    assert ("c", "t", 19_000_009) == (kind, table, len(body))
    assert b"x" * 10_000_000 == body[5:10_000_005]


def test_another_server_of_the_same_history_goes_on_by_gtids(source: SourceDatabase) -> None:
    """The writer of that history is a third one: MariaDB's sequence numbers tell servers apart only by who wrote them."""
    start = position(source)
    source.execute(*(["SET SESSION server_id = 777777"] if source.flavour == "mariadb" else []), *WORK)
    whole = events_since(source, start)
    commit = [event for event in whole if isinstance(event, Commit)][3]
    elsewhere = replace(commit.position, server="another", file="their.000077", offset=5, file_created=7)
    rest = said(whole[whole.index(commit) + 1 :])
    found = events_since(source, elsewhere)
    assert rest == said(found)[: len(rest)]
    assert commit.position.server == next(event for event in found if isinstance(event, Commit)).position.server


def test_rows_of_a_large_transaction_are_held_in_a_file(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    source.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(2000))")
    start = position(source)
    source.execute("BEGIN", *[f"INSERT INTO t VALUES ({n}, REPEAT('x', 1000))" for n in range(100)], "COMMIT")
    plain = said(events_since(source, start))
    monkeypatch.setattr("cdc.binlog.reader.TransactionBuffer", lambda: TransactionBuffer(10_000))
    assert plain == said(events_since(source, start))[: len(plain)]
    assert 102 <= len(plain)
