"""The kernels: what they write around rows, what they refuse, and that both of their forms write the same bytes."""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cdc import codec
from cdc.codec import envelope, kernels, ops
from cdc.codec.json_text import double_text
from cdc.codec.pg_fields import numeric_field
from cdc.errors import Halt, Malformed
from cdc.model.policies import Policies, Policy
from cdc.model.record import Record
from cdc.model.table import Column, Table
from tests import run
from tests.codec.test_types import LOGGED, logged, selection, stamp, stored, value_plan
from tests.helpers import raw_log
from tests.helpers.codec_cases import CASES
from tests.helpers.servers import SourceDatabase

ROOT = Path(__file__).resolve().parents[2]
ID, NAME, DAY = Column("id", "bigint", nullable=False), Column("name", "varchar", length=20, charset="utf8mb4"), Column("day", "date")
KEYED = Table("db", "t", (ID, NAME), (0,))
KEYLESS = Table("db", "t", (ID, NAME))


def image(number: int, name: bytes | None) -> bytes:
    """A row image of (id, name)."""
    return bytes([0 if name is not None else 2]) + number.to_bytes(8, "little") + (bytes([len(name)]) + name if name is not None else b"")


def encoded(
    table: Table, kind: str, *images: bytes, partitions: int = 1, numbers: codec.Numbers | None = None, **changes: Any
) -> list[Record]:
    out: list[Record] = []
    body = b"".join(images)
    codec.encode_rows(codec.RowPlan(table), body, 0, len(body), kind, stamp(**changes), numbers or codec.Numbers(9, partitions), out)
    return out


def read(table: Table, record: Record) -> Any:
    """The record's value by fastavro, which must use all of it."""
    assert record.value is not None
    stream = io.BytesIO(record.value[5:])
    document = fastavro.schemaless_reader(stream, fastavro.parse_schema(envelope.value_schema("od", table, "mysql")))
    assert stream.read() == b""
    return document


def packet(*fields: bytes | None) -> bytes:
    """A row packet of a SELECT, of short fields."""
    row = b"".join(b"\xfb" if field is None else bytes([len(field)]) + field for field in fields)
    return len(row).to_bytes(3, "little") + b"\1" + row


def test_what_no_catalog_lists_is_passed_over_behind_each_image() -> None:
    """Eight columns are listed, so that the null bits of what is not begin in a byte of their own."""
    columns = tuple(Column(f"c{n}", "tinyint") for n in range(8))
    table = Table("db", "t", columns, unlisted=2)
    one, other = (b"\0\xfe" + bytes(range(8)) + b"\xff" * 8, b"\x01\xfc" + bytes(range(7)) + b"\xee" * 16)
    before, after = encoded(table, "c", one, other)
    assert list(range(8)) == list(read(table, before)["after"].values())
    assert [None, *range(7)] == list(read(table, after)["after"].values())
    (change,) = encoded(table, "u", one, other)
    assert (0, None) == (read(table, change)["before"]["c0"], read(table, change)["after"]["c0"])
    for torn in (one[:-1], other[:-8], one[:1]):
        with pytest.raises(Malformed, match="ends inside"):
            encoded(table, "c", torn)


def test_an_insert_is_one_record_with_the_row_after() -> None:
    (record,) = encoded(KEYED, "c", image(7, b"x"))
    document = read(KEYED, record)
    assert (None, {"id": 7, "name": "x"}, "c") == (document["before"], document["after"], document["op"])
    assert b"\0\0\0\0\1\x0e" == record.key


def test_the_source_block_says_where_the_row_comes_from() -> None:
    first, second = encoded(KEYED, "c", image(1, b"x"), image(2, None), place=LOGGED._replace(gtid=None))
    source = read(KEYED, second)["source"]
    expected = {
        "version": "0.1", "connector": "mysql", "name": "od", "ts_ms": 1_700_000_000_123, "snapshot": "false", "db": "db",
        "sequence": "9.2",
        "ts_us": 1_700_000_000_123_456, "ts_ns": 1_700_000_000_123_456_000, "table": "t", "server_id": 5, "gtid": None,
        "file": "log.000001",
        "pos": 4444, "row": 1, "thread": None, "query": None,
    }  # fmt: skip
    assert expected == source
    assert "9.1" == read(KEYED, first)["source"]["sequence"]


