"""Names of any kind arrive: kept where PostgreSQL can hold them, else changed by a rule that is always the same, and never merged."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cdc.checks import source as source_checks
from cdc.codec import envelope
from cdc.config import load as config
from cdc.model import names
from cdc.model.selection import Selection
from cdc.model.table import Column, Table
from cdc.mysql.information_schema import labels_of
from cdc.transport.direct import DirectLog
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up, equal
from tests.helpers.documents import faults
from tests.helpers.servers import SourceDatabase, TargetDatabase

LONG = "\u65e5" * 64  # 192 bytes in UTF-8, the longest name of a column
TABLE = "\u0436" * 64  # a table is a file too, whose name Linux limits: letters of the Basic Multilingual Plane take 3 to 5 bytes there
ODD = (
    "Order", "order", "select", "two words", "sel.ect", "dol$lar", 'dou"ble', "sing'le", "back`tick", "per%cent", "%s", "%(a)s", "{c}",
    "{n:d}",
    "{", "}}", "a\\b", "a\nb", ";--", "/*x*/", "?", "$1", "na\u00efve",
    TABLE, "\u0436" * 63 + "\u0448", "\u65e5" * 48, "x" * 64, "t", "t_pkey", "ctid", "user",
)  # fmt: skip
COLUMNS = (
    "Id", "{c}", "%s", "ctid", "xmin", "tableoid", "oid", "n0", "after", "a b", "a_b", "a.b", 'q"q', "q'q", "q`q", "{", "a\\b", "a\nb",
    LONG,
    "\u65e5" * 63 + "\u672c", "y" * 64, "select", "$1", "\u00e9\u00e8",
)  # fmt: skip


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def doubled(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def expected(name: str) -> str:
    """The rule, written down once more: 63 bytes, or 54 and eight digits of the hash."""
    if len(name.encode()) <= 63 and name not in ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"):
        return name
    return name.encode()[:54].decode(errors="ignore") + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]


def table_expected(name: str) -> str:
    return name if name in ("ctid", "xmin", "tableoid") else expected(name)


def test_what_fits_is_kept_and_what_does_not_is_cut_between_characters_and_marked_by_its_hash() -> None:
    for name in (*ODD, *COLUMNS):
        assert expected(name) == names.column(name)
        assert table_expected(name) == names.fitted(name)
        assert 63 >= len(names.column(name).encode())
    assert "x" * 54 + "_7ce10097" == names.fitted("x" * 64)
    assert len({names.column(name) for name in COLUMNS}) == len(COLUMNS)
    assert 63 >= len(names.primary_key("s", LONG).encode())
    assert names.primary_key("s", "a") != names.primary_key("t", "a")


def test_a_table_takes_the_name_of_its_schema_from_the_configuration_and_both_are_fitted() -> None:
    assert ("raw_shop", "t") == names.target_of("raw_{db}", "shop", "t")
    assert (expected("raw_" + "d" * 64), expected(LONG)) == names.target_of("raw_{db}", "d" * 64, LONG)


def settings(**sections: Any) -> config.Config:
    url = config.ServerUrl("postgresql", "db.example", 5432, database="d")
    source = {"url": "mysql://u@db.example", "tables": ["a.*"], "server_id": 1}
    tree = {"pipeline": {"name": "od"}, "source": source, **sections, "target": {"url": url, **sections.get("target", {})}}
    return config.Config.model_validate(tree)


def table(db: str, name: str, *columns: str) -> Table:
    return Table(db, name, tuple(Column(one, "int") for one in columns or ("id",)), (0,))


def codes(config: config.Config, *tables: Table) -> list[str]:
    schema, kafka = config.target.schema_, config.transport.kind == "kafka"
    found = source_checks.names(schema, tables) + source_checks.topics(config.transport.prefix if kafka else None, tables)
    return [one.code for one in found]


def test_two_names_that_would_become_one_are_refused() -> None:
    long = "x" * 64
    assert ["name_changed"] == codes(settings(), table("a", long))
    assert ["name_changed", "same_target"] == codes(settings(), table("a", long), table("a", names.fitted(long)))
    assert ["same_column", "name_changed"] == codes(settings(), table("a", "t", long, names.column(long)))
    assert ["same_column", "name_changed"] == codes(settings(), table("a", "t", "ctid", names.column("ctid")))


def test_a_schema_that_is_not_for_data_is_refused() -> None:
    assert ["schema_reserved"] == codes(settings(), table("cdc", "tables"))
    assert ["schema_reserved"] == codes(settings(), table("pg_x", "t"))
    assert [] == codes(settings(target={"schema": "source_{db}"}), table("cdc", "tables"))


def test_topics_that_a_broker_would_not_hold_side_by_side_are_refused_and_in_one_process_nothing_is_in_the_way() -> None:
    kafka = settings(transport={"kind": "kafka"})
    assert ["same_topic"] == codes(kafka, table("shop", "a b"), table("shop", "a_b"))
    assert ["same_topic"] == codes(kafka, table("shop", "eu_orders"), table("shop_eu", "orders"))
    assert [] == codes(kafka, table("shop", "a-b"), table("shop", "a_b"))
    assert [] == codes(settings(), table("shop", "a b"), table("shop", "a_b"))
    log = DirectLog("p")
    places = [("shop", "a b"), ("shop", "a_b"), ("a.b", "c"), ("a", "b.c"), ("a%2Eb", "c")]
    assert len(places) == len({log.topic(*place) for place in places})


def test_a_field_name_that_avro_allows_is_kept_whatever_stands_before_it() -> None:
    assert ["a_b_2", "a_b", "a_b_3", "_1", "_1_2"] == envelope.field_names(table("d", "t", "a b", "a_b", "a.b", "1", "+1"))
    assert ["a_b_3", "a_b", "a_b_2"] == envelope.field_names(table("d", "t", "a b", "a_b", "a_b_2"))


def test_a_pattern_is_matched_by_database_and_table_apart() -> None:
    wants = Selection(["a.*", "b?c.d*"], ["a.x?y"])
    assert wants("a", "b.c")
    assert not wants("a.b", "c")
    assert wants("a", "line\nbreak")
    assert wants("b.c", "d.e")
    assert not wants("a", "x.y")


def _fill(source: SourceDatabase, first: int, last: int) -> list[str]:
    done = []
    for name in ODD:
        rows = ",".join(f"({n},'v{n}')" for n in range(first, last))
        done.append(f"INSERT INTO {quoted(name)} VALUES {rows}")
    values = ",".join("(" + ",".join([str(n)] * len(COLUMNS)) + ")" for n in range(first, last))
    return [*done, *(f"INSERT INTO {one} VALUES {values}" for one in ("wide", "`wide keyless`"))]


def _create(source: SourceDatabase) -> None:
    for name in ODD:
        source.execute(f"CREATE TABLE {quoted(name)} (`Id` int PRIMARY KEY, `{{c}} %s` varchar(20))")
    columns = ", ".join(f"{quoted(name)} int NOT NULL" for name in COLUMNS)
    source.execute(f"CREATE TABLE wide ({columns}, PRIMARY KEY ({quoted('{c}')}, `ctid`, {quoted(LONG)}))")
    source.execute(f"CREATE TABLE `wide keyless` ({columns})")


def _change(source: SourceDatabase) -> None:
    source.execute(*_fill(source, 100, 200))
    for name in ODD:
        source.execute(f"UPDATE {quoted(name)} SET `Id` = -`Id` WHERE `Id` % 3 = 0", f"DELETE FROM {quoted(name)} WHERE `Id` % 5 = 0")
        source.execute(f"UPDATE {quoted(name)} SET `{{c}} %s` = 'w'")
    for name in ("wide", "`wide keyless`"):
        source.execute(f"UPDATE {name} SET `ctid` = -`ctid`, {quoted(LONG)} = 7 WHERE `Id` % 2 = 0", f"DELETE FROM {name} WHERE `Id` > 180")
        source.execute(f"DELETE FROM {name} WHERE `Id` = 3")


def _compare(source: SourceDatabase, postgres: TargetDatabase) -> None:
    for name, columns in [(one, ("Id", "{c} %s")) for one in ODD] + [("wide", COLUMNS), ("wide keyless", COLUMNS)]:
        left = source.execute(f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(name)}")
        wanted = ", ".join(doubled(expected(one)) for one in columns)
        right = postgres.execute(f"SELECT {wanted} FROM {doubled(source.name)}.{doubled(table_expected(name))}")
        assert left, name
        assert sorted(left) == sorted(right), name


def test_tables_and_columns_of_any_name_are_copied_followed_and_proven(
    source: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    """Copied, streamed by statements and by COPY, with and without a key; `status` and `reconcile` know what became of the names."""
    _create(source)
    source.execute(*_fill(source, 1, 100))
    with streaming(pipeline, source, postgres, None, "direct") as works:
        _change(source)
        caught_up(works.pipeline)
        works.check()
        _compare(source, postgres)
        equal(works.pipeline)
        _status(source, works.pipeline)
        postgres.execute(f'UPDATE {doubled(source.name)}.wide SET {doubled(expected(LONG))} = -1 WHERE "Id" = 5')
        done = works.pipeline.run("--json", "reconcile", "--tables", f"{source.name}.wide")
        (found,) = json.loads(done.stdout)["tables"]
        assert 3 == done.returncode
        assert "different" == found["state"]


def _status(source: SourceDatabase, pipeline: Any) -> None:
    document = pipeline.json("status")
    assert [] == faults("status", document)
    shown = {one["source"]: one for one in document["tables"]}
    assert f"{source.name}.{expected(TABLE)}" == shown[f"{source.name}.{TABLE}"]["target"]
    changed = {one: expected(one) for one in COLUMNS if one != expected(one)}
    assert changed == shown[f"{source.name}.wide"]["renamed"] == shown[f"{source.name}.wide keyless"]["renamed"]
    assert "renamed" not in shown[f"{source.name}.t"]
    findings = pipeline.json("doctor")["findings"]
    assert 6 == len([one for one in findings if one["code"] == "name_changed"])


def test_odd_names_go_over_a_broker_too(mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any, kafka: Any) -> None:
    """Topics and Avro fields of such names, and a second start; two tables whose topics would be one are refused before anything."""
    mariadb.execute(f"CREATE TABLE {quoted(TABLE)} ({quoted(LONG)} int PRIMARY KEY, `{{c}} %s` varchar(9), `a b` int, a_b int)")
    mariadb.execute(f"INSERT INTO {quoted(TABLE)} VALUES (1, 'a', 2, 3)")
    with streaming(pipeline, mariadb, postgres, kafka, "kafka") as works:
        mariadb.execute(f"INSERT INTO {quoted(TABLE)} VALUES (2, 'b', 4, 5)")
        works.stop()
        works.start()
        mariadb.execute(f"UPDATE {quoted(TABLE)} SET {quoted(LONG)} = 3, `a b` = 6 WHERE `a b` = 2")
        caught_up(works.pipeline)
        rows = postgres.execute(f"SELECT * FROM {doubled(mariadb.name)}.{doubled(expected(TABLE))} ORDER BY 1")
        assert [(2, "b", 4, 5), (3, "a", 6, 3)] == rows
        equal(works.pipeline)
    mariadb.execute("CREATE TABLE `u v` (id int PRIMARY KEY)", "CREATE TABLE u_v (id int PRIMARY KEY)")
    refused = pipeline(mariadb, postgres, kafka, pipeline={"name": "other"}, transport={"prefix": f"{kafka.prefix}x"}).run("--json", "run")
    assert 2 == refused.returncode
    assert "same_topic" == json.loads(refused.stdout)["error"]["code"]


def test_members_of_an_enum_are_read_as_they_are_whatever_characters_they_hold(source: SourceDatabase) -> None:
    labels = ("a\\b", "c\nd", "\\n", "it's", "''", "r\r", "%s", "{c}", "\\\\", "\t")
    listed = ", ".join("'" + one.replace("\\", "\\\\").replace("'", "''") + "'" for one in labels)
    source.execute(f"CREATE TABLE t (e enum({listed}) CHARACTER SET utf8mb4)")
    found = source.execute("SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()")
    assert labels == labels_of(str(found[0][0]))
