"""Every type with its edge values, from real servers: the log and a SELECT give the same bytes, and PostgreSQL holds the same value."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import fastavro
import psycopg
import pytest

from cdc import codec
from cdc.binlog.events import RowsEvent
from cdc.codec import envelope, ops
from cdc.model import types
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.model.table import Column, Table
from cdc.mysql.catalog import Catalog
from tests.helpers import raw_log, source_log
from tests.helpers.codec_cases import CASES, Case
from tests.helpers.servers import SourceDatabase, TargetDatabase, lent

ID = Column("id", "bigint", nullable=False)
LOGGED = envelope.LogPlace(1_700_000_000_123_456, 5, "0-1-5", "log.000001", 4444)


def stamp(**changes: Any) -> codec.Stamp:
    """The surroundings of a test's records."""
    connector = envelope.Connector("0.1", "mysql", "od")
    values: dict[str, Any] = {"connector": connector, "table": ("db", "t"), "place": LOGGED, "transaction": "0-1-5"}
    return envelope.stamp((1, 2), **{**values, "now_us": 1_700_000_000_223_456, **changes})


def table_of(case: Case, name: str, db: str) -> Table:
    return Table(db, name, (ID, case.column), (0,))


def stored(source: SourceDatabase, cases: Iterable[Case] = CASES) -> dict[str, tuple[Case, Table]]:
    """One table per case, its values and a null in it."""
    tables: dict[str, tuple[Case, Table]] = {}
    source.execute("SET SESSION sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'")
    for number, case in enumerate(cases):
        if source.flavour not in case.flavours:
            continue
        name = f"t{number}"
        values = ",".join(f"({i},{value})" for i, value in enumerate((*case.values, "NULL"), 1))
        source.execute(f"CREATE TABLE {name}(id bigint NOT NULL PRIMARY KEY, v {case.ddl}) CHARACTER SET utf8mb4")
        source.execute(*filter(None, [case.setting]), f"INSERT IGNORE INTO {name} VALUES {values}")
        tables[name] = case, table_of(case, name, source.name)
    return tables


def logged(source: SourceDatabase, start: tuple[str, int], tables: dict[str, tuple[Case, Table]]) -> dict[str, list[Record]]:
    """The records of the log, per table."""
    records: dict[str, list[Record]] = {name: [] for name in tables}
    plans = {name: codec.RowPlan(table) for name, (_, table) in tables.items()}
    numbers = codec.Numbers(1, 1)
    for rows in raw_log.rows_of(source, start):
        codec.encode_rows(plans[rows.table], rows.body, rows.start, rows.end, rows.kind, stamp(), numbers, records[rows.table])
    return records


def selection(source: SourceDatabase, table: Table, order: str = "id") -> bytes:
    return raw_log.select_packets(source, f"SELECT {','.join(codec.select_list(table, source.flavour))} FROM {table.name} ORDER BY {order}")


def value_plan(table: Table) -> codec.ValuePlan:
    return codec.ValuePlan(envelope.value_schema("od", table, "mysql"), envelope.key_schema("od", table))


def rows_in(plan: codec.ValuePlan, records: list[Record]) -> list[bytes]:
    """The Avro form of the `after` image of each record."""
    values = [record.value for record in records if record.value is not None]
    return [value[one.after_at : one.after_end] for value, one in zip(values, plan.open(values), strict=True)]