def test_the_transaction_block_counts_within_the_transaction_and_within_the_topic() -> None:
    numbers = codec.Numbers(1, 1)
    numbers.begin(40)
    records = encoded(KEYED, "c", image(1, b"x"), image(2, b"y"), numbers=numbers)
    assert {"id": "0-1-5", "total_order": 42, "data_collection_order": 2} == read(KEYED, records[1])["transaction"]
    assert 42 == numbers.total
    numbers.begin(0)
    (other,) = encoded(KEYED, "c", image(3, b"z"), numbers=numbers, transaction="0-1-6")
    assert {"id": "0-1-6", "total_order": 1, "data_collection_order": 1} == read(KEYED, other)["transaction"]
    (outside,) = encoded(KEYED, "c", image(3, b"z"), transaction=None)
    assert read(KEYED, outside)["transaction"] is None


def test_an_update_carries_both_rows() -> None:
    (record,) = encoded(KEYED, "u", image(7, b"x"), image(7, b"y"))
    document = read(KEYED, record)
    assert ({"id": 7, "name": "x"}, {"id": 7, "name": "y"}, "u") == (document["before"], document["after"], document["op"])


def test_a_delete_is_followed_by_its_tombstone_which_has_no_number() -> None:
    numbers = codec.Numbers(1, 1)
    record, tombstone = encoded(KEYED, "d", image(7, b"x"), numbers=numbers)
    assert ("d", {"id": 7, "name": "x"}, None) == (read(KEYED, record)["op"], read(KEYED, record)["before"], read(KEYED, record)["after"])
    assert (record.key, None) == (tombstone.key, tombstone.value)
    assert [1] == numbers.seq


def test_a_changed_key_is_a_delete_a_tombstone_and_a_create_that_name_each_other() -> None:
    numbers = codec.Numbers(1, 1)
    deleted, tombstone, created = encoded(KEYED, "u", image(7, b"x"), image(8, b"x"), numbers=numbers)
    assert ["d", "c"] == [read(KEYED, record)["op"] for record in (deleted, created)]
    assert [("__debezium.newkey", created.key)] == deleted.headers
    assert [("__debezium.oldkey", deleted.key)] == created.headers
    assert (deleted.key, None, [2]) == (tombstone.key, tombstone.value, numbers.seq)


def test_a_key_that_differs_only_in_case_is_another_key() -> None:
    table = Table("db", "t", (ID, Column("name", "varchar", nullable=False, length=20, charset="utf8mb4")), (1,))
    assert 3 == len(encoded(table, "u", image(7, b"a"), image(7, b"A")))


def test_a_table_without_a_key_has_no_key_no_tombstone_and_one_partition() -> None:
    records = encoded(KEYLESS, "u", image(7, b"x"), image(8, b"x"), partitions=5) + encoded(KEYLESS, "d", image(7, b"x"), partitions=5)
    assert [(0, None), (0, None)] == [(record.partition, record.key) for record in records]
    assert ["u", "d"] == [read(KEYLESS, record)["op"] for record in records]


def test_keys_are_placed_as_kafkas_java_client_places_them() -> None:
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    for key, value in known.items():  # from Kafka's own UtilsTest
        assert (value & 0x7FFFFFFF) % 1000003 == codec.placed(key, 1000003)


def test_each_partition_counts_without_gaps() -> None:
    numbers = codec.Numbers(3, 4)
    records = encoded(KEYED, "c", *(image(i, b"x") for i in range(200)), numbers=numbers)
    for partition in range(4):
        mine = [record for record in records if record.partition == partition]
        assert [f"3.{i}" for i in range(1, len(mine) + 1)] == [read(KEYED, record)["source"]["sequence"] for record in mine]
        assert len(mine) == numbers.seq[partition] > 20


def test_a_key_of_several_columns_stands_in_key_order() -> None:
    table = Table("db", "t", (ID, Column("name", "varchar", nullable=False, length=20, charset="utf8mb4")), (1, 0))
    (record,) = encoded(table, "c", image(7, b"x"))
    assert record.key is not None
    assert {"name": "x", "id": 7} == fastavro.schemaless_reader(
        io.BytesIO(record.key[5:]), fastavro.parse_schema(envelope.key_schema("od", table) or {})
    )
    assert (1, 0) == value_plan(table).key


