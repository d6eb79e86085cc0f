"""Policies by themselves: which one holds for a column, what may follow what, and what the codec makes of values that do not fit."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdc import codec
from cdc.codec import envelope
from cdc.codec.policy_values import refused, replaced
from cdc.errors import Halt
from cdc.model import policies, types, types_doc
from cdc.model.policies import DEFAULT, Policies, Policy, chosen, mixed
from cdc.model.record import Record
from cdc.model.selection import chosen as with_policies
from cdc.model.table import Column, Table
from tests.codec.test_types import ID, rows_in, selection, stamp, value_plan
from tests.helpers.servers import SourceDatabase, TargetDatabase

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_of_types_is_made_from_the_table_of_types() -> None:
    assert (ROOT / "docs" / "types.md").read_text() == types_doc.document()


def test_every_type_and_every_policy_is_in_the_document() -> None:
    text = types_doc.document()
    assert [] == [name for name in types.TYPES if f"| {name} |" not in text]
    keys = {key for name in types.TYPES for key in types.policy_keys(types_doc.samples(name)[0])}
    assert {name for name in Policy.__slots__ if name in types_doc._POLICY_WORDS} == keys - {"sentinel_date", "timestamp_zone"}
    assert set(types_doc._NOTES) <= set(types.TYPES)


def test_the_more_exact_entry_wins_and_of_two_alike_the_later() -> None:
    book = Policies(
        Policy(zero_date="error"),
        {
            "a.b.Born": {"zero_date": "text"},
            "a.*.*": {"zero_date": "null", "nul_text": "strip"},
            "a.b.*": {"nul_text": "replace"},
            "a.?.*": {"invalid_text": "replace", "nul_text": "error"},
        },
    )
    assert Policy(zero_date="text", nul_text="replace", invalid_text="replace") == book.of("a", "b", "born")
    assert Policy(zero_date="null", nul_text="replace", invalid_text="replace") == book.of("a", "b", "x.y")
    assert Policy(zero_date="null", nul_text="strip") == book.of("a", "bb", "born")
    assert Policy(zero_date="error") == book.of("aa", "b", "born")
    assert ({"zero_date": "text"}, {}) == (book.named("a", "b", "BORN"), book.named("a", "b", "x"))


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({}, {}, ""),
        ({}, {"zero_date": "sentinel"}, "zero_date"),
        ({"zero_date": "sentinel"}, {}, "zero_date"),
        ({"zero_date": "sentinel"}, {"zero_date": "sentinel", "sentinel_date": "1900-01-01"}, "sentinel_date"),
        ({"zero_date": "error"}, {"zero_date": "sentinel", "sentinel_date": "1900-01-01"}, ""),
        ({}, {"nul_text": "strip"}, ""),
        ({"nul_text": "strip"}, {"nul_text": "replace"}, "nul_text"),
        ({"nul_text": "strip"}, {}, "nul_text"),
        ({"nul_text": "strip"}, {"nul_text": "strip"}, ""),
        ({"timestamp": "timestamp"}, {"timestamp": "timestamp", "timestamp_zone": "Asia/Tokyo"}, "timestamp_zone"),
        ({"json": "jsonb"}, {"json": "jsonb", "refused_json": "null"}, ""),
    ],
)
def test_policies_that_would_mix_two_meanings_are_found(before: dict[str, str], now: dict[str, str], found: str) -> None:
    assert found == mixed(before, now)


def test_only_what_is_at_work_is_remembered() -> None:
    policy = Policy(sentinel_date="1900-01-01", timestamp_zone="Asia/Tokyo", refused_json="null", over_wide="null")
    assert {"nul_text": "strip"} == chosen(policy, Policy.__slots__)
    assert {} == chosen(replace(policy, nul_text="error"), Policy.__slots__)  # what the first version's rows are said to be
    assert {"tinyint1": "boolean", "over_wide": "null"} == chosen(replace(policy, tinyint1="boolean"), ("tinyint1", "over_wide"))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Africa/Casablanca", "Australia/Lord_Howe", "UTC"])
def test_a_naive_time_is_the_time_of_the_zone_and_one_that_comes_twice_is_known(zone: str) -> None:
    chance, info = random.Random(zone), ZoneInfo(zone)
    moments, _ = policies.transitions(zone)
    edges = [moment + by for moment in moments[1:] for by in (-3601, -1800, -1, 0, 1, 1799, 1800, 3599, 3600)]
    for second in [*edges, *(chance.randrange(4_294_967_296) for _ in range(2000))]:
        there = datetime.fromtimestamp(second, UTC).astimezone(info).replace(tzinfo=None)
        twin = (there.replace(tzinfo=info, fold=1).astimezone(UTC), there.replace(tzinfo=info, fold=0).astimezone(UTC))
        again = twin[0] != twin[1] and twin[0].astimezone(info).replace(tzinfo=None) == twin[1].astimezone(info).replace(tzinfo=None)
        expected = (int(there.replace(tzinfo=UTC).timestamp()) * 1_000_000 + 7, again)
        assert expected == policies.local(zone, second * 1_000_000 + 7), (zone, second)
    assert (-1, False) == policies.local(zone, -1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r'{"a": "x"}', ""),
        (r'{"a": "\u0000"}', "\\u0000"),
        (r'{"a": "\\u0000"}', ""),
        (r'{"a": "\\\u0000"}', "\\u0000"),
        (r'"\ud83d\ude00"', ""),
        (r'"\ud83d"', "half a surrogate pair"),
        (r'"\ud83dx\ude00"', "half a surrogate pair"),
        (r'"\ude00"', "half a surrogate pair"),
        (r'"\ud83d\n\ude00"', "half a surrogate pair"),
        ("[1e131071, -1.5e300]", ""),
        ("[1e131072]", "a number beyond numeric"),
        ("[1e99999999999999999999]", "a number beyond numeric"),
        ("[1e-16383]", ""),
        ("[1e-16384]", "a number beyond numeric"),
        ('["1e999999"]', ""),
        (f"[{'9' * 131073}]", "a number beyond numeric"),
    ],
)
def test_what_jsonb_refuses_is_known_before_the_server_says_so(text: str, reason: str, postgres: TargetDatabase) -> None:
    assert reason == refused(text.encode())
    with postgres.connect() as line:
        found = line.execute("SELECT pg_input_is_valid(%s, 'jsonb')", [text]).fetchone() if line.info.server_version >= 160000 else None
    assert found in (None, (not reason,)), text


def test_a_document_close_to_the_limit_of_jsonb_counts_as_beyond_it() -> None:
    assert ("", "its size") == (refused(b"[" + b"1," * 6_000_000 + b"1]"), refused(b"[" + b"1," * 13_000_000 + b"1]"))


def keyed(column: Column) -> Table:
    return Table("db", "t", (replace(column, nullable=False), Column("x", "int")), (0,))


def written(table: Table, *values: bytes, book: Policies | None = None) -> tuple[bytes, dict[tuple[str, str], int]]:
    """What comes of rows of (value, null), given as the log has them, after both ends of the codec; and what was counted."""
    records: list[Record] = []
    plan = codec.RowPlan(table)
    body = b"".join(b"\2" + value for value in values)
    codec.encode_rows(plan, body, 0, len(body), "c", stamp(), codec.Numbers(1, 1), records)
    sink = codec.ValuePlan(envelope.value_schema("od", table, "mysql"), envelope.key_schema("od", table), book)
    data, out = [record.value or b"" for record in records], bytearray()
    changed = sink.copy_rows([(value, one.after_at) for value, one in zip(data, sink.open(data), strict=True)], out)
    return bytes(out), plan.anomalies | changed


def text_of(value: bytes) -> bytes:
    return bytes([len(value)]) + value


BOOK = Policies(Policy(nul_text="strip", tinyint1="boolean", bigint_unsigned="bigint", over_wide="clamp", timestamp="timestamp",
                       timestamp_zone="Europe/Berlin"))  # fmt: skip
LOST = Policy(zero_date="sentinel", invalid_text="replace", tinyint1="boolean")
FOLD = int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("column", "bad", "good", "code"),
    [
        (Column("k", "date"), bytes(3), (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little"), "key_date"),
        (Column("k", "varchar", length=9, charset="cp1251"), text_of(b"a\x98"), text_of(b"a"), "invalid_text"),
        (Column("k", "varchar", length=9, charset="latin1"), text_of(b"a\0"), text_of(b"a"), "nul_in_text"),
        (Column("k", "tinyint", display=1), b"\2", b"\1", "over_wide"),
        (Column("k", "bigint", unsigned=True), b"\xff" * 8, b"\1" + bytes(7), "over_wide"),
        (Column("k", "timestamp"), FOLD, bytes([0, 0, 0, 1]), "ambiguous_time"),
    ],
)
def test_no_policy_changes_a_key_and_beside_it_the_same_value_is_changed_and_counted_once(
    column: Column, bad: bytes, good: bytes, code: str
) -> None:
    column = replace(column, policy=LOST)
    written(keyed(column), good, book=BOOK)
    with pytest.raises(Halt) as caught:
        written(keyed(column), good, bad, book=BOOK)
    assert (code, "db.t.k") == (caught.value.code, caught.value.place)
    assert "k" in caught.value.place
    other = Table("db", "t", (replace(column, nullable=True), Column("x", "int")))
    assert 1 == sum(written(other, good, bad, book=BOOK)[1].values())


def test_a_key_is_compared_as_it_is_and_beside_it_without_what_is_taken_out() -> None:
    """Else two keys, of which the target can hold one, would be one for `reconcile`."""
    columns = tuple(Column(name, "varchar", length=9, charset="utf8mb4") for name in "kv")
    key, other = with_policies([Table("a", "b", columns, (0,))], Policies())[0].columns
    assert (False, True) == tuple("X'00'" in types.canonical_mysql(one, "c") for one in (key, other))


def test_the_image_before_a_change_is_neither_counted_nor_an_error() -> None:
    column = Column("d", "date", policy=Policy(zero_date="error"))
    table = Table("db", "t", (ID, column), (0,))
    day = (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little")
    before, after = (b"\0" + (1).to_bytes(8, "little") + value for value in (bytes(3), day))
    out: list[Record] = []
    plan = codec.RowPlan(table)
    assert 1 == codec.encode_rows(plan, before + after, 0, 24, "u", stamp(), codec.Numbers(1, 1), out)
    assert 1 == codec.encode_rows(plan, before, 0, 12, "d", stamp(), codec.Numbers(1, 1), out)
    assert {} == plan.anomalies
    with pytest.raises(Halt) as caught:
        codec.encode_rows(plan, after + before, 0, 24, "u", stamp(), codec.Numbers(1, 1), out)
    assert ("zero_date", "db.t.d") == (caught.value.code, caught.value.place)


@pytest.mark.parametrize(("key", "column", "bad"), [
    ("nul_text", Column("c", "varchar", length=9, charset="latin1"), text_of(b"geheim\0")),
    ("over_wide", Column("c", "tinyint", display=1), b"\x7f"),
    ("over_wide", Column("c", "bigint", unsigned=True), b"\xff" * 8),
])  # fmt: skip
def test_error_stops_with_column_and_reason_and_without_the_value(key: str, column: Column, bad: bytes) -> None:
    column = replace(column, policy=LOST)
    with pytest.raises(Halt) as caught:
        written(Table("db", "t", (column, Column("x", "int"))), bad, book=Policies(replace(BOOK.default, **{key: "error"})))
    said = str(caught.value)
    assert caught.value.place == "db.t.c"
    assert "polic" in said
    assert not any(word in said for word in ("geheim", "127", "18446744073709551615"))


def test_the_wire_is_what_it_was_unless_a_policy_needs_another_and_says_so() -> None:
    table = Table("db", "t", (Column("f", "tinyint", display=1), Column("d", "date"), Column("c", "char", length=3, charset="latin1")))
    plain = envelope.row_schema("od", table)
    assert not any(word in json.dumps(plain) for word in ("policy", '"length": "1"'))
    chosen_table = replace(table, columns=tuple(replace(column, policy=LOST) for column in table.columns))
    fields = [field["type"][1] for field in envelope.row_schema("od", chosen_table)["fields"]]  # type: ignore[attr-defined]
    parameters = [{k: v for k, v in f["connect.parameters"].items() if "policy" in k or k.endswith("length")} for f in fields]
    source = "__debezium.source.column.length"
    assert [{source: "1"}, {"cdc.policy.zero_date": "sentinel"}, {source: "3", "cdc.policy.invalid_text": "replace"}] == parameters
    assert {"f": {"tinyint1": "boolean", "over_wide": "clamp"}, "d": {"zero_date": "sentinel"},
            "c": {"invalid_text": "replace", "nul_text": "strip"}} == codec.ValuePlan(
                envelope.value_schema("od", chosen_table, "mysql"), None, BOOK).chosen  # fmt: skip
    assert {"c": {"nul_text": "strip"}} == value_plan(table).chosen
    spelled = replace(table.columns[1], policy=Policy(zero_date="text"))
    assert ("string", "text") == (types.wire(spelled)["type"], types.postgres(spelled))
    assert DEFAULT == table.columns[0].policy


def test_bytes_that_are_no_text_are_replaced_alike_by_both_ways(source: SourceDatabase) -> None:
    for number, (charset, value, text) in enumerate((("cp1251", "619862", "a�b"), ("cp1257", "A161", "�a"), ("utf8mb4", "61C3A4", "aä"))):
        source.execute(f"CREATE TABLE t{number} (id bigint PRIMARY KEY, v char(9) CHARACTER SET {charset})")
        source.execute(f"INSERT INTO t{number} VALUES (1, _{charset} X'{value}')")
        table = Table(source.name, f"t{number}", (ID, Column("v", "char", length=9, charset=charset, policy=LOST)), (0,))
        row = b"\0" + (1).to_bytes(8, "little") + text_of(bytes.fromhex(value))
        logged: list[Record] = []
        selected: list[Record] = []
        codec.encode_rows(codec.RowPlan(table), row, 0, len(row), "c", stamp(), codec.Numbers(1, 1), logged)
        block = selection(source, table)
        codec.encode_select(codec.RowPlan(table), block, 0, len(block), stamp(), codec.Numbers(1, 1), selected)
        plan = value_plan(table)
        assert rows_in(plan, logged) == rows_in(plan, selected), charset
        assert rows_in(plan, logged)[0].endswith(text.encode()), charset


@pytest.mark.parametrize(
    ("charset", "value", "text"),
    [
        ("utf8mb4", "61ff62", "a�b"),
        ("utf8mb3", "61f09f988062", "a�b"),
        ("gbk", "61ffc4e3", "a�你"),
        ("ujis", "61b0", "a�"),
        ("utf16", "0061d80000620063", "a�bc"),
        ("utf16le", "6100d8", "a�"),
        ("utf32", "00000061ffffffff00000062", "a�b"),
        ("cp1251", "989861", "��a"),
    ],
)
def test_only_what_is_no_text_is_replaced(charset: str, value: str, text: str) -> None:
    assert text == replaced(charset, bytes.fromhex(value)).decode()


def test_a_policy_needs_eight_bytes_of_a_moment() -> None:
    column = Column("t", "timestamp", policy=DEFAULT)
    out, changed = written(Table("db", "t", (column, Column("x", "int"))), FOLD, book=BOOK)
    naive = int(datetime(2026, 10, 25, 2, 30, tzinfo=UTC).timestamp()) - 946_684_800
    assert (struct.pack(">q", naive * 1_000_000), {("t", "ambiguous_time"): 1}) == (out[6:14], changed)
