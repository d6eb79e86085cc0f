"""Every column type with its edge values, as SQL that both servers understand: what the codec's tests go over."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.model.table import Column

BOTH = ("mariadb", "mysql")


@dataclass(frozen=True)
class Case:
    """A column, its DDL, and SQL expressions of the values to store in it."""

    ddl: str
    column: Column
    values: tuple[str, ...]
    flavours: tuple[str, ...] = BOTH
    setting: str = ""
    """What the session sets before it inserts."""

    @property
    def name(self) -> str:
        return self.ddl.replace(" ", "_")


def _integers(name: str, bits: int) -> list[Case]:
    top, half = (1 << bits) - 1, 1 << bits - 1
    signed = Case(name, Column("v", name), (str(-half), "-1", "0", "1", str(half - 1)))
    return [signed, Case(f"{name} unsigned", Column("v", name, unsigned=True), ("0", "1", str(half - 1), str(half), str(top)))]


def _decimal(precision: int, scale: int, *values: str, flavours: tuple[str, ...] = BOTH) -> Case:
    return Case(f"decimal({precision},{scale})", Column("v", "decimal", length=precision, scale=scale), values, flavours)


def _widest(precision: int, scale: int) -> str:
    digits = "9" * precision
    return f"{digits[: precision - scale]}.{digits[precision - scale :]}"


def _stamps(fraction: int) -> list[Case]:
    tail = {0: ""}.get(fraction, "." + "123456"[:fraction])
    top = {0: ""}.get(fraction, "." + "999999"[:fraction])
    suffix = f"({fraction})" if fraction else ""
    dates = ("'0001-01-01 00:00:00'", f"'1000-01-01 00:00:00{tail}'", f"'1969-12-31 23:59:59{top}'", f"'2024-02-29 12:34:56{tail}'")
    zeros = ("'0000-00-00 00:00:00'", "'2021-00-15 01:02:03'", "'2021-03-00 00:00:00'", "'2021-02-31 23:59:59'", "'0000-01-01 00:00:00'")
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

_JSON_DEEP = (
    "cast(concat(repeat('[', 99), repeat(']', 99)) as json)",
    "cast(concat(repeat('{\"a\":', 99), '1', repeat('}', 99)) as json)",
    "json_array(cast('100:00:00' as time), cast('-838:59:59' as time), cast('-00:00:00.000001' as time(6)), cast('838:59:59' as time(6)))",
    "json_array(cast('2021-00-15' as date), cast('0000-00-00' as date), cast('2021-02-31' as date), cast('9999-12-31' as date))",
    "json_array(cast('2021-00-15 10:11:12.123456' as datetime(6)), cast('0000-00-00 00:00:00' as datetime))",
    "json_array(cast(2024 as year), cast(x'' as binary), b'1', x'00ff', cast('a' as char character set latin1))",
    "json_array(st_geomfromtext('POINT(1 2)'), cast(-0.0 as decimal(3,1)), cast(0 as decimal(65,30)), cast(0.1 as double))",
    "json_object('', 1, ' ', 2, 'a\\0b', 3, repeat('k', 1000), json_array(repeat('v', 20000), repeat('w', 20000), repeat('x', 30000)))",
    "json_array(true, false, null, 32767, 32768, -32768, -32769, 65535, 65536, 2147483647, 2147483648, -2147483648, -2147483649)",
    "json_array(4294967295, 4294967296, 9223372036854775807, 9223372036854775808, -9223372036854775808, 18446744073709551615, 1e100)",
    "json_array(repeat('s', 127), repeat('s', 128), repeat('s', 16383), repeat('s', 16384))",
    "'\"\\\\ud83d\\\\ude00 \\\\u007f \\\\u2028 \\\\b\\\\f\\\\r\\\\t\"'",
)
_JSON_WIDE = (
    "(select json_objectagg(concat('key', n), n) from (with recursive s as (select 1 n union all select n + 1 from s where n < 1000) "
    "select n from s) t)",
    "(select json_arrayagg(repeat('v', n)) from (with recursive s as (select 1 n union all select n + 1 from s where n < 700) "
    "select n from s) t)",
)
_FLOATS = (
    *("0", "-0e0", "-1.5", "16777216", "16777217", "0.1", "3.4028235e38", "-3.4028235e38", "1.17549435e-38", "1.1754942e-38", "1e-45"),
    *("-1e-45", "123456.789", "0.3333333333333", "8388608.5", "1e10", "1e-10", "9.999999e22"),
)
_DOUBLES = (
    *("0", "-0e0", "-0.5", "0.1", "1e15", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "-5e-324"),
    *("-2.2250738585072014e-308", "2.225073858507201e-308", "123456789012345678", "1e22", "1e23", "9007199254740993", "4.35", "1e-7"),
)
_IMPOSSIBLE = ("'2021-02-31'", "'1900-02-29'", "'2000-02-29'", "'0000-01-01'", "'0000-02-31'", "'2021-04-31'")
_POINTS = "st_geomfromtext('%s')"
_SHAPES = {
    "point": ("POINT(1.5 -2)", "POINT(-0.0 1e300)", "POINT(5e-324 0)"),
    "linestring": ("LINESTRING(0 0,1 1)", "LINESTRING(0 0,1 1,2 0,0 0)"),
    "polygon": ("POLYGON((0 0,1 0,1 1,0 0))", "POLYGON((0 0,9 0,9 9,0 9,0 0),(1 1,2 1,2 2,1 1))"),
    "multipoint": ("MULTIPOINT(1 1)", "MULTIPOINT(1 1,2 2)"),
    "multilinestring": ("MULTILINESTRING((0 0,1 1))", "MULTILINESTRING((0 0,1 1),(2 2,3 3))"),
    "multipolygon": ("MULTIPOLYGON(((0 0,1 0,1 1,0 0)))", "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))"),
    "geometrycollection": (
        *("GEOMETRYCOLLECTION EMPTY", "GEOMETRYCOLLECTION(POINT(1 2))"),
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1),GEOMETRYCOLLECTION(POLYGON((0 0,1 0,1 1,0 0))))",
    ),
}


def _shapes(name: str, texts: tuple[str, ...]) -> list[Case]:
    plain = tuple(_POINTS % text for text in texts)
    with_srid = tuple(f"st_geomfromtext('{text}', 4326)" for text in texts if "1e300" not in text and "EMPTY" not in text)
    projected = tuple(f"st_geomfromtext('{text}', 3857)" for text in texts)
    return [Case(name, Column("v", "geometry"), (*plain, *with_srid, *projected))]


def _compressed(ddl: str, kind: str, charset: str, *values: str, length: int = 0, setting: str = "") -> Case:
    """A COMPRESSED column of MariaDB: empty, too short to be compressed, compressed with lengths of each width."""
    column = Column("v", kind, length=length, charset=charset, storage="compressed")
    tail = f" character set {charset}" if charset else ""
    return Case(f"{ddl} compressed{tail}", column, ("''", "'a'", "'trailing   '", *values), ("mariadb",), setting)


_LONG = ("repeat('ab', 100)", "repeat('\u00e9', 120)")
_HUGE = "repeat('abcd\u00e9', 15000)"
_BARE, _FRAMED = "SET column_compression_zlib_wrap = OFF", "SET column_compression_zlib_wrap = ON"
_COMPRESSED = (
    _compressed("varchar(300)", "varchar", "utf8mb4", *_LONG, "repeat('x', 300)", length=300),
    _compressed("varchar(254)", "varchar", "latin1", *_LONG, "repeat('x', 254)", length=254),
    _compressed("varchar(255)", "varchar", "latin1", *_LONG, "repeat('x', 255)", length=255),
    _compressed("varchar(20)", "varchar", "utf16", "'\u65e5\u672c\u8a9e'", "repeat('y', 20)", length=20),
    _compressed("varbinary(254)", "varbinary", "", "repeat(x'00ff', 100)", length=254),
    _compressed("varbinary(255)", "varbinary", "", "repeat(x'00ff', 100)", length=255),
    _compressed("varbinary(5000)", "varbinary", "", "repeat(x'00ff', 2500)", "random_bytes(1000)", length=5000),
    _compressed("tinytext", "tinytext", "utf8mb4", *_LONG),
    _compressed("text", "text", "utf8mb4", *_LONG, "repeat('x', 65000)", setting=_FRAMED),
    _compressed("mediumtext", "mediumtext", "cp932", "repeat('\u65e5\u672c', 30000)"),
    _compressed("longtext", "longtext", "utf8mb4", *_LONG, _HUGE, setting=_BARE),
    _compressed("tinyblob", "tinyblob", "", "repeat(x'00ff', 100)"),
    _compressed("blob", "blob", "", "repeat(x'00ff', 30000)", "random_bytes(1000)"),
    _compressed("mediumblob", "mediumblob", "", "repeat(x'00ff', 100000)", setting=_FRAMED),
    _compressed("longblob", "longblob", "", "repeat(x'00', 200000)"),
)

_UUIDS = (
    *("'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    *("'1ec9414c-232a-6b00-b3c8-9e6bdeced846'", "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'", "'9073926b-929f-31c2-abc9-fad77ae3e8eb'"),
    *("'6ba7b810-9dad-11d1-80b4-00c04fd43000'", "'f47ac10b-58cc-4372-a567-0e02b2c3d400'", "'2ed6657d-e927-568b-95e1-2665a8aea600'"),
    *("'320c3d4d-cc00-875b-8ec9-32d5f69181c0'", "'ab000000-0000-0000-0000-000000000000'"),
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
    _decimal(65, 38, "0", _widest(65, 38), "-" + _widest(65, 38), "-0." + "0" * 37 + "1", flavours=("mariadb",)),
    Case("float", Column("v", "float"), _FLOATS),
    Case("float unsigned zerofill", Column("v", "float", unsigned=True), ("0", "1.5", "16777217", "3.4028235e38", "1e-45")),
    Case("float(7,2)", Column("v", "float"), ("0", "-0e0", "1.005", "0.1", "-99999.99", "16777.217", "0.001")),
    Case("double", Column("v", "double"), _DOUBLES),
    Case("double unsigned", Column("v", "double", unsigned=True), ("0", "1e-320", "123456789012345678", "1.7976931348623157e308")),
    Case("double(10,3)", Column("v", "double"), ("0", "-0e0", "1.0005", "0.1", "-9999999.999", "1234567.8915", "0.0001")),
    Case("double(30,10) unsigned zerofill", Column("v", "double", unsigned=True), ("0", "0.1", "12345678901234567890.123", "1e-10")),
    Case("int(255) zerofill", Column("v", "int", unsigned=True), ("0", "7", "4294967295")),
    Case("bigint(30) zerofill", Column("v", "bigint", unsigned=True), ("0", "7", "18446744073709551615")),
    Case("tinyint(1)", Column("v", "tinyint"), ("0", "1", "2", "127", "-128")),
    Case("decimal(30,4) zerofill", Column("v", "decimal", unsigned=True, length=30, scale=4), ("0", "7", "0.0001", _widest(30, 4))),
    Case("decimal(12,2) unsigned zerofill", Column("v", "decimal", unsigned=True, length=12, scale=2), ("0", "7", "0.01", _widest(12, 2))),
    *(
        Case(f"bit({n})", Column("v", "bit", length=n), ("b'0'", "b'1'", f"b'1{'0' * (n - 1)}'", f"b'{'1' * n}'"))
        for n in (1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 32, 33, 40, 41, 48, 56, 57, 63, 64)
    ),
    Case("year", Column("v", "year"), ("0", "1901", "2024", "2155")),
    Case(
        "date",
        Column("v", "date"),
        ("'0001-01-01'", "'1969-12-31'", "'2024-02-29'", "'9999-12-31'", "'0000-00-00'", "'2021-00-15'", "'2021-02-00'", *_IMPOSSIBLE),
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
    *(
        Case(
            "set(" + ",".join(f"'m{i}'" for i in range(count)) + ")",
            Column("v", "set", charset="utf8mb4", labels=tuple(f"m{i}" for i in range(count))),
            ("''", f"'m{count - 1}'", "'m0'", str((1 << count) - 1)),
        )
        for count in (8, 9, 16, 17, 24, 25, 32, 33)
    ),
    *(
        Case(
            "enum(" + ",".join(f"'e{i}'" for i in range(count)) + ")",
            Column("v", "enum", charset="utf8mb4", labels=tuple(f"e{i}" for i in range(count))),
            ("'e0'", f"'e{count - 1}'", "'never'", str(count)),
        )
        for count in (255, 256)
    ),
    Case("json", Column("v", "json"), (*_JSON, *_JSON_DEEP, *_JSON_WIDE), ("mysql",)),
    Case("json", Column("v", "longtext", charset="utf8mb4"), _JSON[:6], ("mariadb",)),
    Case("geometry", Column("v", "geometry"), ("ST_GeomFromText('POINT(1.5 -2)')", "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)")),
    *(case for name, texts in _SHAPES.items() for case in _shapes(name, texts)),
    Case(
        "vector(3)",
        Column("v", "vector"),
        ("to_vector('[1,-2.5,3e10]')", "to_vector('[0.1]')", "x'000000800100000000008000'"),
        ("mysql",),
    ),
    Case("vector", Column("v", "vector"), ("to_vector(concat('[1', repeat(',2', 2047), ']'))",), ("mysql",)),
    Case("uuid", Column("v", "uuid"), _UUIDS, ("mariadb",)),
    Case("inet4", Column("v", "inet4"), ("'0.0.0.0'", "'192.168.1.0'", "'10.0.0.0'", "'255.255.255.255'"), ("mariadb",)),
    Case(
        "inet6",
        Column("v", "inet6"),
        ("'::'", "'::1'", "'2001:db8::1'", "'::ffff:192.0.2.128'", "'::1.2.3.4'", "'fe80::'", "'ff00::'"),
        ("mariadb",),
    ),
    *_COMPRESSED,
)