def test_a_malformed_event_leaves_records_and_numbers_untouched() -> None:
    numbers, out = codec.Numbers(1, 1), [Record(0, None, None)]
    body = image(1, b"x") + image(2, b"yy")[:-1]
    with pytest.raises(Malformed, match=r"db\.t\.name: the row ends inside a value at byte \d+"):
        codec.encode_rows(codec.RowPlan(KEYED), body, 0, len(body), "c", stamp(), numbers, out)
    assert ([0], 0, 1) == (numbers.seq, numbers.total, len(out))


def test_rows_outside_the_event_are_refused() -> None:
    for start, end in ((-1, 3), (0, 99), (9, 3)):
        with pytest.raises(Halt):
            codec.encode_rows(codec.RowPlan(KEYED), b"\0" * 10, start, end, "c", stamp(), codec.Numbers(1, 1), [])


def test_a_null_in_a_key_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"db\.t\.id"):
        encoded(KEYED, "c", b"\1" + image(7, b"x")[1:])


@pytest.mark.parametrize(
    ("day", "reason"),
    [((0, 0, 0), "zero_date"), ((2021, 0, 15), "partial_date"), ((2021, 2, 31), "impossible_date"), ((0, 1, 1), "year_zero")],
)
def test_a_date_that_is_none_becomes_null_and_is_counted(day: tuple[int, int, int], reason: str) -> None:
    table = Table("db", "t", (ID, DAY), (0,))
    plan = codec.RowPlan(table)
    out: list[Record] = []
    stored_day = (day[0] << 9 | day[1] << 5 | day[2]).to_bytes(3, "little")
    body = b"\0" + (1).to_bytes(8, "little") + stored_day
    codec.encode_rows(plan, body, 0, len(body), "c", stamp(), codec.Numbers(1, 1), out)
    codec.encode_rows(plan, body * 2, 0, 2 * len(body), "u", stamp(), codec.Numbers(1, 1), out)
    block = packet(b"1", b"%04d-%02d-%02d" % day)
    codec.encode_select(plan, block, 0, len(block), stamp(), codec.Numbers(1, 1), out)
    assert [None, None, None] == [read(table, record)["after"]["day"] for record in out]
    assert {("day", reason): 3} == plan.anomalies
    keyed = Table("db", "t", (ID, DAY), (1,))
    with pytest.raises(Halt, match=reason):
        encoded(keyed, "c", body)


def test_bytes_that_are_no_text_stop_with_the_column_and_without_the_value() -> None:
    for value in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
        with pytest.raises(Halt) as caught:
            encoded(KEYED, "c", image(1, value))
        assert ("invalid_text", "db.t.name") == (caught.value.code, caught.value.place)
        assert "\\x" not in str(caught.value)


