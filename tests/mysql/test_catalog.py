"""What the source says of itself, and the two positions that a copy stands on: nothing visible is missed, nothing missing is promised."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cdc.binlog.events import Commit, RowsEvent
from cdc.config.load import SourceConfig
from cdc.errors import Halt, Refused, Retry
from cdc.model.position import Position
from cdc.model.table import Column
from cdc.mysql.catalog import Catalog
from cdc.mysql.connection import clock_offset_us, connect
from cdc.mysql.server_preflight import examine_server
from tests.helpers.certificates import Certificates
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position

Private = Callable[..., Any]
WRITERS = 8
TRIES, SECONDS = 200, 8.0


@pytest.fixture
def catalog(source: SourceDatabase) -> Iterator[Catalog]:
    with Catalog(config(source)) as found:
        yield found


# Positions that are safe to copy from


@contextlib.contextmanager
def writers(source: SourceDatabase) -> Iterator[None]:
    """Eight connections that insert into `t` for as long as the block runs, each number once, gapless per writer."""
    source.execute("CREATE TABLE t (writer INT, n INT, PRIMARY KEY (writer, n)) ENGINE=InnoDB")
    over = threading.Event()
    threads = [threading.Thread(target=insert, args=(source, number, over)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def insert(source: SourceDatabase, number: int, over: threading.Event) -> None:
    with source.connect() as line, line.cursor() as cursor:
        n = 0
        while not over.is_set():
            cursor.execute("INSERT INTO t VALUES (%s, %s)", (number, n))
            n += 1


def careless(catalog: Catalog) -> Position:
    """The log's end, as the server's status tells it."""
    file, offset = catalog.log._log_end()
    return Position(catalog.flavour, catalog.server, "", file, offset)


def visible(catalog: Catalog) -> Position:
    return catalog.log.visible_position()


Seen = list[tuple[Position, dict[int, int]]]


def copied(source: SourceDatabase, catalog: Catalog, take: Callable[[Catalog], Position]) -> Seen:
    """A few hundred times: a position, and then how many rows of each writer a SELECT saw."""
    found: Seen = []
    deadline = time.monotonic() + SECONDS
    with source.connect() as line, line.cursor() as cursor:
        while len(found) < TRIES and time.monotonic() < deadline:
            at = take(catalog)
            cursor.execute("SELECT writer, COUNT(*) FROM t GROUP BY writer")
            found.append((at, dict(cursor.fetchall())))
    return found


def ends(source: SourceDatabase, start: Position) -> list[tuple[Position, int]]:
    """Each insert of the log: where its transaction ends, and its writer."""
    found, writer = [], -1
    for event in events_since(source, start):
        if isinstance(event, RowsEvent):
            writer = int.from_bytes(event.body[event.start + 1 : event.start + 5], "little")
        elif isinstance(event, Commit) and writer >= 0:
            found.append((event.position, writer))
            writer = -1
    return found


def losses(seen: Seen, log: list[tuple[Position, int]]) -> int:
    """In how many tries a transaction that the position includes was missing from the SELECT that followed."""
    lost = at = 0
    included = dict.fromkeys(range(WRITERS), 0)
    for taken, rows in seen:
        while at < len(log) and taken.covers(log[at][0]):
            included[log[at][1]] += 1
            at += 1
        lost += any(included[writer] > rows.get(writer, 0) for writer in included)
    return lost


@pytest.mark.slow
def test_a_copy_from_the_visible_position_misses_nothing_a_careless_one_does(private: Private) -> None:
    """MySQL's log is synced slowly here, as on a slow disk: so long is a transaction in the log and not yet to be seen."""
    careless_losses = {}
    for flavour, slow in (("mariadb", ()), ("mysql", ("--binlog-group-commit-sync-delay=3000",))):
        with lent(SourceDatabase(private(flavour, durable=True, options=slow))) as source, Catalog(config(source)) as catalog:
            start = position(source)
            with writers(source):
                ours = copied(source, catalog, visible)
                theirs = copied(source, catalog, careless)
            log = ends(source, start)
        assert 20 < len(ours)
        assert 0 == losses(ours, log), flavour
        careless_losses[flavour] = (losses(theirs, log), len(theirs))
    assert 0 < careless_losses["mysql"][0], careless_losses


