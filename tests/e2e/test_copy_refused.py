"""Copies into a target that has definitions and readers of its own: what cannot be done is refused, once, and everything else flows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.protocol.signals import execute
from tests.e2e import oracle
from tests.e2e.streaming import Streaming, name_of, streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.documents import faults
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase


def family(source: SourceDatabase) -> None:
    """A child without a parent, as MyISAM allows it."""
    source.execute(
        "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT)",
        "INSERT INTO parent VALUES (1, 0), (2, 0)",
        "INSERT INTO child VALUES (1, 1), (2, 2)",
    )


def bind(target: TargetDatabase, schema: str) -> None:
    """A foreign key of the target, as a batch that goes table by table needs it."""
    target.execute(
        f"ALTER TABLE {schema}.child ADD CONSTRAINT of FOREIGN KEY (parent) REFERENCES {schema}.parent (id) DEFERRABLE INITIALLY DEFERRED"
    )


def states(target: TargetDatabase) -> dict[str, str]:
    return dict(target.execute('SELECT "table", state FROM cdc.tables'))


def ask(works: Streaming, target: TargetDatabase, signal: dict[str, Any]) -> None:
    """A signal that no command has looked at."""
    name = name_of(works.pipeline)
    number = f"(SELECT count(*) FROM cdc.request WHERE pipeline = '{name}')"
    target.execute(f"INSERT INTO cdc.request (pipeline, number, signal) VALUES ('{name}', {number}, '{json.dumps(signal)}')")


def outcome(works: Streaming, target: TargetDatabase, request: str) -> tuple[str, str]:
    """What became of a request, once it is over: outcome and reason."""
    sql = f"SELECT outcome, reason FROM cdc.copy WHERE request = '{request}'"
    return until(lambda: target.execute(sql), 60, f"the end of {request}", *works.processes.values())[0]


def test_a_row_that_violates_a_deferred_foreign_key_waits_when_it_is_copied_too(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    family(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made, schema = works.pipeline, mariadb.name
        bind(postgres, schema)
        mariadb.execute("INSERT INTO child VALUES (3, 33)")
        until(lambda: states(postgres)["child"] == "quarantined", 60, "the quarantine", *works.processes.values())
        for options in ((), ("--swap",), ("--where", "TRUE")):
            assert "done" == made.json("copy", f"{schema}.child", *options)["outcome"]
            mariadb.execute("UPDATE parent SET v = v + 1")
            until(lambda: states(postgres) == {"parent": "consistent", "child": "quarantined"}, 60, "both", *works.processes.values())
            assert [(1, 1), (2, 2)] == sorted(postgres.execute(f"SELECT id, parent FROM {schema}.child"))
        mariadb.execute("INSERT INTO parent VALUES (33, 0)")
        until(lambda: postgres.execute(f"SELECT 1 FROM {schema}.parent WHERE id = 33"), 60, "the parent", *works.processes.values())
        assert 1 == made.json("quarantine", "replay")["replayed"]
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, ("parent", "child"))


def test_a_table_that_a_foreign_key_references_is_not_emptied_but_can_be_swapped(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The command says so before it asks; who asks by a signal hears it as the outcome, and the table goes on as it was."""
    family(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made, schema = works.pipeline, mariadb.name
        caught_up(made)
        bind(postgres, schema)
        said = made.run("--json", "copy", f"{schema}.parent")
        error = json.loads(said.stdout)["error"]
        assert (2, "target_referenced", f"{schema}.parent") == (said.returncode, error["code"], error["place"])
        ask(works, postgres, execute("whole", f"{schema}.parent"))
        ended, reason = outcome(works, postgres, "whole")
        assert ("refused", True) == (ended, f"{schema}.child" in reason), reason
        mariadb.execute("INSERT INTO parent VALUES (3, 0)", "UPDATE parent SET v = 9 WHERE id = 1", "INSERT INTO child VALUES (3, 3)")
        caught_up(made)
        assert {"parent": "consistent", "child": "consistent"} == states(postgres)
        assert {} == oracle.differences(mariadb, postgres, ("parent", "child"))
        postgres.execute(f"UPDATE {schema}.parent SET v = 77 WHERE id = 2")
        assert "done" == made.json("copy", f"{schema}.parent", "--swap")["outcome"]
        works.check()
        assert {} == oracle.differences(mariadb, postgres, ("parent", "child"))


def test_a_swap_that_would_take_a_referenced_row_away_is_refused_and_the_table_stays(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    family(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made, schema = works.pipeline, mariadb.name
        caught_up(made)
        postgres.execute(f"INSERT INTO {schema}.parent VALUES (5, 5)", f"INSERT INTO {schema}.child VALUES (5, 5)")
        bind(postgres, schema)
        said = made.run("--json", "copy", f"{schema}.parent", "--swap")
        found = json.loads(said.stdout)
        assert (1, "refused", True) == (said.returncode, found["outcome"], "23503" in found["reason"]), said.stdout
        mariadb.execute("UPDATE parent SET v = 9 WHERE id = 1")
        caught_up(made)
        assert [] == postgres.execute("SELECT relname FROM pg_class WHERE relname LIKE 'cdc_copy_%'")
        assert [(1, 9), (2, 0), (5, 5)] == sorted(postgres.execute(f"SELECT id, v FROM {schema}.parent"))


def test_readers_that_never_leave_a_table_do_not_keep_it_from_being_copied(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """TRUNCATE would wait for them, and everybody else behind it."""
    family(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made, schema = works.pipeline, mariadb.name
        caught_up(made)
        with postgres.connect() as reader:
            reader.execute("BEGIN")
            reader.execute(f"SELECT count(*) FROM {schema}.child".encode())
            done = made.json("copy", f"{schema}.child", "--timeout", "40")
            assert ("done", 2) == (done["outcome"], done["rows"])
            assert "target_locked" not in works.processes["run"].output()
            reader.execute("ROLLBACK")
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, ("parent", "child"))


def test_what_was_asked_for_is_taken_back_by_a_command(mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Under way and waiting alike; and it says so where there is nothing, or what only the selection can take back."""
    family(mariadb)
    mariadb.execute("CREATE TABLE many (id INT PRIMARY KEY, v INT)", "INSERT INTO many SELECT seq, 0 FROM seq_1_to_20000")
    with streaming(pipeline, mariadb, postgres, None, "direct", snapshot={"max_rows_per_second": 1000}) as works:
        made, schema = works.pipeline, mariadb.name
        caught_up(made)
        first = made.json("copy", f"{schema}.many", "--no-wait")["request"]
        active = f"SELECT copies->'active'->>'request' FROM cdc.progress WHERE pipeline = '{name_of(made)}'"
        until(lambda: postgres.execute(active) == [(first,)], 60, "the copy", *works.processes.values())
        second = made.json("copy", f"{schema}.many", "--keys", "1,2", "--no-wait")["request"]
        for reason in ("", "nothing_to_stop"):
            stopped = made.json("copy", f"{schema}.many", "--stop")
            assert [] == faults("copy_stop", stopped)
            assert ("stopped", reason) == (stopped["outcome"], stopped["reason"])
        for request in (first, second):
            assert "stopped" == outcome(works, postgres, request)[0]
        said = made.run("--json", "copy", f"{schema}.many", "--stop", "--swap")
        assert (2, "usage") == (said.returncode, json.loads(said.stdout)["error"]["code"])
        said = made.run("--json", "copy", f"{schema}.nothing", "--stop")
        assert (2, "not_selected") == (said.returncode, json.loads(said.stdout)["error"]["code"])
        assert "new" == states(postgres)["many"]
        assert "done" == made.json("copy", f"{schema}.many")["outcome"]
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, ("parent", "child", "many"))


@pytest.mark.parametrize("scaled", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_table_whose_place_is_taken_stays_refused_although_its_copy_goes_on(
    scaled: bool, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Capture does not know: it is killed in the middle of a copy into nothing, and its next base says that the copy goes on."""
    family(mariadb)
    mariadb.execute("CREATE TABLE many (id INT PRIMARY KEY, v INT)", "INSERT INTO many SELECT seq, 0 FROM seq_1_to_3000")
    schema, sections = mariadb.name, {"transport": {"partitions": 2}, "apply": {"shards": 2}} if scaled else {}
    pace = {"snapshot": {"max_rows_per_second": 500}, **sections}
    server = {"server_id": 79_001 + scaled}
    narrow = {"source": {**server, "tables": [f"{schema}.parent", f"{schema}.child"]}, **pace}
    made = pipeline(mariadb, postgres, kafka, **narrow)
    made.json("snapshot")
    mine = f"CREATE TABLE {schema}.many (id integer PRIMARY KEY, v integer)"
    postgres.execute(mine, f"INSERT INTO {schema}.many VALUES (1, -1), (9000, -9)")
    wide = {"source": {**server, "tables": [f"{schema}.*"]}, **pace}
    works = Streaming(pipeline(mariadb, postgres, kafka, **wide), "split")
    works.start()
    active = f"SELECT copies->'active'->>'table' FROM cdc.progress WHERE pipeline = '{name_of(made)}'"
    until(lambda: postgres.execute(active) == [("many",)], 90, "the copy", *works.processes.values())
    assert "refused" == states(postgres)["many"]
    works.kill("capture")
    works.start("capture")
    log = works.processes["capture"]
    until(lambda: '"copy_ended"' in log.output(), 90, "the end of the copy", log)
    mariadb.execute("UPDATE many SET v = v + 1", "INSERT INTO child VALUES (7, 1)")
    until(lambda: postgres.execute(f"SELECT 1 FROM {schema}.child WHERE id = 7"), 60, "the others", *works.processes.values())
    assert [(1, -1), (9000, -9)] == sorted(postgres.execute(f"SELECT id, v FROM {schema}.many"))
    assert "refused" == states(postgres)["many"]
    said = works.pipeline.run("--json", "copy", f"{schema}.many")
    found = json.loads(said.stdout)
    assert (1, "refused", True) == (said.returncode, found["outcome"], "holds rows" in found["reason"]), said.stdout
    works = _again(works, pipeline(mariadb, postgres, kafka, **narrow))
    until(lambda: "stopped" == states(postgres)["many"], 60, "the table to leave", *works.processes.values())
    works = _again(works, pipeline(mariadb, postgres, kafka, **wide))
    until(lambda: "refused" == states(postgres)["many"], 60, "the table to come back", *works.processes.values())
    assert [(1, -1), (9000, -9)] == sorted(postgres.execute(f"SELECT id, v FROM {schema}.many"))
    postgres.execute(f"DROP TABLE {schema}.many")
    assert "done" == works.pipeline.json("copy", f"{schema}.many")["outcome"]
    caught_up(works.pipeline)
    assert {"consistent"} == set(states(postgres).values())
    assert {} == oracle.differences(mariadb, postgres, ("parent", "child", "many"))
    works.stop()


def _again(works: Streaming, made: Any) -> Streaming:
    """The same with another configuration."""
    works.stop()
    works = Streaming(made, "split")
    works.start()
    return works