@given(st.binary(max_size=12))
def test_utf8_is_judged_as_python_judges_it(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        with pytest.raises(Halt):
            encoded(KEYED, "c", image(1, value))
    else:
        assert value.decode() == read(KEYED, encoded(KEYED, "c", image(1, value))[0])["after"]["name"]


def test_an_unknown_type_or_character_set_stops_at_plan_time() -> None:
    for column in (Column("v", "hologram"), Column("v", "text", charset="klingon"), Column("v", "text")):
        with pytest.raises(Halt):
            codec.RowPlan(Table("db", "t", (ID, column), (0,)))


@pytest.mark.parametrize(("kind", "labels"), [("enum", ("a", "b", "a")), ("set", ("", "a"))])
def test_a_key_with_members_of_equal_text_stops_at_plan_time(kind: str, labels: tuple[str, ...]) -> None:
    column = Column("v", kind, nullable=False, charset="utf8mb4", labels=labels)
    codec.RowPlan(Table("db", "t", (ID, column), (0,)))
    with pytest.raises(Halt, match="members of equal text") as caught:
        codec.RowPlan(Table("db", "t", (ID, column), (0, 1)))
    assert ("key_labels", "db.t.v") == (caught.value.code, caught.value.place)


def test_an_enums_error_value_in_a_key_with_an_empty_member_stops_both_ways(source: SourceDatabase) -> None:
    source.execute("FLUSH BINARY LOGS", "SET SESSION sql_mode = ''")
    start = raw_log.position(source)
    source.execute("CREATE TABLE k(v enum('a','') CHARACTER SET latin1 NOT NULL PRIMARY KEY)", "INSERT INTO k VALUES ('a'), ('')")
    [good] = raw_log.rows_of(source, start)
    source.execute("INSERT IGNORE INTO k VALUES ('never')")
    assert [(0,), (1,), (2,)] == source.execute("SELECT v+0 FROM k ORDER BY v+0")
    keyed = Table(source.name, "k", (Column("v", "enum", nullable=False, charset="latin1", labels=("a", "")),), (0,))
    assert 2 == len(encoded(keyed, "c", good.body[good.start : good.end]))
    bad = list(raw_log.rows_of(source, start))[-1]
    with pytest.raises(Malformed, match="error value in a key"):
        encoded(keyed, "c", bad.body[bad.start : bad.end])
    block = selection(source, keyed, order="v")
    with pytest.raises(Malformed, match="a null in a column that allows none"):
        codec.encode_select(codec.RowPlan(keyed), block, 0, len(block), stamp(), codec.Numbers(1, 1), [])


def compressed(head: int, *rest: bytes) -> bytes:
    return bytes([head]) + b"".join(rest)


@pytest.mark.parametrize(
    "value",
    [
        compressed(0x81),
        compressed(0x81, b"\3"),
        compressed(0x81, b"\3", zlib.compress(b"ab")),
        compressed(0x81, b"\1", zlib.compress(b"ab")),
        compressed(0x81, b"\2", zlib.compress(b"ab")[:-1]),
        compressed(0x81, b"\2", zlib.compress(b"ab"), b"x"),
        compressed(0x89, b"\2", zlib.compress(b"ab")),
        compressed(0x80, zlib.compress(b"ab")),
        compressed(0x85, b"\0\0\0\0\2", zlib.compress(b"ab")),
        compressed(0x91, b"\2", zlib.compress(b"ab")),
        compressed(0x84, b"\xff\xff\xff\xff", zlib.compress(bytes(100_000))),
    ],
)
def test_a_compressed_value_that_is_not_what_it_claims_is_malformed(value: bytes) -> None:
    for column in (Column("v", "blob", storage="compressed"), Column("v", "text", charset="utf8mb4", storage="compressed")):
        table = Table("db", "t", (column,))
        good = compressed(0x81, b"\2", zlib.compress(b"ab"))
        [record] = encoded(table, "c", b"\0" + len(good).to_bytes(2, "little") + good)
        assert read(table, record)["after"]["v"] in (b"ab", "ab")
        with pytest.raises(Malformed, match="a compressed value"):
            encoded(table, "c", b"\0" + len(value).to_bytes(2, "little") + value)


OLD = {
    "datetime": [(0, 99991231235960), (0, 99991231240000), (0, 1 << 63)],
    "time": [(0, 60), (0, 6000), (0, 0x800000), (6, 0), (6, 2 * 3020400 * 1000000)],
    "timestamp": [(3, 1000)],
}


@pytest.mark.parametrize(("kind", "digits", "number"), [(kind, *one) for kind, many in OLD.items() for one in many])
def test_an_old_temporal_that_is_none_is_malformed(kind: str, digits: int, number: int) -> None:
    size = {"datetime": 8, "time": 3 + digits // 2, "timestamp": 6}[kind]
    table = Table("db", "t", (Column("v", kind, scale=digits, storage="old"),))
    with pytest.raises(Malformed, match=r"none at byte"):
        encoded(table, "c", b"\0" + number.to_bytes(size, "little" if digits == 0 else "big"))


def test_a_nul_in_text_is_taken_out_and_counted_or_is_refused_by_the_name_of_its_column() -> None:
    (record,) = encoded(KEYED, "c", image(1, b"a\0b"))
    value, out = record.value or b"", bytearray()
    plan = value_plan(KEYED)
    changed = plan.copy_rows([(value, plan.open([value])[0].after_at)], out)
    assert ({("name", "nul_text"): 1}, b"\0\0\0\2ab") == (changed, bytes(out[-6:]))
    schemas = envelope.value_schema("od", KEYED, "mysql"), envelope.key_schema("od", KEYED)
    plan = codec.ValuePlan(*schemas, Policies(Policy(nul_text="error")))
    with pytest.raises(Halt) as caught:
        plan.copy_rows([(value, plan.open([value])[0].after_at)], bytearray())
    assert ("nul_in_text", "db.t.name") == (caught.value.code, caught.value.place)


def test_packets_stop_before_an_end_and_before_a_piece_of_a_row() -> None:
    plan, copy, row = codec.RowPlan(KEYED), value_plan(KEYED), packet(b"1", b"x")
    for tail in (b"\5\0\0\2\xfe\0\0\2\0", b"\7\0\0\2\xfe\0\0\2\0\0\0", b"\3\0\0\2\xff\1\2", row[:-1], row[:4], row[:2], b""):
        for block in (row * 2 + tail, bytearray(row * 2 + tail)):
            out: list[Record] = []
            assert 2 * len(row) == codec.encode_select(plan, block, 0, len(block), stamp(snapshot="true"), codec.Numbers(1, 1), out)
            assert ["r", "r"] == [read(KEYED, record)["op"] for record in out]
            assert (2 * len(row), 2) == codec.select_to_copy(plan, copy, block, 0, len(block), bytearray())


def test_a_row_of_several_packets_is_joined() -> None:
    table = Table("db", "t", (ID, Column("v", "longtext", charset="utf8mb4")), (0,))
    value = b"abcdefgh" * (5 << 20)
    row = b"\x011\xfe" + len(value).to_bytes(8, "little") + value
    pieces = [row[at : at + 0xFFFFFF] for at in range(0, len(row), 0xFFFFFF)]
    block = b"".join(len(piece).to_bytes(3, "little") + bytes([i]) + piece for i, piece in enumerate(pieces, 1)) + packet(b"2", b"y")
    out: list[Record] = []
    assert len(block) == codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), out)
    first, second = (read(table, record)["after"] for record in out)
    assert (value.decode(), {"id": 2, "v": "y"}) == (first["v"], second)
    assert 0 == codec.encode_select(codec.RowPlan(table), block, 0, 0xFFFFFF * 2, stamp(), codec.Numbers(1, 1), out)


