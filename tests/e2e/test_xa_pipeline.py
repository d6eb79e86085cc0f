"""XA transactions through a whole pipeline that is killed on the way: on the target when they are decided, once, and not before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.binlog.test_xa import prepared as prepare
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline
from tests.helpers.refusals import until as until_true
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase


def prepared(source: SourceDatabase, xid: str, *statements: str) -> None:
    prepare(source, f"'{xid}'", *statements)


def same(made: Pipeline, source: SourceDatabase, target: TargetDatabase) -> None:
    """After a wait both sides hold the same rows, those of the table without a key as often."""
    done = made.run("wait", "--timeout", "60")
    assert 0 == done.returncode, done.stdout + done.stderr + "".join(running.output() for running in made.running)
    for table in ("t", "heap"):
        expected = sorted(source.execute(f"SELECT * FROM {table}"))
        assert expected == sorted(target.execute(f'SELECT * FROM "{source.name}".{table}'))


def story(own: SourceDatabase, postgres: TargetDatabase, made: Pipeline, *commands: str) -> None:
    def start() -> None:
        for command in commands:
            made.start("--json", command)

    start()
    prepared(own, "one", "INSERT INTO t VALUES (10, 'one')", "UPDATE t SET v = 'one' WHERE id = 1", "INSERT INTO heap VALUES (1), (1)")
    own.execute("INSERT INTO t VALUES (20, 'plain')", "INSERT INTO heap VALUES (1)")
    same(made, own, postgres)
    shown = made.json("status")
    assert [] == faults("status", shown)
    assert shown["applied"]["position"]["floor"]["offset"] <= shown["applied"]["position"]["offset"]
    floors = postgres.execute("""SELECT floor->'floor'->>'flavour' FROM cdc.tables WHERE "table" = 'heap'""")
    assert [(own.flavour,)] == floors
    crash(made)
    prepared(own, "two", "INSERT INTO t VALUES (30, 'two')", "DELETE FROM t WHERE id = 2")
    own.execute("FLUSH BINARY LOGS", "INSERT INTO t VALUES (21, 'plain')", "INSERT INTO heap VALUES (1), (2)")
    start()
    same(made, own, postgres)
    crash(made)
    own.execute("XA COMMIT 'one'", "INSERT INTO t VALUES (22, 'plain')", "XA ROLLBACK 'two'")
    start()
    same(made, own, postgres)
    assert [(1, "one"), (2, "b"), (10, "one"), (20, "plain"), (21, "plain"), (22, "plain")] == own.execute("SELECT * FROM t ORDER BY id")


def crash(made: Pipeline) -> None:
    for running in made.running:
        running.kill()


def filled(own: SourceDatabase) -> None:
    own.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(20))", "CREATE TABLE heap (v int)")
    own.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO heap VALUES (1), (1)")


@pytest.mark.parametrize("own", ["mariadb", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True)
def test_what_is_prepared_is_neither_lost_nor_doubled_by_crashes_and_a_copy_waits_for_it(
    own: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    filled(own)
    made = pipeline(own, postgres)
    prepared(own, "early", "INSERT INTO t VALUES (3, 'early')")
    running = made.start("run")
    until_true(lambda: "xa_prepared" in running.output(), "the copy that waits")
    assert ["xa_prepared"] == [one["code"] for one in made.json("doctor")["findings"] if one["code"].startswith("xa")]
    own.execute("XA COMMIT 'early'", "DELETE FROM t WHERE id = 3")
    same(made, own, postgres)
    crash(made)
    story(own, postgres, made, "run")


@pytest.mark.parametrize("own", ["mariadb", "mysql"], indirect=True)
def test_a_copy_while_the_log_is_followed_does_not_wait_for_what_its_reader_holds_as_undecided(
    own: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    filled(own)
    made = pipeline(own, postgres)
    made.start("--json", "run")
    same(made, own, postgres)
    prepared(own, "long", "INSERT INTO t VALUES (3, 'long')", "INSERT INTO heap VALUES (2), (2)")
    same(made, own, postgres)
    for table in ("t", "heap"):
        assert 0 == made.run("copy", f"{own.name}.{table}", "--wait", "--timeout", "60").returncode
    own.execute("XA COMMIT 'long'", "INSERT INTO heap VALUES (3)")
    same(made, own, postgres)


@pytest.mark.slow
@pytest.mark.parametrize("own", ["mysql"], indirect=True)
def test_over_a_broker_the_floor_travels_in_the_cuts(own: SourceDatabase, postgres: TargetDatabase, kafka: Broker, pipeline: Any) -> None:
    filled(own)
    made = pipeline(own, postgres, kafka)
    assert 0 == made.run("snapshot").returncode
    story(own, postgres, made, "capture", "apply")
