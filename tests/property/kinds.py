"""Columns of every type with random parameters, and literals to put into them: edges first, because that is where values are lost.

Nothing here is the product's: types are written as a person writes DDL, and what a server has is asked of the server. Values that
stop the pipeline (a date in a key that is none), and NUL in text, are never made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

Draw = Callable[[Random], str]


@dataclass
class Server:
    """What this server has: asked once."""

    query: Callable[[str], list[tuple[Any, ...]]]
    flavour: str
    kind: str = ""
    """Its name among the servers of the tests, where that is not its flavour."""
    _alphabets: dict[str, str] = field(default_factory=dict)

    @cached_property
    def version(self) -> tuple[int, ...]:
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", str(self.query("SELECT VERSION()")[0][0]))
        assert found
        return tuple(map(int, found.groups()))

    @cached_property
    def charsets(self) -> list[str]:
        rows = self.query("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS ORDER BY 1")
        return [str(name) for (name,) in rows if name not in ("binary", "filename")]

    def alphabet(self, charset: str) -> str:
        """Characters that the set has: for sets of one byte all of them, as the server itself says."""
        if charset not in self._alphabets:
            self._alphabets[charset] = WIDE.get(charset) or self._single(charset)
        return self._alphabets[charset]

    def _single(self, charset: str) -> str:
        codes = [code for code in range(1, 256) if code != 0x3F]
        asked = ",".join(f"HEX(CONVERT(_{charset} X'{code:02X}' USING utf8mb4))" for code in codes)
        found = [bytes.fromhex(str(one)).decode() for one in self.query(f"SELECT {asked}")[0] if one not in ("3F", "", None)]
        return "".join(dict.fromkeys(one for one in found if one != "\ufffd"))


_CJK, _KANA, _HANGUL = "\u65e5\u672c\u8a9e\u4e2d\u56fd", "\u3042\u30a2\u30f3\u3000", "\ud55c\uad6d\uc5b4"
_PLAIN = "abcXYZ 019'\"`%_\\{}\n\t,;-\x01\x7f"
_BMP = _PLAIN + "\u00e9\u00df\u0416\u05d0\u20ac\u2028\ufeff\uffee" + _CJK + _KANA + _HANGUL
WIDE = {
    "utf8mb4": _BMP + "\U0001f600\U0010fffd\U0001d11e", "utf8mb3": _BMP, "utf8": _BMP, "ucs2": _BMP,
    "utf16": _BMP + "\U0001f600\U0010fffd", "utf16le": _BMP + "\U0001f600\U0010fffd", "utf32": _BMP + "\U0001f600\U0010fffd",
    "big5": _PLAIN + "\u65e5\u672c\u8a9e\u4e2d", "gbk": _PLAIN + _CJK + _KANA, "gb2312": _PLAIN + _CJK + _KANA,
    "gb18030": _BMP + "\U0001f600",
    "sjis": _PLAIN.replace("\\", "") + "\u65e5\u672c\u8a9e" + _KANA, "cp932": _PLAIN.replace("\\", "") + "\u65e5\u672c\u8a9e" + _KANA,
    "ujis": _PLAIN.replace("\\", "") + "\u65e5\u672c\u8a9e" + _KANA, "eucjpms": _PLAIN + "\u65e5\u672c\u8a9e" + _KANA,
    "euckr": _PLAIN + _HANGUL + "\u65e5\u672c",
}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One column's type: its DDL, literals at its edges, and a way to draw others."""

    kind: str
    ddl: str
    edges: tuple[str, ...]
    draw: Draw
    prefix: int = 0
    """In a key: so many characters or bytes of it, 0 for all."""
    default: bool = True
    """Whether the servers allow a literal DEFAULT."""

    def literal(self, random: Random) -> str:
        return random.choice(self.edges) if random.random() < 0.65 else self.draw(random)


Make = Callable[[Random, Server, bool], Spec]