def test_exactly_16_mib_less_one_ends_with_an_empty_packet() -> None:
    table = Table("db", "t", (ID, Column("v", "longblob")), (0,))
    value = bytes(0xFFFFFF - 2 - 9)
    row = b"\x011\xfe" + len(value).to_bytes(8, "little") + value
    block = b"\xff\xff\xff\1" + row + b"\0\0\0\2"
    out: list[Record] = []
    assert len(block) == codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), out)
    assert 1 == len(out)


def test_numbers_beyond_their_type_are_malformed_in_a_select() -> None:
    wide = Table("db", "t", (Column("v", "bigint", unsigned=True),))
    for text in (b"18446744073709551616", b"99999999999999999999", b"1x", b"", b"184467440737095516150"):
        block = packet(text)
        with pytest.raises(Malformed):
            codec.encode_select(codec.RowPlan(wide), block, 0, len(block), stamp(), codec.Numbers(1, 1), [])


def test_the_sink_reads_plain_debezium_schemas() -> None:
    value = {
        "type": "record", "name": "Value", "namespace": "od.shop.item", "connect.name": "od.shop.item.Value",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": [{"type": "string", "connect.default": ""}, "null"], "default": ""},
            {"name": "fee", "type": ["null", {"type": "bytes", "scale": 2, "precision": 10, "logicalType": "decimal",
                                              "connect.name": "org.apache.kafka.connect.data.Decimal"}], "default": None},
            {"name": "at", "type": ["null", {"type": "long", "connect.name": "io.debezium.time.Timestamp"}], "default": None},
        ],
    }  # fmt: skip
    source = {"type": "record", "name": "Source", "namespace": "io.debezium.connector.mysql",
              "fields": [{"name": "version", "type": "string"}, {"name": "ts_ms", "type": "long"},
                         {"name": "sequence", "type": ["null", "string"], "default": None}]}  # fmt: skip
    schema: dict[str, object] = {
        "type": "record", "name": "Envelope", "namespace": "od.shop.item",
        "fields": [{"name": "before", "type": ["null", value], "default": None},
                   {"name": "after", "type": ["null", "Value"], "default": None},
                   {"name": "source", "type": source}, {"name": "op", "type": "string"}, {"name": "ts_ms", "type": ["null", "long"]}],
    }  # fmt: skip
    row = {"id": 3, "name": "x", "fee": Decimal("-1.50"), "at": 0}
    stream = io.BytesIO()
    document = {"before": None, "after": row, "source": {"version": "3", "ts_ms": 5, "sequence": None}, "op": "c", "ts_ms": None}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), document)
    record = b"\0\0\0\0\7" + stream.getvalue()
    key: dict[str, object] = {"type": "record", "name": "Key", "namespace": "od.shop.item", "fields": [{"name": "id", "type": "long"}]}
    plan, tuples = codec.ValuePlan(schema, key), bytearray()
    (opened,) = plan.open([record])
    assert (-1, -1, "c", -1, (0, 0), 5000) == (opened.epoch, opened.seq, opened.op, opened.before_at, opened.transaction, opened.ts_us)
    plan.copy_rows([(record, opened.after_at)], tuples)
    assert ("shop", "item", ["bigint", "text", "numeric(10,2)", "timestamp(3)"]) == (
        plan.db,
        plan.table,
        [c.postgres_type for c in plan.columns],
    )
    assert struct.pack(">hiq", 4, 8, 3) + b"\0\0\0\1x" == bytes(tuples[:19])


