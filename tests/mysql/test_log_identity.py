"""Every way in which a source stops being the one whose log was read: what is provably the same goes on, all else stops by name.

docs/identity.md is the table; `tests/project/test_guarantees.py` holds it to these tests.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc.binlog.events import Commit, Heartbeat, RowsEvent
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.mysql.server_preflight import examine_server
from tests import run
from tests.helpers.documents import faults
from tests.helpers.refusals import ended, error, rows, streaming, until as until_true
from tests.helpers.servers import PASSWORD, SourceDatabase, TargetDatabase, fresh_name, lent
from tests.helpers.source_log import config, position, reading, until

Private = Callable[..., Any]
BOTH = pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
RESET = {"mariadb": "RESET MASTER", "mysql": "RESET BINARY LOGS AND GTIDS"}


def follow(source: SourceDatabase, start: Position) -> tuple[list[int], Position]:
    """The numbers that were inserted into `t` since, and where the log stands now, read to its end."""
    with Catalog(config(source)) as catalog:
        end = catalog.log.written_position()
    with reading(source, start) as reader:
        events = until(reader, end)
        numbers = [int.from_bytes(each.body[each.start + 1 : each.start + 5], "little") for each in events if isinstance(each, RowsEvent)]
        return numbers, reader.position


def insert(source: SourceDatabase, *numbers: int) -> None:
    source.execute(*(f"INSERT INTO t VALUES ({number})" for number in numbers))


def begun(source: SourceDatabase, *numbers: int) -> Position:
    """A table, some rows, and the position behind them, read from the log."""
    source.execute("CREATE TABLE t (a INT PRIMARY KEY) ENGINE=InnoDB")
    start = position(source)
    insert(source, *numbers)
    found, at = follow(source, start)
    assert list(numbers) == found
    assert at.file_created
    return at


def refused(source: SourceDatabase, at: Position) -> str:
    """The code with which a reader that begins here stops before it says anything."""
    with pytest.raises(Halt) as stopped, reading(source, at) as reader:
        for event in reader:
            assert not isinstance(event, Commit | Heartbeat), "the log is followed"
    assert stopped.value.hint
    return stopped.value.code


@contextlib.contextmanager
def copied(server: Any, *, identity: bool = True) -> Iterator[Any]:
    """A server on a copy of another one's files, on a port of its own; the other one is stopped for the copy and starts again."""
    server.stop()
    place = run.folder() / fresh_name()
    shutil.copytree(server.data, place / "data")
    if not identity:
        (place / "data" / "auto.cnf").unlink(missing_ok=True)
    for done in ("prepared", "settled"):
        (place / done).touch()
    other = run.KINDS[server.name](place, server.settings)
    server.start()
    await_next_second()
    other.start()
    yield other
    other.purge()


def await_next_second() -> None:
    """The time in a log file's header is in seconds: a file made from here on has another one than those that are there."""
    time.sleep(1.1)


def backup(server: Any) -> Path:
    """A copy of a server's files, made while it is stopped."""
    server.stop()
    kept: Path = run.folder() / fresh_name()
    shutil.copytree(server.data, kept)
    server.start()
    return kept


def restore(server: Any, kept: Path) -> None:
    """The server goes on from an older copy of its own files, identity and all."""
    server.stop()
    shutil.rmtree(server.data)
    shutil.copytree(kept, server.data)
    await_next_second()
    server.start()


# -- failover


def told(source: SourceDatabase, *statements: str) -> list[tuple[Any, ...]]:
    """Statements about replication: a replica that has not begun has no database yet."""
    with contextlib.closing(source.connect(database=None)) as line, line.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


