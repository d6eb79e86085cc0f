"""The report says what was found, to programs and to people, and shows nobody's data."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdc.codec.records import avro_long, avro_text
from cdc.errors import Retry
from cdc.model.digest import key_hash, short_hash
from cdc.model.table import Column, Table
from snapshot.reconcile import report
from snapshot.reconcile.compare import Difference, Kind, Result, Verdict, verify
from snapshot.reconcile.quarantined import name_of
from tests.helpers.documents import faults
from tests.snapshot.reconcile.memory import INTEGERS, KEYLESS, MemorySide

STARTED = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
NAMED = Table("od", "patient", (Column("PatNum", "bigint"), Column("LName", "varchar", length=100, charset="utf8mb4")), key=(0,))
DIFFERENT = Result(NAMED, "od.patient", Verdict.DIFFERENT, "spans", rows_source=3, rows_target=2, differences=(
    Difference(Kind.DIFFERENT, ("471147",), ("LName",)), Difference(Kind.MISSING, ("471148",))))  # fmt: skip
EQUAL = Result(INTEGERS, "db.ints", Verdict.EQUAL, "spans", rows_source=12_345, rows_target=12_345)
UNSETTLED = Result(KEYLESS, "db.keyless", Verdict.UNSETTLED, "whole", reason="target_behind")
REFUSED = Result(INTEGERS, "db.ints", Verdict.REFUSED, "none", reason="target_missing", detail="the target table cannot be compared")
MIXES = {
    "nothing": [],
    "equal": [EQUAL],
    "different": [EQUAL, DIFFERENT, UNSETTLED, REFUSED],
    "unsettled": [UNSETTLED],
    "refused": [REFUSED],
}


def reported(*results: Result) -> dict[str, Any]:
    return report.document("od", results, STARTED, STARTED + timedelta(seconds=90))


@pytest.mark.parametrize("name", MIXES)
def test_a_document_obeys_its_schema(name):
    assert [] == faults("reconcile", json.loads(json.dumps(reported(*MIXES[name]))))


@pytest.mark.parametrize(("name", "equal", "outcome"), [
    ("nothing", True, "equal"), ("equal", True, "equal"), ("different", False, "different"), ("unsettled", False, "unsettled"),
    ("refused", False, "refused"),
])  # fmt: skip
def test_only_tables_that_were_proven_equal_are_equal(name, equal, outcome):
    found = reported(*MIXES[name])
    assert (equal, outcome) == (found["equal"], found["outcome"])


def test_a_row_is_named_by_its_key_hash_and_columns_and_never_by_its_key():
    found = reported(DIFFERENT)
    assert [
        {"kind": "different", "key_hash": key_hash(("471147",)), "quarantined": "", "columns": ["LName"]},
        {"kind": "missing_in_target", "key_hash": key_hash(("471148",)), "quarantined": "", "columns": []},
    ] == found["tables"][0]["differences"]
    for text in (json.dumps(found), report.page(found), repr(DIFFERENT)):
        assert "47114" not in text


@pytest.mark.parametrize(("name", "sentence"), [
    ("nothing", "Yes."), ("equal", "1 table, 12,345 rows. Every one agrees"), ("different", "1 of 4 tables differs"),
    ("unsettled", "did not catch up"), ("refused", "does not exist in the copy"),
])  # fmt: skip
def test_the_page_says_in_words_what_was_found(name, sentence):
    assert sentence in report.page(reported(*MIXES[name]))


def test_rows_that_wait_in_quarantine_are_called_so_by_their_name_there_with_the_next_step():
    """Their name there is made of the key on the wire, the report's own of its text."""
    name = short_hash(avro_long(471148))
    found: dict[str, Any] = report.document("od", [DIFFERENT, EQUAL], STARTED, STARTED, waiting={"od.patient": {name, "0" * 16}})
    assert [] == faults("reconcile", json.loads(json.dumps(found)))
    (first, second), equal = found["tables"][0]["differences"], found["tables"][1]
    assert ("", name, 0) == (first["quarantined"], second["quarantined"], equal["quarantined"])
    text = report.page(found)
    for words in ("2 rows of this table wait in quarantine", "cdc quarantine list --table od.patient", f"cdc quarantine show {name}"):
        assert words in text, words