@given(st.integers(-(10**64), 10**64), st.integers(0, 30))
@settings(max_examples=300)
def test_decimals_of_any_size_give_the_same_field_by_both_ways(value: int, scale: int) -> None:
    column = Column("v", "decimal", nullable=False, length=65, scale=scale)
    table = Table("db", "t", (column,))
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(scale + 1, "0")
    text = sign + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)
    block, out = packet(text.encode()), bytearray()
    codec.select_to_copy(codec.RowPlan(table), value_plan(table), block, 0, len(block), out)
    encoded_value = value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True)
    assert b"\0\1" + numeric_field(encoded_value, scale) == bytes(out)


@given(st.binary(max_size=60))
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_can_do_more_than_be_refused(data: bytes) -> None:
    columns = (
        DAY,
        NAME,
        Column("n", "decimal", length=20, scale=3),
        Column("j", "json"),
        Column("g", "geometry"),
        Column("t", "time", scale=3),
    )
    table = Table("db", "t", (ID, *columns), (0,))
    plan, copy = codec.RowPlan(table), value_plan(table)
    for attempt in (
        lambda: codec.encode_rows(plan, data, 0, len(data), "u", stamp(), codec.Numbers(1, 1), []),
        lambda: codec.encode_select(plan, data, 0, len(data), stamp(), codec.Numbers(1, 1), []),
        lambda: copy.open([data]),
        lambda: copy.copy_rows([(data, 0)], bytearray()),
        lambda: copy.copy_keys([data], bytearray()),
    ):
        try:
            attempt()
        except Halt as error:
            place = error.place
        else:
            place = "db.t"
        assert place.startswith(("db.t", "select"))


def test_every_prefix_of_a_real_image_is_malformed(source: SourceDatabase) -> None:
    source.execute("FLUSH BINARY LOGS")
    start = raw_log.position(source)
    tables = stored(source)
    tried = 0
    for rows in raw_log.rows_of(source, start):
        plan = codec.RowPlan(tables[rows.table][1])
        copy = value_plan(tables[rows.table][1])
        ends = range(rows.start, rows.end) if rows.end - rows.start < 400 else random.Random(1).sample(range(rows.start, rows.end), 50)
        for end in ends:
            out: list[Record] = []
            try:
                codec.encode_rows(plan, rows.body, rows.start, end, "c", stamp(), codec.Numbers(1, 1), out)
            except Malformed:
                tried += 1
            else:  # the prefix ended between two rows
                copy.open([record.value for record in out if record.value is not None])
    assert tried > 4000


