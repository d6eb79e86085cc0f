"""Tables that come into the selection late, and change before they are copied: each is copied as it is by then, whoever stops meanwhile."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from cdc.protocol.signals import PAUSE, RESUME
from tests.e2e import oracle
from tests.e2e.streaming import Streaming, name_of, streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.pipelines import said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

_STATE = "SELECT state FROM cdc.tables WHERE \"table\" = 'n'"
CREATED = "CREATE TABLE n (id INT PRIMARY KEY, v INT) ENGINE={engine}"
FILLED = "INSERT INTO n (id) SELECT a.id * 50 + b.id FROM t a, t b"
CHANGES = {
    "altered": ["ALTER TABLE n ADD w VARCHAR(9), DROP v", "UPDATE n SET w = 'x' WHERE id % 3 = 0"],
    "created again": ["DROP TABLE n", "CREATE TABLE n (k VARCHAR(20) PRIMARY KEY, v INT) ENGINE={engine}",
                      "INSERT INTO n SELECT CONCAT('k', id), id FROM t"],
    "emptied": ["TRUNCATE TABLE n", "INSERT INTO n VALUES (7, 7)"],
    "created alike": ["DROP TABLE n", CREATED, "INSERT INTO n VALUES (8, 8)"],
}  # fmt: skip
WAYS = [("mariadb", "direct", "MyISAM"), pytest.param("mysql", "split", "InnoDB", marks=pytest.mark.soak)]


def _ask(source: SourceDatabase, target: TargetDatabase, works: Streaming, type_: str) -> None:
    """A signal, as `cdc.request` takes it where there is no broker."""
    signal = json.dumps({"id": type_, "type": type_, "data": {}})
    target.execute(f"INSERT INTO cdc.request (pipeline, number, signal) SELECT '{name_of(works.pipeline)}', count(*), '{signal}'"
                   f" FROM cdc.request WHERE pipeline = '{name_of(works.pipeline)}'")  # fmt: skip


def _comes(works: Streaming, target: TargetDatabase, starts: int = 2) -> None:
    """The table is consistent at last; a process that stops with its reason is started again, so often."""
    until_ = time.monotonic() + 90
    while target.execute(_STATE) != [("consistent",)]:
        assert time.monotonic() < until_, said(*works.processes.values())
        for command, process in works.processes.items():
            if not process.alive:
                starts -= 1
                assert 0 <= starts, said(process)
                works.start(command)
        time.sleep(0.05)


def _first(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES " + ", ".join(f"({n})" for n in range(50)))


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("flavour", "way", "engine"), WAYS)
def test_a_table_that_changes_in_the_middle_of_its_late_copy_is_copied_as_it_is_by_then(
    change: str, flavour: str, way: str, engine: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """While everything is down; its target is made anew where it does not fit any more."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = None if way == "direct" else request.getfixturevalue("kafka")
    _first(source)
    with streaming(pipeline, source, postgres, broker, way, snapshot={"max_rows_per_second": 400}) as works:
        caught_up(works.pipeline)
        works.kill()
        source.execute(CREATED.format(engine=engine), FILLED)
        works.start()
        until(lambda: postgres.execute("SELECT (copies->'active'->>'rows')::int > 0 FROM cdc.progress") == [(True,)], 60, "a part of it",
              *works.processes.values())  # fmt: skip
        works.kill()
        source.execute("UPDATE n SET v = 1 WHERE id < 20", *[one.format(engine=engine) for one in CHANGES[change]])
        works.start()
        _comes(works, postgres)
        caught_up(works.pipeline)
        assert {} == oracle.differences(source, postgres, ("t", "n"))


@pytest.mark.slow
@pytest.mark.parametrize("down", [True, False])
def test_a_table_that_changes_before_its_late_copy_begins_is_copied_as_it_is_by_then(
    down: bool, mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Its target was made when it was first listed. While everything is down, and while it is only waited for."""
    _first(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        caught_up(works.pipeline)
        _ask(mariadb, postgres, works, PAUSE)
        until(
            lambda: postgres.execute("SELECT copies->'paused' FROM cdc.progress") == [(True,)], 60, "the pause", *works.processes.values()
        )
        works.kill()
        mariadb.execute(CREATED.format(engine="InnoDB"), FILLED)
        works.start()
        until(lambda: postgres.execute(_STATE) == [("new",)], 60, "the table", *works.processes.values())
        if down:
            works.kill()
        mariadb.execute(*[one.format(engine="InnoDB") for one in CHANGES["created again"]])
        if down:
            works.start()
        _ask(mariadb, postgres, works, RESUME)
        _comes(works, postgres)
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, ("t", "n"))


@pytest.mark.slow
def test_a_table_that_is_created_in_the_middle_of_a_load_beside_which_capture_begins_is_copied_after_it(
    mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Capture begins where the load does, below the statement; the load does not know the table."""
    _first(mariadb)
    mariadb.execute("CREATE TABLE big (id INT PRIMARY KEY)", "INSERT INTO big SELECT a.id * 50 + b.id FROM t a, t b")
    made = pipeline(mariadb, postgres, kafka, snapshot={"max_rows_per_second": 80})
    load = made.start("snapshot")
    until(lambda: postgres.execute("SELECT to_regclass('cdc.chunks')") != [(None,)], 60, "the load", load)
    until(lambda: postgres.execute("SELECT count(*) > 0 FROM cdc.chunks") == [(True,)], 60, "a chunk", load)
    mariadb.execute(CREATED.format(engine="InnoDB"), FILLED)
    assert made.json("snapshot", "--pause")["paused"]
    assert load.alive, "it is over: this test proves nothing here"
    works = Streaming(made, "split")
    works.start()
    until(lambda: any(topic.endswith(f"{mariadb.name}.n") for topic in kafka.topics()), 60, "capture", *works.processes.values())
    assert not made.json("snapshot", "--resume")["paused"]
    assert 0 == load.process.wait(90), load.output()
    _comes(works, postgres, starts=0)
    caught_up(made)
    assert {} == oracle.differences(mariadb, postgres, ("t", "big", "n"))
    works.stop()
