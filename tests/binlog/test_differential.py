"""Our reader beside mysql-replication's, on one log; every disagreement is listed here with the reason why ours is right.

The judge is the server: each value is stored once, the server is asked for its own text of it, and every image of the log that
holds the value must say the same. Where the two readers disagree, ours says what the server says, and the list names the type,
the class of values and what the other one makes of it. A disagreement that is not listed fails; so does a listed one that does
not occur.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import re
import struct
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pymysql
import pymysqlreplication
import pytest
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from cdc.model.position import Position
from cdc.model.table import Column
from cdc.mysql.catalog import Catalog
from tests.helpers.codec_cases import CASES, Case
from tests.helpers.log_values import HEXED, Change, Row, asked, clocked, doubled, kind_of, said, stamped, told_by_event
from tests.helpers.servers import PASSWORD, SourceDatabase, lent
from tests.helpers.source_log import config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KINDS = {WriteRowsEvent: "c", UpdateRowsEvent: "u", DeleteRowsEvent: "d"}


# -- theirs


@dataclass(frozen=True)
class Crash:
    """They raised where a value should be."""


def theirs(source: SourceDatabase, start: Position) -> Iterator[tuple[str, str, list[Row] | Crash]]:
    """(table, kind, rows) of each rows event that they see; the rows are what they make of them."""
    settings = {"host": source.host, "port": source.port, "user": "root", "password": PASSWORD}
    stream = pymysqlreplication.BinLogStreamReader(
        connection_settings=settings, server_id=config(source).server_id, only_events=list(KINDS), only_schemas=[source.name],
        log_file=start.file, log_pos=start.offset, resume_stream=True, enable_logging=False,
    )  # fmt: skip
    while True:
        try:
            event = stream.fetchone()
        except (ValueError, IndexError, LookupError, struct.error, AssertionError, NotImplementedError, TypeError):
            continue  # a table map that they cannot read: all rows under it are dropped without a word
        if event is None:
            return
        yield event.table, KINDS[type(event)], _rows(event)


def _rows(event: RowsEvent) -> list[Row] | Crash:
    try:
        return list(event.rows)
    except (ValueError, IndexError, LookupError, struct.error, OverflowError, NotImplementedError, TypeError, AttributeError):
        return Crash()


def _images(kind: str, row: Row) -> list[Row]:
    return [row["before_values"], row["after_values"]] if kind == "u" else [row["values"]]


def their_text(column: Column, value: Any, server: str | None) -> str | None:
    """Their value as the server would print it, as generously as can be: only what is wrong shall differ."""
    kind = kind_of(column)
    if value is None:
        return None
    if kind == "json":
        return server if server is not None and _plain(value) == json.loads(server) else repr(value)
    if isinstance(value, dt.datetime):
        return stamped(column, value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return clocked(column, value // dt.timedelta(microseconds=1))
    if isinstance(value, set):
        return ",".join(label for label in column.labels if label in value).encode().hex().upper()
    if isinstance(value, float):
        return doubled(value)
    if kind in ("uuid", "inet4", "inet6"):
        return _address(kind, value)
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, str) and kind not in ("bit", "decimal"):
        return value.encode("utf-8", "surrogatepass").hex().upper()
    return f"{value:04d}" if kind == "year" else format(value, "f") if isinstance(value, Decimal) else str(value)


def _plain(value: Any) -> Any:
    """JSON without their bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


def _address(kind: str, value: Any) -> str:
    """MariaDB's addresses and UUIDs, which are bytes to them."""
    if not isinstance(value, bytes) or len(value) != {"inet4": 4}.get(kind, 16):
        return repr(value)
    return {"uuid": str(uuid.UUID(bytes=value)) if len(value) == 16 else "", "inet4": ".".join(map(str, value))}.get(
        kind, value.hex().upper()
    )


# -- the generated database


@dataclass(frozen=True)
class Value:
    """A stored value: what went in, and the server's own texts of it."""

    column: Column
    expression: str
    text: str | None
    """As our value must read; None for NULL and for dates that no calendar has."""
    raw: str | None
    """As the server prints it, whatever it is."""


@dataclass
class Stored:
    """A table of one column `v`; column `n` numbers the values, whichever row holds them."""

    case: Case
    values: dict[int, Value]