def text(value: str) -> str:
    """A literal of any text, whatever sql_mode says of backslashes."""
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _integer(name: str, bits: int, unsigned: bool) -> Make:
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)

    def make(random: Random, server: Server, key: bool) -> Spec:
        width = random.choice(["", "", f"({random.randint(1, 20)})"])
        zerofill = " zerofill" if unsigned and not key and random.random() < 0.2 else ""
        edges = {low, high, 0, 1, -1 if low else 2, high // 2, high // 2 + 1, low + 1, high - 1, 127, 128 if high > 127 else 7}
        ddl = name + width + (" unsigned" if unsigned else "") + zerofill
        return Spec(name + " unsigned" * unsigned, ddl, tuple(map(str, sorted(edges))), lambda r: str(r.randint(low, high)))

    return make


def _decimal(random: Random, server: Server, key: bool) -> Spec:
    scale = random.choice([0, 0, 1, 2, 4, 9, 18, 30])
    precision = random.choice([max(scale, 1), scale + 1, scale + 9, min(scale + 18, 65), 65])
    digits = "9" * precision
    top = (digits[: precision - scale] or "0") + ("." + digits[:scale] if scale else "")
    least = "0." + "0" * (scale - 1) + "1" if scale else "1"

    def draw(r: Random) -> str:
        value = str(r.randrange(10 ** r.randint(1, precision))).rjust(scale + 1, "0")
        return r.choice(["", "-"]) + (f"{value[:-scale]}.{value[-scale:]}" if scale else value)

    edges = ("0", top, "-" + top, least, "-" + least, *(("1", "-1") if precision > scale else ()))
    unsigned = " unsigned" if random.random() < 0.1 else ""
    return Spec("decimal", f"decimal({precision},{scale}){unsigned}", edges, draw)


def _float(random: Random, server: Server, key: bool) -> Spec:
    edges = ("0", "-0e0", "1.5", "-1.5", "16777216", "16777217", "0.1", "3.4028234e38", "-3.4028234e38", "1.17549435e-38", "1e-45")
    ddl = random.choice(["float", "float", "float(7,3)", "float unsigned", "float(24)"])
    return Spec("float", ddl, edges, lambda r: repr(r.uniform(-1, 1) * 10.0 ** r.randint(-30, 30)))


def _double(random: Random, server: Server, key: bool) -> Spec:
    edges = ("0", "-0e0", "0.1", "1e15", "1e16", "1e23", "1.7976931348623157e308", "5e-324", "-2.2250738585072014e-308", "9007199254740993")
    ddl = random.choice(["double", "double", "double(20,5)", "float(53)", "real"])
    return Spec("double", ddl, edges, lambda r: repr(r.uniform(-1, 1) * 10.0 ** r.randint(-300, 300)))


def _bit(random: Random, server: Server, key: bool) -> Spec:
    bits = random.choice([1, 1, 2, 7, 8, 9, 16, 31, 33, 63, 64])
    edges = ("b'0'", "b'1'", f"b'{'1' * bits}'", f"b'1{'0' * (bits - 1)}'")
    return Spec("bit", f"bit({bits})", edges, lambda r: f"b'{r.getrandbits(bits):b}'")


def _year(random: Random, server: Server, key: bool) -> Spec:
    return Spec("year", "year", ("0", "1901", "1970", "2000", "2155"), lambda r: str(r.randint(1901, 2155)))


def _day(r: Random, first: int = 1, last: int = 9999) -> str:
    return f"{r.randint(first, last):04d}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"


_DAYS = (
    "0001-01-01",
    "0001-12-31",
    "0999-12-31",
    "1582-10-10",
    "1900-02-28",
    "1969-12-31",
    "1970-01-01",
    "2000-02-29",
    "2024-02-29",
    "9999-12-31",
)
_NO_DAYS = ("0000-00-00", "2021-00-15", "2021-03-00", "2021-02-31", "0000-01-01", "0000-02-29")


def _quoted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"'{value}'" for value in values)


def _date(random: Random, server: Server, key: bool) -> Spec:
    return Spec("date", "date", _quoted(_DAYS if key else _DAYS + _NO_DAYS), lambda r: f"'{_day(r)}'")


def _fraction(random: Random) -> tuple[int, str]:
    digits = random.choice([0, 0, 0, 1, 2, 3, 4, 5, 6, 6])
    return digits, f"({digits})" if digits else random.choice(["", "(0)"])