def test_every_prefix_of_a_record_is_malformed(source: SourceDatabase) -> None:
    source.execute("FLUSH BINARY LOGS")
    start = raw_log.position(source)
    tables = stored(source)
    for name, records in logged(source, start, tables).items():
        plan = value_plan(tables[name][1])
        for record in records:
            value = record.value or b""
            (opened,) = plan.open([value])
            for end in random.Random(2).sample(range(len(value)), min(len(value), 40)):
                with pytest.raises(Malformed):
                    plan.open([value[:end]])
                if opened.after_at <= end < opened.after_end:
                    with pytest.raises(Malformed):
                        plan.copy_rows([(value[:end], opened.after_at)], bytearray())


SCRIPT = """
import json, sys
from cdc import codec
from cdc.codec import envelope
from tests.codec.test_types import LOGGED, stamp, value_plan
from tests.helpers.codec_cases import CASES
from tests.codec.test_types import table_of
import hashlib
digest = hashlib.sha256()
for line in sys.stdin:
    number, kind, data = line.split()
    table, data = table_of(CASES[int(number)], "t", "db"), bytes.fromhex(data)
    plan, copy, out, tuples, numbers = codec.RowPlan(table), value_plan(table), [], bytearray(), codec.Numbers(5, 3)
    if kind == "log":
        codec.encode_rows(plan, data, 0, len(data), "c", stamp(), numbers, out)
        values = [record.value for record in out]
        copy.copy_rows([(value, one.after_at) for value, one in zip(values, copy.open(values))], tuples)
        copy.copy_keys([record.key for record in out], tuples)
    else:
        codec.encode_select(plan, data, 0, len(data), stamp(), numbers, out)
        codec.select_to_copy(plan, copy, data, 0, len(data), tuples)
    digest.update(repr((out, bytes(tuples), numbers.seq, sorted(plan.anomalies.items()))).encode())
print(codec.KIND, digest.hexdigest())
"""


@pytest.fixture(scope="session")
def compiled() -> Path:
    """A copy of the project with its extension, which is built here unless it is there and newer than what it is made of."""
    place = run.folder() / "compiled"
    with (run.folder() / "compiled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build for all workers: it takes a minute or more
        if not (place / "built").exists():
            _build(place)
    return place


def _build(place: Path) -> None:
    place.mkdir()
    subprocess.run(["cp", "-r", "cdc", "tests", "setup.py", "pyproject.toml", place], cwd=ROOT, check=True)
    (place / "README.md").write_text("")
    if not _built():
        for extension in (place / "cdc" / "codec").glob("*.so"):
            extension.unlink()
        environ = {key: value for key, value in os.environ.items() if key != "CDC_PURE"}
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=place, check=True, capture_output=True, env=environ
        )
    (place / "built").write_text("")


def _built() -> bool:
    """Whether every kernel is compiled, after the last change of any: the rule by which `make` builds them."""
    folder = ROOT / "cdc" / "codec"
    kernels = [*folder.glob("_*.cpython-*.so")]
    changed = max(one.stat().st_mtime for one in [*folder.glob("*.py"), *folder.glob("*.pxd"), ROOT / "setup.py"])
    return len(kernels) == len([*folder.glob("_[a-z]*.py")]) and min(one.stat().st_mtime for one in kernels) > changed


def _run(place: Path, pure: bool, script: str, data: str = "") -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "CDC_PURE"} | ({"CDC_PURE": "1"} if pure else {})
    environ["PYTHONPATH"] = str(place)
    return subprocess.run([sys.executable, "-c", script], cwd=place, env=environ, input=data, capture_output=True, text=True, check=False)


def test_compiled_and_pure_write_the_same_bytes(source: SourceDatabase, compiled: Path) -> None:
    source.execute("FLUSH BINARY LOGS")
    start = raw_log.position(source)
    tables = stored(source)
    lines = [f"{rows.table[1:]} log {rows.body[rows.start : rows.end].hex()}" for rows in raw_log.rows_of(source, start)]
    lines += [f"{name[1:]} select {selection(source, table).hex()}" for name, (_, table) in tables.items()]
    fast, slow = (_run(compiled, pure, SCRIPT, "\n".join(lines)) for pure in (False, True))
    assert ("", "") == (fast.stderr, slow.stderr)
    assert (["compiled", "pure"], fast.stdout.split()[1]) == ([fast.stdout.split()[0], slow.stdout.split()[0]], slow.stdout.split()[1])