def generated(case: Case, draw: random.Random) -> tuple[str, ...]:
    """Random values of a type, beside its edge values."""
    column, kind = case.column, kind_of(case.column)
    bits = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}.get(kind)
    if bits:
        low = 0 if column.unsigned else -(1 << bits - 1)
        return tuple(str(draw.randint(low, low + (1 << bits) - 1)) for _ in range(6))
    return tuple(_GENERATED[kind](column, draw) for _ in range(6)) if kind in _GENERATED else ()


def _fraction(column: Column, draw: random.Random) -> str:
    return f".{draw.randrange(10**column.scale):0{column.scale}d}" if column.scale else ""


def _day(draw: random.Random, first: int, last: int) -> str:
    return f"{draw.randint(first, last):04d}-{draw.randint(1, 12):02d}-{draw.randint(1, 31):02d}"


def _hour(draw: random.Random, hours: int = 24) -> str:
    return f"{draw.randrange(hours):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d}"


_GENERATED: dict[str, Callable[[Column, random.Random], str]] = {
    "decimal": lambda column, draw: str(Decimal(draw.randrange(10**column.length)).scaleb(-column.scale) * draw.choice((1, -1))),
    "double": lambda column, draw: repr(struct.unpack("<d", draw.randbytes(7) + draw.choice((b"\x3f", b"\xc0", b"\x01")))[0]),
    "float": lambda column, draw: repr(struct.unpack("<f", draw.randbytes(3) + draw.choice((b"\x3f", b"\xc0", b"\x01")))[0]),
    "date": lambda column, draw: f"'{_day(draw, 1, 9999)}'",
    "datetime": lambda column, draw: f"'{_day(draw, 1, 9999)} {_hour(draw)}{_fraction(column, draw)}'",
    "timestamp": lambda column, draw: f"'{_day(draw, 1971, 2037)} {_hour(draw)}{_fraction(column, draw)}'",
    "time": lambda column, draw: f"'{draw.choice(('', '-'))}{_hour(draw, 838)}{_fraction(column, draw)}'",
    "bit": lambda column, draw: f"b'{draw.randrange(1 << column.length):b}'",
    "binary": lambda column, draw: f"x'{draw.randbytes(draw.randint(0, column.length)).hex()}'",
    "varbinary": lambda column, draw: f"x'{(draw.randbytes(draw.randint(0, 9)) + bytes(draw.randint(0, 2))).hex()}'",
}


def store(source: SourceDatabase) -> dict[str, Stored]:
    """Every type of the table of types with its edge values and some more, one row and one statement each."""
    draw, found = random.Random(20260), {}
    source.execute("SET SESSION sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'")
    for number, case in enumerate(case for case in CASES if source.flavour in case.flavours):
        impossible = ("'2021-02-31'",) if kind_of(case.column) in ("date", "datetime") else ()
        expressions = (*case.values, *generated(case, draw), *impossible, "NULL")
        name = f"t{number}"
        source.execute(
            f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, n INT, v {case.ddl}) CHARACTER SET utf8mb4",
            *filter(None, [case.setting]),
        )
        source.execute(
            "BEGIN", *[f"INSERT IGNORE INTO {name} VALUES ({n}, {n}, {value})" for n, value in enumerate(expressions, 1)], "COMMIT"
        )
        raw = asked(case.column) if kind_of(case.column) in HEXED else "CAST(v AS CHAR)"
        rows = source.execute(f"SELECT n, {asked(case.column)}, {raw} FROM {name} ORDER BY n")
        values = {n: Value(case.column, expressions[n - 1], _ascii(text), _ascii(raw)) for n, text, raw in rows}
        found[name] = Stored(case, values)
    return found


def _ascii(text: str | bytes | None) -> str | None:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def work(source: SourceDatabase, tables: dict[str, Stored]) -> None:
    """Updates that carry a value to another row, changed keys, deletes; one row each, and at last many at once."""
    for name, table in tables.items():
        count = len(table.values)
        for n in range(1, min(count, 12)):
            source.execute(f"UPDATE {name} a JOIN {name} b ON b.id = {n % count + 1} SET a.v = b.v, a.n = b.n WHERE a.id = {n}")
        source.execute(f"UPDATE {name} SET id = id + 1000 WHERE id = 1", f"DELETE FROM {name} WHERE id = 2", f"DELETE FROM {name}")