def _clock(r: Random, digits: int) -> str:
    part = f".{r.choice([0, 1, 10**6 - 1, r.randrange(10**6)]):06d}"[: digits + 1] if digits else ""
    return f"{r.choice([0, 12, 23, r.randrange(24)]):02d}:{r.choice([0, 59, r.randrange(60)]):02d}:{r.choice([0, 59]):02d}{part}"


def _datetime(random: Random, server: Server, key: bool) -> Spec:
    digits, suffix = _fraction(random)
    days = [f"{day} {_clock(random, digits)}" for day in (_DAYS if key else _DAYS + _NO_DAYS)]
    return Spec("datetime", f"datetime{suffix}", _quoted(days), lambda r: f"'{_day(r)} {_clock(r, digits)}'")


def _timestamp(random: Random, server: Server, key: bool) -> Spec:
    digits, suffix = _fraction(random)
    edges = [f"1980-01-01 {_clock(random, digits)}", f"2024-02-29 {_clock(random, digits)}", f"2037-12-31 {_clock(random, digits)}"]
    edges += [] if key else ["0000-00-00 00:00:00", "1970-01-01 00:00:01", "2038-01-19 03:14:07", "1970-01-02 00:00:00"]
    more = random.choice(["", "", " DEFAULT CURRENT_TIMESTAMP", " DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"])
    more = "" if key else more.replace("TIMESTAMP", f"TIMESTAMP({digits})")
    return Spec(
        "timestamp", f"timestamp{suffix}", _quoted(edges), lambda r: f"'{_day(r, 1980, 2030)} {_clock(r, digits)}'", default=not more
    )


def _time(random: Random, server: Server, key: bool) -> Spec:
    digits, suffix = _fraction(random)
    ends = ["838:59:59", "-838:59:59", "00:00:00", "24:00:00", "-00:00:01", "100:00:00"]
    edges = ends + [f"{sign}{hour}:{_clock(random, digits)[3:]}" for sign in ("", "-") for hour in ("00", "01", "12", "837")]

    def draw(r: Random) -> str:
        return f"'{r.choice(['', '-'])}{r.randrange(838)}:{_clock(r, digits)[3:]}'"

    return Spec("time", f"time{suffix}", _quoted(edges), draw)


def _charset(random: Random, server: Server) -> str:
    return random.choice(["utf8mb4", "utf8mb4", "latin1", *server.charsets])


def _string(alphabet: str, most: int) -> Draw:
    def draw(r: Random) -> str:
        return text("".join(r.choices(alphabet, k=min(most, r.choice([0, 1, 2, 5, 5, 17, most])))))

    return draw


def _texts(alphabet: str, most: int) -> tuple[str, ...]:
    plain = [
        "",
        "a",
        "A",
        "a ",
        " a",
        "NULL",
        "\\N",
        "0",
        "\u00df",
        "ss",
        "\u00e9",
        "e",
        alphabet[-1],
        alphabet[-1] * most,
        alphabet[:most],
    ]
    return tuple(text(one[:most]) for one in plain if all(char in alphabet for char in one))


def _charsets_of(random: Random, charset: str) -> str:
    binary = random.choice(["", "", f" COLLATE {charset}_bin"])
    return f" CHARACTER SET {charset}{binary}"


def _words(name: str, lengths: list[int]) -> Make:
    def make(random: Random, server: Server, key: bool) -> Spec:
        charset = _charset(random, server)
        most = random.choice([3, 20, 40] if key else lengths)
        alphabet = server.alphabet(charset)
        ddl = f"{name}({most}){_charsets_of(random, charset)}"
        return Spec(name, ddl, _texts(alphabet, most), _string(alphabet, most), random.choice([0, 0, 2]) if key else 0)

    return make


def _long(name: str, most: int) -> Make:
    def make(random: Random, server: Server, key: bool) -> Spec:
        charset = _charset(random, server)
        alphabet = server.alphabet(charset)
        short = min(most, 60) if key else most
        ddl = f"{name}{_charsets_of(random, charset)}"
        return Spec(name, ddl, _texts(alphabet, short), _string(alphabet, short), random.choice([1, 10]) if key else 0, default=False)

    return make