def loaded(postgres: psycopg.Connection[Any], table: Table, plan: codec.ValuePlan, tuples: bytes) -> None:
    """The tuples in a table of the plan's types."""
    columns = ",".join(f'"{c.name}" {c.postgres_type}' + (f' COLLATE "{c.collation}"' if c.collation else "") for c in plan.columns)
    postgres.execute(f"CREATE TABLE {table.name}({columns}, PRIMARY KEY (id))".encode())
    with postgres.cursor().copy(f"COPY {table.name} FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.write(codec.COPY_HEADER + tuples + codec.COPY_TRAILER)


def canonical(source: SourceDatabase, postgres: psycopg.Connection[Any], table: Table) -> tuple[list[Any], list[Any]]:
    """Both sides' canonical text, by id."""
    column = table.columns[1]
    ours = source.execute(f"SELECT {types.canonical_mysql(column, f'`{column.name}`')} FROM {table.name} ORDER BY id")
    theirs = postgres.execute(f"SELECT {types.canonical_postgres(column, column.name)} FROM {table.name} ORDER BY id".encode()).fetchall()
    return [_text(row[0]) for row in ours], [_text(row[0]) for row in theirs]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def described(source: SourceDatabase, start: Position) -> tuple[dict[str, Table], dict[str, Table]]:
    """The tables as information_schema describes them, and as the log's table maps do."""
    with Catalog(source_log.config(source)) as catalog:
        known = {table.name: table for table in catalog.tables([f"{source.name}.*"])}
    return known, {rows.table.name: rows.table.table() for rows in source_log.events_since(source, start) if isinstance(rows, RowsEvent)}


ONLY = {"mariadb": {"uuid", "inet4", "inet6"}, "mysql": {"json", "vector"}}


@pytest.mark.parametrize(("flavour", "other"), [("mariadb", "mysql"), ("mysql", "mariadb")])
def test_every_line_of_the_table_of_types_has_cases_on_every_server_that_has_the_type(flavour: str, other: str) -> None:
    columns = [case.column for case in CASES if flavour in case.flavours]
    assert set(types.TYPES) - ONLY[other] == {column.type + (" unsigned" if column.unsigned else "") for column in columns} & set(
        types.TYPES
    )


def both_ways(source: SourceDatabase, postgres: TargetDatabase, cases: Iterable[Case]) -> list[tuple[str, str, object]]:
    """What differs between the log, a SELECT and PostgreSQL: (case, what, values that differ)."""
    source.execute("FLUSH BINARY LOGS")
    start, place = raw_log.position(source), source_log.position(source)
    tables = stored(source, cases)
    records, different = logged(source, start, tables), []
    known, mapped = described(source, place)
    with postgres.connect() as line:
        line.execute("SET timezone='UTC'; SET extra_float_digits=1")
        for name, (case, table) in tables.items():
            found = {"catalog": known[name] != table, "table map": mapped[name] != table} | compared(source, line, table, records[name])
            if len(case.values) + 1 != len(records[name]):
                found["rows"] = len(records[name])
            different += [(case.name, what, values) for what, values in found.items() if values]
    return different


def compared(source: SourceDatabase, line: psycopg.Connection[Any], table: Table, records: list[Record]) -> dict[str, object]:
    """What of one table differs, by kind."""
    plan, block, tuples, copied = value_plan(table), selection(source, table), bytearray(), bytearray()
    selected: list[Record] = []
    used = codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), selected)
    values = [record.value for record in records if record.value is not None]
    plan.copy_rows([(value, one.after_at) for value, one in zip(values, plan.open(values), strict=True)], tuples)
    codec.select_to_copy(codec.RowPlan(table), plan, block, 0, len(block), copied)
    loaded(line, table, plan, bytes(tuples))
    return {
        "rest of the packets": len(block) - used not in (9, 11),
        "Avro": _pairs(rows_in(plan, records), rows_in(plan, selected)),
        "keys": [r.key for r in records] != [r.key for r in selected],
        "COPY": tuples != copied,
        "canonical": _pairs(*canonical(source, line, table)),
        "fastavro": _misread(table, values),
    }


def _pairs(ours: list[Any], theirs: list[Any]) -> list[tuple[int, Any, Any]]:
    return [(i, str(one)[:99], str(two)[:99]) for i, (one, two) in enumerate(zip_longest(ours, theirs)) if one != two]


