"""Schema `cdc`: made once by whoever comes first, and read back as it was stored."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from cdc.errors import CdcError, Refused, Retry
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.table_states import TableState
from cdc.stack import Postgres
from cdc.state.migrations import VERSION
from cdc.state.quarantine import names_by_table
from cdc.state.store import StateStore
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, config, cut
from tests.sinks.postgres.plans import KEYED, ONLY_KEY


def test_many_starters_at_once_make_the_schema_once(postgres: TargetDatabase):
    failures: list[BaseException] = []
    together = threading.Barrier(6)

    def start(number: int) -> None:
        try:
            with StateStore(config(postgres), f"p{number % 3}") as state:
                together.wait()
                state.migrate()
        except CdcError as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    assert [(number,) for number in range(1, VERSION + 1)] == postgres.execute("SELECT version FROM cdc.schema_version ORDER BY 1")
    assert [("p0",), ("p1",), ("p2",)] == postgres.execute("SELECT name FROM cdc.pipeline ORDER BY 1")


def test_migrating_again_changes_nothing(postgres: TargetDatabase):
    objects = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'cdc'::regnamespace ORDER BY 1"
    with StateStore(config(postgres), "p") as state:
        state.migrate()
        first = postgres.execute(objects)
        state.migrate()
    assert first == postgres.execute(objects)
    assert len(first) > 10


def test_a_schema_newer_than_the_program_is_refused(postgres: TargetDatabase):
    with StateStore(config(postgres), "p") as state:
        state.migrate()
        postgres.execute(f"INSERT INTO cdc.schema_version (version) VALUES ({VERSION + 1})")
        with pytest.raises(Refused) as refusal:
            state.migrate()
    assert "state_newer" == refusal.value.code


def test_reading_before_anything_is_stored_finds_nothing_and_makes_nothing(postgres: TargetDatabase):
    with StateStore(config(postgres), "p") as state:
        assert Stored(None, {}) == state.read()
        assert 0 == state.version()


def test_progress_and_tables_come_back_as_they_were_stored(postgres: TargetDatabase, opened: Opened):
    target = opened()
    progress = Progress(2**40, 7, 11, at(5), 1_712_345_678_901_237, {("od.app.a", 0): (10, 9), ("od.app.b", 3): (2**50, 4)})
    schema = {"key_schema": None, "value_schema": 8}
    table = TableProgress("app", "A", "raw", "A", TableState.CATCHING_UP, at(1), at(4), 77, "because", schema)
    target.commit(progress, [table])
    assert Stored(progress, {("app", "A"): table}) == target.open()
    moved = replace(progress, cut_no=2**40 + 1, partitions={("od.app.b", 3): (2**50 + 1, 5)})
    target.commit(moved, [replace(table, state=TableState.CONSISTENT, floor=None)])
    with StateStore(config(postgres), "p") as state:
        stored = state.read()
        assert [replace(table, state=TableState.CONSISTENT, floor=None)] == state.tables()
    assert stored.progress == replace(moved, partitions={("od.app.a", 0): (10, 9), ("od.app.b", 3): (2**50 + 1, 5)})


def test_pipelines_in_one_target_do_not_see_one_another(opened: Opened):
    one, two = opened(KEYED, pipeline="one"), opened(ONLY_KEY, pipeline="two")
    one.commit(cut(1, t=(5, 4)))
    two.commit(cut(9, t=(7, 6)))
    assert cut(1, t=(5, 4)) == one.open().progress
    assert cut(9, t=(7, 6)) == two.open().progress
    assert [("app", "only_key")] == list(two.open().tables)


def test_a_table_belongs_to_one_pipeline(opened: Opened):
    opened(KEYED, pipeline="one")
    with pytest.raises(Refused) as refusal:
        opened(KEYED, pipeline="two")
    assert "target_taken" == refusal.value.code


def test_the_lowest_floor_is_the_one_that_all_others_cover(opened: Opened, postgres: TargetDatabase):
    target = opened()
    table = TableProgress("app", "a", "app", "a", TableState.COPYING, at(5))
    tables = [table, replace(table, table="b", target_table="b", floor=at(3)), replace(table, table="c", target_table="c", floor=None),
              replace(table, table="d", target_table="d", floor=at(1), state=TableState.REFUSED)]  # fmt: skip
    target.save(tables)
    with StateStore(config(postgres), "p") as state:
        assert at(3) == state.read().lowest_floor
    with StateStore(config(postgres), "other") as state:
        assert state.read().lowest_floor is None


def test_freshness_is_shown_for_consistent_tables_only(opened: Opened, postgres: TargetDatabase):
    target = opened(KEYED, ONLY_KEY)
    state = replace(target.open().tables["app", "only_key"], state=TableState.CONSISTENT)
    target.commit(cut(1), [state])
    shown = postgres.execute('SELECT "table", consistent_through IS NULL, seconds_behind > 0, quarantined FROM cdc.freshness ORDER BY 1')
    assert [("Keyed Table", True, None, 0), ("only_key", False, True, 0)] == shown


def test_anomalies_are_counted_in_the_transaction_of_their_rows(opened: Opened, postgres: TargetDatabase):
    target = opened()
    for number in range(1, 3):
        target.count_anomalies("app", "a", {("d", "zero_date"): 3, ("e", "zero_date"): number})
        target.commit(cut(number))
    target.count_anomalies("app", "a", {("d", "zero_date"): 99})
    target.rollback()
    with StateStore(config(postgres), "p") as state:
        assert {("app", "a", "d", "zero_date"): 6, ("app", "a", "e", "zero_date"): 3} == state.anomalies()


def test_reports_are_kept_newest_first(postgres: TargetDatabase):
    with StateStore(config(postgres), "p") as state:
        state.migrate()
        for day in range(3):
            state.store_reconciliation(1_700_000_000_000_000 + day, day, {"day": day})
        assert [{"day": 2}, {"day": 1}] == state.reconciliations(2)


def test_a_server_that_is_away_is_tried_again_and_a_wrong_password_is_not(postgres: TargetDatabase):
    with pytest.raises(Retry) as away:
        StateStore(config(postgres, port=1), "p")
    wrong = config(postgres)
    with pytest.raises(Refused) as refused:
        StateStore(wrong.model_copy(update={"url": replace(wrong.url, password="wrong")}), "p")
    with pytest.raises(Refused) as missing:
        StateStore(wrong.model_copy(update={"url": replace(wrong.url, database="nowhere")}), "p")
    assert ("target_unreachable", "target_auth") == (away.value.code, refused.value.code)
    assert missing.value.code in ("target_auth", "target_database")  # after the password, where only the driver gets
    assert "wrong" not in f"{refused.value!r}{refused.value.__context__!r}"


def test_a_server_that_has_just_come_up_is_no_server_that_refuses_us(postgres: TargetDatabase):
    """The first connection is told 57P03; whoever asks why finds it ready."""
    starting = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"

    def doorkeeper(door: socket.socket) -> None:
        for first in (True, False, False):
            client, _ = door.accept()
            if first:
                client.recv(8)  # the request for TLS
                client.sendall(b"N")
                client.recv(1000)
                client.sendall(b"E" + struct.pack(">i", 4 + len(starting)) + starting)
                client.close()
                continue
            server = socket.create_connection((postgres.server.host, postgres.server.port))
            threads.append(threading.Thread(target=passed_on, args=(client, server)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threads = [threading.Thread(target=doorkeeper, args=(door,))]
        threads[0].start()
        with StateStore(config(postgres, port=door.getsockname()[1]), "p") as state:
            state.migrate()
        for thread in threads:
            thread.join()


def passed_on(one: socket.socket, other: socket.socket) -> None:
    """What either says goes to the other, until one of them has hung up."""
    with one, other, suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [])[0]:
                if not (data := ready.recv(1 << 16)):
                    return
                (other if ready is one else one).sendall(data)


def test_a_server_without_a_free_connection_is_tried_again(private: Callable[..., Postgres]):
    server = private("postgres")
    database = TargetDatabase(server, "cdc")
    with database.connect("postgres", dbname="postgres") as line:
        for setting in ("max_connections = 3", "superuser_reserved_connections = 1", "max_wal_senders = 0"):
            line.execute(f"ALTER SYSTEM SET {setting}".encode())
    server.stop()
    server.start()
    target = HandTarget(config(database), "p")
    target.open()
    target.close()
    with database.connect(), database.connect():
        with pytest.raises(Retry) as after_the_password:
            target.open()
        with database.connect("postgres"), pytest.raises(Retry) as before_it:
            StateStore(config(database), "p")
    assert ("target_refuses", "target_resources") == (after_the_password.value.code, before_it.value.code)
    target.open()
    target.close()


def test_a_session_speaks_utc_iso_and_utf8(postgres: TargetDatabase):
    with StateStore(config(postgres), "p") as state:
        shown = [state.connection.execute(f"SHOW {name}".encode()).fetchone() for name in ("TimeZone", "DateStyle", "client_encoding")]
    assert [("UTC",), ("ISO, YMD",), ("UTF8",)] == shown


def test_what_waits_is_listed_by_a_program_that_is_newer_than_the_schema_too(postgres: TargetDatabase):
    """Between an upgrade and the next start of the pipeline."""
    with StateStore(config(postgres), "p") as state:
        assert {} == names_by_table(state)
        state.migrate()
        postgres.execute(
            "INSERT INTO cdc.quarantine_schema VALUES ('p', 'h', NULL, '{}')",
            """INSERT INTO cdc.quarantine (pipeline, db, "table", key_hash, key, op, value, reason, sqlstate, rule, epoch, seq,
               source_transaction, schema_id, schema_hash, source_ts)
               VALUES ('p', 'app', 'b', 'n', '', 'c', '', 'r', '', '', 1, 1, '', 0, 'h', now())""",
            f"DELETE FROM cdc.schema_version WHERE version = {VERSION}",
        )
        assert {"app.b": {"n"}} == names_by_table(state)