# -- the list


@dataclass(frozen=True)
class Listed:
    """A class of values of which they make something else than the server and we: which values, what they make of it, and why."""

    type: str
    where: Callable[[Value], bool]
    theirs: str
    why: str
    flavours: tuple[str, ...] = ("mariadb", "mysql")


def _in_charset(*names: str) -> Callable[[Value], bool]:
    return lambda value: value.column.charset in names and bool(value.text)


def _odd_fraction(value: Value) -> bool:
    """A negative TIME whose fraction is neither nothing nor a half."""
    sign, _, fraction = (value.raw or "").partition(".")
    return sign.startswith("-") and fraction.rstrip("0") not in ("", "5")


def _impossible(value: Value) -> bool:
    """A date with a day that its month does not have; the zero and the partial ones are None to them too."""
    return value.text is None and value.raw is not None and all(int(part) for part in value.raw[:10].split("-"))


_UNMAPPED = ("C281", "C28D", "C28F", "C290", "C29D")
_OPAQUE = re.compile(r'base64:type|"\d{4}-\d\d-\d\d|"-?\d\d:\d\d:\d\d')
LISTED = (
    Listed(
        "compressed",
        lambda v: v.text is not None,
        "IndexError, or no names",
        "they have types of their own in the log, whose bytes in the table map are passed over: what follows is read askew",
        ("mariadb",),
    ),
    Listed("year", lambda v: v.raw == "0000", "1900", "the log holds an offset to 1900, and 0 for the year 0000"),
    Listed("date", _impossible, "ValueError", "ALLOW_INVALID_DATES stores it; the stream cannot pass the row"),
    Listed("timestamp", lambda v: (v.raw or "").startswith("0000"), "1970-01-01 00:00:00", "0 seconds are the zero date, no moment"),
    Listed("time", _odd_fraction, "another fraction", "the two's complement is over the whole number, not over the seconds alone"),
    Listed("char", _in_charset("ucs2"), "bytes", "ucs2 is text: UTF-16, big-endian"),
    Listed("varchar", _in_charset("utf16le"), "bytes", "utf16le is text"),
    Listed("varchar", _in_charset("utf16"), "other characters", "MySQL's utf16 is big-endian"),
    Listed("varchar", _in_charset("utf32"), "UnicodeDecodeError", "MySQL's utf32 is big-endian"),
    Listed(
        "varchar",
        lambda v: v.column.charset == "latin1" and any(one in (v.text or "") for one in _UNMAPPED),
        "UnicodeDecodeError",
        "MySQL's latin1 is cp1252 with the five bytes that cp1252 leaves out",
    ),
    Listed(
        "varchar",
        lambda v: v.column.charset == "sjis" and "5C" in (v.text or ""),
        "FULLWIDTH REVERSE SOLIDUS",
        "the server reads 815F as a backslash",
    ),
    Listed(
        "varchar",
        lambda v: v.column.charset == "swe7" and not bytes.fromhex(v.text or "").isascii(),
        "bytes",
        "swe7 is text, with Swedish letters in the place of brackets",
    ),
    Listed("binary", lambda v: (v.text or "").endswith("00"), "shorter", "BINARY(n) is n bytes; the log leaves zeros at the end out"),
    Listed(
        "uuid", lambda v: (v.raw or "").endswith("00"), "15 bytes or fewer", "16 bytes; the log leaves zeros at the end out", ("mariadb",)
    ),
    Listed("inet4", lambda v: (v.raw or "").endswith(".0"), "3 bytes or fewer", "the log leaves zeros at the end out", ("mariadb",)),
    Listed("inet6", lambda v: (v.text or "").endswith("00"), "15 bytes or fewer", "the log leaves zeros at the end out", ("mariadb",)),
    Listed("set", lambda v: v.raw == "", "None", "no member is the empty set, and not NULL"),
    Listed("enum", lambda v: "C3" in (v.text or ""), "''", "labels are in the column's character set"),
    Listed("json", lambda v: v.text == "null", "None", "JSON's null is a value, and not NULL", ("mysql",)),
    Listed(
        "json",
        lambda v: bool(_OPAQUE.search(v.text or "")),
        "datetime, timedelta or text",
        "the server prints times in JSON as text, and bytes as base64 with their type",
        ("mysql",),
    ),
    Listed(
        "vector", lambda v: True, "another column's bytes, no names", "the table map has a byte for it, which they pass over", ("mysql",)
    ),
)


