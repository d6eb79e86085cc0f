"""A table has one description: the log's table map and information_schema give equal values, type by type."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fastavro
import pytest

from cdc import codec
from cdc.binlog.events import RowsEvent
from cdc.binlog.table_map import table_of
from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.record import Record
from cdc.model.table import Column, Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.information_schema import column_of
from tests.codec import test_types
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import config, events_since, position

# fmt: off
BOTH = {
    "tinyint": "TINYINT", "tinyint_u": "TINYINT UNSIGNED", "bool": "BOOLEAN", "smallint": "SMALLINT", "smallint_u": "SMALLINT UNSIGNED",
    "mediumint": "MEDIUMINT", "mediumint_u": "MEDIUMINT UNSIGNED ZEROFILL", "integer": "INT NOT NULL", "int_u": "INT UNSIGNED",
    "bigint": "BIGINT", "bigint_u": "BIGINT UNSIGNED NOT NULL", "decimal": "DECIMAL(10,2)", "decimal_max": "DECIMAL(65,30) UNSIGNED",
    "decimal_0": "DECIMAL(5)", "float": "FLOAT", "float_u": "FLOAT UNSIGNED", "double": "DOUBLE", "double_digits": "DOUBLE(10,3)",
    "bit1": "BIT", "bit9": "BIT(9)", "bit64": "BIT(64)", "year": "YEAR", "date": "DATE", "datetime": "DATETIME", "datetime6": "DATETIME(6)",
    "timestamp": "TIMESTAMP NULL", "timestamp3": "TIMESTAMP(3) NULL", "time": "TIME", "time4": "TIME(4)",
    "char": "CHAR(10)", "char0": "CHAR(0)", "char255": "CHAR(255) CHARACTER SET utf8mb4", "char_latin1": "CHAR(255) CHARACTER SET latin1",
    "char_bin": "CHAR(3) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "varchar": "VARCHAR(100)",
    "varchar_long": "VARCHAR(4000) CHARACTER SET latin1", "varchar_utf16": "VARCHAR(7) CHARACTER SET utf16",
    "varchar_utf8": "VARCHAR(7) CHARACTER SET utf8mb3", "varchar_ucs2": "VARCHAR(7) CHARACTER SET ucs2",
    "varchar_sjis": "VARCHAR(7) CHARACTER SET sjis", "varchar_cp1251": "VARCHAR(7) CHARACTER SET cp1251",
    "varchar_gbk": "VARCHAR(7) CHARACTER SET gbk", "binary": "BINARY(16)", "binary255": "BINARY(255)", "varbinary": "VARBINARY(20)",
    "varbinary_long": "VARBINARY(1000)", "tinytext": "TINYTEXT", "text": "TEXT", "mediumtext": "MEDIUMTEXT",
    "longtext": "LONGTEXT CHARACTER SET latin1", "tinyblob": "TINYBLOB", "blob": "BLOB", "mediumblob": "MEDIUMBLOB", "longblob": "LONGBLOB",
    "enum": "ENUM('a','it''s','','é','x,y')", "enum_latin1": "ENUM('café','b') CHARACTER SET latin1",
    "enum_utf16": "ENUM('ü','b') CHARACTER SET utf16", "enum_ascii": "ENUM('y','n') CHARACTER SET ascii",
    "set": "SET('one','two','three')", "set_latin1": "SET('é','ß') CHARACTER SET latin1", "json": "JSON", "geometry": "GEOMETRY",
    "point": "POINT", "polygon": "POLYGON", "multipoint": "MULTIPOINT", "collection": "GEOMETRYCOLLECTION",
    "varchar_eucjpms": "VARCHAR(7) CHARACTER SET eucjpms", "enum_cp932": "ENUM('日本','語') CHARACTER SET cp932",
    "set_ucs2": "SET('ж','б') CHARACTER SET ucs2", "varbinary0": "VARBINARY(0)", "varchar0": "VARCHAR(0)", "binary0": "BINARY(0)",
    "stored": "INT GENERATED ALWAYS AS (`integer` + 1) STORED", "virtual": "INT GENERATED ALWAYS AS (`integer` + 2) VIRTUAL",
    "hidden": "INT INVISIBLE", "näme ``x``": "INT",
}
OWN = {
    "mariadb": {
        "uuid": "UUID", "inet6": "INET6", "inet4": "INET4", "uca": "VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci",
        "varchar_c": "VARCHAR(100) COMPRESSED", "varchar_c254": "VARCHAR(254) COMPRESSED CHARACTER SET latin1",
        "varchar_c255": "VARCHAR(255) COMPRESSED CHARACTER SET latin1", "varbinary_c": "VARBINARY(300) COMPRESSED",
        "tinytext_c": "TINYTEXT COMPRESSED", "text_c": "TEXT COMPRESSED CHARACTER SET utf16", "mediumtext_c": "MEDIUMTEXT COMPRESSED",
        "longtext_c": "LONGTEXT COMPRESSED", "tinyblob_c": "TINYBLOB COMPRESSED", "blob_c": "BLOB COMPRESSED",
        "mediumblob_c": "MEDIUMBLOB COMPRESSED", "longblob_c": "LONGBLOB COMPRESSED", "stored_c": "TEXT AS (repeat('x', 200)) STORED",
        "uca_enum": "ENUM('ä') CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_swedish_as_cs",
    },
    "mysql": {
        "vector": "VECTOR(3)", "ai_ci": "VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
        "gb": "VARCHAR(7) CHARACTER SET gb18030",
    },
}
# fmt: on


def described(source: SourceDatabase, *names: str) -> list[tuple[Table, Table]]:
    """For each table, after one row was inserted: the log's description and the catalog's."""
    start = position(source)
    for name in names:
        source.execute(f"INSERT INTO `{name}` () VALUES ()")
    logged = {event.table.name: event.table.table() for event in events_since(source, start) if isinstance(event, RowsEvent)}
    with Catalog(config(source)) as catalog:
        known = {table.name: table for table in catalog.tables([f"{source.name}.*"])}
    return [(logged[name], known[name]) for name in names]


@pytest.fixture
def lenient(source: SourceDatabase) -> SourceDatabase:
    """NOT NULL columns may be left out of an INSERT."""
    source.execute("SET SESSION sql_mode = ''")
    return source


@pytest.mark.parametrize("kind", ["mariadb", "mariadb114"])
def test_system_versioned_tables_have_one_description(kind: str, request: pytest.FixtureRequest) -> None:
    source: SourceDatabase = request.getfixturevalue(kind)
    periods = "s TIMESTAMP(6) GENERATED ALWAYS AS ROW START, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)"
    for name, columns in {
        "silent": "a INT PRIMARY KEY DEFAULT 1, b INT",
        "keyless": "a INT, b INT WITHOUT SYSTEM VERSIONING",
        "promoted": "a INT NOT NULL DEFAULT 1, UNIQUE (a)",
        "named": f"a INT PRIMARY KEY DEFAULT 1, {periods}",
    }.items():
        source.execute(f"CREATE TABLE {name} ({columns}) WITH SYSTEM VERSIONING")
    tables = described(source, "silent", "keyless", "promoted", "named")
    for logged, known in tables:
        assert known == logged
    assert [["a", "row_end"], [], ["a", "row_end"], ["a", "e"]] == [[t.columns[at].name for at in t.key] for t, _ in tables]


HASHED = {
    "text": ("id INT PRIMARY KEY DEFAULT 1, b TEXT UNIQUE", 1),
    "two": ("id INT PRIMARY KEY DEFAULT 1, b TEXT UNIQUE, c BLOB UNIQUE, d INT", 2),
    "lengthy": ("id INT PRIMARY KEY DEFAULT 1, b VARCHAR(3000) UNIQUE, v INT AS (id + 1) VIRTUAL, h INT INVISIBLE", 1),
    "asked": ("id INT PRIMARY KEY DEFAULT 1, b INT, UNIQUE (id, b) USING HASH", 1),
    "keyless": ("b TEXT NOT NULL UNIQUE, c INT", 1),
    "promoted": ("a INT NOT NULL DEFAULT 1, b TEXT NOT NULL DEFAULT 'x', UNIQUE h (b), UNIQUE p (a)", 1),
    "taken": ("id INT PRIMARY KEY DEFAULT 1, DB_ROW_HASH_1 INT, b TEXT UNIQUE", 1),
    "own": ("id INT PRIMARY KEY DEFAULT 1, DB_ROW_HASH_1 BIGINT UNSIGNED", 0),
    "own_before": ("id INT PRIMARY KEY DEFAULT 1, b TEXT UNIQUE, DB_ROW_HASH_1 BIGINT UNSIGNED, DB_ROW_HASH_7 BIGINT UNSIGNED", 1),
    "period": (
        "id INT DEFAULT 1, s DATE DEFAULT '2020-01-01', e DATE DEFAULT '2021-01-01', PERIOD FOR app (s, e),"
        " PRIMARY KEY (id, app WITHOUT OVERLAPS)",
        0,
    ),
}


@pytest.mark.parametrize("kind", ["mariadb", "mariadb114"])
def test_hashes_of_unique_keys_are_no_columns_and_a_column_that_bears_their_name_is_one(kind: str, request: pytest.FixtureRequest) -> None:
    source: SourceDatabase = request.getfixturevalue(kind)
    source.execute("SET SESSION sql_mode = ''")
    for name, (definition, _) in HASHED.items():
        source.execute(f"CREATE TABLE {name} ({definition})")
    for logged, known in described(source, *HASHED):
        assert (known, HASHED[logged.name][1], 0) == (logged, logged.unlisted, known.unlisted)


UNLISTED = {
    "gipk": "a INT",
    "index_over_expression": "id INT PRIMARY KEY DEFAULT 1, a INT, UNIQUE ((a + 1)), b INT",
    "unique_expression": "a INT NOT NULL DEFAULT 1, b INT NOT NULL DEFAULT 2, UNIQUE f ((COALESCE(a, 1))), UNIQUE g (b)",
    "array": "id INT PRIMARY KEY DEFAULT 1, j JSON, UNIQUE ((CAST(j->'$.a' AS CHAR(20) ARRAY))), b INT",
    "full_text": "id INT PRIMARY KEY DEFAULT 1, b TEXT, FULLTEXT (b)",
}


def test_what_mysql_keeps_beside_a_table_s_columns_is_in_neither_description(mysql: SourceDatabase) -> None:
    """Of hidden columns the log has the key that the server invents alone, and an account may hide that from itself."""
    mysql.execute("SET SESSION sql_mode = '', sql_generate_invisible_primary_key = ON")
    for name, definition in UNLISTED.items():
        mysql.execute(f"CREATE TABLE {name} ({definition})")
    mysql.execute("SET GLOBAL show_gipk_in_create_table_and_information_schema = OFF")
    try:
        tables = described(mysql, *UNLISTED)
    finally:
        mysql.execute("SET GLOBAL show_gipk_in_create_table_and_information_schema = ON")
    for logged, known in tables:
        assert (known, 0) == (logged, logged.unlisted)
    assert ["my_row_id", "a"] == [column.name for column in tables[0][1].columns]


def test_an_old_temporal_of_which_nothing_is_known_stops(private: Callable[..., Any]) -> None:
    with lent(SourceDatabase(private("mariadb", options=("--mysql56-temporal-format=OFF",)))) as source:
        source.execute("CREATE TABLE t (a INT, b DATETIME(3), c TIME(2))")
        start = position(source)
        source.execute("INSERT INTO t VALUES (1, NOW(), NOW())")
        source.execute("SET GLOBAL mysql56_temporal_format = ON", "ALTER TABLE t FORCE")
        [rows] = [event for event in events_since(source, start) if isinstance(event, RowsEvent)]
        with pytest.raises(Halt, match="does not tell the fractional digits") as stopped:
            rows.table.table()
        assert ("old_temporal", f"{source.name}.t.b") == (stopped.value.code, stopped.value.place)
        start = position(source)
        source.execute("INSERT INTO t VALUES (1, NOW(), NOW())")
        [rows] = [event for event in events_since(source, start) if isinstance(event, RowsEvent)]
        assert ["", "", ""] == [column.storage for column in rows.table.table().columns]


RECORDED = (  # by MariaDB 11.8.9: (id int primary key, v vector(3), t timestamp null, t6 timestamp(6) null, u uuid)
    "01780001760005030f1111fe060c000006fe101e01010002013f040c026964017601740274360175080100",
    "e0010000000c0000803f000020c07684df50ffffffffffffffff0f423f10017f22e279b07cc398c4dc0c0c07398f"
    "e202000000800000000000000007a1200f6ba7b8109dad11d180b400c04fd430",
)


def test_vectors_and_timestamps_beyond_2038_of_mariadb_11_8_are_read() -> None:
    shape, rows = map(bytes.fromhex, RECORDED)
    disguised = {("x", "v", "v"): "vector", ("x", "v", "u"): "uuid"}
    table = table_of(shape, "mariadb", {63: ("binary", 1)}, disguised)
    vector, stamp = Column("v", "vector", length=12), Column("t", "timestamp")
    assert (Column("id", "int", nullable=False), vector, stamp, replace(stamp, name="t6", scale=6), Column("u", "uuid")) == table.columns
    records: list[Record] = []
    codec.encode_rows(codec.RowPlan(table), rows, 0, len(rows), "c", test_types.stamp(), codec.Numbers(1, 1), records)
    schema = fastavro.parse_schema(envelope.value_schema("od", table, "mariadb"))
    documents: list[Any] = [fastavro.schemaless_reader(io.BytesIO((record.value or b"")[5:]), schema) for record in records]
    first, second = (document["after"] for document in documents)
    assert [1.0, -2.5, 30000001024.0] == first["v"]
    assert ("2106-02-07T06:28:15Z", "2106-02-07T06:28:15.999999Z") == (first["t"], first["t6"])
    assert (None, "2038-01-19T03:14:08Z", "1970-01-01T00:00:00.500000Z") == (second["v"], second["t"], second["t6"])
    assert "6ba7b810-9dad-11d1-80b4-00c04fd43000" == second["u"]
    assert vector == column_of(("x", "v", "v", "vector", "vector(3)", 1, 12, None, None, None, None, 0, 0))


def test_year_2_is_refused_because_its_zero_is_also_2000(mariadb: SourceDatabase) -> None:
    mariadb.execute("CREATE TABLE t (a YEAR(2))")
    with Catalog(config(mariadb)) as catalog, pytest.raises(Halt, match=r"year\(2\)") as refused:
        codec.RowPlan(catalog.tables([f"{mariadb.name}.*"])[0])
    assert "MODIFY" in refused.value.hint


def test_every_type_has_one_description(lenient: SourceDatabase) -> None:
    columns = {**BOTH, **OWN[lenient.flavour]}
    for number, (name, definition) in enumerate(columns.items()):
        own = "" if name == "integer" else f", `{name}` {definition}"
        lenient.execute(f"CREATE TABLE t{number} (`integer` INT{own})")
    for logged, known in described(lenient, *(f"t{number}" for number in range(len(columns)))):
        assert known == logged


def test_one_wide_table_has_one_description(lenient: SourceDatabase) -> None:
    columns = {**BOTH, **OWN[lenient.flavour]}
    lenient.execute(f"CREATE TABLE wide ({', '.join(f'`{name}` {definition}' for name, definition in columns.items())})")
    lenient.execute("ALTER TABLE wide ADD PRIMARY KEY (bigint_u, `integer`)")
    [(logged, known)] = described(lenient, "wide")
    for theirs, ours in zip(known.columns, logged.columns, strict=True):
        assert theirs == ours
    assert known == logged
    assert len(columns) == len(logged.columns)
    assert ["bigint_u", "integer"] == [logged.columns[at].name for at in logged.key]


KEYS = {
    "none": ("a INT, b INT", []),
    "simple": ("a INT, b INT, PRIMARY KEY (b)", ["b"]),
    "two": ("a INT, b INT, c INT, PRIMARY KEY (c, a)", ["c", "a"]),
    "prefix": ("a VARCHAR(50), b TEXT, c INT, PRIMARY KEY (b(10), c)", ["b", "c"]),
    "unique_null": ("a INT, UNIQUE (a)", []),
    "promoted": ("a INT NOT NULL, b INT NOT NULL, c INT, UNIQUE u (b, a), KEY (c)", ["b", "a"]),
    "promoted_first": ("z INT NOT NULL, a INT NOT NULL, UNIQUE z1 (z), UNIQUE a1 (a)", ["z"]),
}


def test_every_kind_of_key_has_one_description(lenient: SourceDatabase) -> None:
    for name, (definition, _) in KEYS.items():
        lenient.execute(f"CREATE TABLE {name} ({definition})")
    for logged, known in described(lenient, *KEYS):
        assert known == logged
        assert KEYS[logged.name][1] == [logged.columns[at].name for at in logged.key]


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_a_table_without_names_in_the_log_stops(private: Callable[..., Any], flavour: str) -> None:
    with lent(SourceDatabase(private(flavour, options=("--binlog-row-metadata=MINIMAL",)))) as source:
        source.execute("CREATE TABLE t (a INT)")
        start = position(source)
        source.execute("INSERT INTO t VALUES (1)")
        [rows] = [event for event in events_since(source, start) if isinstance(event, RowsEvent)]
        with pytest.raises(Halt, match="does not name the columns") as stopped:
            rows.table.table()
        assert "row_metadata" == stopped.value.code


def test_a_shape_is_parsed_once_until_it_changes(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (a INT)")
    start = position(source)
    source.execute(
        "INSERT INTO t VALUES (1)", "FLUSH TABLES", "INSERT INTO t VALUES (2)", "ALTER TABLE t ADD b INT", "INSERT INTO t VALUES (3, 3)"
    )
    first, second, third = [event.table for event in events_since(source, start) if isinstance(event, RowsEvent)]
    assert first is second
    assert first.fingerprint != third.fingerprint
    assert (Column("a", "int"), Column("b", "int")) == third.table().columns
