"""Foreign keys as SHOW CREATE TABLE tells them, and which of them the target can follow: judged without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cdc.errors import Refused
from cdc.model.foreign_key import ForeignKey, below
from cdc.model.policies import Policy
from cdc.model.table import Column, Table
from cdc.mysql.foreign_keys import are_logged, cascades, collated, followed_keys, stated
from cdc.mysql.preflight import ServerSettings

ID, REF = Column("id", "int", nullable=False), Column("P", "int")
PARENT = Table("d", "p", (ID, Column("t", "varchar", length=9, charset="utf8mb4")), (0,))
CHILD = Table("d", "c", (ID, REF, Column("t", "varchar", length=5, charset="utf8mb4"), Column("e", "enum")), (0,))
CREATED = """CREATE TABLE `c` (
  `id` int NOT NULL COMMENT 'CONSTRAINT `no` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE CASCADE',
  CONSTRAINT {}
) ENGINE=InnoDB"""
ONE = "`f` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE CASCADE"


def catalog(*clauses: str, generated: str = "", version: str = "10.11.1-MariaDB", **more: Any) -> Any:
    """A source whose table c has these foreign keys."""
    sql = CREATED.format(",\n  CONSTRAINT ".join(clauses)).replace(" int NOT NULL", f" int NOT NULL{generated}")
    engines = {("d", "c"): "InnoDB", ("d", "p"): "InnoDB"} | more.pop("engines", {})
    values = {"lower_case_table_names": "0"} | more
    collations = values.pop("collations", ("utf8mb4_general_ci", "utf8mb4_general_ci"))

    def asked(question: str, *names: str) -> list[tuple[str, str]]:
        if question.startswith("SHOW"):
            return [("c", sql if "`c`" in question else "CREATE TABLE `p` (`id` int)")]
        return [("t", collations[names[1] == "p"])]

    session = SimpleNamespace(all=asked, execute=lambda _: None)
    settings = ServerSettings("mariadb" if "Maria" in version else "mysql", version, values)
    return SimpleNamespace(settings=settings, session=session, engine=lambda table: engines[table.db, table.name], engines=lambda: engines)


def rules(found: Any, tables: tuple[Table, ...] = (PARENT, CHILD), **more: Any) -> list[str]:
    return [one.rule.partition("logging it, and ")[2] for one in cascades(found, tables, **more).findings]


def test_clauses_are_read_as_the_server_writes_them() -> None:
    sql = CREATED.format(
        "`a``b` FOREIGN KEY (`x)`, `y`) REFERENCES `other`.`t t` (`u`, `v``w`) ON DELETE SET NULL ON UPDATE CASCADE,\n"
        "  CONSTRAINT `none` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE NO ACTION ON UPDATE RESTRICT"
    )
    key = ForeignKey("a`b", ("d", "c"), ("x)", "y"), ("other", "t t"), ("u", "v`w"), "set null", "cascade")
    assert [key] == stated(("d", "c"), sql)


def test_a_key_is_followed_with_the_names_that_its_tables_have() -> None:
    expected = ForeignKey("f", ("d", "c"), ("P",), ("d", "p"), ("id",), "cascade", "")
    assert (expected,) == followed_keys(catalog(ONE), (PARENT, CHILD), 0)
    loud = "`f` FOREIGN KEY (`p`) REFERENCES `D`.`P` (`ID`) ON DELETE CASCADE"
    assert (expected,) == followed_keys(catalog(loud, lower_case_table_names="1"), (PARENT, CHILD), 0)
    assert ((), []) == cascades(catalog(ONE, engines={("d", "p"): "MyISAM"}), (CHILD,)), "keys between engines do nothing"
    assert ((), []) == cascades(catalog(ONE, engines={("d", "c"): "MyISAM"}), (PARENT, CHILD))
    assert ((), []) == cascades(catalog(ONE), (PARENT, CHILD), lambda table: table is not CHILD), "its account may not read it"


@pytest.mark.parametrize(
    ("version", "native", "logged"),
    [("9.6.0", None, True), ("9.6.0", "ON", False), ("9.7.1", "OFF", True), ("9.5.0", None, False), ("12.3.2-MariaDB", None, False)],
)
def test_from_which_version_on_cascades_are_logged(version: str, native: str | None, logged: bool) -> None:
    found = catalog(ONE, version=version, **({} if native is None else {"innodb_native_foreign_keys": native}))
    assert (logged, 0 if logged else 1) == (are_logged(found.settings), len(cascades(found, (PARENT, CHILD)).keys))


def test_what_the_target_cannot_do_as_the_engine_did_is_refused_by_name() -> None:
    assert ["d.p is not followed"] == rules(catalog(ONE), (CHILD,))
    assert ["d.p has no primary key"] == rules(catalog(ONE), (Table("d", "p", PARENT.columns), CHILD))
    nulls, text = ONE.replace("CASCADE", "SET NULL"), "`f` FOREIGN KEY (`t`) REFERENCES `p` (`t`) ON UPDATE CASCADE"
    assert ["the server computes columns of the changed rows, which the target cannot"] == rules(
        catalog(nulls, generated=" GENERATED ALWAYS AS (`p` + 1) VIRTUAL")
    )
    assert [] == rules(catalog(ONE, generated=" GENERATED ALWAYS AS (`p` + 1) VIRTUAL")), "a deleted row has no columns"
    assert ["which rows the server takes for equal in column t is not known to the target"] == rules(
        catalog(text, collations=("utf8mb4_danish_ci", "utf8mb4_danish_ci"))
    )
    assert 1 == len(rules(catalog(text, collations=("utf8mb4_bin", "utf8mb4_general_ci"))))
    assert 1 == len(rules(catalog(ONE.replace("`p`)", "`e`)"))))
    assert ["several sinks, which share the tables (apply.shards), cannot"] == rules(catalog(ONE), shards=2)
    shared = nulls.replace("`f`", "`g`")
    assert ["it shares a column with f, so that their order would matter"] == rules(catalog(ONE, shared))
    with pytest.raises(Refused) as refused:
        followed_keys(catalog(ONE), (CHILD,), 0)
    assert ("unlogged_cascade", "d.c") == (refused.value.code, refused.value.place)
    assert "foreign key f " in refused.value.rule
    assert "follow d.p too" in refused.value.hint
    assert "ALTER TABLE `d`.`c` DROP FOREIGN KEY `f`" in refused.value.hint


def test_sides_that_the_engine_or_a_policy_makes_unlike_are_refused() -> None:
    key = "`f` FOREIGN KEY (`x`) REFERENCES `p` (`x`) ON UPDATE CASCADE"

    def told(mine: Column, theirs: Column) -> bool:
        tables = (Table("d", "p", (ID, theirs), (0,)), Table("d", "c", (ID, mine), (0,)))
        return bool(cascades(catalog(key), tables).keys)

    assert told(Column("x", "decimal", length=9, scale=2), Column("x", "decimal", length=9, scale=2))
    assert told(Column("x", "varbinary", length=9), Column("x", "varbinary", length=4))
    for mine, theirs in (
        (Column("x", "binary", length=9), Column("x", "binary", length=4)),  # filled up to the parent's length
        (Column("x", "char", length=9), Column("x", "varchar", length=9)),
        (Column("x", "decimal", length=9, scale=2), Column("x", "decimal", length=9, scale=1)),
        (Column("x", "bigint", unsigned=True), Column("x", "bigint", unsigned=True, policy=Policy(bigint_unsigned="bigint"))),
        (Column("x", "date"), Column("x", "date")),
        (Column("x", "double"), Column("x", "double")),
    ):
        assert not told(mine, theirs), (mine, theirs)


@pytest.mark.parametrize(
    ("match", "collations"),
    [
        ("", "utf8mb4_0900_bin utf8mb4_nopad_bin"),
        ("pad", "utf8mb4_bin latin1_bin"),
        ("ci", "utf8mb4_0900_ai_ci utf8mb4_0900_as_ci utf8mb3_unicode_520_nopad_ci utf8mb4_uca1400_nopad_as_ci"),
        ("ci pad", "utf8mb4_general_ci latin1_swedish_ci uca1400_ai_ci utf8mb4_unicode_ci"),
        (None, "utf8mb4_tr_0900_ai_ci latin1_german2_ci utf8mb4_0900_as_cs utf8mb4_danish_ci utf8mb4_spanish2_ci"),
    ],
)
def test_how_text_of_a_collation_is_compared(match: str | None, collations: str) -> None:
    assert {match} == {collated(one) for one in collations.split()}


def test_what_may_change_below_a_key_is_what_its_action_goes_on_to() -> None:
    def key(name: str, child: str, column: str, parent: str, referenced: str, delete: Any, update: Any) -> ForeignKey:
        return ForeignKey(name, ("d", child), (column,), ("d", parent), (referenced,), delete, update)

    keys = [
        key("a", "c", "p", "p", "id", "cascade", "set null"),
        key("b", "g", "c", "c", "id", "cascade", ""),
        key("e", "h", "c", "c", "p", "", "cascade"),
        key("f", "i", "g", "g", "id", "set null", ""),
        key("t", "tree", "up", "tree", "id", "cascade", ""),
        key("s", "chain", "up", "chain", "id", "set null", ""),
    ]
    assert {("d", "g"), ("d", "i")} == below(keys, keys[0], "d")
    assert {("d", "h")} == below(keys, keys[0], "u")
    assert {("d", "tree")} == below(keys, keys[4], "d")
    assert set() == below(keys, keys[5], "d"), "a row that stays takes none with it"
