"""Capture and the initial load start in any order, and each may stand still anywhere: the log is read from where the copy needs it."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from cdc.capture.restart import Restart
from cdc.capture.run import first_restart
from cdc.config.load import Config, load
from cdc.errors import Retry
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.log_positions import LogPositions
from tests.e2e import oracle
from tests.e2e.watch import caught_up, until
from tests.helpers.pipelines import Pipeline, Running, said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

_TABLES = {"keyed": "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "keyless": "CREATE TABLE t (v INT)"}


def _stopped(made: Pipeline, command: str, point: str) -> Running:
    """The command, held still at this crash point."""
    made.environ["CRASH_AT"] = f"{point}:1:stop"
    process = made.start(command)
    del made.environ["CRASH_AT"]
    until(lambda: process.stopped or not process.alive, 60, point, process)
    assert process.stopped, said(process)
    return process


def _go_on(process: Running) -> None:
    process.process.send_signal(signal.SIGCONT)


def _changed(source: SourceDatabase) -> None:
    """The log goes on by some changes that nobody may miss."""
    source.execute("INSERT INTO t (v) VALUES (1), (2)", "UPDATE t SET v = v + 10 WHERE v = 1", "DELETE FROM t WHERE v = 2")


@pytest.fixture(params=_TABLES)
def table(request: pytest.FixtureRequest) -> str:
    return _TABLES[request.param]


def test_capture_waits_for_a_load_that_has_taken_its_position_and_told_nobody(
    table: str, mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """A position that capture takes now is beyond the load's: changes between the two would be in neither."""
    mysql.execute(table, "INSERT INTO t (v) VALUES (7)")
    made = pipeline(mysql, postgres, kafka)
    loader = _stopped(made, "snapshot", "load.floor")
    _changed(mysql)
    halves = [made.start("capture"), made.start("apply")]
    until(lambda: "waiting_for_copy" in halves[0].output(), 60, "capture's word that it waits", *halves)
    _changed(mysql)
    _go_on(loader)
    until(lambda: not loader.alive, 60, "the end of the load", loader)
    _changed(mysql)
    caught_up(made)
    assert {} == oracle.differences(mysql, postgres, ["t"])
    assert all(half.alive for half in halves), said(*halves)


def _first(config: Config, catalog: Catalog) -> Restart:
    listed_at = catalog.log.shown_position()
    selected = selected_tables(catalog, config.source, config.policies.policies)
    return first_restart(config, catalog, selected, listed_at, lambda: None)


def test_a_load_that_begins_and_ends_while_capture_takes_its_position_is_found(
    table: str, source: SourceDatabase, pipeline: Any, postgres: TargetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is asked after the position is taken: before, it would have known of no load."""
    source.execute(table, "INSERT INTO t (v) VALUES (7)")
    made, visible = pipeline(source, postgres), LogPositions.visible_position

    def late(log: LogPositions) -> Position:
        _changed(source)
        made.json("snapshot")
        _changed(source)
        return visible(log)

    monkeypatch.setattr(LogPositions, "visible_position", late)
    config = load(made.path, made.environ)
    with Catalog(config.source) as catalog:
        with pytest.raises(Retry, match="after the tables were listed"):
            _first(config, catalog)
        monkeypatch.undo()
        restart = _first(config, catalog)
    [(stored,)] = postgres.execute("SELECT position FROM cdc.progress")
    assert Position.from_json(stored).covers(restart.position)


@pytest.mark.parametrize(
    ("statement", "names", "source", "point"),
    [
        pytest.param(*what, source, point, marks=[] if (at + (source == "mysql")) % 2 == (point == "load.floor:1") else pytest.mark.soak)
        for at, what in enumerate([("ALTER TABLE t ADD w INT DEFAULT 5", "t"), ("CREATE TABLE c (v INT)", "tc"), ("DROP TABLE u", "t")])
        for source in ("mariadb", "mysql")
        for point in ("target.committed:2:stop", "load.floor:1")
    ],
    indirect=["source"],
)
def test_a_table_that_changes_while_capture_waits_for_a_load_is_copied_as_it_is(
    point: str, statement: str, names: str, source: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The load knows its tables and has no position yet, or died there: the statement is below it, and capture lists after it."""
    source.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE u (v INT)", "INSERT INTO t (v) VALUES (7)")
    made = pipeline(source, postgres, kafka)
    made.environ["CRASH_AT"] = point
    loader = made.start("snapshot")
    del made.environ["CRASH_AT"]
    until(lambda: loader.stopped or not loader.alive, 60, point, loader)
    halves = [made.start("capture"), made.start("apply")]
    until(lambda: "waiting_for_copy" in halves[0].output(), 60, "capture's word that it waits", *halves)
    source.execute(statement)
    if loader.alive:
        _go_on(loader)
        until(lambda: not loader.alive, 60, "the end of the load", loader)
    else:
        made.json("snapshot")
    for name in names:
        source.execute(f"INSERT INTO {name} (v) VALUES (8), (9)")
    caught_up(made)
    assert {} == oracle.differences(source, postgres, list(names))
    assert all(half.alive for half in halves), said(*halves)


def test_the_first_position_is_none_that_a_capture_beside_the_load_is_beyond(
    table: str, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Tables without a key are read at positions of their own, above the load's: where all are, capture begins at the lowest of them."""
    mariadb.execute(table, "INSERT INTO t (v) VALUES (7)")
    made, over = pipeline(mariadb, postgres, kafka), threading.Event()

    def write() -> None:
        with mariadb.connect() as line, line.cursor() as cursor:
            while not over.wait(0.005):
                cursor.execute("INSERT INTO t (v) VALUES (3)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        loader = _stopped(made, "snapshot", "load.ended")
        halves = [made.start("capture"), made.start("apply")]
        until(lambda: f"{mariadb.name}.t" in " ".join(kafka.topics()), 60, "capture's topics", *halves)
        _go_on(loader)
        until(lambda: not loader.alive, 60, "the end of the load", loader)
    finally:
        over.set()
        writer.join()
    caught_up(made)
    assert {} == oracle.differences(mariadb, postgres, ["t"])
    assert all(half.alive for half in halves), said(*halves)
