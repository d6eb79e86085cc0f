"""The same value has the same checksum on every server, and no two values of a column share one.

Each value is written twice, as SQL text of the source and of PostgreSQL, so what is tested is the canonical SQL and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cdc.model.digest import KeySpan
from cdc.model.table import Column, Table
from tests.snapshot.reconcile.servers import Pair

BOTH = ("mariadb", "mysql")


@dataclass(frozen=True)
class Case:
    """A column type with values that lie as close together as the type allows."""

    ddl: str
    column: Column
    values: tuple[tuple[str, str] | str, ...]
    """(source literal, PostgreSQL literal), or one text that is right on both."""
    nulls: tuple[str, ...] = ()
    """Source literals that the wire makes null."""
    flavours: tuple[str, ...] = BOTH

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [v if isinstance(v, tuple) else (v, v) for v in self.values]


def ints(ddl: str, low: int, high: int, unsigned: bool = False) -> Case:
    values = dict.fromkeys([low, low + 1, -1 if low < 0 else 2, 0, 1, high - 1, high])
    return Case(ddl, Column("c", ddl.split()[0].split("(")[0], unsigned=unsigned), tuple(map(str, values)))


def texts(ddl: str, type: str, length: int, charset: str, *values: str) -> Case:
    return Case(
        f"{ddl} CHARACTER SET {charset}",
        Column("c", type, length=length, charset=charset),
        tuple(
            (f"CONVERT(_utf8mb4 X'{v.encode().hex()}' USING {charset})", f"convert_from('\\x{v.encode().hex()}', 'UTF8')") for v in values
        ),
    )


def blobs(ddl: str, type: str, length: int, *values: tuple[str, str]) -> Case:
    return Case(ddl, Column("c", type, length=length), tuple((f"X'{s}'", f"'\\x{t}'::bytea") for s, t in values))


def moments(ddl: str, type: str, scale: int, *values: str, nulls: tuple[str, ...] = ()) -> Case:
    zone = "+00" if type == "timestamp" else ""
    return Case(ddl, Column("c", type, scale=scale), tuple((f"'{v}'", f"'{v}{zone}'") for v in values), nulls)


DOUBLES = (
    "0",
    "5e-324",
    "1e-323",
    "2.2250738585072014e-308",
    "1e-13",
    "1e-12",
    "0.1",
    "0.10000000000000002",
    "0.30000000000000004",
    "0.3",
    "1e15",
    "9007199254740992",
    "9007199254740994",
    "1e22",
    "9.999999999999999e22",
    "1.0000000000000001e23",
    "1e30",
    "1.7976931348623155e308",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "-0.1",
    "123456789.12",
    "123456789.13",
)
WORDS = ("", " ", "a", "A", "a ", " a", "á", "a\u0301", "~", "1:a", "a,", "'", '"', "\\", "\n", "%s", "{0}")
ACCENTED = ("", "a", "A", "a ", "é", "É", "ß", "~")
BYTES = (("", ""), ("00", "00"), ("0000", "0000"), ("61", "61"), ("41", "41"), ("6100", "6100"), ("ff", "ff"), ("7e", "7e"))
DATES = ("0001-01-01", "1000-01-01", "1582-10-04", "1582-10-15", "1999-12-31", "2000-02-29", "2024-02-29", "9999-12-30", "9999-12-31")
NO_DATES = ("'0000-00-00'", "'2021-00-15'", "'2021-02-00'", "'2021-02-29'", "'1900-02-29'", "'2021-04-31'", "'0000-01-01'")

CASES = {
    "tinyint": ints("tinyint", -128, 127),
    "tinyint unsigned": ints("tinyint unsigned", 0, 255, True),
    "bool": ints("tinyint(1)", -128, 127),
    "smallint": ints("smallint", -(1 << 15), (1 << 15) - 1),
    "smallint unsigned": ints("smallint unsigned", 0, (1 << 16) - 1, True),
    "mediumint": ints("mediumint", -(1 << 23), (1 << 23) - 1),
    "mediumint unsigned": ints("mediumint unsigned", 0, (1 << 24) - 1, True),
    "int": ints("int", -(1 << 31), (1 << 31) - 1),
    "int unsigned": ints("int unsigned", 0, (1 << 32) - 1, True),
    "int zerofill": ints("int(7) unsigned zerofill", 0, (1 << 32) - 1, True),
    "bigint": ints("bigint", -(1 << 63), (1 << 63) - 1),
    "bigint unsigned": ints("bigint unsigned", 0, (1 << 64) - 1, True),
    "bigint zerofill": ints("bigint unsigned zerofill", 0, (1 << 64) - 1, True),
    "decimal(10,2)": Case(
        "decimal(10,2)",
        Column("c", "decimal", length=10, scale=2),
        ("0", "0.01", "-0.01", "1", "1.1", "99999999.98", "99999999.99", "-99999999.99"),
    ),
    "decimal(5,0)": Case("decimal(5,0)", Column("c", "decimal", length=5), ("0", "1", "-1", "99999")),
    "decimal(65,30)": Case(
        "decimal(65,30)",
        Column("c", "decimal", length=65, scale=30),
        ("0", f"0.{29 * '0'}1", f"-0.{29 * '0'}1", f"{35 * '9'}.{30 * '9'}", f"-{35 * '9'}.{30 * '9'}", f"{35 * '9'}.{29 * '9'}8"),
    ),
    "decimal zerofill": Case("decimal(6,2) zerofill", Column("c", "decimal", unsigned=True, length=6, scale=2), ("0", "0.01", "9999.99")),
    "float": Case(
        "float",
        Column("c", "float"),
        (
            "0",
            "1.4e-45",
            "2.8e-45",
            "0.1",
            "0.10000001",
            "16777215",
            "16777216",
            "16777218",
            "3.4028235e38",
            "3.4028233e38",
            "-3.4028235e38",
            "1.5",
        ),
    ),
    "float(7,3)": Case("float(7,3)", Column("c", "float"), ("0", "0.001", "-0.001", "1.5", "1234.567")),
    "double": Case("double", Column("c", "double"), DOUBLES),
    # The source rounds a negative value to scale by arithmetic of its own, and its log carries what came of it: the second literal.
    "double(12,2)": Case(
        "double(12,2)",
        Column("c", "double"),
        ("0", "0.01", ("-0.01", "-0.010000000000000009"), "100", "100.1", "9999999999.98", "9999999999.99"),
    ),
    "minus zero": Case("double", Column("c", "double"), ("0", ("'-0e0'", "'-0'")), flavours=("mysql",)),
    "bit(1)": Case("bit(1)", Column("c", "bit", length=1), ("b'0'", "b'1'")),
    "bit(10)": Case("bit(10)", Column("c", "bit", length=10), (f"b'{10 * '0'}'", f"b'{9 * '0'}1'", f"b'1{9 * '0'}'", f"b'{10 * '1'}'")),
    "bit(64)": Case("bit(64)", Column("c", "bit", length=64), (f"b'{64 * '0'}'", f"b'{63 * '0'}1'", f"b'1{63 * '0'}'", f"b'{64 * '1'}'")),
    "year": Case("year", Column("c", "year"), (("'0000'", "0"), "1901", "1902", "2155")),
    "date": moments("date", "date", 0, *DATES, nulls=NO_DATES),
    "datetime": moments(
        "datetime", "datetime", 0, *(f"{d} 23:59:59" for d in DATES), "2024-02-29 23:59:58", "2024-02-29 00:00:00", nulls=NO_DATES
    ),
    "datetime(3)": moments("datetime(3)", "datetime", 3, "2024-01-01 00:00:00", "2024-01-01 00:00:00.001", "2024-01-01 00:00:00.100"),
    "datetime(6)": moments(
        "datetime(6)",
        "datetime",
        6,
        "2024-01-01 00:00:00",
        "2024-01-01 00:00:00.000001",
        "2024-01-01 00:00:00.100000",
        "9999-12-31 23:59:59.999999",
        "1000-01-01 00:00:00.000001",
        nulls=NO_DATES,
    ),
    "timestamp": moments(
        "timestamp NULL",
        "timestamp",
        0,
        "1970-01-01 00:00:01",
        "1970-01-01 00:00:02",
        "2038-01-19 03:14:07",
        "2024-10-27 00:30:00",
        "2024-10-27 01:30:00",
        nulls=("'0000-00-00 00:00:00'",),
    ),
    "timestamp(6)": moments(
        "timestamp(6) NULL",
        "timestamp",
        6,
        "1970-01-01 00:00:01.000001",
        "1970-01-01 00:00:01",
        "2038-01-19 03:14:07.999999",
        nulls=("'0000-00-00 00:00:00'",),
    ),
    "time": moments(
        "time", "time", 0, "00:00:00", "00:00:01", "-00:00:01", "23:59:59", "24:00:00", "838:59:59", "-838:59:59", "-838:59:58"
    ),
    "time(6)": moments(
        "time(6)",
        "time",
        6,
        "00:00:00",
        "00:00:00.000001",
        "-00:00:00.000001",
        "-00:00:00.500000",
        "-00:00:01.5",
        "00:00:01.5",
        "838:59:58.999999",
        "-838:59:58.999999",
    ),
    "char": texts("char(20)", "char", 20, "utf8mb4", *(w for w in WORDS if not w.endswith(" ")), "😀"),
    "varchar": texts("varchar(20)", "varchar", 20, "utf8mb4", *WORDS, "😀", "\u200b"),
    "varchar utf8mb3": texts("varchar(20)", "varchar", 20, "utf8mb3", *WORDS),
    "varchar latin1": texts("varchar(20)", "varchar", 20, "latin1", *ACCENTED, "€", "\x81", "ÿ"),
    "varchar latin2": texts("varchar(20)", "varchar", 20, "latin2", *ACCENTED, "ł"),
    "varchar ascii": texts("varchar(20)", "varchar", 20, "ascii", "", "a", "A", "a "),
    "varchar greek": texts("varchar(20)", "varchar", 20, "greek", "α", "Α", "ά"),
    "varchar cp1251": texts("varchar(20)", "varchar", 20, "cp1251", "ж", "Ж"),
    "varchar utf16": texts("varchar(20)", "varchar", 20, "utf16", *ACCENTED, "😀"),
    "varchar ucs2": texts("varchar(20)", "varchar", 20, "ucs2", *ACCENTED),
    "varchar utf32": texts("varchar(20)", "varchar", 20, "utf32", *ACCENTED, "😀"),
    "varchar sjis": texts("varchar(20)", "varchar", 20, "sjis", "a", "表", "ソ"),
    "varchar gbk": texts("varchar(20)", "varchar", 20, "gbk", "a", "中", "文"),
    "varchar(16000)": texts("varchar(16000)", "varchar", 16000, "utf8mb4", "", 15999 * "é", 16000 * "é", 15999 * "é" + "e"),
    "tinytext": texts("tinytext", "tinytext", 0, "utf8mb4", *WORDS, 255 * "a", 254 * "a"),
    "text": texts("text", "text", 0, "utf8mb4", *WORDS, 65535 * "a", 65534 * "a"),
    "text latin1": texts("text", "text", 0, "latin1", *ACCENTED, 65535 * "é"),
    "mediumtext": texts("mediumtext", "mediumtext", 0, "utf8mb4", *WORDS, 300_000 * "a", 299_999 * "a" + "b"),
    "longtext": texts("longtext", "longtext", 0, "utf8mb4", *WORDS, 300_000 * "é"),
    "binary(4)": blobs("binary(4)", "binary", 4, ("", "00000000"), ("61", "61000000"), ("61000020", "61000020"), ("ffffffff", "ffffffff")),
    "varbinary": blobs("varbinary(20)", "varbinary", 20, *BYTES),
    "tinyblob": blobs("tinyblob", "tinyblob", 0, *BYTES),
    "blob": blobs("blob", "blob", 0, *BYTES),
    "mediumblob": blobs("mediumblob", "mediumblob", 0, *BYTES),
    "longblob": blobs("longblob", "longblob", 0, *BYTES),
    "enum": Case(
        "enum('a','B','é','1','a,b') CHARACTER SET latin1",
        Column("c", "enum", charset="latin1", labels=("a", "B", "é", "1", "a,b")),
        ("'a'", "'B'", "'é'", "'1'", "'a,b'", ("'no such label'", "''")),
    ),
    "set": Case(
        "set('a','B','é') CHARACTER SET utf8mb4",
        Column("c", "set", charset="utf8mb4", labels=("a", "B", "é")),
        ("''", "'a'", "'B'", ("'B,a'", "'a,B'"), "'a,B,é'"),
    ),
    "json": Case(
        "json",
        Column("c", "json"),
        (
            "'{}'",
            "'[]'",
            "'1'",
            "'\"1\"'",
            "'null'",
            ('\'{"b":1,"a":[true,null]}\'', '\'{"a": [true, null], "b": 1}\''),
            "'\"é😀\"'",
            ('\'{"bb":1,"a":1.50}\'', '\'{"a": 1.5, "bb": 1}\''),
        ),
        flavours=("mysql",),
    ),
    "json as text": Case(
        "json", Column("c", "longtext", charset="utf8mb4"), ("'{}'", '\'{"b":1,"a":2}\'', '\'{"a":2,"b":1}\''), flavours=("mariadb",)
    ),
    "uuid": Case(
        "uuid",
        Column("c", "uuid"),
        (
            "'00000000-0000-0000-0000-000000000000'",
            "'123e4567-e89b-12d3-a456-426614174000'",
            "'123e4567-e89b-12d3-a456-426614174001'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ),
        flavours=("mariadb",),
    ),
    "inet4": Case("inet4", Column("c", "inet4"), ("'0.0.0.0'", "'10.0.0.1'", "'10.0.0.2'", "'255.255.255.255'"), flavours=("mariadb",)),
    "inet6": Case(
        "inet6", Column("c", "inet6"), ("'::'", "'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"), flavours=("mariadb",)
    ),
    "geometry": Case(
        "geometry",
        Column("c", "geometry"),
        (
            ("ST_GeomFromText('POINT(1 2)')", "'\\x0101000000000000000000f03f0000000000000040'::bytea"),
            ("ST_GeomFromText('POINT(2 1)')", "'\\x01010000000000000000000040000000000000f03f'::bytea"),
            ("ST_GeomFromText('POINT(1 2)', 3857)", "'\\x0101000020110f0000000000000000f03f0000000000000040'::bytea"),
        ),
    ),
    "vector": Case(
        "vector(2)",
        Column("c", "vector"),
        (
            ("STRING_TO_VECTOR('[1,2]')", "'{1,2}'::real[]"),
            ("STRING_TO_VECTOR('[2,1]')", "'{2,1}'::real[]"),
            ("STRING_TO_VECTOR('[1,2.0000002]')", "'{1,2.0000002}'::real[]"),
        ),
        flavours=("mysql",),
    ),
}


def filled(both: Pair, case: Case) -> Table:
    """The case's table on both sides: its values, a null, and what must become null."""
    table = Table(both.name, "t", (Column("id", "int", nullable=False), case.column), key=(0,))
    both.create(table, ["int NOT NULL", case.ddl])
    rows = [*case.pairs, ("NULL", "NULL"), *((n, "NULL") for n in case.nulls)]
    both.on_source(
        "SET sql_mode = 'ALLOW_INVALID_DATES'",
        *(f"INSERT INTO {both.name}.t VALUES ({i}, {s})" for i, (s, _) in enumerate(rows)),
        "SET sql_mode = ''",
    )
    both.on_target(*(f"INSERT INTO {both.name}.t VALUES ({i}, {t})" for i, (_, t) in enumerate(rows)))
    return table


@pytest.mark.parametrize(
    ("both", "name"), [(f, name) for f in BOTH for name, case in CASES.items() if f in case.flavours], indirect=["both"]
)
def test_a_value_has_one_checksum_on_both_sides_and_no_other_value_has_it(both, name):
    case = CASES[name]
    source, target = both.sides(filled(both, case))
    assert len(case.pairs) + 1 + len(case.nulls) == len(source.rows(KeySpan()))
    keys = [(str(i),) for i in range(len(case.pairs) + 1)]
    texts = {k: v[1] for k, v in source.columns_of(keys).items()}
    assert len(keys) == len(set(texts.values()))
    assert texts == {k: v[1] for k, v in target.columns_of(keys).items()}
    assert source.rows(KeySpan()) == target.rows(KeySpan())
    assert source.digest(KeySpan()) == target.digest(KeySpan())
