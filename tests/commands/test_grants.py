"""`cdc grants`: what it prints makes two accounts with which a pipeline runs, and which may do nothing else."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from cdc.commands.grants import PASSWORD as PLACE, grants, script
from cdc.config import load as config
from tests.e2e.watch import caught_up, equal
from tests.helpers.documents import faults
from tests.helpers.servers import PASSWORD, SourceDatabase, TargetDatabase

FILE = """
[pipeline]
name = "od"
[source]
url = "mysql://c'dc:x@h/"
tables = {tables}
server_id = 1
[target]
url = "postgresql://me:x@h/ana"
schema = "{schema}"
"""


def printed(folder: Path, *tables: str, schema: str = "{db}") -> str:
    path = folder / "pipeline.toml"
    path.write_text(FILE.replace("{tables}", json.dumps(tables)).replace("{schema}", schema))
    found = grants(config.load(path, {}))
    assert [] == faults("grants", found)
    return script(found)


def test_the_source_s_account_may_read_what_is_selected_and_names_mean_themselves(tmp_path: Path) -> None:
    text = printed(tmp_path, "open_dental.*", "shop.order s", "log?.x*")
    assert "CREATE USER 'c''dc'@'%' IDENTIFIED BY 'the password';" in text
    for scope in (r"`open\_dental`.*", "`shop`.`order s`", "`log_`.*"):
        assert f"GRANT SELECT ON {scope} TO 'c''dc'@'%';" in text, scope
    assert "GRANT LOCK TABLES ON `shop`.* TO" in text
    assert "SELECT ON *.*" not in text
    assert "GRANT SELECT ON *.* TO" in printed(tmp_path, "*.*")


def test_the_target_s_role_gets_its_schemas_and_the_right_to_make_more_only_where_they_are_not_known(tmp_path: Path) -> None:
    text = printed(tmp_path, "a.*", "b.t", schema="raw_{db}")
    for name in ("cdc", "raw_a", "raw_b"):
        assert f'CREATE SCHEMA "{name}" AUTHORIZATION "me";' in text
    assert "GRANT CREATE ON DATABASE" not in text
    assert 'GRANT CREATE ON DATABASE "ana" TO "me";' in printed(tmp_path, "a*.t")
    one = printed(tmp_path, "a*.t", "b.*", schema="raw")
    assert (1, False) == (one.count('CREATE SCHEMA "raw"'), "GRANT CREATE" in one)


@pytest.fixture
def accounts(source: SourceDatabase, postgres: TargetDatabase) -> Any:
    """Names for two accounts and a database, gone afterwards."""
    user, role, database = f"g_{source.name[-12:]}", f"r_{source.name}", f"d_{source.name}"
    yield user, role, database
    source.execute(f"DROP USER IF EXISTS '{user}'@'%'")
    with postgres.connect("postgres", dbname="postgres") as line:
        line.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())
        line.execute(f'DROP ROLE IF EXISTS "{role}"'.encode())


def inserts(value: str) -> list[str]:
    return [f"INSERT INTO {table} VALUES ({value}{', 1' if table == 't' else ''})" for table in ("t", "m", "bare", "loose")]


def test_a_pipeline_runs_with_exactly_these_grants(source: SourceDatabase, postgres: TargetDatabase, pipeline: Any, accounts: Any) -> None:
    """Tables of both engines, with and without a key, copied and followed; doctor and reconcile too."""
    user, role, database = accounts
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)", "CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM",
        "CREATE TABLE bare (v INT) ENGINE=MyISAM", "CREATE TABLE loose (v INT)", *inserts("1"), *inserts("2"),
    )  # fmt: skip
    made = pipeline(
        source, postgres,
        source={"url": f"mysql://{user}:${{CDC_SOURCE_PASSWORD}}@{source.host}:{source.port}/"},
        target={"url": f"postgresql://{role}:${{CDC_TARGET_PASSWORD}}@{postgres.host}:{postgres.port}/{database}"},
    )  # fmt: skip
    told = made.json("grants")
    assert told["source"][0]["sql"] in made.run("grants").stdout
    run = {name: [one["sql"].replace(PLACE, PASSWORD) for one in told[name]] for name in ("source", "target", "target_database")}
    source.execute(*run["source"])
    with postgres.connect("postgres", dbname="postgres") as line:
        for sql in run["target"]:
            line.execute(sql.encode())
    with postgres.connect("postgres", dbname=database) as line:
        for sql in run["target_database"]:
            line.execute(sql.encode())

    doctor = json.loads(made.run("--json", "doctor").stdout)
    assert [] == [one for one in doctor["findings"] if one["level"] == "error" or one["code"] in ("privilege", "xa_unseen")]
    running = made.start("run")
    caught_up(made)
    source.execute(*inserts("3"))
    caught_up(made)
    equal(made)
    assert 0 == running.stop()

    with contextlib.closing(source.connect(user)) as reader, reader.cursor() as cursor, pytest.raises(pymysql.err.OperationalError):
        cursor.execute("INSERT INTO t VALUES (4, 'z')")
    with postgres.connect(role, dbname=database) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("CREATE SCHEMA other")