def _bytes(name: str, sized: list[int], most: int) -> Make:
    def make(random: Random, server: Server, key: bool) -> Spec:
        size = random.choice([1, 4, 16] if key else sized) if sized else most
        short = min(size, 60) if key else size
        edges = (
            "X''",
            "X'00'",
            "X'FF'",
            f"X'{'00' * short}'",
            f"X'{'FF' * short}'",
            f"X'{('01' + '00' * (short - 1))}'",
            "'ab '"[: short + 1] + "'",
        )
        ddl = f"{name}({size})" if sized else name
        prefix = random.choice([1, 7]) if key and not sized else 0
        return Spec(name, ddl, edges, lambda r: f"X'{r.randbytes(min(short, r.choice([0, 1, 3, 16, short]))).hex()}'", prefix, bool(sized))

    return make


def _labels(random: Random, server: Server, most: int) -> tuple[str, str, list[str]]:
    charset = random.choice(["utf8mb4", "latin1", "latin2", "cp1251", "utf16", "sjis", "ascii", "koi8r"])
    count = random.choice([1, 2, 3, 8, 9, 33, most])
    letters = [one for one in server.alphabet(charset) if one != ","]
    labels = [f"{random.choice(letters)}{random.choice(letters)}{n}" for n in range(count)]
    ddl = ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)
    return ddl, _charsets_of(random, charset), labels


def _enum(random: Random, server: Server, key: bool) -> Spec:
    ddl, charset, labels = _labels(random, server, 300)
    edges = (text(labels[0]), text(labels[-1]), "1", str(len(labels)), text("no such"), "0")
    return Spec("enum", f"enum({ddl}){charset}", edges, lambda r: text(r.choice(labels)), default=False)


