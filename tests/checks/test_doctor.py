"""Doctor: what stands in the way, on real servers, with the SQL that mends it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from cdc.checks import doctor, source as source_checks, target as target_checks
from cdc.checks.target import TargetCheck
from cdc.commands.process import source_check
from cdc.config import load as config
from cdc.errors import Retry
from cdc.model.table import Column, Table
from cdc.mysql import preflight
from cdc.mysql.connection import connect
from tests.helpers.documents import faults
from tests.helpers.refusals import error


def examined(made: Any, broker: Any = None) -> dict[str, Any]:
    """The doctor's document, which keeps its schema."""
    loaded = config.load(made.path, made.environ)
    document = doctor.examine(source_check(loaded), TargetCheck(loaded.target, loaded.pipeline.name), broker=broker)
    assert [] == faults("doctor", document)
    return document


def said(document: dict[str, Any], level: str = "error") -> set[tuple[str, str]]:
    return {(one["code"], one["place"]) for one in document["findings"] if one["level"] == level}


def hint(document: dict[str, Any], code: str) -> str:
    return next(str(one["hint"]) for one in document["findings"] if one["code"] == code)


def test_a_fit_pipeline_has_no_errors(source, postgres, pipeline):
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    document = examined(pipeline(source, postgres))
    assert (0, set(), [f"{source.name}.t"]) == (document["errors"], said(document), document["tables"])
    assert source.flavour == document["source"]["flavour"]


