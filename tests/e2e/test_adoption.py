"""Tables that an older job made are taken over as they are, where their types hold what comes; else each reason is told at once."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up, equal
from tests.helpers.servers import SourceDatabase, TargetDatabase

COLUMNS = (
    ("a", "TINYINT", "bigint"), ("b", "SMALLINT UNSIGNED", "bigint"), ("c", "INT", "int"), ("y", "YEAR", "int"),
    ("s", "VARCHAR(20)", "text"), ("x", "TEXT", "varchar"), ("v", "CHAR(3)", "varchar(30)"), ("d", "DECIMAL(8,2)", "numeric(12,2)"),
    ("n", "DECIMAL(8,2)", "numeric"), ("t", "DATETIME", "timestamp"), ("z", "TIMESTAMP NULL", "timestamptz"),
)  # fmt: skip
ROW = "1, 65535, -3, 2024, 'ä', 'long', 'ab', 1.50, -2.25, '2024-02-29 01:02:03', '2024-02-29 01:02:03'"
ROWS = 150  # more than a handful: by COPY


def test_tables_of_an_older_job_are_taken_over_with_their_wider_types(
    mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    db = mariadb.name
    for table, key in (("keyed", " PRIMARY KEY"), ("bare", "")):
        mariadb.execute(f"CREATE TABLE {table} (id INT{key}, {', '.join(f'{name} {kind}' for name, kind, _ in COLUMNS)})")
        mariadb.execute(f"INSERT INTO {table} SELECT seq, {ROW} FROM seq_1_to_{ROWS}")
    postgres.execute(f"CREATE SCHEMA {db}")
    wide = ", ".join(f"{name} {kind}" for name, _, kind in COLUMNS)
    postgres.execute(f"CREATE TABLE {db}.keyed (id bigint, y smallint, t timestamptz, s varchar(2), more text NOT NULL)")
    postgres.execute(f"CREATE TABLE {db}.bare (id smallint, {wide})")

    refused = json.loads(pipeline(mariadb, postgres, target={"adopt": True}).run("--json", "run").stdout)["error"]
    told = json.loads(pipeline(mariadb, postgres, target={"adopt": True}).run("--json", "doctor").stdout)["findings"]
    found = {one["place"]: one for one in told if one["code"] == "target_table"}
    assert {f"{db}.keyed", f"{db}.bare"} == set(found)
    keyed = found[f"{db}.keyed"]
    for word in ("'a'", "'t' is timestamp with time zone", "'s' is character varying(2)", "'more' is NOT NULL", "no primary key"):
        assert word in keyed["rule"], word
    assert "column 'id' is smallint, it should be integer" in found[f"{db}.bare"]["rule"]
    assert "'y'" not in keyed["rule"]
    assert f"{db}.bare" == refused["place"]
    assert all(part in refused["rule"] for part in ("'id' is smallint", f"{db}.keyed: ", "'more' is NOT NULL"))

    mends = keyed["hint"].partition("; or drop")[0].split("; ")
    postgres.execute(
        *mends, f"DROP TABLE {db}.bare", f"CREATE TABLE {db}.bare (id bigint, {wide})", f"INSERT INTO {db}.bare (id) VALUES (-1)"
    )
    for name, _, kind in COLUMNS:
        postgres.execute(f"ALTER TABLE {db}.keyed ALTER COLUMN {name} TYPE {kind}" + (f" USING {name}::{kind}" if name == "t" else ""))
    with streaming(pipeline, mariadb, postgres, None, "direct", target={"adopt": True}) as works:
        caught_up(works.pipeline)
        for table in ("keyed", "bare"):
            mariadb.execute(
                f"INSERT INTO {table} SELECT seq + 1000, {ROW} FROM seq_1_to_{ROWS}",
                f"INSERT INTO {table} VALUES (5000, {ROW})",
                f"UPDATE {table} SET a = -128, s = repeat('x', 20) WHERE id BETWEEN 1 AND 100",
                f"UPDATE {table} SET b = 0 WHERE id = 5000",
                f"DELETE FROM {table} WHERE id > 1050 AND id < 1140 OR id = 7",
            )
        caught_up(works.pipeline)
        equal(works.pipeline)
    for table in ("keyed", "bare"):
        assert (
            mariadb.execute(f"SELECT count(*), sum(a), sum(b) FROM {table}")[0]
            == postgres.execute(f"SELECT count(*), sum(a), sum(b) FROM {db}.{table}")[0]
        )
        assert ("bigint", "text", "timestamp without time zone") == tuple(
            postgres.execute(f"SELECT pg_typeof(a)::text, pg_typeof(s)::text, pg_typeof(t)::text FROM {db}.{table} LIMIT 1")[0]
        )
