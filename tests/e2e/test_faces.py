"""What a pipeline says about itself is well formed and true: documents, lag, and the metrics endpoint."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.bank import TABLES, create
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import Metrics, caught_up, listening, until
from tests.helpers.documents import faults
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, lent

FRESH_SECONDS, MUCH_SECONDS = 2.0, 60.0


def _document(works: Streaming, kind: str) -> Any:
    document = works.pipeline.json(kind)
    assert [] == faults(kind, document)
    return document


@pytest.mark.parametrize(("source", "way"), [("mysql", "direct"), ("mariadb", "split")], indirect=["source"])
def test_documents_have_their_schemas(
    way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """status and wait before, during and after; run, snapshot, capture and apply when they end."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    made = pipeline(source, postgres, *([kafka] if kafka else []))
    works = Streaming(made, way)
    assert {"new"} == {table["state"] for table in _document(works, "status")["tables"]}
    late = made.run("--json", "wait", "--timeout", "0")
    assert (1, False) == (late.returncode, json.loads(late.stdout)["reached"])
    assert {f"{source.name}.{table}" for table in TABLES} == {entry["table"] for entry in json.loads(late.stdout)["behind"]} - {"*"}
    assert [] == faults("wait", json.loads(late.stdout))
    copied = _document(works, "snapshot")
    assert (True, len(TABLES)) == (copied["complete"], len(copied["tables"]))
    assert sum(table["rows"] for table in copied["tables"]) == copied["rows"] > 200
    processes = {command: made.start("--json", command) for command in works.commands}
    assert True is _document(works, "wait")["reached"]
    status = _document(works, "status")
    assert {"consistent"} == {table["state"] for table in status["tables"]}
    assert (source.flavour, made.path.parent.name[:8]) == (status["source"]["flavour"], "pipeline")
    for command, process in processes.items():
        assert 0 == process.stop()
        ended = json.loads(next(line for line in process.output().splitlines() if line.startswith('{"pipeline"')))
        assert [] == faults(command, ended)


def test_an_idle_source_is_fresh(source: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """Heartbeats become cuts: for seconds nothing is written, and the lag stays small."""
    create(source)
    listen = listening()
    with streaming(pipeline, source, postgres, kafka, "kafka", metrics=listen) as works:
        caught_up(works.pipeline)
        until(lambda: _total(listen) < FRESH_SECONDS, 30, "freshness")
        end, lags = time.monotonic() + 3.0, []
        while time.monotonic() < end:
            lags.append(_total(listen))
            threading.Event().wait(0.1)
        assert min(lags[-10:]) < FRESH_SECONDS, lags  # not one that has only grown meanwhile
        until(lambda: _document(works, "status")["lag_seconds"]["total"] < FRESH_SECONDS, 30, "freshness")


def _total(listen: dict[str, str]) -> float:
    now = Metrics(listen["listen"])
    return now.value("cdc_lag_seconds", stage="total") if now.has("cdc_lag_seconds") else float("inf")


@pytest.mark.parametrize("flavour", ["mariadb", pytest.param("mysql", marks=pytest.mark.soak)])
def test_a_source_that_hangs_does_not_look_fresh(
    flavour: str, private: Callable[..., Any], pipeline: Any, postgres: TargetDatabase
) -> None:
    """While the source is stopped in its tracks the lag grows second by second; afterwards it is small again."""
    with lent(SourceDatabase(private(flavour))) as source:
        create(source)
        listen = listening()
        with streaming(pipeline, source, postgres, None, "direct", metrics=listen) as works:
            caught_up(works.pipeline)
            source.close()
            process = source.server.process
            assert process is not None
            began = time.monotonic()
            os.kill(process.pid, signal.SIGSTOP)
            try:
                for seconds in (3.0, 8.0):
                    until(lambda s=seconds: time.monotonic() > began + s, 20, "time passing")  # type: ignore[misc]
                    stood = time.monotonic() - began
                    assert stood - 1.0 < _total(listen) < stood + MUCH_SECONDS
                until(lambda: "degraded" in Metrics(listen["listen"]).states().values(), 30, "a degraded state", *works.processes.values())
            finally:
                os.kill(process.pid, signal.SIGCONT)
            until(lambda: _total(listen) < FRESH_SECONDS, 60, "freshness", *works.processes.values())
            until(
                lambda: set(Metrics(listen["listen"]).states().values()) <= {"streaming", "stopped"},
                30,
                "streaming again",
                *works.processes.values(),
            )


def test_the_metrics_count_what_passes(mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Position, rows, bytes, cuts and their age, commits; rows by table."""
    create(mysql)
    listen = listening()
    with streaming(pipeline, mysql, postgres, None, "direct", metrics=listen) as works:
        caught_up(works.pipeline)
        before = Metrics(listen["listen"])
        mysql.execute("INSERT INTO journal VALUES ('x', 1, NULL), ('x', 1, NULL)", "UPDATE savings SET note = 'n' WHERE id < 3",
                      "DELETE FROM journal WHERE text = 'x' LIMIT 1")  # fmt: skip
        caught_up(works.pipeline)
        until(lambda: _counted(listen["listen"], before) >= 6, 20, "six rows", *works.processes.values())
        after = Metrics(listen["listen"])

        def grown(name: str, **labels: str) -> float:
            return after.value(name, **labels) - before.value(name, **labels)

        assert (6, 3) == (grown("cdc_rows_read_total"), grown("cdc_rows_applied_total", table=f"{mysql.name}.journal"))
        assert 3 == grown("cdc_rows_applied_total", table=f"{mysql.name}.savings")
        assert 3 <= grown("cdc_transactions_read_total")
        assert 0 < grown("cdc_row_bytes_read_total") < 2000
        assert 0 < grown("cdc_position_offset_bytes")
        assert 0 < grown("cdc_commits_total") <= grown("cdc_cuts_total") <= grown("cdc_written_cut_number")
        assert after.value("cdc_applied_cut_number") <= after.value("cdc_written_cut_number")
        assert (0, FRESH_SECONDS) < (after.value("cdc_cut_lag_seconds", role="apply"), FRESH_SECONDS + 1)
        assert {"capture": "streaming", "apply": "streaming"}.items() <= after.states().items()
        assert 1 == after.value("cdc_info", transport="direct")


def _counted(listen: str, before: Metrics) -> float:
    return Metrics(listen).value("cdc_rows_applied_total") - before.value("cdc_rows_applied_total")