def listed(value: Value) -> list[Listed]:
    """The entries that a value falls under."""
    return [entry for entry in LISTED if entry.type == type_of(value) and entry.where(value)]


def type_of(value: Value) -> str:
    """The type by which the list names a value's column."""
    return "compressed" if value.column.storage == "compressed" else kind_of(value.column)


def test_every_disagreement_is_listed(every_source: SourceDatabase) -> None:
    source = every_source
    source.execute("FLUSH BINARY LOGS")
    start = written(source)
    tables = store(source)
    work(source, tables)
    ours, others = by_table(told_by_event(source, start)), seen_by_table(source, start)
    wrong, occurred = [], set[Listed]()
    for name, table in tables.items():
        wrong += [(name, value) for changes in ours[name] for value in misread(table, changes)]
        assert len(ours[name]) == len(others[name]), table.case.name
        for changes, rows in zip(ours[name], others[name], strict=True):
            different, same = compared(table, changes, rows)
            occurred.update(entry for value in different for entry in listed(value))
            wrong += [(name, value) for value in different if 1 != len(listed(value)) and not chance(value)]
            wrong += [(name, value) for value in same if listed(value)]
    assert [] == wrong
    assert {entry for entry in LISTED if source.flavour in entry.flavours} == occurred


def chance(value: Value) -> bool:
    """Whether a NULL beside compressed values is read depends on which bytes are taken for its null bit."""
    return value.text is None and type_of(value) == "compressed"


def written(source: SourceDatabase) -> Position:
    """The end of the log."""
    with Catalog(config(source)) as catalog:
        return catalog.log.written_position()


def by_table(events: list[list[Change]]) -> dict[str, list[list[Change]]]:
    found: dict[str, list[list[Change]]] = defaultdict(list)
    for changes in events:
        found[changes[0].table.name].append(changes)
    return found


def seen_by_table(source: SourceDatabase, start: Position) -> dict[str, list[tuple[str, list[Row] | Crash]]]:
    found: dict[str, list[tuple[str, list[Row] | Crash]]] = defaultdict(list)
    for name, kind, rows in theirs(source, start):
        found[name].append((kind, rows))
    return found


def misread(table: Stored, changes: list[Change]) -> list[Value]:
    """The values of which we make something else than the server."""
    images = [image for change in changes for image in change.images]
    return [table.values[image["n"]] for image in images if said(table.case.column, image["v"]) != table.values[image["n"]].text]


def compared(table: Stored, changes: list[Change], seen: tuple[str, list[Row] | Crash]) -> tuple[list[Value], list[Value]]:
    """The values of one event of which they make something else than the server, and those of which they make the same."""
    kind, rows = seen
    assert changes[0].kind == kind
    values = [table.values[image["n"]] for change in changes for image in change.images]
    if isinstance(rows, Crash) or any("n" not in image for row in rows for image in _images(kind, row)):
        return [value for value in values if listed(value)] or values, []  # one value of the event is enough to lose it all
    images = [image for row in rows for image in _images(kind, row)]
    assert values == [table.values[image["n"]] for image in images]
    right = [their_text(table.case.column, image["v"], value.text) == value.text for image, value in zip(images, values, strict=True)]
    return [value for value, ok in zip(values, right) if not ok], [value for value, ok in zip(values, right) if ok]


# -- which rows, in which order


STATEMENTS = (
    "INSERT INTO {t} VALUES ({a}, {b}), ({c}, {b}) ON DUPLICATE KEY UPDATE n = n + 1",
    "REPLACE INTO {t} VALUES ({a}, {b}), ({c}, {c})",
    "UPDATE {t} SET n = {b} WHERE id BETWEEN {a} AND {a} + 5",
    "UPDATE IGNORE {t} SET id = {b} WHERE id = {a}",
    "UPDATE {t} SET id = id + 1000 ORDER BY id DESC LIMIT 3",
    "DELETE FROM {t} WHERE id > {a} LIMIT 2",
    "INSERT IGNORE INTO {t} SELECT id + 50, n FROM {u}",
    "DELETE FROM {t} WHERE id > 900",
)


