"""A column that is there already is taken where it holds every value of the planned one and shows it alike."""

from __future__ import annotations

import struct

import pytest

from cdc import codec
from cdc.codec import envelope
from cdc.codec.records import avro_long
from cdc.codec.wider_types import holds
from cdc.model.table import Column, Table


@pytest.mark.parametrize(
    ("planned", "found"),
    [
        ("smallint", "smallint"), ("smallint", "integer"), ("smallint", "bigint"), ("integer", "bigint"),
        ("varchar(20)", "character varying(20)"), ("varchar(20)", "character varying(21)"), ("varchar(20)", "character varying"),
        ("varchar(20)", "text"), ("text", "character varying"), ("text", "text"),
        ("timestamp(0)", "timestamp without time zone"), ("timestamp(3)", "timestamp(6) without time zone"),
        ("timestamptz(0)", "timestamp with time zone"), ("timestamptz(6)", "timestamp with time zone"),
        ("numeric(10,2)", "numeric(12,2)"), ("numeric(10,2)", "numeric(10,2)"),
        ("timestamp(3)", "timestamp(3) without time zone"), ("numeric(20,0)", "numeric"), ("bit(8)", "bit(8)"), ("real[]", "real[]"),
        ("double precision", "double precision"), ("boolean", "boolean"), ("json", "json"),
    ],
)  # fmt: skip
def test_a_type_that_holds_all_and_shows_it_alike_fits(planned: str, found: str) -> None:
    assert holds(planned, found)


@pytest.mark.parametrize(
    ("planned", "found"),
    [
        ("bigint", "integer"), ("integer", "smallint"), ("integer", "numeric"), ("bigint", "double precision"), ("boolean", "smallint"),
        ("varchar(20)", "character varying(19)"), ("text", "character varying(500)"), ("varchar(20)", "character(20)"),
        ("timestamp(3)", "timestamp(0) without time zone"), ("timestamp(0)", "timestamp with time zone"),
        ("timestamptz(0)", "timestamp without time zone"), ("timestamp(6)", "timestamp(3) without time zone"),
        ("date", "timestamp without time zone"),
        ("numeric(10,2)", "numeric(12,4)"), ("numeric(10,2)", "numeric(9,2)"), ("numeric", "numeric(30,2)"), ("bit(8)", "bit(9)"),
        ("real", "double precision"), ("real[]", "real"), ("json", "jsonb"), ("json", "text"), ("bytea", "text"),
        ("varchar", "character varying(9)"),
        ("timestamp", "timestamp(3) without time zone"), ("timestamptz(0)", "time with time zone"), ("text", "my type(3) x"),
    ],
)  # fmt: skip
def test_any_other_does_not(planned: str, found: str) -> None:
    assert not holds(planned, found)


def test_a_plan_writes_what_the_column_reads_and_goes_back_with_another_table() -> None:
    table = Table("db", "t", (Column("k", "int"), Column("n", "smallint"), Column("s", "varchar", length=5, charset="utf8mb4")), (0,))
    plan = codec.ValuePlan(envelope.value_schema("od", table, "mysql"), envelope.key_schema("od", table))
    planned = plan.columns
    plan.widen({"k": "bigint", "n": "integer", "s": "text", "more": "jsonb"})
    assert ["bigint", "integer", "text"] == [column.postgres_type for column in plan.columns]
    assert [(True, "")] == [(column.key, column.collation) for column in plan.columns[:1]]
    out = bytearray()
    plan.copy_keys([b"\0\0\0\0\1" + avro_long(7)], out)
    assert struct.pack(">hiq", 1, 8, 7) == bytes(out)
    same = plan.columns
    plan.widen({"k": "bigint", "n": "integer", "s": "text"})
    assert plan.columns is same
    plan.widen({"k": "text", "n": "boolean", "s": "character varying(4)"})
    assert planned == plan.columns