def _set(random: Random, server: Server, key: bool) -> Spec:
    ddl, charset, labels = _labels(random, server, 64)
    top = (1 << len(labels)) - 1
    edges = ("X''", text(labels[0]), text(labels[-1]), text(",".join(labels)), str(top), str(top // 2 + 1))
    return Spec("set", f"set({ddl}){charset}", edges, lambda r: str(r.randint(0, top)), default=False)


def _document(r: Random, depth: int = 0) -> Any:
    plain: list[Any] = [None, True, False, 0, -1, 32768, -32769, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, 1.0, 1e20, 1.5e-7, 5e-324, "",
                        "a", "\u00e9\U0001f600", 'q"\\/\n\x01', "x" * 300]  # fmt: skip
    if depth > 3 or r.random() < 0.4:
        return r.choice(plain)
    if r.random() < 0.5:
        return [_document(r, depth + 1) for _ in range(r.randint(0, 4))]
    return {r.choice(["", "a", "b", "key\u00e9", "\\", "0", "k" * 70]) + str(n): _document(r, depth + 1) for n in range(r.randint(0, 4))}


_JSON = ("CAST('null' AS JSON)", "JSON_ARRAY()", "JSON_OBJECT()", "CAST('-0.0' AS JSON)", "CAST('1e16' AS JSON)",
         "JSON_OBJECT('k', CAST('2024-02-29' AS DATE), 't', CAST('-12:34:56.789' AS TIME(3)))", "JSON_ARRAY(CAST(12.50 AS DECIMAL(10,2)))",
         "JSON_ARRAY(CAST(repeat('z', 200) AS BINARY), b'101')", "JSON_OBJECT('big', repeat('x', 70000), 'n', 1)")  # fmt: skip


def _json(random: Random, server: Server, key: bool) -> Spec:
    return Spec("json", "json", _JSON, lambda r: text(json.dumps(_document(r), ensure_ascii=r.random() < 0.5)), default=False)


_SHAPES = ("POINT(1.5 -2)", "POINT(0 0)", "LINESTRING(0 0,1 1,2 0)", "POLYGON((0 0,1 0,1 1,0 0))", "MULTIPOINT((0 0),(1 1))",
           "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))", "MULTILINESTRING((0 0,1 1),(2 2,3 3))")  # fmt: skip


def _geometry(random: Random, server: Server, key: bool) -> Spec:
    kind = random.choice(["geometry", "geometry", "point", "linestring", "polygon", "multipoint", "geometrycollection"])
    mine = [one for one in _SHAPES if kind == "geometry" or one.lower().startswith(kind)]
    edges = tuple(f"ST_GeomFromText('{one}'{srid})" for one in mine for srid in ("", ", 0", ", 4326"))
    return Spec("geometry", kind, edges, lambda r: r.choice(edges), default=False)


def _vector(random: Random, server: Server, key: bool) -> Spec:
    size = random.choice([1, 3, 100, 2048])
    edges = tuple(f"TO_VECTOR('[{','.join([one] * size)}]')" for one in ("0", "-0.0", "0.1", "3.4e38", "1e-45"))

    def draw(r: Random) -> str:
        return f"TO_VECTOR('[{','.join(str(r.uniform(-9, 9)) for _ in range(r.randint(1, size)))}]')"

    return Spec("vector", f"vector({size})", edges, draw, default=False)


def _uuid(random: Random, server: Server, key: bool) -> Spec:
    edges = ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'123e4567-e89b-12d3-a456-426655440000'")

    def draw(r: Random) -> str:
        digits = r.randbytes(16).hex()
        return f"'{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}'"

    return Spec("uuid", "uuid", edges, draw)


def _inet4(random: Random, server: Server, key: bool) -> Spec:
    edges = ("'0.0.0.0'", "'255.255.255.255'", "'192.168.1.0'")
    return Spec("inet4", "inet4", edges, lambda r: "'" + ".".join(str(part) for part in r.randbytes(4)) + "'")


def _inet6(random: Random, server: Server, key: bool) -> Spec:
    edges = ("'::'", "'::1'", "'2001:db8::1'", "'::ffff:192.0.2.128'", "'::1.2.3.4'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'")
    return Spec("inet6", "inet6", edges, lambda r: "'" + ":".join(r.choice(["0", r.randbytes(2).hex()]) for _ in range(8)) + "'")


_SIZES = (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))

KINDS: dict[str, Make] = {
    **{name + " unsigned" * unsigned: _integer(name, bits, unsigned) for name, bits in _SIZES for unsigned in (False, True)},
    "decimal": _decimal, "float": _float, "double": _double, "bit": _bit, "year": _year, "date": _date, "datetime": _datetime,
    "timestamp": _timestamp, "time": _time,
    "char": _words("char", [1, 10, 60, 255]), "varchar": _words("varchar", [1, 20, 63, 64, 85, 86, 255, 256, 700]),
    "tinytext": _long("tinytext", 60), "text": _long("text", 900), "mediumtext": _long("mediumtext", 3000),
    "longtext": _long("longtext", 70_000),
    "binary": _bytes("binary", [1, 16, 255], 0), "varbinary": _bytes("varbinary", [1, 20, 255, 256, 700], 0),
    "tinyblob": _bytes("tinyblob", [], 255), "blob": _bytes("blob", [], 900), "mediumblob": _bytes("mediumblob", [], 3000),
    "longblob": _bytes("longblob", [], 70_000),
    "enum": _enum, "set": _set, "json": _json, "geometry": _geometry, "vector": _vector, "uuid": _uuid, "inet4": _inet4, "inet6": _inet6,
}  # fmt: skip
"""By the name that the product's table of types has for it."""

NOT_IN_KEYS = frozenset({"float", "double", "json", "geometry", "vector"})
"""A FLOAT cannot be walked in pieces (`key_type` refuses it), the others cannot be keys at all."""


def kinds_of(server: Server) -> list[str]:
    """The kinds that this server has."""
    absent = {"mysql": {"uuid", "inet4", "inet6"}, "mariadb": {"json", "vector"}}[server.flavour]
    if server.flavour == "mysql" and server.version < (9, 0):
        absent.add("vector")
    if server.flavour == "mariadb" and server.version < (10, 10):
        absent.add("inet4")
    if server.flavour == "mariadb" and server.version < (10, 7):
        absent.add("uuid")
    return sorted(set(KINDS) - absent)
