"""Whole comparisons on real servers: what differs is found by its key, on every kind of key; what does not differ is left in peace."""

from __future__ import annotations

import pytest

from cdc.errors import Halt, Refused
from cdc.model.digest import KeySpan
from cdc.model.table import Column, Table
from snapshot.reconcile.compare import Kind, Result, Verdict, verify
from tests.snapshot.reconcile.late import LateCopier
from tests.snapshot.reconcile.servers import Pair, paired

COLUMNS = (Column("id", "bigint", nullable=False), Column("fee", "double"), Column("note", "varchar", length=40, charset="utf8mb4"))
DDL = ("bigint NOT NULL", "double", "varchar(40) COLLATE utf8mb4_general_ci")


def compare(both: Pair, table: Table, **options) -> Result:
    source, target = both.sides(table, **options)
    return verify(table, source, target, lambda: None)


def found(result: Result) -> dict[tuple[str, ...], tuple[Kind, tuple[str, ...]]]:
    return {d.key: (d.kind, d.columns) for d in result.differences}


def visits(both: Pair, rows: int = 3000) -> Table:
    """Rows with sparse keys, equal on both sides."""
    table = Table(both.name, "visits", COLUMNS, key=(0,))
    both.create(table, DDL)
    values = ", ".join(f"({7 * n}, {n}.25, 'note {n}')" for n in range(rows))
    both.on_both(f"INSERT INTO {both.name}.visits VALUES {values}")
    return table


def test_equal_tables_are_equal_and_all_rows_were_read(both):
    result = compare(both, visits(both))
    assert (Verdict.EQUAL, 3000, 3000) == (result.state, result.rows_source, result.rows_target)
    assert 1 < result.pieces


