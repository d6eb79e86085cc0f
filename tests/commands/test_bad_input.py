"""Bad input that is found before the start: one error that names the place, the rule and the mend, exit code 2, nothing written."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from tests.helpers.refusals import WRONG, account, error, found, refused, role, untouched

READ_LOG = {"mysql": "REPLICATION SLAVE ON *.*", "mariadb": "REPLICATION SLAVE ON *.*"}
ASK_LOG = {"mysql": "REPLICATION CLIENT ON *.*", "mariadb": "BINLOG MONITOR ON *.*"}


@pytest.fixture
def table(source):
    """A source with one table of one row."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", "INSERT INTO t VALUES (1, 'one')")
    return source


# -- the source


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_wrong_password_of_the_source_is_refused(table, postgres, pipeline, command):
    made = pipeline(table, postgres)
    made.environ["CDC_SOURCE_PASSWORD"] = WRONG
    said = refused(made, command)
    assert ("source_auth", f"{table.host}:{table.port}") == (said["code"], said["place"])
    assert "Access denied for user 'cdc'" in said["rule"]
    assert WRONG not in said["rule"]
    assert "source.url" in said["hint"]
    assert ["source_auth"] == [one["code"] for one in found(made)]
    untouched(postgres)


def test_an_account_that_may_not_read_the_log_is_refused_with_the_grant_it_lacks(table, postgres, pipeline):
    with account(table, ASK_LOG[table.flavour], f"SELECT ON `{table.name}`.*") as name:
        made = pipeline(table, postgres, source={"url": table.url.replace("cdc:", f"{name}:")})
        said = refused(made, "run")
        assert ("privilege", "REPLICATION SLAVE") == (said["code"], said["place"])
        assert said["hint"].startswith("GRANT REPLICATION SLAVE ON *.* TO ")
        assert name in said["hint"]
        assert said in [{k: one[k] for k in said} for one in found(made)]
    untouched(postgres)


def test_an_account_that_may_not_ask_for_the_end_of_the_log_is_refused(table, postgres, pipeline):
    with account(table, READ_LOG[table.flavour], f"SELECT ON `{table.name}`.*") as name:
        made = pipeline(table, postgres, source={"url": table.url.replace("cdc:", f"{name}:")})
        said = refused(made, "snapshot")
        assert "privilege" == said["code"]
        assert said["place"] in ASK_LOG[table.flavour]
        assert ["privilege"] == [one["code"] for one in found(made)]
    untouched(postgres)


def test_an_account_that_may_not_read_the_tables_does_not_see_them(table, postgres, pipeline):
    with account(table, READ_LOG[table.flavour], ASK_LOG[table.flavour]) as name:
        made = pipeline(table, postgres, source={"url": table.url.replace("cdc:", f"{name}:")})
        said = refused(made, "run")
        assert ("no_tables", "source.tables") == (said["code"], said["place"])
        assert said["hint"].startswith(f"GRANT SELECT ON `{table.name}`.* TO '{name}'@")
    untouched(postgres)


def test_a_column_s_grant_is_not_a_table_s(table, postgres, pipeline):
    with account(table, READ_LOG[table.flavour], ASK_LOG[table.flavour], f"SELECT (id) ON `{table.name}`.t") as name:
        said = error(pipeline(table, postgres, source={"url": table.url.replace("cdc:", f"{name}:")}), "run")
    assert "privilege" == said["code"]
    assert f"{table.name}.t" in said["place"]
    untouched(postgres)


def test_a_table_without_a_key_that_must_be_locked_needs_the_privilege(table, postgres, pipeline):
    table.execute("CREATE TABLE bare (v int) ENGINE = MyISAM")
    with account(table, READ_LOG[table.flavour], ASK_LOG[table.flavour], f"SELECT ON `{table.name}`.*") as name:
        said = error(pipeline(table, postgres, source={"url": table.url.replace("cdc:", f"{name}:")}), "run")
    assert ("privilege", f"{table.name}.bare") == (said["code"], said["place"])
    assert f"GRANT LOCK TABLES ON `{table.name}`.* TO" in said["hint"]
    untouched(postgres)


def test_a_pattern_that_matches_nothing_is_refused_though_another_one_does(table, postgres, pipeline):
    made = pipeline(table, postgres, source={"tables": [f"{table.name}.t", f"{table.name}.nothing_*"]})
    said = refused(made, "run")
    assert ("no_tables", "source.tables") == (said["code"], said["place"])
    assert f"{table.name}.nothing_*" in said["rule"]
    assert ["no_tables"] == [one["code"] for one in found(made)]
    untouched(postgres)


