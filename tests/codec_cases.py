"""Every column type with its edge values, as SQL that both servers understand: what the codec's tests go over."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.model import Column

BOTH = ("mariadb", "mysql")


@dataclass(frozen=True)
class Case:
    """A column, its DDL, and SQL expressions of the values to store in it."""

    ddl: str
    column: Column
    values: tuple[str, ...]
    flavours: tuple[str, ...] = BOTH

    @property
    def name(self) -> str:
        return self.ddl.replace(" ", "_")


def _integers(name: str, bits: int) -> list[Case]:
    top, half = (1 << bits) - 1, 1 << bits - 1
    signed = Case(name, Column("v", name), (str(-half), "-1", "0", "1", str(half - 1)))
    return [signed, Case(f"{name} unsigned", Column("v", name, unsigned=True), ("0", "1", str(half - 1), str(half), str(top)))]


def _decimal(precision: int, scale: int, *values: str) -> Case:
    return Case(f"decimal({precision},{scale})", Column("v", "decimal", length=precision, scale=scale), values)


def _widest(precision: int, scale: int) -> str:
    digits = "9" * precision
    return f"{digits[: precision - scale]}.{digits[precision - scale :]}"


def _stamps(fraction: int) -> list[Case]:
    tail = {0: ""}.get(fraction, "." + "123456"[:fraction])
    top = {0: ""}.get(fraction, "." + "999999"[:fraction])
    suffix = f"({fraction})" if fraction else ""
    dates = ("'0001-01-01 00:00:00'", f"'1000-01-01 00:00:00{tail}'", f"'1969-12-31 23:59:59{top}'", f"'2024-02-29 12:34:56{tail}'")
    zeros = ("'0000-00-00 00:00:00'", "'2021-00-15 01:02:03'", "'2021-03-00 00:00:00'")
    zones = ("'1970-01-01 00:00:01'", f"'2024-02-29 12:34:56{tail}'", f"'2038-01-19 03:14:07{tail}'", "'0000-00-00 00:00:00'")
    times = (
        "'00:00:00'",
        f"'-00:00:01{tail}'",
        f"'-838:59:58{top}'",
        f"'838:59:58{top}'",
        f"'12:34:56{tail}'",
        "'-12:00:00.5'",
        "'-00:00:00.9'",
    )
    return [
        Case(f"datetime{suffix}", Column("v", "datetime", scale=fraction), (*dates, *zeros, f"'9999-12-31 23:59:59{top}'")),
        Case(f"timestamp{suffix} null", Column("v", "timestamp", scale=fraction), zones),
        Case(f"time{suffix}", Column("v", "time", scale=fraction), (*times, "'-838:59:59'", "'838:59:59'")),
    ]


_WORDS = ("''", "'a'", "'trailing   '", "'line\\nbreak\\ttab'", "'quote '' \" \\\\'")
_WIDE = ("'na\u00efve caf\u00e9'", "'\u65e5\u672c\u8a9e'", "'\U0001f600 end'", "repeat('\u00e9', 9)")


def _text(ddl: str, kind: str, charset: str, values: tuple[str, ...], length: int = 0) -> Case:
    return Case(f"{ddl} character set {charset}", Column("v", kind, length=length, charset=charset), values)


_JSON = (
    "'{}'",
    "'[]'",
    "'null'",
    "'true'",
    "'0'",
    "'-1'",
    "'32768'",
    "'-32769'",
    "'65536'",
    "'4294967296'",
    "'9223372036854775807'",
    "'-9223372036854775808'",
    "'18446744073709551615'",
    "'1.0'",
    "'1e20'",
    "'1e15'",
    "'1e16'",
    "'1.5e-7'",
    "'-0.0'",
    "'123456789.125'",
    "'1.7976931348623157e308'",
    "'5e-324'",
    "'0.1'",
    "'1e-15'",
    "'-1.2345678901234567e-5'",
    "'\"text \\\\u00e9 \\\\n \\\\\\\\ \\\\u0001 \\\\/\"'",
    '\'{"b": 1, "a": [1, 2.5, "x", null, true, false, {"deep": {}}], "long key \\\\u00e9": "\\\\ud83d\\\\ude00"}\'',
    "json_object('big', repeat('x', 70000), 'n', 1)",
    "json_array(repeat('y', 200), 70000, -70000, 3000000000)",
    "json_object('k', cast('2024-02-29' as date), 't', cast('-12:34:56.789' as time(3)), '"
    "d', cast('2024-02-29 12:34:56.5' as datetime(1)))",
    "json_array(cast(12.50 as decimal(10,2)), cast(-0.001 as decimal(40,20)), cast('99999999999999999999.99' as decimal(30,2)))",
    "json_array(cast('abc' as binary), b'101')",
    "json_array(cast(repeat('z', 200) as binary))",
)

CASES: tuple[Case, ...] = (
    *(
        case
        for name, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))
        for case in _integers(name, bits)
    ),
    _decimal(10, 2, "0", "-0.01", "12345678.90", "-12345678.90", "1"),
    _decimal(1, 0, "0", "9", "-9"),
    _decimal(18, 9, "0", _widest(18, 9), "-" + _widest(18, 9), "0.000000001"),
    _decimal(18, 0, "0", _widest(18, 0), "-" + _widest(18, 0)),
    _decimal(19, 0, "0", "9223372036854775808", "-" + _widest(19, 0)),
    _decimal(18, 18, "0", "-0.000000000000000001", _widest(18, 18)),
    _decimal(38, 20, "0", _widest(38, 20), "-" + _widest(38, 20), "10000"),
    _decimal(65, 30, "0", _widest(65, 30), "-" + _widest(65, 30), "-0.000000000000000000000000000001"),
    _decimal(65, 0, "0", _widest(65, 0), "-1"),
    _decimal(20, 4, "0", "10000", "100000000.0001", "-123456789012345.6789"),
    Case(
        "float", Column("v", "float"), ("0", "-1.5", "16777216", "16777217", "0.1", "3.4028235e38", "1.17549435e-38", "1e-45", "123456.789")
    ),
    Case(
        "double",
        Column("v", "double"),
        ("0", "-0.5", "0.1", "1e15", "1.7976931348623157e308", "5e-324", "-2.2250738585072014e-308", "123456789012345678"),
    ),
    *(
        Case(f"bit({n})", Column("v", "bit", length=n), ("b'0'", "b'1'", f"b'1{'0' * (n - 1)}'", f"b'{'1' * n}'"))
        for n in (1, 7, 8, 9, 33, 64)
    ),
    Case("year", Column("v", "year"), ("0", "1901", "2024", "2155")),
    Case(
        "date",
        Column("v", "date"),
        ("'0001-01-01'", "'1969-12-31'", "'2024-02-29'", "'9999-12-31'", "'0000-00-00'", "'2021-00-15'", "'2021-02-00'"),
    ),
    *(case for fraction in range(7) for case in _stamps(fraction)),
    _text("char(10)", "char", "utf8mb4", (*_WORDS, *_WIDE), 10),
    _text("char(255)", "char", "utf8mb4", (*_WORDS, *_WIDE), 255),
    _text("char(20)", "char", "ucs2", (*_WORDS, *_WIDE[:2]), 20),
    _text("varchar(20)", "varchar", "utf8mb4", (*_WORDS, *_WIDE), 20),
    _text("varchar(63)", "varchar", "utf8mb4", (*_WORDS, *_WIDE), 63),
    _text("varchar(64)", "varchar", "utf8mb4", (*_WORDS, *_WIDE, "repeat('\U0001f600', 64)"), 64),
    _text("varchar(300)", "varchar", "utf8mb3", (*_WORDS, *_WIDE[:2], "repeat('x', 300)"), 300),
    _text("varchar(20)", "varchar", "latin1", (*_WORDS, _WIDE[0], "'\u20ac'", "x'818d8f909d80ff'"), 20),
    _text("varchar(20)", "varchar", "ascii", _WORDS, 20),
    _text("varchar(20)", "varchar", "utf16", (*_WORDS, *_WIDE), 20),
    _text("varchar(20)", "varchar", "utf16le", (*_WORDS, *_WIDE), 20),
    _text("varchar(20)", "varchar", "utf32", (*_WORDS, *_WIDE), 20),
    _text("varchar(20)", "varchar", "sjis", (*_WORDS, _WIDE[1], "x'815f'"), 20),
    _text("varchar(20)", "varchar", "cp932", (*_WORDS, _WIDE[1]), 20),
    _text("varchar(20)", "varchar", "gbk", (*_WORDS, _WIDE[1]), 20),
    _text("varchar(20)", "varchar", "swe7", ("'a'", "x'405b5c5d5e'"), 20),
    _text("varchar(20)", "varchar", "cp1251", (*_WORDS, "'\u041f\u0440\u0438\u0432\u0435\u0442'"), 20),
    _text("tinytext", "tinytext", "utf8mb4", (*_WORDS, *_WIDE)),
    _text("text", "text", "utf8mb4", (*_WORDS, *_WIDE, "repeat('ab\u00e9', 20000)")),
    _text("mediumtext", "mediumtext", "latin1", (*_WORDS, _WIDE[0], "repeat('\u00e9', 200000)")),
    _text("longtext", "longtext", "utf8mb4", (*_WORDS, *_WIDE)),
    Case("binary(16)", Column("v", "binary", length=16), ("x''", "x'00'", "x'0102'", "x'ffffffffffffffffffffffffffffff00'", "'text'")),
    Case("binary(255)", Column("v", "binary", length=255), ("x''", "x'01'", "repeat(x'ff', 255)")),
    Case("varbinary(255)", Column("v", "varbinary", length=255), ("x''", "x'00'", "x'0100'", "repeat(x'ff', 255)")),
    Case("varbinary(300)", Column("v", "varbinary", length=300), ("x''", "x'0100'", "repeat(x'fe', 300)")),
    Case("tinyblob", Column("v", "tinyblob"), ("x''", "x'00ff'")),
    Case("blob", Column("v", "blob"), ("x''", "x'00ff'", "repeat(x'80', 60000)")),
    Case("mediumblob", Column("v", "mediumblob"), ("x''", "x'00ff'", "repeat(x'80', 70000)")),
    Case("longblob", Column("v", "longblob"), ("x''", "x'00ff'")),
    Case(
        "enum('a','it''s','\u00e9','') character set latin1",
        Column("v", "enum", charset="latin1", labels=("a", "it's", "\u00e9", "")),
        ("'a'", "'it''s'", "'\u00e9'", "''", "'never'"),
    ),
    Case(
        "set('x','y','z\u00e9') character set utf8mb4",
        Column("v", "set", charset="utf8mb4", labels=("x", "y", "z\u00e9")),
        ("''", "'x'", "'z\u00e9,x'", "'y,x,z\u00e9'"),
    ),
    Case(
        "set(" + ",".join(f"'m{i}'" for i in range(64)) + ")",
        Column("v", "set", charset="utf8mb4", labels=tuple(f"m{i}" for i in range(64))),
        ("''", "'m63'", "'m0,m31,m32,m63'"),
    ),
    Case(
        "enum(" + ",".join(f"'e{i}'" for i in range(300)) + ")",
        Column("v", "enum", charset="utf8mb4", labels=tuple(f"e{i}" for i in range(300))),
        ("'e0'", "'e255'", "'e299'"),
    ),
    Case("json", Column("v", "json"), _JSON, ("mysql",)),
    Case("json", Column("v", "longtext", charset="utf8mb4"), _JSON[:6], ("mariadb",)),
    Case("geometry", Column("v", "geometry"), ("ST_GeomFromText('POINT(1.5 -2)')", "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)")),
    Case("polygon", Column("v", "geometry"), ("ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')",)),
    Case("vector(3)", Column("v", "vector"), ("to_vector('[1,-2.5,3e10]')", "to_vector('[0.1]')"), ("mysql",)),
    Case("uuid", Column("v", "uuid"), ("'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"), ("mariadb",)),
    Case("inet4", Column("v", "inet4"), ("'0.0.0.0'", "'192.168.1.0'", "'255.255.255.255'"), ("mariadb",)),
    Case("inet6", Column("v", "inet6"), ("'::'", "'2001:db8::1'", "'::ffff:192.0.2.128'", "'fe80::'"), ("mariadb",)),
)