@pytest.mark.parametrize(
    ("column", "text", "wire"),
    [
        (Column("k", "smallint"), "-3", avro_long(-3)),
        (Column("k", "bigint"), "9223372036854775807", avro_long((1 << 63) - 1)),
        (Column("k", "varchar", length=9, charset="utf8mb4"), "ä ", avro_text("ä ")),
        (Column("k", "bigint", unsigned=True), "7", None),
        (Column("k", "date"), "2024-02-29", None),
    ],
)
def test_a_key_s_name_in_quarantine_follows_from_its_text_where_that_says_its_bytes(column, text, wire):
    table = Table("od", "t", (column,), key=(0,))
    names = [short_hash(one) for one in ([wire] if wire is not None else [avro_long(7), avro_text(text)])]
    assert (names[0] if wire is not None else "") == name_of({"od.t": names}, table, (text,))


def test_the_result_stays_where_a_phone_shows_it():
    """Beside the table's name stands its result; what a narrow page hides comes behind it."""
    head = re.search(r"<thead>(.*?)</thead>", report.page(reported(*MIXES["different"])), re.DOTALL)
    assert head is not None
    columns = re.findall(r'<th(?: class="([^"]*)")?>([^<]*)', head[1])
    assert ["Table", "Result"] == [name for classes, name in columns if "wide" not in classes]
    assert ["Table", "Result"] == [name for _, name in columns[:2]]
    page = report.page(reported(DIFFERENT))
    assert ("No row's data" in page, "patient's" in page) == (True, False)


def test_the_page_needs_nothing_beside_it():
    text = report.page(reported(*MIXES["different"]))
    assert not [mark for mark in ("http:", "https:", "src=", "<link", "<script", "@import", "url(") if mark in text]


def test_names_cannot_break_the_page():
    table = Table("<db>", "<script>alert(1)</script>", INTEGERS.columns, key=(0,))
    text = report.page(reported(verify(table, MemorySide({1: "a"}), MemorySide({}), lambda: None)))
    assert "<script>" not in text


def test_both_files_are_written_and_hold_the_same(tmp_path):
    found = reported(*MIXES["different"])
    html, document = report.write(found, tmp_path)
    assert ["reconcile-20261123T023000Z.html", "reconcile-20261123T023000Z.json"] == sorted(p.name for p in tmp_path.iterdir())
    assert found == json.loads(document.read_text())
    assert report.page(found) == html.read_text()


def test_a_comparison_that_ended_early_says_why_and_what_was_not_compared():
    ended = Retry("source_lost", "127.0.0.1:3306", "the connection was lost", "tried again")
    left_out = Result(KEYLESS, "db.keyless", Verdict.REFUSED, "none", reason=ended.code, detail="it ended before")
    found: Any = report.document("od", [EQUAL, left_out], STARTED, STARTED, ended=ended)
    assert [] == faults("reconcile", json.loads(json.dumps(found)))
    assert ("refused", False, "source_lost") == (found["outcome"], found["equal"], found["ended"]["code"])
    assert "did not come to its end" in report.page(found)
    assert "did not come to its end" not in report.page(reported(EQUAL))


def test_tables_without_a_key_count_as_one_difference():
    assert 3 == report.differences([DIFFERENT, Result(KEYLESS, "db.keyless", Verdict.DIFFERENT, "whole"), EQUAL, UNSETTLED])


def test_the_query_in_the_report_finds_the_row_on_both_sides(both):
    table = Table(
        both.name, "sought", (Column("a", "int"), Column("b", "varchar", length=9, charset="latin1"), Column("n", "int")), key=(1, 0)
    )
    both.create(table, ("int", "varchar(9) CHARACTER SET latin1", "int"))
    both.on_source(f"INSERT INTO {both.name}.sought VALUES (1, 'é', 1), (12, '~', 2)")
    both.on_target(f"INSERT INTO {both.name}.sought VALUES (1, 'é', 5), (12, '~', 2)")
    source, target = both.sides(table)
    (found,) = reported(verify(table, source, target, lambda: None))["tables"]
    name = found["differences"][0]["key_hash"]
    assert [(1, "é", 1)] == both.source.execute(found["find"]["source"].replace("KEY_HASH", name))
    assert [(1, "é", 5)] == both.postgres.execute(found["find"]["target"].replace("KEY_HASH", name))
