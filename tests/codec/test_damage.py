"""Bytes that no server writes: each is refused with its place, and none makes more memory or text than its length allows."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from cdc import codec
from cdc.codec import ops
from cdc.codec._copy import CopyPlan, copy_rows
from cdc.codec._open import SkipPlan, open_values
from cdc.codec.records import avro_bytes, avro_long
from cdc.errors import Halt, Malformed
from cdc.model.table import Column, Table
from tests.codec.test_kernels import ID, packet
from tests.codec.test_types import stamp, value_plan

POSITION = r" at byte \d+"


def log(column: Column, value: bytes) -> bytes:
    """The value of a row image of (id, column), by the codec."""
    table, body = Table("db", "t", (ID, column), (0,)), bytes(9) + value
    out: list[Any] = []
    codec.encode_rows(codec.RowPlan(table), body, 0, len(body), "c", stamp(), codec.Numbers(1, 1), out)
    return b"".join(record.value for record in out)


def select(column: Column, value: bytes) -> bytearray:
    table, out = Table("db", "t", (replace(column, nullable=False),)), bytearray()
    block = packet(value)
    codec.select_to_copy(codec.RowPlan(table), value_plan(table), block, 0, len(block), out)
    return out


def json_image(document: bytes) -> bytes:
    return len(document).to_bytes(4, "little") + document


def array(*values: bytes) -> bytes:
    """A small JSON array whose values are at one place or another: (type, offset) each, then what lies behind."""
    *entries, rest = values
    size = 4 + len(b"".join(entries)) + len(rest)
    return len(entries).to_bytes(2, "little") + size.to_bytes(2, "little") + b"".join(entries) + rest


def shared(depth: int, width: int) -> bytes:
    """Arrays of `width` values that all are the same array of the next depth."""
    inner = array(b"")
    for _ in range(depth):
        offset = 4 + 3 * width
        inner = array(*[b"\2" + offset.to_bytes(2, "little")] * width, inner)
    return b"\2" + inner


JSON = Column("v", "json")


def test_json_whose_values_lie_over_one_another_is_refused_before_it_grows() -> None:
    document = shared(20, 8)
    assert 700 > len(document)  # and 8**20 arrays, if somebody wrote them all
    with pytest.raises(Malformed, match="over one another" + POSITION):
        log(JSON, json_image(document))
    assert b"[[], []]" in log(JSON, json_image(shared(1, 2)))


@pytest.mark.parametrize(
    "document",
    [
        b"\x0b" + struct.pack("<d", float("nan")),
        b"\x0b" + struct.pack("<d", float("-inf")),
        b"\x0c\2\xc3\x28",
        b"\x0f\xf6\4\2\0\xff\xff",
        b"\x0f\xf6\4\2\0\xe3\0",
        b"\x0f\x0c\x08" + struct.pack("<q", (60 << 24) | 1),
        b"\x0f\x0b\x08" + struct.pack("<q", 1_000_000),
        b"\x0f\x07\x08" + struct.pack("<q", 24 << 36),
    ],
)
def test_json_that_no_server_writes_is_malformed(document: bytes) -> None:
    with pytest.raises(Malformed, match=POSITION):
        log(JSON, json_image(document))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Column("v", "date"), ((10000 << 9) | (1 << 5) | 1).to_bytes(3, "little")),
        (Column("v", "datetime"), (0x8000000000 + ((10000 * 13 + 1) << 22) + (1 << 17)).to_bytes(5, "big")),
    ],
)
def test_a_year_beyond_9999_in_the_log_is_malformed(column: Column, value: bytes) -> None:
    with pytest.raises(Malformed, match=POSITION):
        log(column, value)


WIDTHS = (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))


def signed(kind: str, bits: int) -> tuple[Column, tuple[bytes, ...], tuple[bytes, ...]]:
    half = 1 << bits - 1
    return Column("v", kind), (b"-%d" % half, b"%d" % (half - 1)), (b"-%d" % (half + 1), b"%d" % half)


def unsigned(kind: str, bits: int) -> tuple[Column, tuple[bytes, ...], tuple[bytes, ...]]:
    return Column("v", kind, unsigned=True), (b"0", b"%d" % ((1 << bits) - 1)), (b"-1", b"%d" % (1 << bits))


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        *(signed(kind, bits) for kind, bits in WIDTHS),
        *(unsigned(kind, bits) for kind, bits in WIDTHS),
        (Column("v", "year"), (b"2155", b"0"), (b"2156", b"18446744073709551615")),
        (Column("v", "decimal", length=5, scale=2), (b"-999.99", b"0.01"), (b"1000.00", b"9" * 5000 + b".00")),
        (Column("v", "decimal", length=2, scale=2), (b"-0.99",), (b"10.00",)),
        (Column("v", "double"), (b"-1.7976931348623157e308", b"5e-324"), (b"nan", b"inf", b"1e999", b"1_0", b" 1", b"0x1p3")),
        (Column("v", "float"), (b"3.4028234663852886e38",), (b"3.5e38", b"-1e300")),
    ],
)
def test_a_number_that_its_column_cannot_hold_is_malformed(column: Column, good: tuple[bytes, ...], bad: tuple[bytes, ...]) -> None:
    assert [] == [value for value in good if not select(column, value)]
    for value in bad:
        with pytest.raises(Malformed, match=POSITION):
            select(column, value) if len(value) < 250 else long_select(column, value)


def long_select(column: Column, value: bytes) -> None:
    row = b"\xfc" + len(value).to_bytes(2, "little") + value
    block, table = len(row).to_bytes(3, "little") + b"\1" + row, Table("db", "t", (column,))
    codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), [])


def test_json_of_a_select_is_utf8_or_malformed() -> None:
    with pytest.raises(Malformed, match=POSITION):
        select(JSON, b'"\xff"')


NO_TIMES = (
    b"0000-01-01T00:00:00Z",
    b"2023-02-29T00:00:00Z",
    b"2023-01-01T24:00:00Z",
    b"2023-01-01T00:60:00Z",
    b"2023-01-01T00:00:60Z",
    b"2023-13-01T00:00:00Z",
    b"2023-01-01T00:00:00.",
)
LEAST, MOST = avro_long(-(1 << 63)), avro_long((1 << 63) - 1)


@pytest.mark.parametrize(
    ("op", "number", "value"),
    [
        (ops.TO_REALS, 0, LEAST + avro_long(1) + bytes(64)),
        (ops.TO_REALS, 0, avro_long(-(1 << 62)) + avro_long(1) + bytes(64)),
        (ops.TO_REALS, 0, MOST + bytes(64)),
        (ops.TO_DATE, 0, LEAST),
        (ops.TO_DATE, 0, avro_long(2147483647 + 10957)),  # would be PostgreSQL's infinity
        (ops.TO_DATE, 0, avro_long(-2147483648 + 10957)),
        (ops.TO_STAMP_US, 0, LEAST),
        (ops.TO_STAMP_US, 0, avro_long(946684800000000 - (1 << 63))),
        (ops.TO_INTERVAL_MS, 0, MOST),
        (ops.TO_NUMERIC, 2, avro_bytes(b"\x7f" * 1025)),
        (ops.TO_EWKB, 0, avro_bytes(b"\1\1\0\0\0" + bytes(16)) + b"\4"),
        (ops.TO_EWKB, 0, avro_bytes(b"\1\1\0\0\0" + bytes(16)) + b"\2" + avro_long(1 << 40)),
        *((ops.TO_STAMP_TEXT, 0, avro_bytes(text)) for text in NO_TIMES),
    ],
)
def test_a_strangers_value_beyond_its_type_is_malformed(op: int, number: int, value: bytes) -> None:
    with pytest.raises(Malformed, match=r"at byte \d+"):
        copy_rows(CopyPlan("db.t", ["v"], [op], [number], [-1]), [(value, 0)], bytearray())


def test_the_first_and_the_last_date_of_postgres_pass() -> None:
    for days in (-2440588, 2145042905):
        out = bytearray()
        copy_rows(CopyPlan("db.t", ["v"], [ops.TO_DATE], [0], [-1]), [(avro_long(days), 0)], out)
        assert struct.pack(">hii", 1, 4, days - 10957) == bytes(out)


def test_a_record_without_an_operation_is_malformed() -> None:
    with pytest.raises(Malformed, match="no operation"):
        open_values(SkipPlan("db.t", [ops.SKIP_LONG], [0]), [b"\0\0\0\0\1\2"])


def test_a_record_whose_array_claims_more_than_memory_is_malformed() -> None:
    for count in (LEAST, avro_long(-(1 << 61)), MOST):
        with pytest.raises(Malformed, match=POSITION):
            open_values(SkipPlan("db.t", [ops.SKIP_ARRAY], [8]), [bytes(5) + count + avro_long(8) + bytes(64)])


def test_a_record_of_the_year_292_million_is_malformed() -> None:
    plan = SkipPlan("db.t", [ops.SKIP_MARK, ops.SKIP_LONG, ops.SKIP_MARK, ops.SKIP_BYTES], [5, 0, 8, 0])
    assert 1000 == open_values(plan, [bytes(5) + avro_long(1) + avro_bytes(b"c")])[0].ts_us
    with pytest.raises(Malformed, match=POSITION):
        open_values(plan, [bytes(5) + MOST + avro_bytes(b"c")])


def test_a_table_without_columns_has_no_plan() -> None:
    with pytest.raises(Halt, match="without columns"):
        codec.RowPlan(Table("db", "t", ()))
