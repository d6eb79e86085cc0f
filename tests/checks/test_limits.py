"""Doctor: tables of which a row may come to wait in quarantine are named beforehand, and only these."""

from __future__ import annotations

import pytest

from cdc.checks.limits import limits
from cdc.model.policies import Policy
from cdc.model.table import Column, Table

MIB = 1 << 20
JSONB = Policy(json="jsonb")


def text(length: int, charset: str = "utf8mb4") -> Column:
    return Column("k", "varchar", length=length, charset=charset)


@pytest.mark.parametrize(
    ("columns", "wide"),
    [
        ((text(768),), True),
        ((text(673),), False),  # 8 + 4 + 2692 are the whole entry
        ((text(674),), True),
        ((text(768, "utf8mb3"),), False),
        ((text(1000, "latin1"),), True),  # each of them may be a character of three bytes in UTF-8
        ((text(2692, "ascii"),), False),
        ((Column("k", "varbinary", length=3000),), True),
        ((text(500), text(180)), True),  # what is too wide is the whole key
        ((text(500), Column("k", "bigint")), False),
        ((Column("k", "enum", charset="utf8mb4", labels=("x" * 3000, "y")),), True),
        ((Column("k", "set", charset="utf8mb4", labels=("x" * 1000, "y" * 1000, "z" * 1000)),), True),
    ],
)
def test_a_key_that_may_be_wider_than_an_entry_of_an_index_is_told(columns: tuple[Column, ...], wide: bool) -> None:
    found = limits([Table("a", "b", columns, tuple(range(len(columns)))), Table("a", "keyless", (text(768),))], 64 * MIB)
    assert [("warning", "may_be_refused", "a.b")] * wide == [(one.level, one.code, one.place) for one in found]


@pytest.mark.parametrize(
    ("column", "packet", "told"),
    [
        (Column("v", "longtext", charset="utf8mb4"), 64 * MIB, False),
        (Column("v", "longtext", charset="utf8mb4"), 1024 * MIB, True),
        (Column("v", "longtext", charset="latin1"), 512 * MIB, True),
        (Column("v", "mediumtext", charset="latin1"), 1024 * MIB, False),
        (Column("v", "longblob"), 1024 * MIB, True),
        (Column("v", "json"), 512 * MIB, False),
        (Column("v", "json", policy=JSONB), 64 * MIB, True),
        (Column("v", "json", policy=Policy(json="jsonb", refused_json="null")), 64 * MIB, False),
    ],
)
def test_values_beyond_a_field_are_told_where_the_source_can_hold_them(column: Column, packet: int, told: bool) -> None:
    found = limits([Table("a", "b", (Column("id", "int"), column), (0,))], packet)
    assert ["may_be_refused"] * told == [one.code for one in found]
    assert all(one.rule.startswith("v may hold") and one.hint_sql for one in found)
