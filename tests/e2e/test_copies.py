"""Copies while the log is followed: asked for beside work, on every way, and equal afterwards."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cdc.protocol.signals import STOP, execute
from tests.e2e import oracle
from tests.e2e.bank import TABLES, Auditor, Bank, create
from tests.e2e.streaming import Streaming, name_of, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.documents import faults
from tests.helpers.pipelines import said
from tests.helpers.servers import SourceDatabase, TargetDatabase

_ACTIVE = "(copies->'active')"
IN_PROCESS, SPLIT = ("mariadb", "direct"), ("mysql", "split")
PAIRS = (IN_PROCESS, pytest.param(*SPLIT, marks=pytest.mark.soak))


@pytest.mark.parametrize(("flavour", "way"), PAIRS)
def test_tables_are_copied_again_beside_work(flavour: str, way: str, request: Any, pipeline: Any, postgres: TargetDatabase) -> None:
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    with streaming(pipeline, source, postgres, broker, way) as works, Bank(source, 7) as bank:
        made = works.pipeline
        for table in ("savings", "odd", "journal"):
            done = made.json("copy", f"{source.name}.{table}")
            assert ("done", "whole") == (done["outcome"], done["kind"])
        bank.close()
        works.check()
        caught_up(made)
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(made)


def test_rows_that_are_read_again_beside_work_show_no_torn_state(mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Money moves between two tables all the time while both are read again in place: the reader of the target never sees a sum broken."""
    create(mysql)
    with streaming(pipeline, mysql, postgres, None, "direct") as works, Bank(mysql, 11, pause_seconds=0.001) as bank:
        made = works.pipeline
        caught_up(made)
        with Auditor(postgres, name_of(made), mysql.name):
            for number in range(4):
                options = ("--keys", ",".join(map(str, range(50)))) if number % 2 else ("--where", "balance <> 0")
                assert "done" == made.json("copy", f"{mysql.name}.savings", *options)["outcome"]
                assert "done" == made.json("copy", f"{mysql.name}.current", "--where", "TRUE")["outcome"]
        bank.close()
        caught_up(made)
        assert {} == oracle.differences(mysql, postgres, TABLES)


