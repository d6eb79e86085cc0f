"""The target's tables: made as the source has them, or taken when they fit, or refused with the reason."""

from __future__ import annotations

import pytest

from cdc.errors import Halt, Refused
from cdc.protocol.applied import LedgerChunk
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, cut, rows
from tests.sinks.postgres.plans import COMPOSITE, KEYED, KEYLESS, ONLY_KEY, Column, HandPlan

DESCRIBE = """
SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, coalesce(collname, '')::text FROM pg_attribute
  LEFT JOIN pg_collation c ON c.oid = attcollation AND collname = 'C'
 WHERE attrelid = to_regclass('{}') AND attnum > 0 ORDER BY attnum"""


def test_a_table_has_the_names_types_and_key_of_its_plan_and_nothing_else(postgres: TargetDatabase, opened: Opened):
    opened(COMPOSITE, KEYED)
    assert [("b", "integer", False, ""), ("Code", "character varying(10)", True, "C"), ('q"n', "bigint", True, "")] == postgres.execute(
        DESCRIBE.format("app.composite")
    )
    assert [('PRIMARY KEY ("Code", "q""n")',)] == postgres.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'app.composite'::regclass"
    )


def test_schema_and_load_time_follow_the_configuration(postgres: TargetDatabase, opened: Opened):
    opened(ONLY_KEY, schema_="raw_{db}", loaded_at="_loaded_at")
    assert ["Id", "_loaded_at"] == [name for name, *_ in postgres.execute(DESCRIBE.format("raw_app.only_key"))]


def test_a_table_with_rows_is_refused_unless_it_is_adopted(postgres: TargetDatabase, opened: Opened):
    postgres.execute("CREATE SCHEMA app", 'CREATE TABLE app.only_key ("Id" bigint PRIMARY KEY)', "INSERT INTO app.only_key VALUES (7)")
    with pytest.raises(Refused) as refusal:
        opened(ONLY_KEY)
    assert "target_not_empty" == refusal.value.code
    opened(ONLY_KEY, adopt=True)
    assert 1 == rows(postgres, ONLY_KEY).total()


def test_an_empty_table_that_fits_is_taken(postgres: TargetDatabase, opened: Opened):
    postgres.execute("CREATE SCHEMA app", 'CREATE TABLE app.only_key (mine text DEFAULT 1, "Id" bigint, UNIQUE ("Id"))')
    target = opened(ONLY_KEY)
    target.write(batch(ONLY_KEY, *[("c", None, (n,)) for n in range(100)]))
    target.commit(cut(1))
    assert 100 == rows(postgres, ONLY_KEY).total()