def test_a_pattern_that_selects_nothing_is_an_error(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    document = examined(pipeline(mariadb, postgres, source={"tables": [f"{mariadb.name}.t", f"{mariadb.name}.nothing"]}))
    assert {("no_tables", "source.tables")} == said(document)
    document = examined(pipeline(mariadb, postgres, source={"exclude": ["*.*"]}))
    assert {("no_tables", "source.exclude")} == said(document)


def test_a_table_of_another_role_in_the_target_is_mended_by_the_hint_as_it_stands(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    postgres.execute(f"CREATE SCHEMA {mariadb.name}")
    made = pipeline(mariadb, postgres)
    with postgres.connect("postgres") as administrator:
        administrator.execute(f"CREATE TABLE {mariadb.name}.t (id int)")
        administrator.commit()
        document = examined(made)
        assert {("target_owner", f"{mariadb.name}.t")} == said(document)
        administrator.execute(hint(document, "target_owner"))
    assert 0 == examined(made)["errors"]


@pytest.mark.parametrize("engine", ["MyISAM", "InnoDB", "CSV"])
def test_a_table_without_a_key_is_a_warning_that_says_what_will_happen(engine, source, postgres, pipeline):
    """As the copy will do it: under a lock wherever there is no snapshot at a known position."""
    source.execute(f"CREATE TABLE t (id int NOT NULL) ENGINE = {engine}")
    document = examined(pipeline(source, postgres))
    assert ("no_key", f"{source.name}.t") in said(document, "warning")
    assert f"ALTER TABLE `{source.name}`.`t` ADD PRIMARY KEY (...)" == hint(document, "no_key")
    said_held = "at one exact position" if engine == "InnoDB" else "under LOCK TABLES .. READ"
    assert said_held in next(one["rule"] for one in document["findings"] if one["code"] == "no_key")


def test_rows_of_unknown_origin_in_the_target_are_an_error_unless_adopted(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE `e%s` (id int PRIMARY KEY)")
    postgres.execute(
        f"CREATE SCHEMA {mariadb.name}", f"CREATE TABLE {mariadb.name}.t (id int)", f'CREATE TABLE {mariadb.name}."e%s" (id int)',
        f"INSERT INTO {mariadb.name}.t VALUES (1)",
    )  # fmt: skip
    document = examined(pipeline(mariadb, postgres))
    assert {("target_not_empty", f"{mariadb.name}.t")} == said(document)
    assert hint(document, "target_not_empty").startswith(f"TRUNCATE {mariadb.name}.t")
    assert set() == said(examined(pipeline(mariadb, postgres, target={"adopt": True})))


def test_a_view_in_the_target_s_place_is_an_error(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    postgres.execute(f"CREATE SCHEMA {mariadb.name}", f"CREATE VIEW {mariadb.name}.t AS SELECT 1 AS id")
    assert {("target_exists", f"{mariadb.name}.t")} == said(examined(pipeline(mariadb, postgres)))


def test_a_schema_in_which_nothing_can_be_made_is_an_error(mariadb, postgres, pipeline):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with postgres.connect("postgres") as line:
        line.execute(f"CREATE SCHEMA {mariadb.name}")
    document = examined(pipeline(mariadb, postgres))
    assert {("target_schema", mariadb.name)} == said(document)
    assert "GRANT" in hint(document, "target_schema")


def test_a_name_that_postgresql_would_cut_off_is_a_warning(mariadb, postgres, pipeline):
    name = "ä" * 32  # 64 bytes
    mariadb.execute(f"CREATE TABLE t (id int PRIMARY KEY, `{name}` int)")
    document = examined(pipeline(mariadb, postgres))
    assert {("name_changed", f"{mariadb.name}.t")} == said(document, "warning")


def test_bytes_that_are_no_text_in_what_the_source_says_of_itself_stop_nothing(source, postgres, pipeline):
    """MariaDB writes a binary default into SHOW CREATE TABLE as it is; what a foreign key says behind it is still read."""
    source.execute(
        "CREATE TABLE p (id int PRIMARY KEY)",
        "CREATE TABLE t (id int PRIMARY KEY, b binary(4) DEFAULT x'ff00fe80', v varbinary(9) AS (CONCAT(x'fffe', id)) STORED,"
        " d varbinary(9) DEFAULT x'e4', c int DEFAULT 0 COMMENT 'ä', CHECK (b <> x'fefd'), FOREIGN KEY (id) REFERENCES p (id))",
    )
    made = pipeline(source, postgres)
    document = examined(made)
    assert (0, [f"{source.name}.p", f"{source.name}.t"]) == (document["errors"], document["tables"])
    with closing(connect(config.load(made.path, made.environ).source)) as line, line.cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE {source.name}.t")
        created = cursor.fetchone()[1]
    assert "'ä'" in created
    assert ("\\xff" in created) == (source.flavour == "mariadb")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_told_so_whatever_names_it_cannot_hold(encoding, mariadb, postgres, pipeline):
    """Asked for a schema that it has no letters for, such a database answers with an error of its own."""
    name = f"{postgres.name}_{encoding.lower()}"
    mariadb.execute("CREATE TABLE `пациент` (id int PRIMARY KEY)")
    with postgres.connect("postgres") as administrator:
        administrator.execute(f"CREATE DATABASE {name} OWNER cdc ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            made = pipeline(mariadb, postgres, target={"url": postgres.url.replace(postgres.name, name), "schema": "данные"})
            assert {("target_encoding", f"postgresql://cdc@127.0.0.1:{postgres.port}/{name}")} == said(examined(made))
            assert "target_encoding" == error(made, "run")["code"]
        finally:
            administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_servers_that_are_away_are_findings_all_of_them(mariadb, postgres, pipeline):
    made = pipeline(
        mariadb,
        postgres,
        source={"url": "mysql://cdc@127.0.0.1:1/", "connect_timeout_seconds": 1.0},
        target={"url": "postgresql://cdc@127.0.0.1:1/d"},
    )

    def away(_tables: object) -> None:
        raise Retry("broker_unreachable", "kafka 127.0.0.1:1", "nobody listens")

    document = examined(made, away)
    assert {"source_unreachable", "target_unreachable", "broker_unreachable"} == {code for code, _ in said(document)}
    assert (None, None) == (document["source"], document["target"])


def settings(**target: Any) -> config.Config:
    url = config.ServerUrl("postgresql", "db.example", 5432, database="d")
    source = {"url": "mysql://u@db.example", "tables": ["a.*"], "server_id": 1}
    return config.Config.model_validate({"pipeline": {"name": "od"}, "source": source, "target": {"url": url, **target}})


def test_two_tables_that_would_become_one_are_an_error():
    tables = [Table(db, "t", (Column("id", "int"),), (0,)) for db in ("a", "b")]
    assert [] == source_checks.names(settings().target.schema_, tables)
    assert [("same_target", "b.t")] == [(one.code, one.place) for one in source_checks.names(settings(schema="dw").target.schema_, tables)]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ((130010, "UTF8", False, True, True), "target_version"),
        ((150000, "LATIN1", False, True, True), "target_encoding"),
        ((150000, "UTF8", True, True, True), "target_standby"),
        ((150000, "UTF8", False, False, True), "target_create"),
        ((150000, "UTF8", False, True, False), "target_tls"),
    ],
)
def test_facts_about_the_target_become_findings(facts, code):
    assert [code] == [one.code for one in target_checks.target_server(settings().target.url, *(*facts, "u", "d"))]
    assert ["source_tls"] == [one.code for one in source_checks.source_tls(settings().source)]


@pytest.mark.parametrize(
    ("values", "follows", "levels"),
    [
        ({"log_slave_updates": "OFF"}, True, ["error"]),
        ({"log_slave_updates": "OFF"}, False, []),
        ({"log_slave_updates": "OFF"}, None, ["warning"]),
        ({"log_replica_updates": "ON", "log_slave_updates": "ON"}, True, []),
        ({"log_slave_updates": "OFF", "wsrep_on": "ON"}, False, ["error"]),
        ({"log_replica_updates": "OFF", "group_replication_group_name": "g"}, False, ["error"]),
        ({"log_replica_updates": "OFF", "group_replication_group_name": ""}, False, []),
        ({}, True, []),
    ],
)
def test_a_server_that_takes_changes_over_must_log_them(values, follows, levels):
    """A node of a cluster takes them over too, and has no server that it follows."""
    assert levels == [one.level for one in preflight.unlogged_updates(values, lambda: follows, "here")]