def _misread(table: Table, values: list[bytes]) -> list[int]:
    """The records that fastavro does not read whole, numbered from 1; the last one holds a null."""
    schema, wrong = fastavro.parse_schema(envelope.value_schema("od", table, "mysql")), []
    for number, value in enumerate(values, 1):
        stream = io.BytesIO(value[5:])
        document: Any = fastavro.schemaless_reader(stream, schema)
        if (number, b"") != (document["after"]["id"], stream.read()) or (
            number == len(values) and document["after"][table.columns[1].name] is not None
        ):
            wrong.append(number)
    return wrong


def test_every_value_of_every_type_is_the_same_by_both_ways_and_in_postgres(every_source: SourceDatabase, postgres: TargetDatabase) -> None:
    assert [] == both_ways(every_source, postgres, CASES)


@pytest.mark.parametrize("kind", ["mariadb", "mariadb114"])
def test_temporals_in_the_format_before_5_6_are_read_alike_both_ways(
    private: Callable[..., Any], postgres: TargetDatabase, kind: str
) -> None:
    server = private(kind, options=("--mysql56-temporal-format=OFF",))
    old = [
        replace(case, column=replace(case.column, storage="old")) for case in CASES if case.column.type in ("datetime", "timestamp", "time")
    ]
    with lent(SourceDatabase(server)) as source:
        assert [] == both_ways(source, postgres, old)


def test_doubles_keep_every_bit(source: SourceDatabase, postgres: TargetDatabase) -> None:
    zero = 0.0 if source.flavour == "mariadb" else -0.0  # MariaDB stores no negative zero
    source.execute("CREATE TABLE bits(id bigint PRIMARY KEY, v double)")
    values = [zero, -5e-324, 1.7976931348623157e308, 0.1, 1 / 3, 123456789.123456789, 2.0**53 + 2, 1e22, 1e23, 9007199254740993.0]
    source.execute(f"INSERT INTO bits VALUES {','.join(f'({i},{value:.17e})' for i, value in enumerate(values))}")
    table = Table(source.name, "bits", (ID, Column("v", "double")), (0,))
    block, tuples = selection(source, table), bytearray()
    codec.select_to_copy(codec.RowPlan(table), value_plan(table), block, 0, len(block), tuples)
    stored_bits = [bytes(tuples[i * 26 + 18 : i * 26 + 26]) for i in range(len(values))]
    assert [struct.pack(">d", value) for value in values] == stored_bits


def test_the_table_of_types_names_known_opcodes_and_the_sink_finds_the_same_types() -> None:
    for case in CASES:
        assert isinstance(getattr(ops, types.of(case.column).op), int)
        table = table_of(case, "t", "db")
        assert types.postgres(case.column) == value_plan(table).columns[1].postgres_type, case.name
        keyed = replace(table, columns=(ID, replace(case.column, nullable=False)), key=(1,))
        target = value_plan(keyed).columns[1]
        assert ("C" if types.of(case.column).text else "") == target.collation, case.name


def test_schemas_parse_even_with_awkward_names() -> None:
    columns = (replace(ID, name="a b"), replace(ID, name="a-b"), replace(ID, name="1st"), Column("g", "geometry"), Column("h", "geometry"))
    table = Table("db-x", "tab le", columns, (2, 0))
    fastavro.parse_schema(envelope.value_schema("p-1.q", table, "mariadb"))
    fastavro.parse_schema(envelope.key_schema("p-1.q", table) or {})
    plan = value_plan(table)
    assert (("db-x", "tab le"), (2, 0)) == ((plan.db, plan.table), plan.key)
    assert ["a b", "a-b", "1st", "g", "h"] == [column.name for column in plan.columns]


