"""What is found after the start: the reason, exit code 1, everything before it applied, nothing lost, and the same reason at a restart."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests import run
from tests.helpers.refusals import ended, error, found, outcome, refused, rows, streaming, until, untouched
from tests.helpers.servers import SourceDatabase, lent

# -- schema changes

DDL = {
    "ADD COLUMN": ("ALTER TABLE t ADD COLUMN more int", "columns", "t"),
    "RENAME TABLE": ("RENAME TABLE t TO gone_t", "renamed", "t"),
    "TRUNCATE": ("TRUNCATE TABLE t", "truncated", "t"),
    "DROP TABLE": ("DROP TABLE t", "dropped", "t"),
    "CREATE TABLE": ("CREATE TABLE later (id int PRIMARY KEY)", "created", "later"),
}


def stopped_by(source: SourceDatabase, running: Any, *statements: str) -> dict[str, Any]:
    """The error with which a stream ends that meets these statements."""
    source.execute(*statements)
    ended(running)
    return outcome(running)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        pytest.param(kind, source, marks=[] if at % 2 == (source == "mysql") else pytest.mark.soak)
        for at, kind in enumerate(DDL)
        for source in ("mariadb", "mysql")
    ],
    indirect=["source"],
)
def test_a_schema_change_stops_with_its_reason_after_everything_before_it_and_again_at_a_restart(source, postgres, pipeline, kind):
    statement, word, table = DDL[kind]
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", "INSERT INTO t VALUES (1, 'a')")
    source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    made = pipeline(source, postgres, source={"schema_changes": "stop"})
    (running,) = streaming(made)
    before = [f"INSERT INTO t VALUES ({n}, 'x')" for n in range(2, 30)]
    said = stopped_by(source, running, *before, "INSERT INTO other VALUES (1)", statement, "INSERT INTO other VALUES (2)")
    assert "statement_unsupported" == said["code"]
    assert word in said["rule"]
    assert f"{source.name}.{table}" in said["place"]
    assert 29 == len(rows(postgres, source.name))
    assert [(1,)] == rows(postgres, source.name, "other")
    if kind == "CREATE TABLE":  # a restart lists it, and copies it like any table that is added
        made.start("run")
        until(lambda: "consistent" == {one["source"]: one["state"] for one in made.json("status")["tables"]}[f"{source.name}.later"], "it")
        until(lambda: rows(postgres, source.name, "other") == [(1,), (2,)], "what came after")
        return
    again = error(made, "run", exit_code=1)
    assert (said["code"], said["rule"]) == (again["code"], again["rule"])
    assert (29, [(1,)]) == (len(rows(postgres, source.name)), rows(postgres, source.name, "other"))


def test_a_schema_change_ends_capture_and_leaves_apply_at_work(mariadb, postgres, kafka, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    made = pipeline(mariadb, postgres, kafka, source={"schema_changes": "stop"})
    assert 0 == made.run("snapshot").returncode
    capture, apply = streaming(made, "capture", "apply")
    change = ("INSERT INTO t VALUES (1), (2)", "ALTER TABLE t ADD COLUMN v int", "INSERT INTO t VALUES (3, 3)")
    said = stopped_by(mariadb, capture, *change)
    assert "statement_unsupported" == said["code"]
    until(lambda: rows(postgres, mariadb.name) == [(1,), (2,)], "what was published")
    assert said == error(made, "capture", exit_code=1)
    assert apply.alive
    assert [(1,), (2,)] == rows(postgres, mariadb.name)
    assert 0 == apply.stop()


def test_rows_of_a_table_that_was_dropped_while_nobody_read_are_not_passed_over(mariadb, postgres, pipeline):
    """Its shape is nowhere any more, its rows are in the log: a position behind them would say that they are in the target."""
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    stops = {"server_id": 77_002, "schema_changes": "stop"}
    made = pipeline(mariadb, postgres, source=stops)
    (running,) = streaming(made)
    assert 0 == running.stop()
    mariadb.execute("INSERT INTO other VALUES (1)", "INSERT INTO t VALUES (2)", "INSERT INTO other VALUES (2)", "DROP TABLE t")
    for _ in range(2):  # a restart stops there again
        said = error(made, "run", exit_code=1)
        assert ("table_gone", f"{mariadb.name}.t") == (said["code"], said["place"])
        assert ([(1,)], [(1,)]) == (rows(postgres, mariadb.name), rows(postgres, mariadb.name, "other"))
    without = pipeline(mariadb, postgres, source={**stops, "exclude": [f"{mariadb.name}.t"]})
    (running,) = streaming(without)
    until(lambda: rows(postgres, mariadb.name, "other") == [(1,), (2,)], "what came after")
    assert 0 == running.stop()


@pytest.mark.parametrize("transport", ["direct", "kafka"])
def test_a_table_that_was_dropped_while_nobody_read_is_shown_as_stopped_and_the_others_go_on(
    transport, request, source, postgres, pipeline
):
    source.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    places = (source, postgres) if transport == "direct" else (source, postgres, request.getfixturevalue("kafka"))
    made = pipeline(*places)
    (running,) = streaming(made)
    assert 0 == running.stop()
    source.execute("INSERT INTO t VALUES (2)", "INSERT INTO other VALUES (2)", "DROP TABLE t")
    (running,) = streaming(made)
    until(lambda: rows(postgres, source.name, "other") == [(2,)], "what came after")
    [(state, reason)] = postgres.execute("SELECT state, reason FROM cdc.tables WHERE \"table\" = 't'")
    assert ("stopped", True) == (state, "dropped at the source" in reason)
    assert 0 == running.stop()


# -- the log's settings


@pytest.fixture(scope="module")
def own_server(request):
    """A server of this module's own, whose settings tests may change."""
    server = run.private(request.param)
    yield server
    server.purge()