def test_what_mariadb_has_logged_and_not_yet_shown_is_in_the_careless_position_and_not_in_ours(private: Private) -> None:
    """A commit is held between log and engine, as by a replica that is slow to confirm: a copy from the log's end would lose its row."""
    with lent(SourceDatabase(private("mariadb"))) as source, Catalog(config(source)) as catalog:
        source.execute("CREATE TABLE t (a INT PRIMARY KEY) ENGINE=InnoDB", "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'")
        start = catalog.log.written_position()
        source.execute("SET GLOBAL rpl_semi_sync_master_timeout = 3000", "SET GLOBAL rpl_semi_sync_master_enabled = ON")
        with source.connect() as line, line.cursor() as reader:
            writer = threading.Thread(target=lambda: source.execute("INSERT INTO t VALUES (1)"))
            writer.start()
            try:
                deadline = time.monotonic() + 20
                while catalog.log.written_position() == start and time.monotonic() < deadline:
                    time.sleep(0.005)
                theirs = careless(catalog)
                reader.execute("SELECT COUNT(*) FROM t")
                assert ((0,), False) == (reader.fetchone(), start.covers(theirs))
                ours = catalog.log.visible_position()  # waits until it can answer
                reader.execute("SELECT COUNT(*) FROM t")
                assert (1,) == reader.fetchone()
            finally:
                writer.join()
        assert ours.covers(theirs)


