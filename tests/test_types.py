"""Every type with its edge values, from real servers: the log and a SELECT give the same bytes, and PostgreSQL holds the same value."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import fastavro
import psycopg
import pytest

from cdc import codec, envelope, types
from cdc.codec import ops
from cdc.model import Column, Record, Table
from tests import rawlog
from tests.codec_cases import CASES, Case
from tests.servers import SourceDatabase, TargetDatabase

ID = Column("id", "bigint", nullable=False)


def stamp(**changes: Any) -> codec.Stamp:
    """The surroundings of a test's records."""
    values: dict[str, Any] = {
        "flavour": "mysql", "version": "0.1", "name": "od", "ts_us": 1_700_000_000_123_456, "snapshot": "false", "db": "db", "table": "t",
        "server_id": 5, "gtid": "0-1-5", "file": "log.000001", "pos": 4444, "transaction": "0-1-5", "now_us": 1_700_000_000_223_456,
    }  # fmt: skip
    return envelope.stamp(1, 2, **values | changes)


def table_of(case: Case, name: str, db: str) -> Table:
    return Table(db, name, (ID, case.column), (0,))


def stored(source: SourceDatabase) -> dict[str, tuple[Case, Table]]:
    """One table per case, its values and a null in it."""
    tables: dict[str, tuple[Case, Table]] = {}
    source.execute("SET SESSION sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'")
    for number, case in enumerate(CASES):
        if source.flavour not in case.flavours:
            continue
        name = f"t{number}"
        values = ",".join(f"({i},{value})" for i, value in enumerate((*case.values, "NULL"), 1))
        source.execute(f"CREATE TABLE {name}(id bigint NOT NULL PRIMARY KEY, v {case.ddl}) CHARACTER SET utf8mb4")
        source.execute(f"INSERT IGNORE INTO {name} VALUES {values}")
        tables[name] = case, table_of(case, name, source.name)
    return tables


def logged(source: SourceDatabase, start: tuple[str, int], tables: dict[str, tuple[Case, Table]]) -> dict[str, list[Record]]:
    """The records of the log, per table."""
    records: dict[str, list[Record]] = {name: [] for name in tables}
    plans = {name: codec.RowPlan(table) for name, (_, table) in tables.items()}
    numbers = codec.Numbers(1, 1)
    for rows in rawlog.rows_of(source, start):
        codec.encode_rows(plans[rows.table], rows.body, rows.start, rows.end, rows.kind, stamp(), numbers, records[rows.table])
    return records


def selection(source: SourceDatabase, table: Table) -> bytes:
    return rawlog.select_packets(source, f"SELECT {','.join(codec.select_list(table, source.flavour))} FROM {table.name} ORDER BY id")


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
    ours = source.execute(f"SELECT {types.canonical_mysql(column, '`v`')} FROM {table.name} ORDER BY id")
    theirs = postgres.execute(f"SELECT {types.canonical_postgres(column, 'v')} FROM {table.name} ORDER BY id".encode()).fetchall()
    return [_text(row[0]) for row in ours], [_text(row[0]) for row in theirs]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def test_every_type_of_the_model_is_in_the_cases() -> None:
    seen = {column.type + (" unsigned" if column.unsigned else "") for column in (case.column for case in CASES)}
    assert set(types.TYPES) == seen


@pytest.fixture
def stored_tables(source: SourceDatabase) -> tuple[dict[str, tuple[Case, Table]], dict[str, list[Record]]]:
    source.execute("FLUSH BINARY LOGS")
    start = rawlog.position(source)
    tables = stored(source)
    return tables, logged(source, start, tables)


def test_the_log_and_a_select_give_the_same_bytes(source: SourceDatabase, stored_tables: Any) -> None:
    tables, records = stored_tables
    different = []
    for name, (case, table) in tables.items():
        block = selection(source, table)
        selected: list[Record] = []
        used = codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), selected)
        plan = value_plan(table)
        assert len(block) - used in (9, 11)
        assert len(case.values) + 1 == len(selected), case.name
        if rows_in(plan, records[name]) != rows_in(plan, selected) or [r.key for r in records[name]] != [r.key for r in selected]:
            pairs = zip(rows_in(plan, records[name]), rows_in(plan, selected), strict=True)
            different.append((case.name, [pair for pair in pairs if pair[0] != pair[1]]))
    assert [] == different


def test_fastavro_reads_every_value(stored_tables: Any) -> None:
    for name, (case, table) in stored_tables[0].items():
        schema = fastavro.parse_schema(envelope.value_schema("od", table, "mysql"))
        for number, record in enumerate(stored_tables[1][name], 1):
            stream = io.BytesIO(record.value[5:])
            document: Any = fastavro.schemaless_reader(stream, schema)
            assert (number, b"") == (document["after"]["id"], stream.read()), case.name
            if number > len(case.values):
                assert document["after"]["v"] is None, case.name


def test_postgres_holds_what_the_source_holds(source: SourceDatabase, postgres: TargetDatabase, stored_tables: Any) -> None:
    different = []
    with postgres.connect() as line:
        line.execute("SET timezone='UTC'; SET extra_float_digits=1")
        for name, (case, table) in stored_tables[0].items():
            plan, tuples, copied = value_plan(table), bytearray(), bytearray()
            values = [record.value for record in stored_tables[1][name]]
            plan.copy_rows([(value, one.after_at) for value, one in zip(values, plan.open(values), strict=True)], tuples)
            block = selection(source, table)
            codec.select_to_copy(codec.RowPlan(table), plan, block, 0, len(block), copied)
            assert tuples == copied, case.name
            loaded(line, table, plan, bytes(tuples))
            ours, theirs = canonical(source, line, table)
            if ours != theirs:
                different.append((case.name, [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]))
    assert [] == different


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