def shuffle(source: SourceDatabase, draw: random.Random, rounds: int) -> None:
    """Random changes of three tables, in transactions that commit, roll back, or roll back to a savepoint."""
    for _ in range(rounds):
        before, after = draw.choice((("", ""), ("BEGIN", "COMMIT"), ("BEGIN", "ROLLBACK"), ("SAVEPOINT", "COMMIT")))
        if before:
            source.execute("BEGIN")
        for turn in range(draw.randint(1, 4)):
            if before == "SAVEPOINT" and turn == 1:
                source.execute("SAVEPOINT s")
            one, two = draw.sample(("i", "j") if before else ("i", "j", "m"), 2)
            numbers = {"a": draw.randint(1, 60), "b": draw.randint(1, 60), "c": draw.randint(1, 60)}
            source.execute(draw.choice(STATEMENTS).format(t=one, u=two, **numbers))
        if before == "SAVEPOINT" and draw.random() < 0.7:
            with contextlib.suppress(pymysql.err.OperationalError):  # none was set
                source.execute("ROLLBACK TO s")
        if after:
            source.execute(after)


def both(source: SourceDatabase, start: Position) -> tuple[list[Any], list[Any]]:
    """(table, kind, images) of each event, as we and as they read them."""
    ours = [(e[0].table.name, e[0].kind, [image for change in e for image in change.images]) for e in told_by_event(source, start)]
    others = [
        (name, kind, rows if isinstance(rows, Crash) else [image for row in rows for image in _images(kind, row)])
        for name, kind, rows in theirs(source, start)
    ]
    return ours, others


TABLES = [f"CREATE TABLE {name} (id INT PRIMARY KEY, n INT) ENGINE={engine}" for name, engine in zip("ijm", ("InnoDB", "InnoDB", "MyISAM"))]


def test_the_same_rows_come_in_the_same_order(source: SourceDatabase) -> None:
    source.execute(*TABLES)
    start = written(source)
    shuffle(source, random.Random(7), 80)
    ours, others = both(source, start)
    assert 60 < len(ours)
    assert others == ours


def test_rows_that_are_undone_behind_them_are_theirs_and_not_ours(mariadb: SourceDatabase) -> None:
    """MariaDB logs the rows of a transaction that rolls back once a temporary table was dropped in it, and then ROLLBACK."""
    mariadb.execute(*TABLES)
    start = written(mariadb)
    mariadb.execute("BEGIN", "INSERT INTO i VALUES (1, 1)", "CREATE TEMPORARY TABLE t (a INT)", "DROP TEMPORARY TABLE t", "ROLLBACK")
    ours, others = both(mariadb, start)
    assert ([], []) == (mariadb.execute("SELECT * FROM i"), ours)
    assert [("i", "c", [{"id": 1, "n": 1}])] == others


def test_of_a_compressed_log_they_see_nothing(private: Callable[..., Any]) -> None:
    for flavour, option in (("mariadb", "--log-bin-compress-min-len=10"), ("mysql", "--binlog-transaction-compression=ON")):
        options = (option, "--log-bin-compress=ON") if flavour == "mariadb" else (option,)
        with lent(SourceDatabase(private(flavour, options=options))) as source:
            source.execute(*TABLES)
            start = written(source)
            source.execute("ALTER TABLE i ADD w VARCHAR(99) DEFAULT (REPEAT('w', 99))", "INSERT INTO i (id, n) VALUES (1, 1), (2, 2)")
            source.execute("UPDATE i SET n = n + 1", "DELETE FROM i WHERE id = 1")
            ours, others = both(source, start)
            assert [("i", "c", 2), ("i", "u", 4), ("i", "d", 1)] == [(name, kind, len(images)) for name, kind, images in ours]
            assert [(1, 1), (1, 2), (2, 2), (2, 3)] == [(image["id"], image["n"]) for image in ours[1][2]]
            assert [(2, 3, "w" * 99)] == source.execute("SELECT * FROM i") == [tuple(ours[1][2][3].values())]
            assert [] == others