SMALLEST = {
    "a row missing": ("DELETE FROM {t} WHERE id = 700", Kind.MISSING, ()),
    "a row too many": ("INSERT INTO {t} VALUES (701, 1, 'x')", Kind.EXTRA, ()),
    "a row too many at the end": ("INSERT INTO {t} VALUES (9223372036854775807, 1, 'x')", Kind.EXTRA, ()),
    "a row too many at the start": ("INSERT INTO {t} VALUES (-9223372036854775808, 1, 'x')", Kind.EXTRA, ()),
    "one cent": ("UPDATE {t} SET fee = 100.26 WHERE id = 700", Kind.DIFFERENT, ("fee",)),
    "the last bit of a double": ("UPDATE {t} SET fee = 100.25000000000001 WHERE id = 700", Kind.DIFFERENT, ("fee",)),
    "upper case": ("UPDATE {t} SET note = 'Note 100' WHERE id = 700", Kind.DIFFERENT, ("note",)),
    "a trailing blank": ("UPDATE {t} SET note = 'note 100 ' WHERE id = 700", Kind.DIFFERENT, ("note",)),
    "an empty text": ("UPDATE {t} SET note = '' WHERE id = 700", Kind.DIFFERENT, ("note",)),
    "a null": ("UPDATE {t} SET note = NULL WHERE id = 700", Kind.DIFFERENT, ("note",)),
    "two columns": ("UPDATE {t} SET note = NULL, fee = NULL WHERE id = 700", Kind.DIFFERENT, ("fee", "note")),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_difference_is_found_and_its_columns_are_named(both, name):
    statement, kind, columns = SMALLEST[name]
    table = visits(both)
    both.on_target(statement.format(t=f"{both.name}.visits"))
    result = compare(both, table)
    assert Verdict.DIFFERENT is result.state
    assert [(kind, columns)] == list(found(result).values())


@pytest.mark.parametrize(("there", "here"), [("NULL", "''"), ("NULL", "'~'"), ("''", "'~'"), ("'0:'", "''")])
def test_null_empty_and_the_marks_of_the_checksum_are_four_things(both, there, here):
    table = Table(both.name, "marks", COLUMNS, key=(0,))
    both.create(table, DDL)
    both.on_source(f"INSERT INTO {both.name}.marks VALUES (1, NULL, {there})")
    both.on_target(f"INSERT INTO {both.name}.marks VALUES (1, NULL, {here})")
    assert {("1",): (Kind.DIFFERENT, ("note",))} == found(compare(both, table))


def test_text_that_moves_from_one_column_to_the_next_is_seen(both):
    text = Column("a", "varchar", length=40, charset="utf8mb4")
    table = Table(both.name, "moved", (COLUMNS[0], text, Column("b", "varchar", length=40, charset="utf8mb4")), key=(0,))
    both.create(table, ("bigint NOT NULL", "varchar(40)", "varchar(40)"))
    both.on_source(f"INSERT INTO {both.name}.moved VALUES (1, 'ab', 'c'), (2, '', '0:'), (3, '1:a', '')")
    both.on_target(f"INSERT INTO {both.name}.moved VALUES (1, 'a', 'bc'), (2, '0:', ''), (3, '', '1:a')")
    assert {("1",), ("2",), ("3",)} == set(found(compare(both, table)))


def test_a_null_that_moves_from_one_number_to_the_next_is_seen(both):
    table = Table(both.name, "nulls", (COLUMNS[0], Column("a", "int"), Column("b", "int"), Column("c", "double")), key=(0,))
    both.create(table, ("bigint NOT NULL", "int", "int", "double"))
    both.on_source(f"INSERT INTO {both.name}.nulls VALUES (1, 5, NULL, 1), (2, 1, 2, NULL)")
    both.on_target(f"INSERT INTO {both.name}.nulls VALUES (1, NULL, 5, 1), (2, 12, NULL, NULL)")
    assert {("1",), ("2",)} == set(found(compare(both, table)))


def test_names_with_quotes_spaces_and_signs_are_only_names(both):
    id, value = Column('i`d "x"', "int", nullable=False), Column("100 % {c} 'é'", "varchar", length=10, charset="utf8mb4")
    table = Table(both.name, 'odd `na"me', (id, value), key=(0,))
    both.create(table, ("int NOT NULL", "varchar(10)"))
    both.on_source(f"INSERT INTO {both.name}.`odd ``na\"me` VALUES (1, 'a'), (2, 'b')")
    both.on_target(f"INSERT INTO {both.name}.\"odd `na\"\"me\" VALUES (1, 'a'), (2, 'c')")
    assert {("2",): (Kind.DIFFERENT, (value.name,))} == found(compare(both, table))


KEYS = {
    "a bigint unsigned": (
        [Column("k", "bigint", unsigned=True)],
        ["bigint unsigned"],
        "{n} + 18446744073709550000",
        ["18446744073709550007"],
    ),
    "a decimal": ([Column("k", "decimal", length=9, scale=2)], ["decimal(9,2)"], "{n} / 4.0 - 100", ["-98.25"]),
    "text in any case": (
        [Column("k", "varchar", length=20, charset="utf8mb4")],
        ["varchar(20) COLLATE utf8mb4_general_ci"],
        "concat('Éa B', {n})",
        ["Éa B7"],
    ),
    "text in latin1": (
        [Column("k", "varchar", length=20, charset="latin1")],
        ["varchar(20) CHARACTER SET latin1"],
        "concat('é', {n})",
        ["é7"],
    ),
    "text in utf16": (
        [Column("k", "varchar", length=20, charset="utf16")],
        ["varchar(20) CHARACTER SET utf16"],
        "concat('é', {n})",
        ["é7"],
    ),
    "text by bytes": (
        [Column("k", "varchar", length=20, charset="utf8mb4")],
        ["varchar(20) COLLATE utf8mb4_bin"],
        "concat('~', {n})",
        ["~7"],
    ),
    "a number and a text": (
        [Column("k", "int"), Column("l", "varchar", length=9, charset="utf8mb4")],
        ["int", "varchar(9)"],
        "{n} % 5, concat('x', {n})",
        ["2", "x7"],
    ),
    "a text and a date": (
        [Column("l", "char", length=9, charset="latin1"), Column("k", "date")],
        ["char(9) CHARACTER SET latin1", "date"],
        "concat('x', {n} % 3), date '2024-01-01' + interval '{n}' day",
        ["x1", "2024-01-08"],
    ),
    "a datetime": (
        [Column("k", "datetime", scale=6)],
        ["datetime(6)"],
        "timestamp '2024-01-01 00:00:00.000001' + interval '{n}' second",
        ["2024-01-01 00:00:07.000001"],
    ),
    "three columns": (
        [Column("k", "tinyint"), Column("l", "smallint"), Column("m", "int")],
        ["tinyint", "smallint", "int"],
        "{n} % 3, {n} % 7, {n}",
        ["1", "0", "7"],
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_difference_is_found_under_any_kind_of_key(both, name):
    columns, ddl, expression, key = KEYS[name]
    table = Table(both.name, "keyed", (*columns, COLUMNS[2]), key=tuple(range(len(columns))))
    both.create(table, [*(f"{d} NOT NULL" for d in ddl), DDL[2]])
    keys = [expression.format(n=n) for n in range(1500)]
    both.on_source(f"INSERT INTO {both.name}.keyed VALUES " + ", ".join(f"({k}, 'note')" for k in keys))
    both.on_target(f"INSERT INTO {both.name}.keyed VALUES " + ", ".join(f"({k}, 'note')" for k in keys))
    assert (Verdict.EQUAL, 1500, 1500) == (lambda r: (r.state, r.rows_source, r.rows_target))(compare(both, table))
    target = [f"{column.name} = {value}" for column, value in zip(columns, (f"'{part}'" for part in key))]
    both.on_target(f"UPDATE {both.name}.keyed SET note = 'Note' WHERE {' AND '.join(target)}")
    assert {tuple(key): (Kind.DIFFERENT, ("note",))} == found(compare(both, table))
    both.on_target(f"DELETE FROM {both.name}.keyed WHERE {' AND '.join(target)}")
    assert {tuple(key): (Kind.MISSING, ())} == found(compare(both, table))


@pytest.mark.parametrize(("type", "ddl"), [("binary", "binary(4)"), ("varbinary", "varbinary(4)")])
def test_a_difference_is_found_under_a_key_of_bytes(both, type, ddl):
    table = Table(both.name, "bytes", (Column("k", type, length=4), COLUMNS[2]), key=(0,))
    both.create(table, [f"{ddl} NOT NULL", DDL[2]])
    both.on_source(f"INSERT INTO {both.name}.bytes VALUES " + ", ".join(f"(X'{n:08x}', 'a')" for n in range(700)))
    both.on_target(f"INSERT INTO {both.name}.bytes VALUES " + ", ".join(f"('\\x{n:08x}', 'a')" for n in range(699)))
    assert [(Kind.MISSING, ())] == list(found(compare(both, table)).values())


@pytest.mark.parametrize("type", ["tinytext", "text", "mediumtext", "longtext"])
def test_a_difference_is_found_under_a_key_that_is_the_start_of_a_text(both, type):
    columns = (Column("note", type, nullable=False, charset="latin1"), Column("fee", "double"))
    both.create(Table(both.name, "starts", columns), (f"{type} CHARACTER SET latin1 NOT NULL", "double"))
    both.on_source(f"ALTER TABLE {both.name}.starts ADD PRIMARY KEY (note(5))")
    both.on_both(f"INSERT INTO {both.name}.starts VALUES ('first of all', 1), ('second', 2), ('third', 3)")
    both.on_target(f"UPDATE {both.name}.starts SET fee = 4 WHERE note = 'second'", f"DELETE FROM {both.name}.starts WHERE note = 'third'")
    result = compare(both, Table(both.name, "starts", columns, key=(0,)))
    assert [(Kind.DIFFERENT, ("fee",)), (Kind.MISSING, ())] == sorted(found(result).values())


def test_a_difference_is_found_under_a_key_of_labels(both):
    labels = tuple(f"l{n}" for n in range(9, 0, -1))
    table = Table(both.name, "labels", (Column("k", "enum", charset="utf8mb4", labels=labels), Column("n", "int"), COLUMNS[2]), key=(0, 1))
    both.create(table, [f"enum{labels} NOT NULL", "int NOT NULL", DDL[2]])
    rows = ", ".join(f"('l{n % 9 + 1}', {n}, 'a')" for n in range(1200))
    both.on_both(f"INSERT INTO {both.name}.labels VALUES {rows}")
    assert Verdict.EQUAL is compare(both, table).state
    both.on_target(f"UPDATE {both.name}.labels SET note = 'b' WHERE k = 'l8' AND n = 7")
    assert {("l8", "7"): (Kind.DIFFERENT, ("note",))} == found(compare(both, table))


def test_a_key_that_differs_only_by_case_is_another_row(both):
    table = Table(both.name, "cased", (Column("k", "varchar", length=20, charset="utf8mb4"), COLUMNS[2]), key=(0,))
    both.create(table, ["varchar(20) COLLATE utf8mb4_general_ci NOT NULL", DDL[2]])
    both.on_source(f"INSERT INTO {both.name}.cased VALUES ('smith', 'a'), ('jones ', 'a')")
    both.on_target(f"INSERT INTO {both.name}.cased VALUES ('Smith', 'a'), ('jones', 'a')")
    missing, extra = (Kind.MISSING, ()), (Kind.EXTRA, ())
    assert {("smith",): missing, ("Smith",): extra, ("jones ",): missing, ("jones",): extra} == found(compare(both, table))


TWINS = {
    "two and three": ("('a'), ('a')", "('a'), ('a'), ('a')"),
    "one pair for another": ("('a'), ('a'), ('c')", "('b'), ('b'), ('c')"),
    "two and two of others": ("('a'), ('a'), ('b')", "('a'), ('b'), ('b')"),
    "a null for an empty": ("(NULL)", "('')"),
}


@pytest.mark.parametrize("name", TWINS)
def test_without_a_key_equal_rows_are_counted(both, name):
    table = Table(both.name, "twins", (COLUMNS[2],))
    both.create(table, DDL[2:])
    there, here = TWINS[name]
    both.on_source(f"INSERT INTO {both.name}.twins VALUES {there}")
    both.on_target(f"INSERT INTO {both.name}.twins VALUES {here}")
    assert Verdict.DIFFERENT is compare(both, table).state
    both.on_target(f"DELETE FROM {both.name}.twins", f"INSERT INTO {both.name}.twins VALUES {there}")
    assert Verdict.EQUAL is compare(both, table).state


REFUSALS = {
    "target_missing": "DROP TABLE {t}",
    "target_column_missing": "ALTER TABLE {t} DROP COLUMN note",
    "target_privilege": "REVOKE ALL ON {t} FROM cdc",
    "target_type": "ALTER TABLE {t} ALTER COLUMN note TYPE bytea USING note::bytea",
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_target_that_cannot_be_compared_is_refused_with_its_reason(both, reason):
    table = visits(both, 3)
    both.on_target(REFUSALS[reason].format(t=f"{both.name}.visits"))
    result = compare(both, table)
    assert (Verdict.REFUSED, reason) == (result.state, result.reason)


def test_a_locking_engine_is_not_held_up_by_a_large_table_without_a_key(both):
    table = Table(both.name, "heap", (COLUMNS[2],))
    both.create(table, DDL[2:], "ENGINE = MyISAM")
    assert Verdict.EQUAL is compare(both, table, engine="MyISAM", estimate=50_000).state
    result = compare(both, table, engine="MyISAM", estimate=50_001)
    assert (Verdict.REFUSED, "long_lock") == (result.state, result.reason)


def test_an_error_of_a_side_shows_no_value_and_no_server_text(both):
    table = visits(both, 1)
    both.on_source(f"DROP TABLE {both.name}.visits")
    with pytest.raises(Halt) as refused:
        compare(both, table)
    assert f"{both.name}.visits: the server rejects a statement (error 1146)" == str(refused.value)


def test_a_late_copier_behind_a_busy_source_is_never_called_a_difference_while_a_planted_one_is_found(both):
    table = visits(both, 2000)
    name = f"{both.name}.visits"
    both.on_target(f"DELETE FROM {name} WHERE id = 700", f"UPDATE {name} SET fee = 0 WHERE id = 7000")
    copier = LateCopier(both, name)
    with copier.at_work():
        source, target = both.sides(table, rows_per_second=20_000)
        results = [verify(table, source, target, copier.settle) for _ in range(3)]
    for result in results:
        assert {("700",): (Kind.MISSING, ()), ("7000",): (Kind.DIFFERENT, ("fee",))} == found(result)
        assert (Verdict.DIFFERENT, 0) == (result.state, result.unsettled)
    assert sum(r.rechecked for r in results) > 2 * len(results), "the copier was never late: nothing was tested"


def test_a_row_longer_than_the_server_can_join_is_refused_and_not_taken_for_null(private, postgres_server):
    text = Column("a", "varchar", length=8000, charset="latin1")
    with paired(private("mariadb", options=("--max-allowed-packet=16384",)), postgres_server) as both:
        table = Table(both.name, "wide", (COLUMNS[0], text, Column("b", "varchar", length=9000, charset="latin1")), key=(0,))
        both.create(table, ("bigint NOT NULL", "varchar(8000) CHARACTER SET latin1", "varchar(9000) CHARACTER SET latin1"))
        both.on_source(f"INSERT INTO {both.name}.wide VALUES (1, repeat('a', 8000), repeat('b', 9000))")
        both.on_target(f"INSERT INTO {both.name}.wide VALUES (1, NULL, NULL)")
        result = compare(both, table)
        source, _ = both.sides(table)
        with pytest.raises(Refused):
            source.rows(KeySpan())
    assert (Verdict.REFUSED, "row_too_long") == (result.state, result.reason)


def test_a_text_longer_than_the_server_can_send_is_still_compared(private, postgres_server):
    with paired(private("mariadb", options=("--max-allowed-packet=16384",)), postgres_server) as both:
        table = Table(both.name, "long_text", (COLUMNS[0], Column("a", "longtext", charset="latin1")), key=(0,))
        both.create(table, ("bigint NOT NULL", "longtext CHARACTER SET latin1"))
        both.on_source(f"INSERT INTO {both.name}.long_text VALUES (1, repeat(_latin1 X'E9', 16000))")
        both.on_target(f"INSERT INTO {both.name}.long_text VALUES (1, repeat('é', 16000))")
        assert Verdict.EQUAL is compare(both, table).state
        both.on_target(f"UPDATE {both.name}.long_text SET a = NULL")
        assert {("1",): (Kind.DIFFERENT, ("a",))} == found(compare(both, table))