def test_a_column_of_a_type_that_is_not_followed_is_refused_by_name(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE fine (id int PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, v year(2))")
    said = refused(pipeline(mariadb, postgres), "run")
    assert ("column_type", f"{mariadb.name}.t.v") == (said["code"], said["place"])
    untouched(postgres)


# -- the target


def test_a_wrong_password_of_the_target_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    made = pipeline(mariadb, postgres)
    made.environ["CDC_TARGET_PASSWORD"] = WRONG
    for command in ("run", "snapshot"):
        said = refused(made, command)
        assert "target_auth" == said["code"]
        assert 'password authentication failed for user "cdc"' in said["rule"]
        assert WRONG not in said["rule"]
        assert postgres.name in said["place"]
    assert ["target_auth"] == [one["code"] for one in found(made)]
    untouched(postgres)


def test_a_database_that_does_not_exist_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    said = error(pipeline(mariadb, postgres, target={"url": postgres.url + "_not_there"}), "run")
    assert "target_database" == said["code"]


def test_a_role_that_may_not_create_schemas_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with role(postgres) as name:
        made = pipeline(mariadb, postgres, target={"url": postgres.url.replace("cdc:", f"{name}:")})
        said = refused(made, "run")
        assert ("target_schema", "CREATE SCHEMA") == (said["code"], said["hint"][:13])
        assert {"target_schema"} == {one["code"] for one in found(made)}
    untouched(postgres)


def test_a_role_that_may_not_make_temporary_tables_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database = f'DATABASE "{postgres.name}"'
    with role(postgres, f"REVOKE TEMPORARY ON {database} FROM PUBLIC", f"GRANT CREATE ON {database} TO {{role}}") as name:
        said = error(pipeline(mariadb, postgres, target={"url": postgres.url.replace("cdc:", f"{name}:")}), "run")
    assert ("target_temporary", "GRANT TEMPORARY") == (said["code"], said["hint"][:15])
    untouched(postgres)


def test_a_role_that_may_not_read_the_pipeline_s_state_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    assert 0 == pipeline(mariadb, postgres).run("snapshot").returncode
    with role(postgres, f'GRANT CREATE ON DATABASE "{postgres.name}" TO {{role}}') as name:
        said = error(pipeline(mariadb, postgres, target={"url": postgres.url.replace("cdc:", f"{name}:")}), "run")
    assert said["code"] in ("target_denied", "target_schema")


def test_a_target_table_that_has_rows_is_refused_before_any_other_is_made(table, postgres, pipeline):
    table.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE z (id int PRIMARY KEY)")
    postgres.execute(
        f"CREATE SCHEMA {table.name}",
        f"CREATE TABLE {table.name}.t (id integer PRIMARY KEY, v varchar(50))",
        f"INSERT INTO {table.name}.t VALUES (7, 'theirs')",
    )
    made = pipeline(table, postgres)
    for command in ("run", "snapshot"):
        said = refused(made, command)
        assert ("target_not_empty", f"{table.name}.t") == (said["code"], said["place"])
        assert "target.adopt = true" in said["hint"]
    assert ["target_not_empty"] == [one["code"] for one in found(made)]
    untouched(postgres, besides=(table.name,))
    assert [("t",)] == postgres.execute(f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = '{table.name}'::regnamespace")
    assert [(7, "theirs")] == postgres.execute(f"SELECT * FROM {table.name}.t")


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ("id integer PRIMARY KEY, v integer", "column 'v' is integer"),
        ("id integer PRIMARY KEY", "has no column 'v'"),
        ("id integer, v varchar(50)", "has no primary key"),
        ("id integer PRIMARY KEY, v varchar(50), more integer NOT NULL", "column 'more' is NOT NULL"),
    ],
)
def test_a_target_table_of_another_shape_is_refused(mariadb, postgres, pipeline, columns, rule):
    mariadb.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, v varchar(50))")
    postgres.execute(f"CREATE SCHEMA {mariadb.name}", f"CREATE TABLE {mariadb.name}.t ({columns})")
    made = pipeline(mariadb, postgres)
    said = error(made, "run")
    assert ("target_table", f"{mariadb.name}.t") == (said["code"], said["place"])
    assert rule in said["rule"]
    assert ["target_table"] == [one["code"] for one in found(made)]
    untouched(postgres, besides=(mariadb.name,))


def test_a_target_table_of_another_pipeline_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    assert 0 == pipeline(mariadb, postgres, pipeline={"name": "first"}).run("snapshot").returncode
    made = pipeline(mariadb, postgres, pipeline={"name": "second"})
    said = refused(made, "run")
    assert ("target_taken", f"{mariadb.name}.t") == (said["code"], said["place"])
    assert "first" in said["rule"]
    assert ["target_taken"] == [one["code"] for one in found(made)]
    assert [("first",)] == postgres.execute("SELECT name FROM cdc.pipeline")


# -- the configuration


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(mariadb, postgres, pipeline):
    said = refused(pipeline(mariadb, postgres, source={"tabels": ["a.*"]}), "run")
    assert [("source.tabels", True)] == [(one["key"], "source.tables" in one["rule"]) for one in said["problems"]]
    untouched(postgres)


@pytest.mark.parametrize("command", ["doctor", "run", "snapshot", "capture", "apply", "status", "wait", "reconcile"])
def test_every_wrong_value_is_reported_at_once_by_every_command(mariadb, postgres, pipeline, command):
    made = pipeline(
        mariadb, postgres, source={"server_id": 0, "ssl_mode": "perhaps", "url": "mysql://cdc:${NOT_SET}@h:1/"},
        target={"url": "postgresql://cdc:" + WRONG + "@h"}, transport={"kind": "pigeon"}, apply={"max_delay_seconds": -1},
    )  # fmt: skip
    said = error(made, command)
    wrong = {"source.server_id", "source.ssl_mode", "source.url", "target.url", "transport.kind", "apply.max_delay_seconds"}
    assert ("config", wrong) == (said["code"], {one["key"] for one in said["problems"]})
    assert "NOT_SET" in next(one["rule"] for one in said["problems"] if one["key"] == "source.url")


def test_half_a_pipeline_needs_a_broker(mariadb, postgres, pipeline):
    for command in ("capture", "apply"):
        said = refused(pipeline(mariadb, postgres), command)
        assert ("transport", "transport.kind") == (said["code"], said["place"])


def test_a_metrics_port_in_use_is_refused(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        said = refused(pipeline(mariadb, postgres, metrics={"listen": f"127.0.0.1:{port}"}), "run")
    assert ("metrics_listen", f"metrics.listen 127.0.0.1:{port}") == (said["code"], said["place"])
    untouched(postgres)
