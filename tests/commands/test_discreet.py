"""Row values appear in no output of any command, no metric and no report, also when the target refuses a row."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cdc.stack.probe import free_port
from tests.helpers.refusals import ended, error, outcome, rows, streaming, until

KEY, VALUE, NUMBER = "patient-Zaphod", "diagnosis-Beeblebrox", "4711471147"
PLANTED = ("Zaphod", "Beeblebrox", NUMBER)


@pytest.fixture
def table(source):
    source.execute(
        "CREATE TABLE t (id varchar(40) PRIMARY KEY, v varchar(60), n bigint)",
        "CREATE TABLE bare (v varchar(60), n bigint)",
        f"INSERT INTO t VALUES ('{KEY}', '{VALUE}', {NUMBER})",
        f"INSERT INTO bare VALUES ('{VALUE}', {NUMBER}), ('{VALUE}', {NUMBER})",
    )
    return source


def silent(*texts: str) -> None:
    """None of the planted values is in any of these."""
    assert [] == [(value, text[:2000]) for text in texts for value in PLANTED if value.lower() in text.lower()]


def said_by(made: Any, *arguments: str) -> str:
    done = made.run(*arguments)
    return str(done.stdout + done.stderr)


@pytest.mark.parametrize("source", ["mariadb", pytest.param("mysql", marks=pytest.mark.soak)], indirect=True)
def test_no_command_shows_a_value_while_everything_works(table, postgres, kafka, pipeline, tmp_path):
    port = free_port()
    made = pipeline(table, postgres, kafka, metrics={"listen": f"127.0.0.1:{port}"})
    (running,) = streaming(made)
    table.execute(f"UPDATE t SET v = '{VALUE}2', id = '{KEY}2'", f"INSERT INTO t VALUES ('{KEY}3', '{VALUE}', 1)")
    table.execute(f"DELETE FROM bare WHERE n = {NUMBER} LIMIT 1")
    assert 0 == made.run("wait", "--timeout", "60").returncode
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        metrics = page.read().decode()
    assert 'table="' in metrics
    assert 2 == len(rows(postgres, table.name))
    with postgres.connect() as line:
        line.execute(f"UPDATE {table.name}.t SET v = 'Beeblebrox was here'".encode())
    different = made.run("reconcile", "--report", str(tmp_path / "report"))
    assert 3 == different.returncode
    reports = [path.read_text() for path in Path(tmp_path / "report").rglob("*") if path.is_file()]
    assert reports
    commands = [("doctor",), ("status",), ("wait", "--timeout", "5"), ("reconcile", "--json"), ("status", "--json"), ("doctor", "--json")]
    texts = [said_by(made, *words) for words in commands]
    assert 0 == running.stop()
    silent(metrics, different.stdout + different.stderr, running.output(), *reports, *texts)


POISON = {
    "a NUL": (None, f"INSERT INTO t VALUES ('{KEY}9', CONCAT('{VALUE}', CHAR(0)), {NUMBER})", ""),
    "a check": ("ALTER TABLE {db}.t ADD CHECK (v NOT LIKE '%9')", f"INSERT INTO t VALUES ('{KEY}9', '{VALUE}9', {NUMBER})", "23"),
    "a unique index": ("CREATE UNIQUE INDEX ON {db}.t (n)", f"INSERT INTO t VALUES ('{KEY}9', '{VALUE}9', {NUMBER})", "23"),
    "a narrower column": (
        "ALTER TABLE {db}.t ALTER COLUMN n TYPE integer USING 0", f"INSERT INTO t VALUES ('{KEY}9', '{VALUE}9', {NUMBER})", "type",
    ),
    "a shorter text": (
        "ALTER TABLE {db}.t ALTER COLUMN v TYPE varchar(5) USING ''", f"UPDATE t SET v = '{VALUE}9'", "type",
    ),
}  # fmt: skip


REFUSALS = {"": ("nul_in_text", r"\.t\.v, key [0-9a-f]{16}", "NUL"), "type": ("target_table", r"\.t", "any more")}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        pytest.param(kind, source, marks=[] if at % 2 == (source == "mysql") else pytest.mark.soak)
        for at, kind in enumerate(POISON)
        for source in ("mariadb", "mysql")
    ],
    indirect=["source"],
)
def test_a_row_that_the_target_refuses_stops_the_stream_and_is_named_without_its_values(table, postgres, pipeline, kind):
    change, poison, state = POISON[kind]
    made = pipeline(table, postgres, apply={"quarantine_keys": 0}, policies={"nul_text": "error"})
    (running,) = streaming(made)
    if change:
        postgres.execute(change.format(db=table.name))
    before = rows(postgres, table.name)
    table.execute(poison)
    ended(running)
    said = outcome(running)
    code, place, rule = REFUSALS.get(state, ("target_value", r"\.t, key [0-9a-f]{16}", f"PostgreSQL says {state}"))
    assert code == said["code"]
    assert re.fullmatch(table.name + place, said["place"])
    assert rule in said["rule"]
    assert said["hint"]
    again = made.run("run")
    assert 1 == again.returncode
    assert before == rows(postgres, table.name)
    silent(running.output(), again.stdout + again.stderr, *(said_by(made, command) for command in ("status", "doctor")))


def test_a_row_that_the_target_refuses_stops_the_copy_and_is_not_shown(table, postgres, pipeline):
    table.execute(f"INSERT INTO t VALUES ('{KEY}9', CONCAT('{VALUE}', CHAR(0)), {NUMBER})")
    made = pipeline(table, postgres, apply={"quarantine_keys": 0}, policies={"nul_text": "error"})
    said = error(made, "snapshot", exit_code=1)
    assert ("nul_in_text", f"{table.name}.t.v") == (said["code"], said["place"])
    silent(said_by(made, "snapshot"), str(said))


def test_a_value_in_a_statement_of_the_log_is_not_shown(table, postgres, pipeline):
    made = pipeline(table, postgres, source={"schema_changes": "stop"})
    (running,) = streaming(made)
    table.execute(f"ALTER TABLE t ADD COLUMN more varchar(60) DEFAULT '{VALUE}' COMMENT '{KEY}'")
    ended(running)
    silent(running.output(), said_by(made, "run"))


def test_lost_connections_show_nothing(table, postgres, pipeline):
    made = pipeline(table, postgres)
    (running,) = streaming(made)
    with postgres.connect("postgres") as line:
        line.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cdc' AND datname = %s", [postgres.name])
    table.execute(f"INSERT INTO t VALUES ('{KEY}5', '{VALUE}', {NUMBER})")
    until(lambda: len(rows(postgres, table.name)) == 2, "the row after the loss")
    assert "target_" in running.output()
    silent(running.output())
    assert 0 == running.stop()