def test_generated_and_invisible_columns_are_read_as_any_other(every_source: SourceDatabase, postgres: TargetDatabase) -> None:
    every_source.execute("FLUSH BINARY LOGS")
    start, place = raw_log.position(every_source), source_log.position(every_source)
    every_source.execute(
        "CREATE TABLE g(id bigint NOT NULL PRIMARY KEY, kept int GENERATED ALWAYS AS (id * 2) STORED, "
        "computed varchar(20) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (concat('v', id)) VIRTUAL, "
        "hidden int INVISIBLE DEFAULT 7, late datetime(3) INVISIBLE)",
        "INSERT INTO g(id, late) VALUES (1, '2021-02-03 04:05:06.789'), (2, NULL)",
    )
    known, mapped = described(every_source, place)
    columns = (
        ID,
        Column("kept", "int"),
        Column("computed", "varchar", length=20, charset="utf8mb4"),
        Column("hidden", "int"),
        Column("late", "datetime", scale=3),
    )
    table = Table(every_source.name, "g", columns, (0,))
    assert table == known["g"] == mapped["g"]
    records = logged(every_source, start, {"g": (CASES[0], table)})["g"]
    with postgres.connect() as line:
        found = compared(every_source, line, table, records)
        rows = line.execute("SELECT id, kept, computed, hidden, late::text FROM g ORDER BY id").fetchall()
    assert [] == [what for what, values in found.items() if values and what not in ("fastavro", "canonical")]
    assert [(1, 2, "v1", 7, "2021-02-03 04:05:06.789"), (2, 4, "v2", 7, None)] == rows


@pytest.mark.parametrize("kind", ["mariadb", "mariadb114"])
def test_the_empty_geometry_of_a_column_added_to_rows_that_were_there_stays_empty(
    kind: str, request: pytest.FixtureRequest, postgres: TargetDatabase
) -> None:
    source: SourceDatabase = request.getfixturevalue(kind)
    source.execute("CREATE TABLE e(id bigint NOT NULL PRIMARY KEY, n int)", "INSERT INTO e VALUES (1, 1)", "FLUSH BINARY LOGS")
    source.execute("ALTER TABLE e ADD v geometry NOT NULL AFTER id")
    start, place = raw_log.position(source), source_log.position(source)
    source.execute("UPDATE e SET n = 2")
    known, _ = described(source, place)
    assert [(b"",)] == source.execute("SELECT v FROM e")
    records = logged(source, start, {"e": (CASES[0], known["e"])})["e"]
    with postgres.connect() as line:
        found = compared(source, line, known["e"], records)
        assert [(b"",)] == line.execute("SELECT v FROM e").fetchall()
    assert [] == [what for what, values in found.items() if values and what != "fastavro"]


def test_a_table_of_a_thousand_columns_is_read_alike_both_ways(source: SourceDatabase, postgres: TargetDatabase) -> None:
    source.execute("FLUSH BINARY LOGS")
    start, place = raw_log.position(source), source_log.position(source)
    kinds = ["tinyint", "tinyint unsigned", "bit(3)", "date", "year", "enum('a','b') CHARACTER SET latin1", "decimal(3,1)", "time"]
    columns = ",".join(f"c{i} {kinds[i % len(kinds)]} {'NOT NULL' if i % 3 == 0 else ''}" for i in range(1016))
    source.execute("SET SESSION sql_mode = ''", f"CREATE TABLE wide(id bigint NOT NULL PRIMARY KEY, {columns})")
    source.execute(
        "INSERT INTO wide(id) VALUES (1)", "INSERT INTO wide(id, c0, c1, c7, c1008, c1015) VALUES (2, -1, 255, '1:2:3', 5, '-9:8:7')"
    )
    known, mapped = described(source, place)
    assert known["wide"] == mapped["wide"]
    assert 1017 == len(known["wide"].columns)
    records = logged(source, start, {"wide": (CASES[0], known["wide"])})["wide"]
    with postgres.connect() as line:
        found = compared(source, line, known["wide"], records)
        [row] = line.execute("SELECT c0, c1, c7::text, c1008, c1015::text FROM wide WHERE id = 2").fetchall()
    assert [] == [what for what, values in found.items() if values and what not in ("fastavro", "canonical")]
    assert (-1, 255, "01:02:03", 5, "-09:08:07") == row