@pytest.mark.parametrize("own", ["mysql", pytest.param("mariadb", marks=pytest.mark.soak)], indirect=True)
def test_a_chunk_waits_until_the_server_shows_what_its_log_says(own: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Semi-synchronous replication lets readers of the log have a transaction seconds before any SELECT shows it."""
    own.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)")
    word = "source" if own.flavour == "mysql" else "master"
    if own.flavour == "mysql":
        own.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
    own.execute(f"SET GLOBAL rpl_semi_sync_{word}_wait_point = 'AFTER_SYNC'", f"SET GLOBAL rpl_semi_sync_{word}_timeout = 8000")
    with streaming(pipeline, own, postgres, None, "direct") as works:
        caught_up(works.pipeline)
        for number in range(1, 3):
            own.execute(f"SET GLOBAL rpl_semi_sync_{word}_enabled = OFF", f"SET GLOBAL rpl_semi_sync_{word}_enabled = ON")
            with ThreadPoolExecutor(1) as pool:
                update = pool.submit(own.execute, f"UPDATE t SET v = {number}")
                _await_value(own, postgres, works, number)
                assert not update.done(), "the server shows it: this test proves nothing here"
                asked = json.dumps(execute(f"r{number}", f"{own.name}.t", keys=[("1",)]))  # as `cdc copy` does, without its start
                postgres.execute(f"INSERT INTO cdc.request (pipeline, number, signal) VALUES ('{own.name}', {number - 1}, '{asked}')")
                assert not update.done(), "the request came too late to prove anything"
                done = f"SELECT outcome FROM cdc.copy WHERE request = 'r{number}'"
                until(lambda done=done: postgres.execute(done) == [("done",)], 60, "the copy", *works.processes.values())  # type: ignore[misc]
                assert update.done()
            assert [(number,)] == postgres.execute(f"SELECT v FROM {own.name}.t")


def _await_value(source: SourceDatabase, target: TargetDatabase, works: Streaming, value: int) -> None:
    until(lambda: [(value,)] == target.execute(f"SELECT v FROM {source.name}.t"), 20, "the change", *works.processes.values())


def _three_tables(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE wide (id int PRIMARY KEY, body mediumtext NOT NULL) ENGINE=MyISAM",
        "CREATE TABLE pair (a varchar(20) COLLATE utf8mb4_general_ci, b int, v int, PRIMARY KEY (a, b))",
        "CREATE TABLE heap (v int, t varchar(10)) ENGINE=MyISAM",
        "CREATE TABLE number (n int PRIMARY KEY)",
        "INSERT INTO number VALUES " + ", ".join(f"({n})" for n in range(100)),
        "INSERT INTO wide SELECT a.n * 100 + b.n, REPEAT('x', 2000) FROM number a, number b WHERE a.n < 40",
        "INSERT INTO pair SELECT CONCAT(ELT(1 + a.n % 4, 'Aa', 'ß', 'é', 'z'), a.n), b.n, 0 FROM number a, number b WHERE a.n < 60",
        "INSERT INTO heap SELECT n % 7, 'same' FROM number",
    )


@pytest.mark.parametrize(("flavour", "way"), [pytest.param(*IN_PROCESS, marks=pytest.mark.soak), SPLIT])
def test_a_copy_goes_on_where_it_was_when_processes_are_killed(
    flavour: str, way: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """One barrier per table, whoever died, so nothing began again; and what is there is what the source has."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = None if way == "direct" else request.getfixturevalue("kafka")
    _three_tables(source)
    tables = ("wide", "pair", "heap")
    with streaming(pipeline, source, postgres, broker, way, snapshot={"max_rows_per_second": 1000}) as works:
        made = works.pipeline
        caught_up(made)
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(made.json, "copy", f"{source.name}.{table}", "--no-wait") for table in tables]
            seen = [_dies_within_a_copy(works, command, source, postgres) for command in works.commands * 2]
        requests = {(one.result()["request"], "done") for one in asked}
        outcomes = "SELECT request, outcome FROM cdc.copy"
        until(lambda: requests <= set(postgres.execute(outcomes)), 90, "the copies", *works.processes.values())
        caught_up(made)
        assert {} == oracle.differences(source, postgres, tables)
        attempts = {(table, attempt) for table, attempt, _ in seen}
        assert len(attempts) == len({table for table, _ in attempts}), "a copy began again"
        for table, _ in attempts:
            rows = [count for one, _, count in seen if one == table]
            assert sorted(rows) == rows