@pytest.mark.parametrize(
    ("made", "word"),
    [
        ('CREATE TABLE app.composite (b int, "Code" varchar(10), "q""n" bigint)', "primary key"),
        ('CREATE TABLE app.composite (b int, "Code" varchar(10), "q""n" bigint, PRIMARY KEY ("Code"))', "primary key"),
        ('CREATE TABLE app.composite (b bigint, "Code" varchar(10), "q""n" bigint, PRIMARY KEY ("Code", "q""n"))', "'b' is bigint"),
        ('CREATE TABLE app.composite (b int, "Code" varchar(9), "q""n" bigint, PRIMARY KEY ("Code", "q""n"))', "varying(9)"),
        ('CREATE TABLE app.composite ("Code" varchar(10), "q""n" bigint, PRIMARY KEY ("Code", "q""n"))', "no column 'b'"),
        ('CREATE TABLE app.composite (b int NOT NULL, "Code" varchar(10), "q""n" bigint, PRIMARY KEY ("Code", "q""n"))', "NOT NULL"),
        ('CREATE TABLE app.composite (b int, "Code" varchar(10), "q""n" bigint, x int NOT NULL, PRIMARY KEY ("Code", "q""n"))', "NOT NULL"),
        ("CREATE VIEW app.composite AS SELECT 1 AS b", "ordinary"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_what_is_wrong(postgres: TargetDatabase, opened: Opened, made: str, word: str):
    postgres.execute("CREATE SCHEMA app", made)
    with pytest.raises(Refused) as refusal:
        opened(COMPOSITE)
    assert "target_table" == refusal.value.code
    assert word in refusal.value.rule


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (HandPlan("t", ONLY_KEY.columns, db="cdc"), "schema_reserved"),
        (HandPlan("t", ONLY_KEY.columns, db="pg_app"), "schema_reserved"),
        (HandPlan("t", (*ONLY_KEY.columns, *ONLY_KEY.columns)), "same_column"),
        (HandPlan("t", (Column("c" * 64, "bigint", True),)), "name_too_long"),
        (HandPlan("t", (*ONLY_KEY.columns, *(Column(f"c{n}", "text") for n in range(1600)))), "too_many_columns"),
        (HandPlan("t", (*ONLY_KEY.columns, Column("_at", "text"))), "loaded_at"),
    ],
    ids=["state", "system", "twice", "column", "columns", "loaded_at"],
)
def test_what_postgresql_cannot_hold_is_refused_before_anything_is_made(
    postgres: TargetDatabase, opened: Opened, plan: HandPlan, code: str
):
    with pytest.raises(Refused) as refusal:
        opened(plan, loaded_at="_at")
    assert code == refusal.value.code
    assert [(0,)] == postgres.execute("SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('app')")


def test_two_source_tables_cannot_share_a_target(opened: Opened):
    with pytest.raises(Refused) as refusal:
        opened(ONLY_KEY, HandPlan("only_key", ONLY_KEY.columns, db="other"), schema_="raw")
    assert "target_taken" == refusal.value.code


def test_making_a_table_of_ours_again_finds_it_with_its_rows(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(1)), target.loader()
    with loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(ONLY_KEY.packed((1,)))
    loader.close()
    done = target.finish_load(load, at(3))
    assert done == target.create_table(ONLY_KEY)
    postgres.execute("DROP TABLE app.only_key")
    with pytest.raises(Halt) as stop:
        target.create_table(ONLY_KEY)
    assert "target_missing" == stop.value.code


def test_a_table_dropped_under_way_stops(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYLESS)
    postgres.execute("DROP TABLE app.keyless")
    with pytest.raises(Halt) as stop:
        target.write(batch(KEYLESS, ("c", None, (1, None, None, None, None))))
    assert "target_missing" == stop.value.code


NUMBERS = HandPlan("numbers", (Column("id", "integer", key=True), Column("v", "bigint"), Column("n", "numeric(10,2)")))
BARE = HandPlan("bare", (Column("id", "integer"), Column("v", "bigint"), Column("n", "numeric(10,2)")))


@pytest.mark.parametrize("plan", [NUMBERS, BARE], ids=lambda plan: plan.table)
@pytest.mark.parametrize("change", ["v TYPE double precision", "n TYPE numeric(10,0)"])
@pytest.mark.parametrize(("count", "known"), [(1, False), (100, False), (100, True)])
def test_a_column_that_gets_another_type_under_way_stops_and_is_not_filled_with_another_value(
    plan: HandPlan, change: str, count: int, known: bool, postgres: TargetDatabase, opened: Opened
):
    """The bytes of a bigint are those of some double precision; `known`: the process has written the table before, on the same line."""
    target = opened(plan)
    if known:
        target.write(batch(plan, ("c", None, (0, 1, 250))))
        target.commit(cut(1))
    postgres.execute(f"ALTER TABLE app.{plan.table} ALTER COLUMN {change}")
    with pytest.raises(Halt) as stop:
        target.write(batch(plan, *[("c", None, (n, n, 250)) for n in range(1, count + 1)]))
        target.commit(cut(2))
    assert ("target_table", f"app.{plan.table}") == (stop.value.code, stop.value.place)
    assert known == rows(postgres, plan).total()


def test_a_load_of_a_table_whose_columns_get_other_types_stops(postgres: TargetDatabase, opened: Opened):
    target = opened(BARE)
    load, loader = target.begin_load(BARE, at(1)), target.loader()
    with loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(BARE.packed((1, 1, 250)))
    postgres.execute("ALTER TABLE app.bare ALTER COLUMN v TYPE double precision")
    with pytest.raises(Halt) as stop, loader.chunk(load, LedgerChunk(2)) as chunk:
        chunk.write(BARE.packed((2, 2, 250)))
    loader.close()
    assert "target_table" == stop.value.code
    assert 1 == rows(postgres, BARE).total()