def test_the_visible_position_names_nothing_that_came_after_the_place_its_snapshot_must_reach(
    mariadb: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit right after the log's end is read: a snapshot that reaches that end need not show it."""
    mariadb.execute("CREATE TABLE t (a INT)")
    after: list[str] = []
    with Catalog(config(mariadb)) as catalog, mariadb.connect() as line, line.cursor() as cursor:
        read = catalog.log._log_end

        def and_one_more() -> tuple[str, int]:
            end = read()
            cursor.execute("INSERT INTO t VALUES (1)")
            cursor.execute("SELECT @@last_gtid")
            after.append(str((cursor.fetchone() or [""])[0]))
            return end

        monkeypatch.setattr(catalog.log, "_log_end", and_one_more)
        found = catalog.log.visible_position()
    assert after
    assert not found.contains(after[-1])


def test_what_a_client_has_committed_is_covered_by_the_written_position(source: SourceDatabase, catalog: Catalog) -> None:
    """By place, and by GTIDs alone: on another server those are what is compared."""
    start = position(source)
    with writers(source):
        asked = copied(source, catalog, visible)[:1]
        after: Seen = []
        with source.connect() as line, line.cursor() as cursor:
            for _ in range(TRIES):
                cursor.execute("SELECT writer, COUNT(*) FROM t GROUP BY writer")
                rows = dict(cursor.fetchall())
                after.append((catalog.log.written_position(), rows))
    log = ends(source, start)
    assert asked
    for by_gtids in (False, True):
        at, included = 0, dict.fromkeys(range(WRITERS), 0)
        for taken, rows in after:
            while at < len(log) and (replace(taken, file="") if by_gtids else taken).covers(log[at][0]):
                included[log[at][1]] += 1
                at += 1
            assert all(included[writer] >= rows.get(writer, 0) for writer in included)


def test_an_idle_server_is_read_to_its_written_position(source: SourceDatabase, catalog: Catalog) -> None:
    start = position(source)
    source.execute("CREATE TABLE t (a INT)", "FLUSH BINARY LOGS")
    visible = catalog.log.visible_position()
    assert catalog.log.written_position().covers(visible)
    events_since(source, start)


def test_prepared_xa_transactions_hold_the_position_back(private: Private) -> None:
    with lent(SourceDatabase(private("mariadb"))) as source, Catalog(config(source)) as catalog:
        source.execute("CREATE TABLE t (a INT)", "XA START 'x'", "INSERT INTO t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'")
        with pytest.raises(Retry) as waiting:
            catalog.log.visible_position()
        assert "xa_prepared" == waiting.value.code
        source.execute("XA ROLLBACK 'x'")
        catalog.log.visible_position()


def test_without_gtids_the_visible_position_is_a_place(private: Private) -> None:
    options = ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
    with lent(SourceDatabase(private("mysql", options=options))) as source:
        with Catalog(config(source)) as catalog:
            assert [("privilege", "BACKUP_ADMIN")] == [(one.code, one.place) for one in examine_server(catalog) if one.level == "error"]
            with pytest.raises(Refused) as refused:
                catalog.log.visible_position()
            assert "source_privilege" == refused.value.code
        for privilege in ("RELOAD", "BACKUP_ADMIN"):
            source.execute(f"GRANT {privilege} ON *.* TO cdc")
            with Catalog(config(source)) as catalog:  # global privileges hold from the next login on
                assert catalog.log.visible_position().by_file
                assert catalog.log.written_position() == replace(catalog.log.visible_position(), file_created=0)
                assert [] == codes(catalog)
            source.execute(f"REVOKE {privilege} ON *.* FROM cdc")


# Stored positions


def test_this_servers_own_positions_pass(source: SourceDatabase, catalog: Catalog) -> None:
    source.execute("CREATE TABLE t (a INT)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (1)")
    for stored in (catalog.log.visible_position(), catalog.log.written_position()):
        catalog.identity.check(stored)
        assert not catalog.identity.purged(stored)


def refused_position(catalog: Catalog, stored: Position) -> str:
    with pytest.raises(Halt) as stopped:
        catalog.identity.check(stored)
    return stopped.value.code


def test_positions_of_another_history_stop(catalog: Catalog) -> None:
    at = catalog.log.written_position()
    future = {"mysql": at.gtids + ",3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "mariadb": "0-777777-999999999"}[catalog.flavour]
    assert "source_diverged" == refused_position(catalog, replace(at, server="another", gtids=future, file="", offset=0))
    assert "other_server" == refused_position(catalog, Position("mysql" if at.flavour == "mariadb" else "mariadb", "x"))
    assert "log_shortened" == refused_position(catalog, replace(at, offset=at.offset + (1 << 30)))


@pytest.mark.parametrize(("flavour", "reset"), [("mariadb", "RESET MASTER"), ("mysql", "RESET BINARY LOGS AND GTIDS")])
def test_a_reset_log_stops(private: Private, flavour: str, reset: str) -> None:
    """Even when it has grown past the stored place, with the same numbers."""
    with lent(SourceDatabase(private(flavour))) as source:
        start = position(source)
        source.execute("CREATE TABLE t (a INT)", *["INSERT INTO t VALUES (1)"] * 5)
        stored = [event.position for event in events_since(source, start) if isinstance(event, Commit)][-1]
        assert stored.file_created
        time.sleep(1.1)  # the header's time is in seconds
        source.execute(reset, *["INSERT INTO t VALUES (1)"] * 30)
        with pytest.raises(Halt) as stopped:
            events_since(source, stored)
        assert "log_rewritten" == stopped.value.code


def test_an_unknown_domain_on_another_server_stops(private: Private) -> None:
    with lent(SourceDatabase(private("mariadb"))) as source, Catalog(config(source)) as catalog:
        at = catalog.log.written_position()
        source.execute("SET SESSION gtid_domain_id = 7", "CREATE TABLE t (a INT)")
        elsewhere = replace(at, server="another", gtids="0-777777-1")  # written by a server that is gone, and replicated here
        assert "unknown_domain" == refused_position(catalog, elsewhere)
        catalog.identity.check(at)


def test_a_stranger_with_our_server_id_stops(private: Private) -> None:
    """Any two servers have a 0-1-5: one that bears the id of a writer in the position must be the server of the position."""
    with lent(SourceDatabase(private("mariadb"))) as source, Catalog(config(source)) as catalog:
        source.execute("CREATE TABLE t (a INT)")
        at = catalog.log.written_position()
        assert "other_server" == refused_position(catalog, replace(at, server="another"))
        catalog.identity.check(at)


# Tables


def test_tables_are_selected_by_pattern(source: SourceDatabase, catalog: Catalog) -> None:
    source.execute(
        "CREATE TABLE a1 (a INT)", "CREATE TABLE a2 (a INT)", "CREATE TABLE b (a INT) ENGINE=MyISAM", "CREATE VIEW v AS SELECT 1"
    )
    db = source.name

    def names(*patterns: str, exclude: tuple[str, ...] = ()) -> list[str]:
        return [table.name for table in catalog.tables(patterns, exclude)]

    assert ["a1", "a2", "b"] == names(f"{db}.*")
    assert ["a1", "a2"] == names(f"{db}.a?")
    assert ["a2", "b"] == names(f"{db}.a2", f"{db}.b")
    assert ["b"] == names(f"{db}.*", exclude=(f"{db}.a*",))
    assert [] == names(f"{db}.A1", "mysql.*", "sys.*", f"{db}x.*", "information_schema.*")
    [myisam] = catalog.tables([f"{db}.b"])
    assert "myisam" == catalog.engine(myisam).lower()
    assert (Column("a", "int"),) == myisam.columns
    source.execute("INSERT INTO b VALUES (1), (2)")
    catalog.tables([f"{db}.b"])
    assert 2 == catalog.row_estimate(myisam)


# Fitness


def codes(catalog: Catalog, level: str = "error") -> list[str]:
    return [finding.code for finding in examine_server(catalog) if finding.level == level]


def test_a_fit_source_has_no_errors(source: SourceDatabase, catalog: Catalog) -> None:
    source.execute("CREATE TABLE t (a INT)")
    assert [] == codes(catalog)


def test_unfit_settings_are_found_with_the_sql_that_mends_them(private: Private) -> None:
    options: tuple[str, ...] = (
        "--binlog-format=STATEMENT",
        "--binlog-row-image=MINIMAL",
        "--binlog-row-metadata=MINIMAL",
        "--sync-binlog=0",
    )
    options += ("--gtid-strict-mode=OFF", "--expire-logs-days=0.5", "--binlog-do-db=od")
    with lent(SourceDatabase(private("mariadb", options=options))) as source, Catalog(config(source)) as catalog:
        assert ["binlog_format", "row_image", "row_metadata", "log_filter"] == codes(catalog)
        assert ["gtid_strict_mode", "sync_binlog", "log_expiry"] == codes(catalog, "warning")
        mending = [finding.hint_sql for finding in examine_server(catalog) if finding.hint_sql.startswith("SET")]
        source.execute(*mending)
    with Catalog(config(source)) as catalog:
        assert ["log_filter"] == codes(catalog)
        assert [] == codes(catalog, "warning")


def test_missing_privileges_are_found_with_the_grants(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE a (a INT)", "CREATE TABLE `b``_` (a INT)")
    account = f"'{source.name}'@'%'"
    source.execute(
        f"CREATE USER {account} IDENTIFIED BY 'x'", f"GRANT INSERT ON `{source.name}`.* TO {account}", f"GRANT SELECT ON a TO {account}"
    )
    try:
        poor = config(source, user=source.name, password="x")
        with Catalog(poor) as catalog:
            findings = [finding for finding in examine_server(catalog) if finding.code == "privilege"]
        monitor = "BINLOG MONITOR" if source.flavour == "mariadb" else "REPLICATION CLIENT"
        with Catalog(poor) as catalog:
            assert (["xa_unseen"] if source.flavour == "mysql" else []) == [c for c in codes(catalog, "warning") if c.startswith("xa")]
        assert ["REPLICATION SLAVE", monitor, f"{source.name}.b`_"] == [finding.place for finding in findings]
        source.execute(*(finding.hint_sql.replace("CURRENT_USER()", account) for finding in findings))
        with Catalog(poor) as catalog:
            assert [] == codes(catalog)
    finally:
        source.execute(f"DROP USER {account}")


def test_system_versioned_tables_and_cascades_that_cannot_be_followed_are_found(mariadb: SourceDatabase) -> None:
    mariadb.execute("CREATE TABLE v (a INT) WITH SYSTEM VERSIONING", "CREATE TABLE p (a INT PRIMARY KEY, e ENUM('a') UNIQUE)",
                    "CREATE TABLE c (a INT, FOREIGN KEY (a) REFERENCES p (a) ON DELETE CASCADE)",
                    "CREATE TABLE d (e ENUM('a'), CONSTRAINT fk FOREIGN KEY (e) REFERENCES p (e) ON UPDATE SET NULL)")  # fmt: skip
    with Catalog(config(mariadb)) as catalog:
        assert ["system_versioned", "unlogged_cascade"] == codes(catalog)


# Connections


def login(source: SourceConfig) -> str:
    with pytest.raises((Refused, Retry)) as failed:
        connect(source)
    assert "s3cret" not in str(failed.value)
    return failed.value.code


def test_each_reason_why_a_login_fails_is_told_apart(source: SourceDatabase, certificates: Certificates) -> None:
    assert "source_auth" == login(config(source, password="s3cret-but-wrong"))
    closed = replace(config(source).url, port=1)
    assert "source_unreachable" == login(config(source).model_copy(update={"url": closed}))
    assert "source_tls" == login(config(source, ssl_mode="verify_ca", ssl_ca=str(certificates.stranger_ca)))
    for mode in ("disabled", "preferred", "required", "verify_ca", "verify_identity"):
        connect(config(source, ssl_mode=mode, ssl_ca=str(certificates.ca))).close()


def test_the_log_is_read_over_tls(source: SourceDatabase, certificates: Certificates) -> None:
    source.execute("CREATE TABLE t (a LONGBLOB)")
    start = position(source)
    source.execute("INSERT INTO t VALUES (REPEAT('x', 3000000))")
    events = events_since(source, start, ssl_mode="verify_identity", ssl_ca=str(certificates.ca))
    assert 3_000_005 < max(len(getattr(event, "body", b"")) for event in events)


def test_sessions_speak_utc_and_raw_ones_send_bytes(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (a VARCHAR(9) CHARACTER SET latin1)", "INSERT INTO t VALUES ('é')")
    with connect(config(source), raw=True) as line, line.cursor() as cursor:
        cursor.execute(f"SELECT a, @@time_zone, @@sql_mode FROM {source.name}.t")
        assert (b"\xe9", b"+00:00", b"") == cursor.fetchone()
        assert abs(clock_offset_us(line, "here")) < 5_000_000
