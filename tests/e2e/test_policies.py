"""Policies, through the real command: each value by the copy and by the log, what is counted, and that reconcile mirrors them exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.streaming import streaming
from tests.e2e.watch import Metrics, caught_up, equal, listening, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

BERLIN = {"timestamp": "timestamp", "timestamp_zone": "Europe/Berlin"}


@dataclass(frozen=True)
class Case:
    """A column under a policy: the source's values as SQL, the target's as PostgreSQL prints them, and what is counted of them."""

    name: str
    ddl: str
    policy: dict[str, str]
    values: dict[str, str | None]
    reasons: dict[str, int]
    flavours: tuple[str, ...] = ("mariadb", "mysql")


BAD_DATES = {"'0000-00-00'": "zero_date", "'2021-00-15'": "partial_date", "'2021-02-30'": "impossible_date", "'0000-05-05'": "year_zero"}
ALL_BAD = dict.fromkeys(BAD_DATES.values(), 1)
JSON_NUL = '{"a": "x\\\\u0000y"}'
CASES = (
    Case("d_null", "DATE", {}, {**dict.fromkeys(BAD_DATES), "'2024-02-29'": "2024-02-29"}, ALL_BAD),
    Case("d_sentinel", "DATE NOT NULL", {"zero_date": "sentinel"}, {**dict.fromkeys(BAD_DATES, "0001-01-01"), "'0001-01-01'": "0001-01-01"},
         ALL_BAD),
    Case("d_text", "DATE", {"zero_date": "text"}, {one: one.strip("'") for one in (*BAD_DATES, "'2024-02-29'")}, {}),
    Case("dt_sentinel", "DATETIME(2)", {"zero_date": "sentinel", "sentinel_date": "1899-12-31"},
         {"'2021-00-15 10:11:12.34'": "1899-12-31 00:00:00", "'2021-01-15 10:11:12.34'": "2021-01-15 10:11:12.34"}, {"partial_date": 1}),
    Case("dt_text", "DATETIME(3)", {"zero_date": "text"},
         {"'2021-00-15 10:11:12.345'": "2021-00-15 10:11:12.345", "'2021-01-15 10:11:12'": "2021-01-15 10:11:12.000"}, {}),
    Case("ts_sentinel", "TIMESTAMP(6) NULL", {"zero_date": "sentinel"},
         {"'0000-00-00'": "0001-01-01 00:00:00+00", "'2021-01-15 10:11:12.5'": "2021-01-15 10:11:12.5+00"}, {"zero_date": 1}),
    Case("ts_text", "TIMESTAMP NULL", {"zero_date": "text"},
         {"'0000-00-00'": "0000-00-00 00:00:00", "'2021-01-15 10:11:12'": "2021-01-15 10:11:12"}, {}),
    Case("ts_utc", "TIMESTAMP(1) NULL", {"timestamp": "timestamp"}, {"'2021-07-15 10:11:12.5'": "2021-07-15 10:11:12.5"}, {}),
    Case("ts_berlin", "TIMESTAMP(3) NULL", BERLIN | {"zero_date": "sentinel"}, {
        "'2021-07-15 10:11:12.345'": "2021-07-15 12:11:12.345", "'2021-01-15 10:11:12.345'": "2021-01-15 11:11:12.345",
        "'1970-01-01 00:00:01'": "1970-01-01 01:00:01", "'2038-01-19 03:14:07'": "2038-01-19 04:14:07",
        "'2026-10-25 00:30:00'": "2026-10-25 02:30:00", "'2026-10-25 01:30:00'": "2026-10-25 02:30:00",
        "'2026-10-24 23:59:59.999'": "2026-10-25 01:59:59.999", "'2026-03-29 01:00:00'": "2026-03-29 03:00:00",
        "'0000-00-00'": "0001-01-01 00:00:00"}, {"ambiguous_time": 2, "zero_date": 1}),
    Case("nul_strip", "VARCHAR(9)", {}, {r"'a\0b\0'": "ab", "'plain'": "plain", r"'\0'": ""}, {"nul_text": 2}),
    Case("nul_char", "CHAR(9) CHARACTER SET latin1", {}, {r"'ä \0'": "ä "}, {"nul_text": 1}),
    Case("nul_wide", "TEXT CHARACTER SET utf16", {"nul_text": "strip"}, {r"'Ā\0b'": "Āb", "'Āa'": "Āa"}, {"nul_text": 1}),
    Case("nul_enum", r"ENUM('a\0b', 'c')", {}, {"1": "ab", "2": "c"}, {"nul_text": 1}),
    Case("nul_set", r"SET('a\0', 'c')", {}, {"3": "a,c", "2": "c"}, {"nul_text": 1}),
    Case("nul_replace", "TEXT", {"nul_text": "replace"}, {r"'a\0b'": "a␀b", "'a␀b'": "a␀b", "'ä'": "ä"}, {"nul_text": 1}),
    Case("bad_text", "VARCHAR(9) CHARACTER SET cp1251", {"invalid_text": "replace"},
         {"X'619862'": "a�b", "X'E0'": "а", "'?'": "?"}, {"invalid_text": 1}),
    Case("flag", "TINYINT(1)", {"tinyint1": "boolean", "over_wide": "clamp"}, {"0": "f", "1": "t", "2": "t", "-1": "t"}, {"over_wide": 2}),
    Case("flag_null", "TINYINT(1)", {"tinyint1": "boolean", "over_wide": "null"}, {"1": "t", "127": None}, {"over_wide": 1}),
    Case("any_flag", "TINYINT(4)", {"tinyint1": "boolean", "over_wide": "clamp"}, {"0": "f", "1": "t", "-128": "t"}, {"over_wide": 1}),
    Case("uint_flag", "TINYINT UNSIGNED", {"tinyint1": "boolean", "over_wide": "null"}, {"1": "t", "255": None}, {"over_wide": 1}),
    Case("big", "BIGINT UNSIGNED", {"bigint_unsigned": "bigint", "over_wide": "clamp"},
         {"0": "0", "9223372036854775807": "9223372036854775807", "9223372036854775808": "9223372036854775807"}, {"over_wide": 1}),
    Case("big_null", "BIGINT UNSIGNED", {"bigint_unsigned": "bigint", "over_wide": "null"}, {"18446744073709551615": None, "5": "5"},
         {"over_wide": 1}),
    Case("j_text", "JSON", {"json": "text"}, {f"'{JSON_NUL}'": '{"a": "x\\u0000y"}'}, {}, ("mysql",)),
    Case("jb_null", "JSON", {"json": "jsonb", "refused_json": "null"},
         {f"'{JSON_NUL}'": None, "'{\"n\": 1e20, \"a\": [1.50, \"x\"]}'": '{"a": [1.5, "x"], "n": 100000000000000000000}'},
         {"refused_json": 1}, ("mysql",)),
    Case("jb_string", "JSON", {"json": "jsonb", "refused_json": "string"},
         {f"'{JSON_NUL}'": r'"{\"a\": \"x\\u0000y\"}"', r"""'"back\\\\u0000"'""": r'"back\\u0000"'}, {"refused_json": 1}, ("mysql",)),
)  # fmt: skip


UNSAYABLE = {"bad_text", "jb_null", "jb_string"}
"""Columns of which checksums cannot say everything."""


def cases(flavour: str, table: str = "v") -> list[Case]:
    """The cases of table `v`; `k` has those that can be compared without a key."""
    return [case for case in CASES if flavour in case.flavours and (table == "v" or case.name not in UNSAYABLE)]


def create(source: SourceDatabase, table: str, key: str) -> None:
    columns = ", ".join(f"`{case.name}` {case.ddl}" for case in cases(source.flavour, table))
    source.execute(f"CREATE TABLE {table} (id INT NOT NULL{key}, {columns}) CHARACTER SET utf8mb4")


def fill(source: SourceDatabase, table: str, start: int) -> None:
    """Every value of every case, each in a row of its own; the first row has the first of all."""
    source.execute("SET SESSION sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'")
    every = cases(source.flavour, table)
    for at in range(max(len(case.values) for case in every)):
        row = [list(case.values)[at] if at < len(case.values) else "'2020-01-01'" if "NOT NULL" in case.ddl else "NULL" for case in every]
        source.execute(f"INSERT INTO {table} VALUES ({start + at}, {', '.join(row)})")


def expected(flavour: str, start: int, table: str = "v") -> list[tuple[str | int | None, ...]]:
    every = cases(flavour, table)
    rows: list[tuple[str | int | None, ...]] = []
    for at in range(max(len(case.values) for case in every)):
        texts = [
            list(case.values.values())[at] if at < len(case.values) else "2020-01-01" if "NOT NULL" in case.ddl else None for case in every
        ]
        rows.append((start + at, *texts))
    return rows


def held(postgres: TargetDatabase, source: SourceDatabase, table: str) -> list[tuple[Any, ...]]:
    names = [case.name for case in cases(source.flavour, table)]
    texts = ", ".join(f"CASE WHEN {n}::text IN ('true', 'false') THEN left({n}::text, 1) ELSE {n}::text END" for n in names)
    with postgres.connect() as line:
        line.execute("SET TimeZone = 'UTC'")
        return line.execute(f"SELECT id, {texts} FROM {source.name}.{table} ORDER BY id".encode()).fetchall()


def counted(postgres: TargetDatabase) -> dict[tuple[str, str, str], int]:
    rows = postgres.execute('SELECT "table", "column", reason, count FROM cdc.anomaly')
    return {(table, column, reason): count for table, column, reason, count in rows}


def counts(source: SourceDatabase, times: int, *tables: str) -> dict[tuple[str, str, str], int]:
    return {
        (table, case.name, reason): n * times
        for table in tables
        for case in cases(source.flavour, table)
        for reason, n in case.reasons.items()
    }


def sections(source: SourceDatabase, *tables: str) -> dict[str, Any]:
    entries = {
        f"{source.name}.{table}.{case.name}": case.policy for table in tables for case in cases(source.flavour, table) if case.policy
    }
    return {"policies": {"columns": entries}, "metrics": listening()}


def test_every_policy_gives_the_same_value_by_the_copy_and_by_the_log_is_counted_once_and_is_mirrored(
    source: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    create(source, "v", " PRIMARY KEY")
    fill(source, "v", 1)
    settings = sections(source, "v")
    with streaming(pipeline, source, postgres, None, "direct", **settings) as works:
        assert expected(source.flavour, 1) == held(postgres, source, "v")
        assert counts(source, 1, "v") == counted(postgres)
        fill(source, "v", 101)
        caught_up(works.pipeline)
        assert expected(source.flavour, 1) + expected(source.flavour, 101) == held(postgres, source, "v")
        assert counts(source, 2, "v") == counted(postgres)
        said = Metrics(settings["metrics"]["listen"])
        for (table, column, reason), count in counted(postgres).items():
            labels = {"table": f"{source.name}.{table}", "column": column, "reason": reason}
            assert count == said.value("cdc_anomalies_total", **labels), labels
        equal(works.pipeline)
        works.stop()
        works.start()
        works.await_cut(postgres)
        source.execute("UPDATE v SET id = id + 1000 WHERE id > 100")  # the images before are not counted again
        caught_up(works.pipeline)
        assert counts(source, 3, "v") == counted(postgres)
        equal(works.pipeline)
        damage(source, postgres)
        found = json.loads(works.pipeline.run("--json", "reconcile").stdout)
        assert {case.name for case in cases(source.flavour)} == {c for d in found["tables"][0]["differences"] for c in d["columns"]}
        works.stop()


def damage(source: SourceDatabase, postgres: TargetDatabase) -> None:
    """Write another value into each column of the target."""
    for at, case in enumerate(cases(source.flavour)):
        kind = postgres.execute(f"SELECT pg_typeof({case.name})::text FROM {source.name}.v LIMIT 1")[0][0]
        other = {"date": "'1999-01-01'", "boolean": f"NOT coalesce({case.name}, true)", "jsonb": "'{\"n\": 1}'", "json": "'{}'"}.get(
            kind, "'1999-01-01 00:00:00'" if kind.startswith("timestamp") else "7" if kind in ("bigint", "smallint", "numeric") else "'�?'"
        )
        postgres.execute(f"UPDATE {source.name}.v SET {case.name} = {other} WHERE id = {1 + at % 2}")


@pytest.mark.parametrize(("flavour", "through"), [("mariadb", "target"), ("mysql", "topics")])
def test_over_a_broker_with_and_without_a_key_the_counts_and_the_rows_are_the_same(
    flavour: str, through: str, request: pytest.FixtureRequest, postgres: TargetDatabase, kafka: Broker, pipeline: Any
) -> None:
    """Without a key a row that is deleted is found by what the policies made of it; where SQL cannot say that, reconcile says so."""
    source = request.getfixturevalue(flavour)
    source.execute("CREATE TABLE odd (a VARCHAR(9) CHARACTER SET cp1251)", "INSERT INTO odd VALUES ('a'), (_cp1251 X'98')")
    for table, key in (("v", " PRIMARY KEY"), ("k", "")):
        create(source, table, key)
        fill(source, table, 1)
    settings = sections(source, "v", "k")
    settings["policies"]["columns"][f"{source.name}.odd.a"] = {"invalid_text": "replace"}
    del settings["metrics"]  # two processes cannot share a port
    way = "split" if through == "target" else "kafka"
    with streaming(pipeline, source, postgres, kafka, way, **settings, snapshot={"through": through}) as works:
        caught_up(works.pipeline)
        fill(source, "v", 101)
        fill(source, "k", 101)
        source.execute("DELETE FROM k WHERE id > 102", "DELETE FROM k WHERE id < 3", "DELETE FROM v WHERE id > 102")
        caught_up(works.pipeline)
        for table, gone in (("v", range(103, 200)), ("k", (1, 2, *range(103, 200)))):
            rows = expected(flavour, 1, table) + expected(flavour, 101, table)
            assert [row for row in rows if row[0] not in gone] == held(postgres, source, table), table
        assert {**counts(source, 2, "v", "k"), ("odd", "a", "invalid_text"): 1} == counted(postgres) | capped(source, postgres)
        found = json.loads(works.pipeline.run("--json", "reconcile").stdout)["tables"]
        assert {"v": "equal", "k": "equal", "odd": "refused"} == {t["source"].partition(".")[2]: t["state"] for t in found}
        assert {"policy_unverifiable", ""} == {t["reason"] for t in found}
        works.stop()


def capped(source: SourceDatabase, postgres: TargetDatabase) -> dict[tuple[str, str, str], int]:
    """What the sink counted of rows that came and went within one commit is what it wrote: at most what is expected."""
    found, most = counted(postgres), counts(source, 2, "v", "k")
    assert all(count <= most[what] for what, count in found.items() if what in most), found
    sinks = {"nul_text", "over_wide", "refused_json", "ambiguous_time"}
    return {what: most[what] for what in found if what in most and what[2] in sinks}


def copied(postgres: TargetDatabase) -> bool:
    """Whether the copy is complete."""
    return postgres.execute("SELECT to_regclass('cdc.progress')") != [(None,)] and postgres.execute("SELECT 1 FROM cdc.progress") != []


def test_what_is_said_of_a_key_is_refused_at_start_and_a_name_that_nothing_has_is_told(
    mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    mariadb.execute("CREATE TABLE t (d DATE PRIMARY KEY, n VARCHAR(9))", "INSERT INTO t VALUES ('2020-01-01', 'x')")
    name = mariadb.name
    line = pipeline(
        mariadb, postgres, policies={"columns": {f"{name}.t.D": {"zero_date": "sentinel"}, f"{name}.t.gone": {"nul_text": "strip"}}}
    )
    done = line.run("--json", "run")
    assert (2, "policy_of_key", f"{name}.t.d") == (done.returncode, *(json.loads(done.stdout)["error"][one] for one in ("code", "place")))
    told = json.loads(line.run("--json", "doctor").stdout)["findings"]
    assert {("error", "policy_of_key"), ("error", "policy_unused")} == {
        (one["level"], one["code"]) for one in told if "polic" in one["code"]
    }
    assert [(None,)] == postgres.execute("SELECT to_regclass('cdc.tables')")
    line = pipeline(mariadb, postgres, policies={"columns": {f"{name}.*.*": {"zero_date": "sentinel"}}})
    running = line.start("run")
    until(lambda: copied(postgres), 60, "the copy", running)
    mariadb.execute("SET SESSION sql_mode=''", "INSERT INTO t VALUES ('0000-00-00', 'y')")
    assert 1 == running.process.wait(60)
    assert "key_date" in running.output()
    assert f"{name}.t.d" in running.output()


def test_another_policy_than_that_of_the_rows_stops_at_start_and_an_error_may_become_anything(
    mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, d DATE, n VARCHAR(9), b TINYINT(1))", "SET SESSION sql_mode=''",
                    "INSERT INTO t VALUES (1, '0000-00-00', 'x', 1)")  # fmt: skip
    first = {"zero_date": "sentinel", "tinyint1": "boolean", "nul_text": "error"}
    running = pipeline(mariadb, postgres, policies=first, apply={"quarantine_keys": 0}).start("run")
    until(lambda: copied(postgres), 60, "the copy", running)
    mariadb.execute(r"INSERT INTO t VALUES (2, '2020-01-01', 'a\0b', 0)")
    assert 1 == running.process.wait(60)
    assert "nul_in_text" in running.output()
    for other, key in (
        ({"tinyint1": "boolean"}, "zero_date"),
        (first | {"sentinel_date": "1900-01-01"}, "sentinel_date"),
        ({"zero_date": "sentinel"}, "tinyint1"),
    ):
        done = pipeline(mariadb, postgres, policies=other).run("--json", "run")
        error = json.loads(done.stdout)["error"]
        assert (2, "policy_changed") == (done.returncode, error["code"]), done.stdout
        assert f"policies.{key} " in error["rule"]
    with streaming(pipeline, mariadb, postgres, None, "direct", policies=first | {"nul_text": "strip"}) as works:
        caught_up(works.pipeline)
        assert [(1, "0001-01-01", "x", True), (2, "2020-01-01", "ab", False)] == postgres.execute(
            f"SELECT id, d::text, n, b FROM {mariadb.name}.t ORDER BY id"
        )
        assert {("t", "d", "zero_date"): 1, ("t", "n", "nul_text"): 1} == counted(postgres)
        equal(works.pipeline)
        works.stop()
    done = pipeline(mariadb, postgres, policies=first).run("--json", "run")
    assert (2, "policy_changed") == (done.returncode, json.loads(done.stdout)["error"]["code"])
