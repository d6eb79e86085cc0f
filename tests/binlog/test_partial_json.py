"""Partial JSON updates: the differences that MySQL logs, applied to the document before, give the text that MySQL itself selects."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cdc.binlog.json_document import document, patched, tree
from cdc.binlog.partial_json import whole
from cdc.errors import Halt, Malformed
from tests.helpers.log_values import told
from tests.helpers.servers import SourceDatabase
from tests.helpers.source_log import position

# fmt: off
OTHERS = {
    "c_tiny": ("TINYINT", "-1"), "c_medium": ("MEDIUMINT UNSIGNED", "16777215"), "c_big": ("BIGINT", "7"), "c_float": ("FLOAT", "0.5"),
    "c_decimal": ("DECIMAL(31,7)", "-12345.6789"), "c_bit": ("BIT(13)", "b'1010101010101'"), "c_year": ("YEAR", "2021"),
    "c_date": ("DATE", "'2021-02-03'"),
    "c_moment": ("DATETIME(5)", "'2021-02-03 04:05:06.07'"), "c_stamp": ("TIMESTAMP(3)", "'2021-02-03 04:05:06.07'"),
    "c_time": ("TIME(1)", "'-12:34:56.7'"), "c_char": ("CHAR(200) CHARACTER SET utf8mb4", "'é'"), "c_short": ("VARCHAR(60)", "'kurz'"),
    "c_long": ("VARCHAR(2000)", "REPEAT('lang', 300)"), "c_binary": ("BINARY(9)", "x'00ff00'"), "c_blob": ("MEDIUMBLOB", "x'00ff'"),
    "c_text": ("TEXT", "'text'"), "c_enum": ("ENUM('a','b')", "'b'"), "c_set": ("SET('x','y','z')", "'x,z'"),
    "c_point": ("POINT", "POINT(1,2)"), "c_vector": ("VECTOR(3)", "STRING_TO_VECTOR('[1,2,3]')"), "c_null": ("TIME(6)", "NULL"),
}
VALUES = [
    "1", "-70000", "CAST(18446744073709551615 AS UNSIGNED)",
    "-9223372036854775808", "1.5e0", "CAST(0.1 AS DECIMAL(30,10))", "'text'", "'ä\"\\\\\\n'",
    "NULL", "CAST('true' AS JSON)", "CAST('null' AS JSON)", "REPEAT('long', 100)", "REPEAT('longer', 20000)", "CAST('2021-02-03' AS DATE)",
    "CAST('-34:05:06.789' AS TIME(6))", "CAST('2021-02-03 04:05:06' AS DATETIME)", "x'00ff'", "JSON_ARRAY()", "JSON_OBJECT()",
    "JSON_ARRAY(1, JSON_OBJECT('k', 'v'), NULL, 3.25e0)", "CAST('{\"b\": [1, 2, {\"c\": {}}], \"a\": 70000, \"ä ö\": \"x\"}' AS JSON)",
]
KEYS = ["a", "b", "key", "longer_key",
        '"a b"', '"q\\\\"q"', '"dot.ted"', '"ä"', '""', '"[0]"', "$x", '"$"', '"\\\\t"', '"\'"'.replace("'", "''")]
# fmt: on
COLUMNS = 10


def path(rng: random.Random) -> str:
    legs = [f".{rng.choice(KEYS)}" if rng.random() < 0.6 else rng.choice(["[0]", "[1]", "[2]", "[7]", "[last]", "[last-1]"])
            for _ in range(rng.randint(1, 3))]  # fmt: skip
    return f"'${''.join(legs)}'"


def changed(rng: random.Random, column: str) -> str:
    """An expression that changes a document in one or several places, in the ways that MySQL logs as differences."""
    found = column
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(["JSON_SET", "JSON_SET", "JSON_REPLACE", "JSON_REMOVE"])
        pairs = [path(rng) + ("" if name == "JSON_REMOVE" else f", {rng.choice(VALUES)}") for _ in range(rng.randint(1, 2))]
        found = f"{name}({found}, {', '.join(pairs)})"
    return found


def filled(source: SourceDatabase, rng: random.Random) -> None:
    others = ", ".join(f"{name} {kind}" for name, (kind, _) in OTHERS.items())
    documents = ", ".join(f"j{n} JSON" for n in range(COLUMNS))
    source.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {others}, {documents}, tail VARCHAR(10)) CHARACTER SET latin1")
    values = ", ".join(value for _, value in OTHERS.values())
    for number in range(4):
        roots = ["NULL", "CAST('5' AS JSON)", "JSON_QUOTE('text')", "JSON_OBJECT('a', JSON_ARRAY(1, 2, 3), 'b', JSON_OBJECT('key', 'v'))"]
        chosen = [rng.choice([*VALUES[-4:], *roots]) for _ in range(COLUMNS)]
        source.execute(f"INSERT INTO t VALUES ({number}, {values}, {', '.join(chosen)}, 'tail')")


def test_differences_give_the_text_that_the_server_selects(mysql: SourceDatabase) -> None:
    rng = random.Random(11)
    filled(mysql, rng)
    start = position(mysql)
    expected: list[Any] = []
    mysql.execute("SET SESSION binlog_row_value_options = PARTIAL_JSON")
    select = f"SELECT {', '.join(f'CAST(j{n} AS CHAR)' for n in range(COLUMNS))}, tail, CAST(c_decimal AS CHAR) FROM t WHERE id = "
    for step in range(150):
        number = rng.randrange(4)
        columns = rng.sample(range(COLUMNS), rng.choice([1, 1, 1, 2, COLUMNS]))
        [before] = mysql.execute(f"{select}{number}")
        changes = ", ".join(f"j{n} = {changed(rng, f'j{n}')}" for n in columns)
        mysql.execute(f"UPDATE t SET {changes}, c_tiny = {step % 100} WHERE id = {number}")
        [after] = mysql.execute(f"{select}{number}")
        expected.append((before, after))
    mysql.execute("UPDATE t SET j0 = JSON_SET(j0, '$.all', 1), c_tiny = 5")  # several rows in one event
    names = [*(f"j{n}" for n in range(COLUMNS)), "tail", "c_decimal"]
    logged = told(mysql, start)
    found = [tuple(tuple(text(image[name]) for name in names) for image in change.images) for change in logged]
    assert expected == found[: len(expected)]
    assert 4 == len(found) - len(expected)
    assert 100 < len([1 for kind in kinds_logged(mysql, start) if kind == "Update_rows_partial"])


def text(value: Any) -> Any:
    return None if value is None else str(value)


def kinds_logged(source: SourceDatabase, start: Any) -> list[str]:
    [file] = source.execute("SHOW BINARY LOGS")[-1][:1]
    return [row[2] for row in source.execute(f"SHOW BINLOG EVENTS IN '{file}'")]


# Bytes


def wide(value: Any) -> bytes:
    """A document by the rules of the wide form, from Python's values."""
    if isinstance(value, dict | list):
        inner = (
            {key.encode(): tree(wide(each)) for key, each in value.items()}
            if isinstance(value, dict)
            else [tree(wide(each)) for each in value]
        )
        return document(inner)
    data = json.dumps(value).encode() if not isinstance(value, str) else value.encode()
    return b"\x0c" + bytes([len(data)]) + data