def test_a_copy_that_was_stopped_in_its_middle_keeps_no_process_from_starting(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The table is new again and holds rows, ours: not those of a stranger, which a start refuses."""
    _three_tables(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct", snapshot={"max_rows_per_second": 1000}) as works:
        made, state = works.pipeline, "SELECT state FROM cdc.tables WHERE \"table\" = 'wide'"
        caught_up(made)
        made.json("copy", f"{mariadb.name}.wide", "--no-wait")
        rows = f"SELECT count(*) > 0 FROM {mariadb.name}.wide"
        until(lambda: postgres.execute(state) == [("copying",)] and postgres.execute(rows)[0][0], 60, "rows", *works.processes.values())
        stop = json.dumps({"id": "enough", "type": STOP, "data": {}})
        postgres.execute(f"INSERT INTO cdc.request (pipeline, number, signal) SELECT pipeline, max(number) + 1, '{stop}'"
                         f" FROM cdc.request WHERE pipeline = '{name_of(made)}' GROUP BY 1")  # fmt: skip
        until(lambda: postgres.execute(state) == [("new",)], 60, "the end of the copy", *works.processes.values())
        works.kill()
        assert postgres.execute(rows)[0][0]
        works.start()
        assert "done" == made.json("copy", f"{mariadb.name}.wide")["outcome"]
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, ("wide", "pair", "heap"))


def _dies_within_a_copy(works: Streaming, command: str, source: SourceDatabase, target: TargetDatabase) -> tuple[str, str, int]:
    """A process is killed while a copy is under way, and started again after some changes; the copy as it was."""
    columns = ", ".join(f"{_ACTIVE}->>'{name}'" for name in ("table", "id", "rows"))
    active = f"SELECT {columns} FROM cdc.progress WHERE pipeline = '{name_of(works.pipeline)}'"
    until(lambda: target.execute(active)[0][0] is not None, 60, "a copy under way", *works.processes.values())
    works.kill(command)
    changes = ("UPDATE pair SET v = v + 1 WHERE b < 9", "DELETE FROM wide WHERE id % 97 = 1 ORDER BY id DESC LIMIT 7")
    source.execute(*changes, "INSERT INTO heap VALUES (1, 'n')")
    table, attempt, rows = target.execute(active)[0]
    works.start(command)
    return str(table), str(attempt), int(rows or 0)


def _states(target: TargetDatabase) -> dict[str, str]:
    """The state of each table, by its name."""
    if target.execute("SELECT to_regclass('cdc.tables')") == [(None,)]:
        return {}
    return dict(target.execute('SELECT "table", state FROM cdc.tables'))


@pytest.mark.parametrize(("flavour", "way"), PAIRS)
def test_a_table_that_is_added_is_copied_and_one_that_is_removed_stays_as_it_was(
    flavour: str, way: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Also a keyless and an empty one; one that was created while nobody read; and one that comes back."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = () if way == "direct" else (request.getfixturevalue("kafka"),)
    source.execute(
        "CREATE TABLE a (id int PRIMARY KEY, v int)", "CREATE TABLE b (x varchar(9), y varchar(9), PRIMARY KEY (x, y))",
        "CREATE TABLE c (v int) ENGINE=MyISAM", "INSERT INTO a VALUES (1, 1)", "INSERT INTO b VALUES ('a', 'B'), ('c', 'ä')",
        "INSERT INTO c VALUES (1), (1), (NULL)",
    )  # fmt: skip
    names = {"server_id": 78_000 + len(way) + len(flavour)}
    narrow, wide = ({"source": {**names, "tables": tables}} for tables in ([f"{source.name}.a"], [f"{source.name}.?"]))
    commands = ("run",) if way == "direct" else ("capture", "apply")

    def phase(sections: Any, *changes: str, **expected: str) -> None:
        made = pipeline(source, postgres, *broker, **sections)
        if way != "direct" and not _states(postgres):
            made.json("snapshot")
        running = [made.start(command) for command in commands]
        until(lambda: _states(postgres) == expected, 60, "the states", *running)
        source.execute(*changes)
        caught_up(made)
        tables = [name for name, state in expected.items() if state == "consistent"]
        assert {} == oracle.differences(source, postgres, tables)
        assert [0] * len(running) == [one.stop() for one in running], said(*running)

    phase(narrow, "INSERT INTO a VALUES (2, 2)", a="consistent")
    source.execute("CREATE TABLE d (id int PRIMARY KEY)", "INSERT INTO b VALUES ('late', '')", "UPDATE a SET v = 9")
    phase(wide, "INSERT INTO d VALUES (7)", "DELETE FROM c WHERE v = 1 LIMIT 1", "DELETE FROM b WHERE y = 'B'",
          a="consistent", b="consistent", c="consistent", d="consistent")  # fmt: skip
    phase(
        narrow, "INSERT INTO b VALUES ('unseen', '')", "INSERT INTO a VALUES (3, 3)", a="consistent", b="stopped", c="stopped", d="stopped"
    )
    assert 3 == oracle.target_rows(postgres, source.name, "b").total() + 1
    phase(wide, "UPDATE b SET y = 'z' WHERE x = 'unseen'", a="consistent", b="consistent", c="consistent", d="consistent")


@pytest.mark.parametrize(("flavour", "way"), [pytest.param("mysql", "direct", marks=pytest.mark.soak), ("mariadb", "kafka")])
def test_what_reconcile_finds_is_mended_by_reading_it_again(
    flavour: str, way: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Changed, missing and extra rows, by keys of several columns too; a table without a key as a whole."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = None if way == "direct" else request.getfixturevalue("kafka")
    _three_tables(source)
    source.execute(
        "CREATE TABLE moment (at datetime(3) PRIMARY KEY, kind enum('a','b'))", "INSERT INTO moment VALUES ('2024-02-29 01:02:03.004', 'a')"
    )
    with streaming(pipeline, source, postgres, broker, way) as works:
        made, schema = works.pipeline, source.name
        caught_up(made)
        postgres.execute(
            f"UPDATE {schema}.pair SET v = 99 WHERE b = 7", f"DELETE FROM {schema}.pair WHERE b = 8",
            f"INSERT INTO {schema}.pair VALUES ('no such', 1, 1), ('''quoted\\', -2147483648, NULL)",
            f"INSERT INTO {schema}.heap VALUES (-1, 'extra')", f"UPDATE {schema}.moment SET at = at + interval '1 second'",
            f"DELETE FROM {schema}.wide WHERE id < 5",
        )  # fmt: skip
        found = made.json("reconcile", "--repair", timeout_seconds=300)
        assert [] == faults("reconcile", found)
        assert {"pair": ("keys", 122), "heap": ("whole", 0), "moment": ("keys", 2), "wide": ("keys", 5)} == {
            one["source"].partition(".")[2]: (one["kind"], one["keys"]) for one in found["repairs"]
        }
        assert found["equal"]
        works.check()
        assert {} == oracle.differences(source, postgres, ("wide", "pair", "heap", "moment", "number"))


def test_a_table_that_is_swapped_is_never_seen_empty_or_half(mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Its readers, also one with an old snapshot and one through a view, see all rows all the time; and the new ones in the end."""
    _three_tables(mariadb)
    schema = mariadb.name
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM {schema}.{one})" for one in ("wide", "heap", "seen"))
    with streaming(pipeline, mariadb, postgres, None, "direct", snapshot={"max_rows_per_second": 2000}) as works:
        made = works.pipeline
        caught_up(made)
        postgres.execute(f"CREATE VIEW {schema}.seen AS SELECT * FROM {schema}.wide",
                         f"UPDATE {schema}.wide SET body = 'old' WHERE id = 3999",
                         f"INSERT INTO {schema}.wide VALUES (5000, 'extra')")  # fmt: skip
        with postgres.connect() as old, ThreadPoolExecutor(2) as pool:
            old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            assert (4001, 100, 4001) == old.execute(count.encode()).fetchone()
            asked = [pool.submit(made.json, "copy", f"{schema}.{table}", "--swap") for table in ("wide", "heap")]
            number, filled = 0, False
            while not all(one.done() for one in asked):
                number += 1
                mariadb.execute(f"UPDATE wide SET body = CONCAT(body, 'y') WHERE id = {number * 37 % 4000}")
                ((wide, heap, seen),) = postgres.execute(count)
                assert wide in (4000, 4001)
                assert (100, True) == (heap, seen in (4000, 4001))
                states_now = dict(postgres.execute('SELECT "table", state FROM cdc.tables'))
                assert states_now["wide"] == "consistent"
                filled = filled or postgres.execute("SELECT 1 FROM pg_class WHERE relname LIKE 'cdc_copy_%' AND relkind = 'r'") != []
            assert ["done", "done"] == [one.result()["outcome"] for one in asked]
            assert filled, "there was no second table"
            assert (4001, 100, 4001) == old.execute(count.encode()).fetchone()
            old.rollback()
        caught_up(made)
        assert [] == postgres.execute("SELECT relname FROM pg_class WHERE relname LIKE 'cdc_copy_%'")
        assert {} == oracle.differences(mariadb, postgres, ("wide", "heap", "pair"))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_three_tables_are_copied_twenty_times_beside_work_and_are_equal_each_time(
    mariadb: SourceDatabase, kafka: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Through Kafka, each copy by another way of asking; whoever reads the target never sees money made or lost."""
    create(mariadb)
    lags: list[float] = []
    with streaming(pipeline, mariadb, postgres, kafka, "split") as works, Bank(mariadb, 3, pause_seconds=0.005) as bank:
        made = works.pipeline
        caught_up(made)
        with Auditor(postgres, name_of(made), mariadb.name):
            for number in range(20):
                options: tuple[str, ...] = ((), ("--swap",), ("--where", "TRUE"))[number % 3]
                for table in ("savings", "odd", "current"):
                    assert "done" == made.json("copy", f"{mariadb.name}.{table}", *options)["outcome"]
                    lags.append(made.json("status")["lag_seconds"]["total"])
                works.check()
                with bank.counter_closed:  # a table without a key that changes 200 times a second may stay unsettled
                    caught_up(made)
                    equal(made)
        bank.close()
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        print(
            f"{bank.done} transactions, {len(lags)} copies, lag seconds after each: most {max(lags):.2f}, mean {sum(lags) / len(lags):.2f}"
        )
