"""Records as `cdc topics read` shows them: masked, nothing of a row is in them; asked for, all of it."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, strategies as st

from cdc.codec import envelope
from cdc.errors import Halt, Refused
from cdc.model.record import Document
from cdc.model.table import Column, Table
from cdc.transport.record_view import HeldRecord, RecordView
from tests.helpers.documents import faults

TABLE = Table(
    "od", "t",
    (Column("id", "varchar", length=40, charset="utf8mb4"), Column("note", "text", nullable=True, charset="utf8mb4"),
     Column("n", "bigint"), Column("raw", "varbinary", length=9), Column("fee", "decimal", length=9, scale=2)),
    (0,),
)  # fmt: skip
KEY, VALUE = envelope.key_schema("p", TABLE), envelope.value_schema("p", TABLE, "mysql")
SCHEMAS: dict[int, Any] = {1: KEY, 2: VALUE}
ROW = {"id": "Zaphod", "note": "Beeblebrox", "n": 4711471147, "raw": b"\xfftowel", "fee": Decimal("47.11")}
PLANTED = ("Zaphod", "Beeblebrox", "4711471147", "towel", "47.11", "NDcxMQ", "_3Rvd2Vs", "/3Rvd2Vs")
SOURCE = {
    "version": "1", "connector": "mysql", "name": "p", "ts_ms": 1, "snapshot": "false", "db": "od", "sequence": "7.8", "table": "t",
    "server_id": 1, "gtid": "u:1", "file": "bin.000001", "pos": 4, "row": 0,
}  # fmt: skip


def schema(number: int) -> Document:
    if number not in SCHEMAS:
        raise Halt("schema_unknown", f"schema id {number}", "the schemas topic holds no such record")
    return dict(SCHEMAS[number])


def framed(number: int, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[number]), datum)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def change(row: Any, query: str | None = None) -> bytes:
    source = {**SOURCE, "query": query}
    return framed(2, {"before": row, "after": row, "source": source, "op": "u", "ts_ms": 5})


def record(key: bytes | None, value: bytes | None, topic: str = "p.od.t", **headers: bytes) -> HeldRecord:
    return HeldRecord(topic, 0, 3, 1_700_000_000_123, tuple(headers.items()), key, value)


def shown(of: HeldRecord, *, values: bool = False) -> Any:
    """The document as it is printed: it keeps its schema, and JSON can hold it."""
    document = json.loads(json.dumps(RecordView("p", schema, values=values).document(of), allow_nan=False, ensure_ascii=False))
    assert [] == faults("topic_record", document)
    assert values != document["masked"]
    return document


def silent(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False)
    assert [] == [value for value in PLANTED if value in text], text


def test_a_masked_record_shows_what_surrounds_the_row_and_of_its_values_types_and_lengths() -> None:
    whole = record(framed(1, {"id": "Zaphod"}), change(ROW, "UPDATE t SET note = 'Beeblebrox'"), newkey=framed(1, {"id": "Zaphod"}))
    document = shown(whole)
    silent(document)
    row = {
        "id": {"type": "string", "length": 6}, "note": {"type": "string", "length": 10}, "n": {"type": "integer"},
        "raw": {"type": "bytes", "length": 6}, "fee": {"type": "decimal"},
    }  # fmt: skip
    assert (row, row) == (document["value"]["before"], document["value"]["after"])
    assert {"id": row["id"]} == document["key"] == document["headers"]["newkey"]
    assert {**SOURCE, "query": {"type": "string", "length": 32}} == {
        name: value for name, value in document["value"]["source"].items() if name in SOURCE or name == "query"
    }
    assert ("u", 5, "2023-11-14T22:13:20.123Z") == (document["value"]["op"], document["value"]["ts_ms"], document["timestamp"])
    assert (1, 2, []) == (document["key_schema"], document["value_schema"], document["unread"])


def test_values_that_are_asked_for_are_whole() -> None:
    document = shown(record(framed(1, {"id": "Zaphod"}), change(ROW)), values=True)
    assert {**ROW, "raw": "/3Rvd2Vs", "fee": "47.11"} == document["value"]["after"]
    assert {"id": "Zaphod"} == document["key"]


@given(st.text(min_size=12, alphabet="qxzjk"), st.binary(max_size=40))
def test_whatever_the_bytes_are_none_of_a_text_in_them_is_shown(text: str, noise: bytes) -> None:
    whole = change({**ROW, "id": text, "note": text})
    for value in (noise + whole, whole[:-3], whole + noise, noise, b"\0\0\0\0\x09" + whole, json.dumps({"a": text}).encode()):
        for topic in ("p.od.t", "p.shards-2"):
            assert text not in json.dumps(shown(record(text.encode(), value, topic, h=text.encode())))


def test_a_tombstone_is_null_and_a_null_says_that_it_is_one() -> None:
    assert shown(record(framed(1, {"id": "Zaphod"}), None))["value"] is None
    assert {"type": "null"} == shown(record(None, change({**ROW, "note": None})))["value"]["after"]["note"]


def test_what_else_stands_in_an_envelope_is_masked_and_a_row_that_is_not_there_is_null() -> None:
    fields = [{"name": name, "type": ["null", "string"]} for name in ("op", "source", "after", "before", "extra")]
    SCHEMAS[3] = {"type": "record", "name": "Foreign", "fields": fields}
    value = shown(record(None, framed(3, {"op": "d", "source": None, "after": None, "before": "Zaphod", "extra": "Beeblebrox"})))["value"]
    assert ("d", None, None) == (value["op"], value["source"], value["after"])
    assert [{"type": "string", "length": 6}, {"type": "string", "length": 10}] == [value["before"], value["extra"]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\0\0\0\0\x09more", "schema_unknown"),
        (change(ROW)[:-4], "malformed_record"),
        (change(ROW) + b"x", "malformed_record"),
        (b"\0\0\0\0\x02", "malformed_record"),
    ],
)
def test_what_cannot_be_read_says_why_and_the_next_record_is_read(value: bytes, reason: str) -> None:
    view = RecordView("p", schema, values=False)
    assert [reason] == view.document(record(None, value))["unread"]
    assert [] == view.document(record(None, change(ROW)))["unread"]


def test_a_registry_that_refuses_is_a_reason_too() -> None:
    def refusing(number: int) -> Document:
        raise Refused("registry_refused", "http://r/schemas/ids/2", "HTTP 404")

    assert ["registry_refused"] == RecordView("p", refusing, values=False).document(record(None, change(ROW)))["unread"]


def test_control_records_are_whole_but_for_the_key_that_a_copy_has_come_to() -> None:
    cut = {"type": "cut", "copies": {"active": {"table": "t", "after": ["'Zaphod'"], "rows": 7}}, "position": {"gtids": "u:1-9"}}
    document = shown(record(b"cut-7", json.dumps(cut).encode(), "p.control"))
    silent(document)
    assert ("cut-7", "cut", "u:1-9") == (document["key"], document["value"]["type"], document["value"]["position"]["gtids"])
    assert ("t", {"type": "array", "length": 1}, 7) == tuple(document["value"]["copies"]["active"].values())
    assert cut == shown(record(b"cut-7", json.dumps(cut).encode(), "p.control"), values=True)["value"]


def test_signals_show_their_type_and_not_what_they_ask_for() -> None:
    signal = {
        "id": "1",
        "type": "execute-snapshot",
        "data": {"keys": [["Zaphod"]], "additional-conditions": [{"filter": "n = 4711471147"}]},
    }
    for text in (json.dumps(signal), json.dumps({**signal, "data": json.dumps(signal["data"])})):
        document = shown(record(b"p", text.encode(), "p.signal"))
        silent(document)
        assert "execute-snapshot" == document["value"]["type"]


@pytest.mark.parametrize(
    "asked",
    ["Zaphod", ["Zaphod"], {"id": {"x": "Zaphod"}, "payload": {"keys": [["Zaphod"]]}}, {"data": "Zaphod"}, {"data": {"filter": "Zaphod"}},
     {"data": {"data-collections": [["Zaphod"]]}}, {"filter": "Zaphod"}],
)  # fmt: skip
def test_a_request_that_is_none_of_ours_shows_nothing_of_what_it_holds(asked: Any) -> None:
    silent(shown(record(b"Zaphod", json.dumps(asked).encode(), "p.signal")))


def test_what_no_parser_reads_and_no_calendar_has_is_shown_as_that() -> None:
    deep = shown(record(b"p", b"[" * 100_000, "p.signal"))
    assert (["json"], {"type": "bytes", "length": 100_000}) == (deep["unread"], deep["value"])
    assert (
        RecordView("p", schema, values=False).document(record(None, None)._replace(timestamp_ms=1_700_000_000_000_000))["timestamp"] is None
    )


def test_schemas_are_documents_and_what_is_none_is_bytes() -> None:
    held = {"subject": "p.od.t-key", "version": 1, "schema": json.dumps(KEY)}
    assert {**held, "schema": json.loads(json.dumps(KEY))} == shown(record(b"k", json.dumps(held).encode(), "p.schemas"))["value"]
    document = shown(record(b"k", b"Zaphod", "p.schemas"))
    silent(document)
    assert (["json"], {"type": "bytes", "length": 6}) == (document["unread"], document["value"])
