"""Who runs of a pipeline, and why whoever ended did, as `cdc status` says it; and the way back, `cdc reset`: one life a transport."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.commands import reset as resets
from cdc.config.load import load
from cdc.monitoring import status as monitoring, wait as monitoring_wait
from tests.e2e import oracle
from tests.e2e.streaming import Streaming
from tests.e2e.watch import until
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline, Running, said
from tests.helpers.servers import PASSWORD, Broker, SourceDatabase, TargetDatabase


def status(made: Pipeline) -> Any:
    """The document of `cdc status`, its halves by name."""
    found = monitoring.status(load(made.path))
    assert [] == faults("status", found)
    return {half["half"]: half for half in found["halves"]} | {"running": found["running"]}


def ended(made: Pipeline, half: str) -> Any:
    """How the last process that was this half ended, once none runs."""
    return until(lambda: status(made)[half]["stopped"], 20, f"an end of {half}")


def wait(made: Pipeline, *processes: Running) -> None:
    assert monitoring_wait.wait(load(made.path), 60)["reached"], said(*processes)


def taken_away(made: Pipeline, *tables: str) -> Any:
    document = resets.reset(load(made.path), tables, lambda lines: True)
    assert [] == faults("reset", document)
    return document


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDC_SOURCE_PASSWORD", PASSWORD)
    monkeypatch.setenv("CDC_TARGET_PASSWORD", PASSWORD)


def test_in_process(mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)", "CREATE TABLE n (a INT)", "INSERT INTO t VALUES (1, 1)")
    made = pipeline(mariadb, postgres, source={"schema_changes": "stop"})
    works, name = Streaming(made, "direct"), mariadb.name
    shown = made.run("status")
    assert (0, "nothing runs") == (shown.returncode, shown.stdout[:12])
    assert "capture   does not run: none was ever seen here" in shown.stdout
    works.start()
    until(lambda: status(made)["running"] or None, 30, "both halves", *works.processes.values())
    wait(made, *works.processes.values())
    one: Any = until(lambda: next((p for p in status(made)["apply"]["processes"] if p["state"] == "streaming"), None), 15, "a stream")
    assert ("run", f":{works.processes['run'].process.pid}") == (one["command"], one["process"][one["process"].index(":") :])
    assert one["heard_seconds"] < 20
    assert one["since"].endswith("Z")
    refused = made.run("--json", "reset", "--all", "--yes")
    assert (2, "reset_running") == (refused.returncode, json.loads(refused.stdout)["error"]["code"])

    first = works.processes["run"]
    second = made.start("run")
    assert 1 == first.process.wait(30), said(first, second)
    assert "[fenced]" in first.output()
    assert f":{second.process.pid} (since " in first.output(), "it says who has taken over"
    assert "target_lost" not in first.output()
    assert status(made)["running"], "the second one does"
    second.kill()
    gone = ended(made, "capture")
    assert ("ended_unsaid", "run") == (gone["code"], gone["command"])

    works.start()
    wait(made, works.processes["run"])
    mariadb.execute("ALTER TABLE t ADD c INT", "INSERT INTO t VALUES (2, 2, 2)", "INSERT INTO n VALUES (7)")
    assert 1 == works.processes["run"].process.wait(30)
    stop = ended(made, "apply")
    assert ("statement_unsupported", "cdc reset") == (stop["code"], stop["hint"].partition("; ")[2][:9])
    assert name in stop["place"]
    assert "[statement_unsupported]" in made.run("status").stdout

    postgres.execute(f'CREATE VIEW "{name}".v AS SELECT a FROM "{name}".n', f'GRANT SELECT ON "{name}".n TO PUBLIC')
    unasked = made.run("reset", f"{name}.t")
    assert (2, True) == (unasked.returncode, f"{name}.t: dropped with its rows" in unasked.stderr), unasked.stderr
    wrong = made.run("--json", "reset", f"{name}.tt", "--yes")
    assert (2, f"did you mean {name}.t?") == (wrong.returncode, json.loads(wrong.stdout)["error"]["hint"])
    document = taken_away(made, f"{name}.t", f"{name}.n")
    assert [("dropped", ""), ("emptied", f"view {name}.v, grant to PUBLIC")] == [(t["action"], t["reason"]) for t in document["tables"]]
    works.start()
    wait(made, works.processes["run"])
    assert {} == oracle.differences(mariadb, postgres, ["t", "n"])
    assert [(7,)] == postgres.execute(f'SELECT * FROM "{name}".v')
    assert 0 == works.processes["run"].stop()
    assert ("", "ended as it was asked to") == ((asked := ended(made, "apply"))["code"], asked["rule"])

    document = taken_away(made)
    assert (True, {"dropped", "emptied"}) == (document["all"], {t["action"] for t in document["tables"]})
    assert [] == postgres.execute("SELECT * FROM cdc.progress") + postgres.execute("SELECT * FROM cdc.tables")
    works.start()
    wait(made, works.processes["run"])
    assert {} == oracle.differences(mariadb, postgres, ["t", "n"])


def test_over_a_broker(mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    mysql.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)", "INSERT INTO t VALUES (1, 1)", "CREATE TABLE n (a INT)")
    made, name = pipeline(mysql, postgres, kafka, source={"schema_changes": "stop"}), mysql.name
    works = Streaming(made, "split")
    works.start("capture", "apply")
    waiting = until(lambda: (s := status(made))["capture"]["runs"] and s["apply"]["runs"] and s, 30, "both", *works.processes.values())
    assert waiting["running"], "a process is seen before schema cdc is there"
    made.json("snapshot")
    wait(made, *works.processes.values())
    until(lambda: status(made)["capture"]["processes"][0]["process"], 15, "a row of it", *works.processes.values())
    works.kill("capture")
    found: Any = until(lambda: (s := status(made)) and not s["running"] and s, 20, "capture is missed")
    assert (True, "ended_unsaid") == (found["apply"]["runs"], found["capture"]["stopped"]["code"])
    works.start("capture")
    postgres.execute(f'GRANT SELECT ON "{name}".t TO PUBLIC', f'CREATE INDEX theirs ON "{name}".t (b)')
    mysql.execute("ALTER TABLE t ADD c INT", "INSERT INTO t VALUES (3, 3, 3)")
    assert 1 == works.processes["capture"].process.wait(30)
    assert "statement_unsupported" == ended(made, "capture")["code"]
    works.processes["apply"].stop()

    text = made.path.read_text()
    made.path.write_text(text.replace("[source]", f'[source]\nexclude = ["{name}.t"]'))
    works.start("capture", "apply")
    wait(made, *works.processes.values())
    works.stop()
    made.path.write_text(text)
    postgres.execute(f'DROP TABLE "{name}".n')
    mysql.execute("INSERT INTO n VALUES (1), (1)", "INSERT INTO t VALUES (4, 4, 4)")
    assert ["absent"] == [t["action"] for t in taken_away(made, f"{name}.n")["tables"]]
    works.start("capture", "apply")
    wait(made, *works.processes.values())
    assert {} == oracle.differences(mysql, postgres, ["t", "n"])
    kept = f"SELECT has_table_privilege('pg_monitor', '\"{name}\".t', 'SELECT'), to_regclass('\"{name}\".theirs') IS NOT NULL"
    assert [(True, True)] == postgres.execute(kept), "the table was made anew, and what others gave it was put back"
    works.stop()

    document = taken_away(made)
    assert f"{kafka.prefix}.control" == document["topics"][-1]
    assert 5 == len(document["topics"])
    assert set() == {topic for topic in kafka.topics() if topic.startswith(f"{kafka.prefix}.")}
    assert 0 == made.run("snapshot").returncode
    works.start("capture", "apply")
    wait(made, *works.processes.values())
    assert {} == oracle.differences(mysql, postgres, ["t", "n"])