class Pair:
    """A server and a replica of it, which may change their parts."""

    def __init__(self, private: Private, flavour: str, logging: str = "ON") -> None:
        logs = "--log-slave-updates" if flavour == "mariadb" else "--log-replica-updates"
        self.first = SourceDatabase(private(flavour, options=(logs,)))
        self.second = SourceDatabase(private(flavour, options=(f"{logs}={logging}", "--server-id=2")), self.first.name)
        self.flavour = flavour

    def follow(self, replica: SourceDatabase, source: SourceDatabase) -> None:
        if self.flavour == "mariadb":
            who = f"MASTER_HOST='127.0.0.1', MASTER_PORT={source.port}, MASTER_USER='root', MASTER_PASSWORD='{PASSWORD}'"
            told(replica, "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos", f"CHANGE MASTER TO {who}, MASTER_USE_GTID=slave_pos")
            told(replica, "START SLAVE")
        else:
            who = f"SOURCE_HOST='127.0.0.1', SOURCE_PORT={source.port}, SOURCE_USER='root', SOURCE_PASSWORD='{PASSWORD}'"
            told(replica, f"CHANGE REPLICATION SOURCE TO {who}, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1", "START REPLICA")
        self.catch_up(replica, source)

    def catch_up(self, replica: SourceDatabase, source: SourceDatabase) -> None:
        if self.flavour == "mariadb":
            [[there]] = told(source, "SELECT @@GLOBAL.gtid_binlog_pos")
            assert [(0,)] == told(replica, f"SELECT MASTER_GTID_WAIT('{there}', 60)")
        else:
            [[there]] = told(source, "SELECT @@GLOBAL.gtid_executed")
            assert [(0,)] == told(replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{there}', 60)")

    def promote(self, replica: SourceDatabase) -> None:
        if self.flavour == "mariadb":
            told(replica, "STOP SLAVE", "RESET SLAVE ALL")
        else:
            told(replica, "STOP REPLICA", "RESET REPLICA ALL")


@contextlib.contextmanager
def pair(private: Private, flavour: str, logging: str = "ON") -> Iterator[Pair]:
    both = Pair(private, flavour, logging)
    with contextlib.closing(both.second), lent(both.first):
        yield both


@BOTH
def test_failover_to_a_replica_and_back_loses_and_repeats_nothing(private: Private, flavour: str) -> None:
    """Back also when nothing was written meanwhile: then the position holds the old server's own transactions only."""
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        at = begun(one, 1, 2)
        servers.follow(two, one)
        if flavour == "mysql":
            one.execute("SET gtid_next = 'AUTOMATIC:health_1'")  # a tag of its own
        insert(one, 3)
        servers.catch_up(two, one)
        servers.promote(two)
        numbers, at = follow(one, at)
        assert [3] == numbers
        numbers, there = follow(two, at)
        assert [] == numbers
        insert(one, 4)
        numbers, back = follow(one, there)
        assert [4] == numbers
        assert ([], back.server) == (follow(one, back)[0], at.server)


@BOTH
def test_a_server_that_cannot_be_told_from_a_clone_of_itself_stops_until_the_other_has_written(private: Private, flavour: str) -> None:
    """Its last transaction was read on the replica, by MariaDB's number alone: a clone with its server_id could have written that."""
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        at = begun(one, 1)
        servers.follow(two, one)
        insert(one, 2)
        servers.catch_up(two, one)
        servers.promote(two)
        told(two, "FLUSH BINARY LOGS")  # two files with one name, begun in one second, alike in every byte, are the same history
        numbers, at = follow(two, at)
        assert [2] == numbers
        if flavour == "mariadb":
            assert "other_server" == refused(one, at)
            two.execute("FLUSH TABLES")
            numbers, at = follow(two, at)
        servers.follow(one, two)
        assert [] == follow(one, at)[0]


@BOTH
def test_a_replica_that_does_not_log_what_it_takes_over_is_refused(
    private: Private, flavour: str, postgres: TargetDatabase, pipeline: Any
) -> None:
    """As every MariaDB is unless it is told otherwise: it is idle by its own log, however much is written to it."""
    with pair(private, flavour, "OFF") as servers:
        one, two = servers.first, servers.second
        one.execute("CREATE TABLE t (a INT PRIMARY KEY)")
        with Catalog(config(one)) as catalog:
            assert [] == [finding for finding in examine_server(catalog) if finding.code == "log_replica_updates"]
        servers.follow(two, one)
        made = pipeline(two, postgres)
        assert "log_replica_updates" == error(made, "run")["code"]
        if flavour == "mariadb":
            told(two, "STOP SLAVE")
            with Catalog(config(two)) as catalog:
                assert ["warning"] == [finding.level for finding in examine_server(catalog) if finding.code == "log_replica_updates"]
            servers.promote(two)
            told(two, "SET GLOBAL gtid_slave_pos = ''")
            made.json("snapshot")


@BOTH
def test_failover_with_writes_on_both_sides_of_it_and_back(private: Private, flavour: str) -> None:
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        at = begun(one, 1)
        servers.follow(two, one)
        insert(one, 2)
        servers.catch_up(two, one)
        servers.promote(two)
        insert(two, 3)
        numbers, at = follow(two, at)
        assert [2, 3] == numbers
        servers.follow(one, two)
        insert(two, 4)
        servers.catch_up(one, two)
        servers.promote(one)
        insert(one, 5)
        numbers, at = follow(one, at)
        assert [4, 5] == numbers
        insert(two, 6)  # two servers that are written: neither holds the other's
        assert "source_diverged" == refused(two, at)


@BOTH
def test_a_replica_that_is_behind_stops_until_it_has_caught_up(private: Private, flavour: str) -> None:
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        begun(one, 1)
        servers.follow(two, one)
        servers.promote(two)
        insert(one, 2)
        _, at = follow(one, position(one))
        insert(one, 3)
        _, at = follow(one, at)
        assert "source_diverged" == refused(two, at)
        servers.follow(two, one)
        assert ([], at.gtids) == (follow(two, at)[0], follow(two, at)[1].gtids)


def test_a_place_without_gtids_is_followed_on_its_own_server_only(private: Private) -> None:
    options = ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
    with lent(SourceDatabase(private("mysql", options=options))) as source:
        source.execute("GRANT BACKUP_ADMIN ON *.* TO cdc")
        at = begun(source, 1)
        assert at.by_file
        insert(source, 2)
        assert [2] == follow(source, at)[0]
        assert "other_server" == refused(source, replace(at, server="another"))


# -- copies of a server


@BOTH
def test_a_clone_goes_on_where_its_history_is_the_same(private: Private, flavour: str) -> None:
    """MySQL gives a copy without auto.cnf another uuid; MariaDB's server_uid depends on the port."""
    with lent(SourceDatabase(private(flavour))) as source:
        at = begun(source, 1, 2)
        source.close()
        with copied(source.server, identity=False) as server, contextlib.closing(SourceDatabase(server, source.name)) as clone:
            insert(clone, 3)
            insert(source, 30)
            numbers, there = follow(clone, at)
            assert [3] == numbers
            assert there.server != at.server
            _, here = follow(source, at)
            assert refused(clone, here) in ("source_diverged", "log_rewritten", "log_shortened", "other_server")
            assert refused(source, there) in ("source_diverged", "log_rewritten", "log_shortened", "other_server")


@BOTH
def test_a_restored_backup_stops_also_when_it_has_given_the_same_numbers_to_other_transactions(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        begun(source, 1)
        source.close()
        kept = backup(source.server)
        start = position(source)
        insert(source, 2, 3)
        _, at = follow(source, start)
        source.close()
        restore(source.server, kept)
        assert refused(source, at) in ("source_diverged", "log_rewritten", "log_shortened")
        insert(source, 20, 30)  # the numbers of 2 and 3
        source.execute("FLUSH BINARY LOGS")
        insert(source, 40)
        assert "log_rewritten" == refused(source, at), (
            "its numbers are all there, and the server would go on behind them: only the file tells"
        )


@BOTH
def test_a_log_that_was_reset_to_fewer_files_stops(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        source.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        at = begun(source, 1)
        await_next_second()
        source.execute(RESET[flavour])
        insert(source, *range(2, 40))
        assert refused(source, at) in ("log_rewritten", "source_diverged")
        assert "log_rewritten" == refused(source, at)


# -- a log that begins anew


def restarted(server: Any, *options: str) -> None:
    """The server with other options than it had."""
    server.stop()
    server.settings = replace(server.settings, options=(*server.settings.options, *options))
    await_next_second()
    server.start()


@BOTH
def test_a_log_that_begins_anew_under_another_name_stops_whether_its_numbers_lie_below_or_beyond(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        source.execute("FLUSH BINARY LOGS")
        at = begun(source, 1, 2, 3)
        if flavour == "mysql":
            source.execute(RESET[flavour])  # MariaDB keeps its numbers in a file beside the log, MySQL in a table
        source.close()
        restarted(source.server, "--log-bin=other")
        insert(source, 20)
        assert "log_rewritten" == refused(source, at)
        insert(source, *range(30, 60))
        assert "log_rewritten" == refused(source, at)


@BOTH
def test_a_log_that_goes_on_under_another_name_is_followed_where_all_of_the_old_one_was_read(private: Private, flavour: str) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        early = begun(source, 1)
        insert(source, 2)
        numbers, at = follow(source, early)
        assert [2] == numbers
        source.close()
        source.server.stop()
        if flavour == "mariadb":
            shutil.copy(source.server.data / "binlog.state", source.server.data / "other.state")
        restarted(source.server, "--log-bin=other")
        insert(source, 3)
        assert [3] == follow(source, at)[0]
        assert "log_purged" == refused(source, early)


@BOTH
def test_a_position_that_goes_by_numbers_alone_carries_a_place(private: Private, flavour: str) -> None:
    """As a busy server's visible position does: the first one of a copy."""
    with lent(SourceDatabase(private(flavour))) as source:
        source.execute("CREATE TABLE t (a INT PRIMARY KEY) ENGINE=InnoDB", "FLUSH BINARY LOGS")
        insert(source, 1)
        with Catalog(config(source)) as catalog:
            numbers = replace(catalog.log.shown_position(), file="", offset=0)
            at = catalog.identity.proven(numbers)
        assert [] == follow(source, at)[0]
        source.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        purge(source, [row[0] for row in source.execute("SHOW BINARY LOGS")][-1])
        insert(source, 2)
        found, there = follow(source, at)
        assert ([2], ()) == (found, there.peers)
        assert "place_unknown" == refused(source, numbers)
        await_next_second()
        source.execute(RESET[flavour])
        assert refused(source, at) in ("log_rewritten", "source_diverged")
        insert(source, *range(30, 60))
        assert "log_rewritten" == refused(source, at)


@BOTH
def test_a_replica_whose_log_was_not_written_since_the_failover_is_known_by_a_place_too(private: Private, flavour: str) -> None:
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        at = begun(one, 1)
        servers.follow(two, one)
        servers.promote(two)
        _, there = follow(two, at)
        assert at.server != there.server
        assert [] == follow(two, there)[0]
        await_next_second()
        told(two, RESET[flavour])
        insert(two, *range(30, 60))
        assert refused(two, there) in ("log_rewritten", "source_diverged")


def test_a_place_without_gtids_is_known_from_the_first_position_on(private: Private) -> None:
    options = ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
    with lent(SourceDatabase(private("mysql", options=options))) as source:
        source.execute("GRANT BACKUP_ADMIN ON *.* TO cdc", "CREATE TABLE t (a INT PRIMARY KEY)")
        at = position(source)
        await_next_second()
        source.execute("RESET BINARY LOGS AND GTIDS")
        insert(source, *range(30))
        assert "log_rewritten" == refused(source, at)


def test_numbers_that_are_set_by_hand_prove_nothing(private: Private) -> None:
    with lent(SourceDatabase(private("mariadb"))) as source:
        at = begun(source, 1, 2)
        await_next_second()
        source.execute("RESET MASTER", f"SET GLOBAL gtid_binlog_state = '{at.gtids}'")
        assert "log_rewritten" == refused(source, at)
        insert(source, 3)
        assert "log_rewritten" == refused(source, at)


@BOTH
def test_a_log_that_is_reset_while_it_is_followed_is_not_taken_for_a_silent_one(
    private: Private, flavour: str, postgres: TargetDatabase, pipeline: Any
) -> None:
    """The server goes on sending heartbeats from where the old log ended, until the new one is as long."""
    with lent(SourceDatabase(private(flavour))) as source:
        source.execute("CREATE TABLE t (a INT PRIMARY KEY)")
        insert(source, *range(20))
        made = pipeline(source, postgres)
        (running,) = streaming(made)
        assert 0 == made.run("wait", "--timeout", "60").returncode
        assert made.json("status")["source"]["continues"]
        await_next_second()
        source.execute(RESET[flavour])
        insert(source, 100)
        said = error(made, "wait", exit_code=1)
        assert said["code"] in ("log_rewritten", "log_shortened", "source_diverged")
        assert "log_rewritten" in ended(running)
        shown = made.json("status")
        assert [] == faults("status", shown)
        assert (False, None) == (shown["source"]["continues"], shown["lag_seconds"]["total"])
        assert [None] == [table["consistent_through"] for table in shown["tables"]]
        insert(source, *range(200, 240))
        assert "log_rewritten" == error(made, "wait", exit_code=1)["code"]
        assert "log_rewritten" == error(made, "reconcile", exit_code=1)["code"]


@BOTH
def test_a_load_that_is_resumed_on_another_history_stops(private: Private, flavour: str, postgres: TargetDatabase, pipeline: Any) -> None:
    with lent(SourceDatabase(private(flavour))) as source:
        source.execute("CREATE TABLE t (a INT PRIMARY KEY)", *(f"INSERT INTO t VALUES ({number})" for number in range(200)))
        made = pipeline(source, postgres, snapshot={"max_rows_per_second": 10})
        running = made.start("run")
        until_true(lambda: made.json("status")["tables"][0]["rows_loaded"] > 0, "the first chunk")
        running.kill()
        await_next_second()
        source.execute(RESET[flavour])
        insert(source, *range(1000, 1300))
        assert "log_rewritten" == error(made, "run", exit_code=1)["code"]


# -- files


@BOTH
def test_a_log_file_that_is_deleted_from_the_disk_stops(private: Private, flavour: str) -> None:
    """Ours, and one behind it; the server's index still lists them."""
    with lent(SourceDatabase(private(flavour))) as source:
        at = begun(source, 1)
        source.execute("FLUSH BINARY LOGS")
        insert(source, 2)
        [*_, middle] = [row[0] for row in source.execute("SHOW BINARY LOGS")]
        source.execute("FLUSH BINARY LOGS")
        insert(source, 3)
        (source.server.data / middle).unlink()
        assert "log_purged" == refused(source, at)
        (source.server.data / at.file).unlink()
        assert "log_purged" == refused(source, at)


@BOTH
def test_a_file_that_was_purged_behind_the_position_is_not_missed(private: Private, flavour: str) -> None:
    """The position stood at its end: everything after it is still there."""
    with lent(SourceDatabase(private(flavour))) as source:
        at = begun(source, 1)
        source.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        last = [row[0] for row in source.execute("SHOW BINARY LOGS")][-1]
        purge(source, last)
        insert(source, 2)
        assert [2] == follow(source, at)[0]
        source.execute("FLUSH BINARY LOGS")
        purge(source, [row[0] for row in source.execute("SHOW BINARY LOGS")][-1])
        assert "log_purged" == refused(source, at)


def purge(source: SourceDatabase, until_file: str) -> None:
    """MariaDB keeps a file until a checkpoint no longer needs it."""
    while source.execute(f"PURGE BINARY LOGS TO '{until_file}'", "SHOW BINARY LOGS")[0][0] != until_file:
        source.execute("DO 1")


# -- MariaDB's domains


def test_a_domain_whose_numbers_go_back_stops(private: Private) -> None:
    with lent(SourceDatabase(private("mariadb", options=("--gtid-strict-mode=OFF",)))) as source:
        at = begun(source, 1)
        source.execute("SET SESSION gtid_domain_id = 7", "SET SESSION gtid_seq_no = 100")
        insert(source, 2)
        numbers, there = follow(source, at)
        assert [2] == numbers
        source.execute("SET SESSION gtid_seq_no = 50")
        insert(source, 3)
        assert "sequence_not_growing" == stopped_at_once(source, at)
        assert "source_diverged" == refused(source, there), "the server cannot find what its newer numbers hide"


def stopped_at_once(source: SourceDatabase, at: Position) -> str:
    with pytest.raises(Halt) as stopped:
        follow(source, at)
    return stopped.value.code


# -- what else


def test_gtids_that_were_switched_off_stop(private: Private) -> None:
    with lent(SourceDatabase(private("mysql"))) as source:
        at = begun(source, 1)
        steps = ("ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF")
        source.execute(*(f"SET GLOBAL gtid_mode = {step}" for step in steps))
        assert "gtid_off" == refused(source, at)


def test_the_way_out_that_the_page_names_heals(private: Private, postgres: TargetDatabase, pipeline: Any) -> None:
    """docs/identity.md: the command is that of the page."""
    with lent(SourceDatabase(private("mariadb"))) as source:
        source.execute("CREATE TABLE patient (a INT PRIMARY KEY)", "INSERT INTO patient VALUES (1)")
        made = pipeline(source, postgres)
        (running,) = streaming(made)
        assert 0 == running.stop()
        await_next_second()
        source.execute("RESET MASTER", "DELETE FROM patient", "INSERT INTO patient VALUES (2)")
        said = error(made, "run", exit_code=1)
        assert said["code"] in ("log_rewritten", "log_shortened")
        assert "cdc reset --all" in said["hint"]
        page = (Path(__file__).resolve().parents[2] / "docs" / "identity.md").read_text()
        [block] = re.findall(r"```\n(.*?)```", page, re.DOTALL)
        assert 0 == made.run(*block.split()[1:], "--yes").returncode
        (running,) = streaming(made)
        assert [(2,)] == rows(postgres, source.name, "patient")
        assert 0 == running.stop()


@pytest.mark.soak
@BOTH
@pytest.mark.parametrize("transport", ["direct", "kafka"])
def test_a_pipeline_is_moved_to_a_replica_and_back_by_its_address(
    transport: str, flavour: str, private: Private, postgres: TargetDatabase, pipeline: Any, request: pytest.FixtureRequest
) -> None:
    """Nothing is copied again, and `cdc reconcile` finds both sides equal."""
    places = [request.getfixturevalue("kafka")] if transport == "kafka" else []
    with pair(private, flavour) as servers:
        one, two = servers.first, servers.second
        one.execute("CREATE TABLE t (a INT PRIMARY KEY)", "CREATE TABLE n (a INT)")
        servers.follow(two, one)
        made = pipeline(one, postgres, *places)
        for number, (here, there) in enumerate([(one, two), (two, one), (one, two)]):
            (running,) = streaming(made)
            here.execute(f"INSERT INTO t VALUES ({number})", f"INSERT INTO n VALUES ({number}), ({number})")
            assert 0 == made.run("wait", "--timeout", "60").returncode
            assert 0 == running.stop()
            here.execute(f"INSERT INTO t VALUES (1{number})", f"INSERT INTO n VALUES (1{number})")
            servers.catch_up(there, here)
            servers.promote(there)
            there.execute(f"INSERT INTO t VALUES (2{number})")
            servers.follow(here, there)
            made.path.write_text(made.path.read_text().replace(f":{here.port}/", f":{there.port}/"))
        (running,) = streaming(made)
        assert 9 == len(rows(postgres, one.name))
        assert 0 == made.run("reconcile").returncode
        assert 0 == running.stop()
