"""What is said of columns is done or refused: nothing is accepted that would do nothing."""

from __future__ import annotations

import pytest

from cdc import codec
from cdc.checks.policies import ABOUT, column_policies
from cdc.codec import envelope
from cdc.config.settings import PolicyKeys
from cdc.model import selection, types
from cdc.model.policies import Policies, Policy
from cdc.model.table import Column, Table

COLUMNS = (
    Column("id", "bigint"),
    Column("Flag1", "tinyint", display=1),
    Column("Flag4", "tinyint"),
    Column("UFlag", "tinyint", unsigned=True),
    Column("Name", "varchar", length=9, charset="utf8mb4"),
    Column("Notes", "longtext", charset="utf8mb4"),
    Column("Born", "date"),
    Column("At", "timestamp"),
    Column("Seen", "datetime"),
    Column("Big", "bigint", unsigned=True),
    Column("Doc", "json"),
)
TABLE = Table("od", "task", COLUMNS, (0,))


def found(columns: dict[str, dict[str, str]], default: Policy = Policy()) -> list[tuple[str, str]]:  # noqa: B008 - frozen
    book = Policies(default, columns)
    return [(one.level, one.code) for one in column_policies(book, selection.chosen([TABLE], book))]


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        ("Flag1", {"tinyint1": "boolean"}),
        ("flag4", {"tinyint1": "boolean", "over_wide": "clamp"}),
        ("UFlag", {"tinyint1": "boolean", "over_wide": "null"}),
        ("Name", {"nul_text": "strip", "invalid_text": "replace"}),
        ("Born", {"zero_date": "sentinel", "sentinel_date": "1900-01-01"}),
        ("At", {"timestamp": "timestamp", "timestamp_zone": "Asia/Tokyo"}),
        ("Big", {"bigint_unsigned": "bigint", "over_wide": "error"}),
        ("Doc", {"json": "jsonb", "refused_json": "null"}),
        ("Flag4", {"tinyint1": "smallint"}),
        ("Doc", {"json": "json", "refused_json": "error"}),
    ],
)
def test_what_can_be_done_is_accepted(column: str, keys: dict[str, str]) -> None:
    assert [] == found({f"od.task.{column}": keys})


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        ("Name", {"tinyint1": "boolean"}),
        ("Big", {"tinyint1": "boolean"}),
        ("Flag4", {"over_wide": "clamp"}),
        ("Flag4", {"bigint_unsigned": "bigint"}),
        ("id", {"bigint_unsigned": "bigint"}),
        ("Notes", {"json": "jsonb"}),
        ("Doc", {"refused_json": "null"}),
        ("Doc", {"nul_text": "strip"}),
        ("Seen", {"timestamp": "timestamp"}),
        ("At", {"timestamp_zone": "Asia/Tokyo"}),
        ("Born", {"sentinel_date": "1900-01-01"}),
        ("Name", {"zero_date": "text"}),
    ],
)
def test_what_would_do_nothing_is_refused_where_a_column_is_named_and_told_where_a_pattern_is_wide(
    column: str, keys: dict[str, str]
) -> None:
    assert [("error", "policy_unfit")] == found({f"od.task.{column}": keys})
    assert [("error", "policy_unfit")] == found({f"od.*.{column}": keys})
    assert [("warning", "policy_unfit")] == found({f"od.task.{column[:-1]}?": keys})


def test_the_finding_says_the_key_what_it_is_about_and_what_the_column_is() -> None:
    book = Policies(Policy(), {"od.task.Name": {"tinyint1": "boolean"}, "od.task.At": {"timestamp_zone": "Asia/Tokyo"}})
    first, second = column_policies(book, selection.chosen([TABLE], book))
    assert 'tinyint1 = "boolean" would do nothing: it is about TINYINT; od.task.Name is VARCHAR' == first.rule
    assert 'policies.columns."od.task.Name"' == first.place
    assert 'it says nothing unless timestamp = "timestamp"' in second.rule


def test_a_misspelt_column_of_a_followed_table_is_refused_with_its_likely_name() -> None:
    assert [("error", "policy_unused")] == found({"od.task.Flg4": {"tinyint1": "boolean"}})
    assert [("warning", "policy_unused")] == found({"od.other.Flag4": {"tinyint1": "boolean"}})
    assert [("warning", "policy_unused")] == found({"od.task.Nothing*": {"tinyint1": "boolean"}})
    book = Policies(Policy(), {"od.task.flg4": {"tinyint1": "boolean"}})
    assert "-- did you mean od.task.Flag4?" == column_policies(book, [TABLE])[0].hint_sql


def test_a_wide_pattern_is_done_where_it_fits() -> None:
    assert [] == found({"od.*.*": {"tinyint1": "boolean", "json": "jsonb"}})


def test_every_key_is_about_something() -> None:
    assert set(PolicyKeys.model_fields) - {"json_"} | {"json"} == set(ABOUT)


@pytest.mark.parametrize(
    ("book", "booleans"),
    [
        (Policies(Policy(tinyint1="boolean")), {"Flag1"}),
        (Policies(Policy(), {"od.task.Flag4": {"tinyint1": "boolean"}}), {"Flag4"}),
        (Policies(Policy(), {"od.*.uflag": {"tinyint1": "boolean"}}), {"UFlag"}),
        (Policies(Policy(tinyint1="boolean"), {"od.task.Flag1": {"tinyint1": "smallint"}, "od.*.*4": {"tinyint1": "boolean"}}), {"Flag4"}),
        (Policies(Policy(tinyint1="boolean"), {"od.task.*": {"over_wide": "clamp"}}), {"Flag1"}),
        (Policies(Policy(), {"od.task.*": {"tinyint1": "boolean"}}), {"Flag1", "Flag4", "UFlag"}),
    ],
)
def test_source_and_sink_agree_on_which_tinyint_is_a_boolean(book: Policies, booleans: set[str]) -> None:
    (table,) = selection.chosen([TABLE], book)
    assert booleans == {column.name for column in table.columns if types.postgres(column) == "boolean"}
    plan = codec.ValuePlan(envelope.value_schema("od", table, "mysql"), envelope.key_schema("od", table), book)
    assert booleans == {column.name for column in plan.columns if column.postgres_type == "boolean"}
    assert {name for name, keys in plan.chosen.items() if keys.get("tinyint1") == "boolean"} == booleans