def difference(operation: int, where: str, value: Any = None) -> bytes:
    raw = b"" if operation == 2 else wide(value)
    return bytes([operation, len(where)]) + where.encode() + (bytes([len(raw)]) + raw if operation != 2 else b"")


BEFORE = wide({"a": ["x", "y"], "b": {"c": "d"}})


@pytest.mark.parametrize(
    ("differences", "after"),
    [
        (difference(0, "$.a[1]", "z"), {"a": ["x", "z"], "b": {"c": "d"}}),
        (difference(1, "$.a[1]", "z"), {"a": ["x", "z", "y"], "b": {"c": "d"}}),
        (difference(1, "$.a[99]", "z"), {"a": ["x", "y", "z"], "b": {"c": "d"}}),
        (difference(2, "$.a[0]") + difference(2, "$.b.c"), {"a": ["y"], "b": {}}),
        (difference(1, '$.b."c d"', "e") + difference(0, '$.b."c d"', "f"), {"a": ["x", "y"], "b": {"c": "d", "c d": "f"}}),
        (difference(0, "$", "all"), "all"),
        (b"", {"a": ["x", "y"], "b": {"c": "d"}}),
    ],
)
def test_each_kind_of_difference(differences: bytes, after: Any) -> None:
    assert tree(wide(after)) == tree(patched(BEFORE, differences))


@pytest.mark.parametrize(
    "differences",
    [
        difference(0, "$.none", "z"), difference(1, "$.b.c", "z"), difference(2, "$.a[2]"), difference(2, "$"), difference(0, "$.a.b", "z"),
        difference(0, "$.b[0]", "z"), difference(7, "$.a", "z"), difference(0, "$.a", "z")[:-3], difference(0, "$!x", "z"),
        difference(0, '$."\\ud800"', "z"), difference(0, '$."\\x"', "z"), b"\x00", b"\x02\x05$",
    ],
)  # fmt: skip
def test_a_difference_without_a_place_is_malformed(differences: bytes) -> None:
    with pytest.raises(Malformed):
        patched(BEFORE, differences)


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=60))
def test_damaged_bytes_are_malformed_and_nothing_else(before: bytes, differences: bytes) -> None:
    for data, patch in ((before, differences), (BEFORE, differences), (before, difference(0, "$.a", "z"))):
        with contextlib.suppress(Malformed):
            patched(data, patch)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_partial_update_is_malformed_and_nothing_else(tail: bytes, place: int, byte: int) -> None:
    map_body = b"\x01d\0\x01t\0" + b"\x03" + b"\x03\xf5\x0f" + b"\x03\x04\x0a\0" + b"\x07"
    old = b"\0" + b"\x07\0\0\0" + len(BEFORE).to_bytes(4, "little") + BEFORE + b"\x02ab"
    patch = difference(0, "$.a[1]", "z")
    rows = old + b"\x01\x01" + b"\0" + b"\x08\0\0\0" + len(patch).to_bytes(4, "little") + patch + b"\x02cd"
    expected = patched(BEFORE, patch)
    assert old + b"\0\x08\0\0\0" + len(expected).to_bytes(4, "little") + expected + b"\x02cd" == whole(
        b"x" + rows, 1, 1 + len(rows), map_body
    )
    damaged = bytearray(rows + tail)
    damaged[place % len(damaged)] = byte
    with contextlib.suppress(Halt):
        whole(bytes(damaged), 0, len(damaged), map_body)