def test_an_extension_of_other_sources_is_refused_with_the_mend(compiled: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", compiled / "cdc", tmp_path], check=True)
    source = tmp_path / "cdc" / "codec" / "_wire.py"
    source.write_text(source.read_text() + "\n")
    refused = _run(tmp_path, False, "import cdc.codec").stderr
    assert "built from other sources" in refused
    assert "build_ext" in refused
    assert 0 == _run(tmp_path, True, "import cdc.codec").returncode


def test_the_hash_is_the_one_that_setup_writes(compiled: Path) -> None:
    script = "from cdc.codec import kernels, _log; print(kernels.sources_sha256() == _log.SOURCES_SHA256)"
    assert "True\n" == _run(compiled, False, script).stdout


def test_the_compiler_and_python_know_the_same_opcodes() -> None:
    declared = dict(re.findall(r"^    (\w+) = (\d+)$", (kernels.PLACE / "ops.pxd").read_text(), re.MULTILINE))
    assert {name: str(value) for name, value in vars(ops).items() if isinstance(value, int)} == declared


def test_every_kernel_is_loaded() -> None:
    assert sorted(path.stem for path in kernels.PLACE.glob("_*.py") if path.stem != "__init__") == sorted(kernels.KERNELS)


def test_doubles_in_json_are_spelled_as_mysql_spells_them(mysql: SourceDatabase) -> None:
    draw = random.Random(4)
    values = [struct.unpack("<d", draw.randbytes(8))[0] for _ in range(1500)]
    values += [draw.choice((1, -1)) * draw.random() * 10.0 ** draw.randint(-20, 25) for _ in range(1500)]
    values += [float(f"{digits}e{exponent}") for digits in (1, 12, 1234567890123456, 99999) for exponent in range(-25, 26)]
    values = [value for value in values if value == value and abs(value) != float("inf")]
    mysql.execute("CREATE TABLE d(i int PRIMARY KEY, v double)")
    mysql.execute("INSERT INTO d VALUES " + ",".join(f"({i},{value:.17e})" for i, value in enumerate(values)))
    rows = mysql.execute("SELECT i, CAST(CAST(v AS JSON) AS CHAR) FROM d ORDER BY i")
    assert [] == [(text, double_text(values[i])) for i, text in rows if text.encode() != double_text(values[i])]


def test_json_from_the_log_is_the_json_that_python_reads(mysql: SourceDatabase) -> None:
    draw = random.Random(5)

    def document(depth: int) -> Any:
        kinds = [None, True, draw.randint(-(2**63), 2**64 - 1), draw.randint(-40000, 70000), "é" * draw.randint(0, 200), 'a"\\\n\x01']
        if depth and draw.random() < 0.7:
            return [document(depth - 1) for _ in range(draw.randint(0, 12))]
        if depth and draw.random() < 0.7:
            return {f"k{i}{'x' * draw.randint(0, 30)}": document(depth - 1) for i in range(draw.randint(0, 12))}
        return draw.choice(kinds)

    documents = [document(4) for _ in range(150)]
    table = Table(mysql.name, "j", (ID, Column("v", "json")), (0,))
    mysql.execute("FLUSH BINARY LOGS")
    start = raw_log.position(mysql)
    mysql.execute("CREATE TABLE j(id bigint PRIMARY KEY, v json)")
    line = mysql.connect()
    with line.cursor() as cursor:
        cursor.executemany("INSERT INTO j VALUES (%s, %s)", [(i, json.dumps(one)) for i, one in enumerate(documents)])
    line.close()
    case = next(case for case in CASES if case.column.type == "json")
    records = logged(mysql, start, {"j": (case, table)})["j"]
    found = [read(table, record)["after"]["v"] for record in records]
    assert documents == [json.loads(text) for text in found]
    assert [row[0] for row in mysql.execute("SELECT CAST(v AS CHAR) FROM j ORDER BY id")] == found