@pytest.fixture
def own(own_server):
    """A database on it."""
    with lent(SourceDatabase(own_server)) as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", "INSERT INTO t VALUES (1, 'a')")
        yield database


both = pytest.mark.parametrize("own_server", ["mariadb", "mysql"], indirect=True)
SETTINGS = {
    "binlog_format": ("STATEMENT", "ROW", "binlog_format"),
    "binlog_row_image": ("MINIMAL", "FULL", "row_image"),
    "binlog_row_metadata": ("MINIMAL", "FULL", "row_metadata"),
}


@both
@pytest.mark.parametrize("variable", SETTINGS)
def test_a_setting_of_the_log_is_refused_with_the_statement_that_mends_it(own, postgres, pipeline, variable):
    wrong, right, code = SETTINGS[variable]
    own.execute(f"SET GLOBAL {variable} = {wrong}")
    try:
        made = pipeline(own, postgres)
        said = refused(made, "run")
        assert (code, f"{own.host}:{own.port} {variable}") == (said["code"], said["place"])
        assert f"SET GLOBAL {variable} = {right}" == said["hint"]
        assert [code] == [one["code"] for one in found(made)]
    finally:
        own.execute(f"SET GLOBAL {variable} = {right}")
    untouched(postgres)


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_a_server_without_a_log_is_refused(private, postgres, pipeline, kind):
    with lent(SourceDatabase(private(kind, options=("--skip-log-bin",)))) as own:
        own.execute("CREATE TABLE t (id int PRIMARY KEY)")
        made = pipeline(own, postgres)
        said = refused(made, "run")
        assert "log_off" == said["code"]
        assert "log_bin" in said["hint"]
        assert "log_off" in [one["code"] for one in found(made)]
    untouched(postgres)


def test_a_statement_in_the_log_that_changes_a_followed_table_stops(source, postgres, pipeline):
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))")
    made = pipeline(source, postgres)
    (running,) = streaming(made)
    said = stopped_by(source, running, "INSERT INTO t VALUES (1, 'a')", "SET SESSION binlog_format = 'STATEMENT'",
                      "INSERT INTO t VALUES (2, 'k4711')")  # fmt: skip
    assert "statement_unsupported" == said["code"]
    assert "statement instead of row images" in said["rule"]
    assert [(1, "a")] == rows(postgres, source.name)
    assert "k4711" not in running.output()
    assert said == error(made, "run", exit_code=1)


