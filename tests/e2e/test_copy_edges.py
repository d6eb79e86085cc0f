"""Copies while the log is followed, where something else is under way: a lock, a quarantine, a copy that was stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.config.load import load
from cdc.monitoring.status import status
from cdc.protocol.signals import execute
from tests.e2e import oracle
from tests.e2e.streaming import name_of, streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.servers import SourceDatabase, TargetDatabase

ROWS = 4000


def _wide(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE number (n INT NOT NULL PRIMARY KEY)",
        "INSERT INTO number VALUES " + ", ".join(f"({n})" for n in range(100)),
        "CREATE TABLE wide (id INT NOT NULL PRIMARY KEY, v INT NOT NULL)",
        f"INSERT INTO wide SELECT a.n * 100 + b.n, 0 FROM number a, number b WHERE a.n < {ROWS // 100}",
    )


def test_a_table_without_a_key_is_not_locked_while_its_copy_is_announced(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """To say it may take as long as a broker is away: the practice would wait for that."""
    mariadb.execute("CREATE TABLE heap (v INT) ENGINE=MyISAM", "INSERT INTO heap VALUES (1), (1)")
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        works.kill()
        works.pipeline.environ["CRASH_AT"] = "capture.copy_announced:1:stop"
        works.start()
        del works.pipeline.environ["CRASH_AT"]
        works.pipeline.json("copy", f"{mariadb.name}.heap", "--no-wait")
        until(lambda: works.processes["run"].stopped, 60, "the barrier", *works.processes.values())
        mariadb.execute("SET SESSION lock_wait_timeout = 5", "INSERT INTO heap VALUES (2)")
        works.kill()
        works.start()
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, ["heap"])


def test_a_key_that_a_swapping_copy_frees_is_not_shown_as_it_was(mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """What waited for the key is dropped because its row was read anew: then the table that readers see has that row at once."""
    _wide(mysql)
    with streaming(pipeline, mysql, postgres, None, "direct", snapshot={"max_rows_per_second": 2000}) as works:
        made, place = works.pipeline, f"{mysql.name}.wide"
        caught_up(made)
        postgres.execute(f"ALTER TABLE {place} ADD CONSTRAINT small CHECK (v < 100)")
        mysql.execute("UPDATE wide SET v = 200 WHERE id = 1")  # alone: of two in one batch the target sees the last
        look = f"SELECT t.state, (SELECT v FROM {place} WHERE id = 1) FROM cdc.tables t WHERE t.\"table\" = 'wide'"
        until(lambda: [("quarantined", 0)] == postgres.execute(look), 60, "the quarantine", *works.processes.values())
        mysql.execute("UPDATE wide SET v = 50 WHERE id = 1")
        made.json("copy", place, "--swap", "--no-wait")
        seen = set()
        while not postgres.execute("SELECT 1 FROM cdc.copy"):
            seen |= set(postgres.execute(look))
            works.check()
        assert {("quarantined", 0), ("consistent", 50)} >= seen
        assert [("consistent", 50)] == postgres.execute(look)


def _ask(target: TargetDatabase, pipeline: str, signal: dict[str, Any]) -> None:
    """A signal, as `cdc copy` gives it in process."""
    number = f"(SELECT count(*) FROM cdc.request WHERE pipeline = '{pipeline}')"
    target.execute(f"INSERT INTO cdc.request (pipeline, number, signal) VALUES ('{pipeline}', {number}, '{json.dumps(signal)}')")


@pytest.mark.soak
def test_a_swap_of_a_table_whose_copy_was_stopped_copies_it_in_place(
    mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Nothing of it is shown, so there is nothing to keep; and a restart goes on from what the copy has, without losing what came since."""
    _wide(mysql)
    with streaming(pipeline, mysql, postgres, None, "direct", snapshot={"max_rows_per_second": 1500}) as works:
        name, place = name_of(works.pipeline), f"{mysql.name}.wide"
        caught_up(works.pipeline)
        active = f"SELECT copies->'active'->>'request', copies->'active'->>'swap' FROM cdc.progress WHERE pipeline = '{name}'"
        _ask(postgres, name, execute("first", place))
        until(lambda: postgres.execute(active)[0][0] == "first", 60, "the first copy", *works.processes.values())
        _ask(postgres, name, {"id": "stop", "type": "stop-snapshot", "data": {}})
        until(lambda: [("stopped",)] == postgres.execute("SELECT outcome FROM cdc.copy"), 60, "its end", *works.processes.values())
        _ask(postgres, name, execute("second", place, swap=True))
        until(lambda: postgres.execute(active)[0] == ("second", "false"), 60, "the second copy in place", *works.processes.values())
        works.kill()
        mysql.execute("UPDATE wide SET v = v + 1 WHERE id < 50")
        works.start()
        done = "SELECT outcome FROM cdc.copy WHERE request = 'second'"
        until(lambda: [("done",)] == postgres.execute(done), 60, "the second copy", *works.processes.values())
        caught_up(works.pipeline)
        assert {} == oracle.differences(mysql, postgres, ["wide"])
        document = status(load(works.pipeline.path, works.pipeline.environ))
        assert {"consistent"} == {table["state"] for table in document["tables"]}


@pytest.mark.soak
@pytest.mark.parametrize("change", ["DROP TABLE wide", "ALTER TABLE wide DROP COLUMN v"])
def test_a_table_that_changes_while_it_is_copied_beside_the_log_stops_with_what_the_log_says(
    change: str, mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Not with what the server says of a question that fits no more: the window is laid aside, and the log is read to the statement."""
    _wide(mysql)
    slow, stops = {"max_rows_per_second": 1500}, {"schema_changes": "stop"}
    with streaming(pipeline, mysql, postgres, None, "direct", snapshot=slow, source=stops) as works:
        name = name_of(works.pipeline)
        caught_up(works.pipeline)
        _ask(postgres, name, execute("first", f"{mysql.name}.wide"))
        active = f"SELECT copies->'active'->>'rows' FROM cdc.progress WHERE pipeline = '{name}'"
        until(lambda: postgres.execute(active)[0][0] is not None, 60, "the copy", *works.processes.values())
        mysql.execute(change)
        process = works.processes.pop("run")
        assert 1 == process.process.wait(60), process.output()[-2000:]
        assert "statement_unsupported" in process.output()