def test_a_row_image_that_is_not_full_stops(source, postgres, pipeline):
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50), w int)", "INSERT INTO t VALUES (1, 'a', 1)")
    made = pipeline(source, postgres)
    (running,) = streaming(made)
    said = stopped_by(source, running, "SET SESSION binlog_row_image = 'MINIMAL'", "INSERT INTO t (id) VALUES (2)")
    assert "row_image" == said["code"]
    assert f"{source.name}.t" in said["place"]
    assert "binlog_row_image = FULL" in said["hint"]
    assert [(1, "a", 1)] == rows(postgres, source.name)
    assert said == error(made, "run", exit_code=1)


@both
def test_names_that_vanish_from_the_log_stop(own, postgres, pipeline):
    made = pipeline(own, postgres)
    (running,) = streaming(made)
    own.execute("SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        with contextlib.closing(own.connect()) as line, line.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (2, 'b')")
            ended(running)
        said = outcome(running)
        assert ("row_metadata", f"{own.name}.t") == (said["code"], said["place"])
        assert "row_metadata" == error(made, "run")["code"]
    finally:
        own.execute("SET GLOBAL binlog_row_metadata = FULL")
    assert [(1, "a")] == rows(postgres, own.name)


# -- the place in the log


@both
def test_a_purged_position_stops_a_restart(own, postgres, pipeline):
    made = pipeline(own, postgres)
    (running,) = streaming(made)
    assert 0 == running.stop()
    own.execute("INSERT INTO t VALUES (2, 'b')", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (3, 'c')", "FLUSH BINARY LOGS")
    last = own.execute("SHOW BINARY LOGS")[-1][0]
    until(lambda: len(own.execute(f"PURGE BINARY LOGS TO '{last}'", "SHOW BINARY LOGS")) == 1, "the purge")
    said = error(made, "run", exit_code=1)
    assert "log_purged" == said["code"]
    assert "cdc reset --all" in said["hint"]
    assert [(1, "a")] == rows(postgres, own.name)


@both
def test_another_server_behind_the_same_url_stops_a_restart(own, source_of_the_same_kind, postgres, pipeline):
    other = source_of_the_same_kind
    made = pipeline(own, postgres)
    (running,) = streaming(made)
    assert 0 == running.stop()
    text = made.path.read_text().replace(f":{own.port}/", f":{other.port}/").replace(f"{own.name}.*", f"{other.name}.*")
    made.path.write_text(text)
    other.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", "INSERT INTO t VALUES (9, 'z')")
    said = error(made, "run", exit_code=1)
    assert said["code"] in ("source_diverged", "other_server")
    assert [(1, "a")] == rows(postgres, own.name)


@pytest.fixture
def source_of_the_same_kind(own, request):
    """A database on the shared server of the same flavour: another server."""
    database: SourceDatabase = request.getfixturevalue(own.flavour)
    return database


# -- two of one


def test_the_first_of_two_runs_of_a_pipeline_is_fenced(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    made = pipeline(mariadb, postgres)
    (first,) = streaming(made)
    second = made.start("--json", "run")
    ended(first)
    said = outcome(first)
    assert said["code"] in ("fenced", "server_id_taken", "superseded")
    mariadb.execute("INSERT INTO t VALUES (1)")
    assert 0 == made.run("wait", "--timeout", "60").returncode
    assert [(1,)] == rows(postgres, mariadb.name)
    assert 0 == second.stop()


def test_a_second_reader_with_the_same_server_id_ends_the_first(source, postgres, kafka, pipeline):
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = pipeline(source, postgres, kafka, pipeline={"name": "one"}, source={"server_id": 88_001})
    two = pipeline(source, postgres, pipeline={"name": "two"}, source={"server_id": 88_001}, target={"schema": "two"})
    assert 0 == one.run("snapshot").returncode
    capture = one.start("--json", "capture")
    until(lambda: len(kafka.topics()) == 3, "the topics")
    source.execute("INSERT INTO t VALUES (1)")
    until(lambda: kafka.watermarks(f"{kafka.prefix}.{source.name}.t")[1] == 1, "a row that the first has read")
    (second,) = streaming(two)
    ended(capture)
    said = outcome(capture)
    assert ("server_id_taken", f"{source.host}:{source.port}") == (said["code"], said["place"])
    assert "source.server_id" in said["hint"]
    assert second.alive
    assert 0 == second.stop()
