"""What comes from the schemas topic or from a registry is a schema, or is refused by its name."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.table import Column, Table
from cdc.transport.avro_records import proven
from cdc.transport.schema_registry import HttpRegistry, TopicRegistry

VALUE = envelope.value_schema("p", Table("d", "t", (Column("id", "int"),), (0,)), "mariadb")
DEBEZIUM = {
    "type": "record", "name": "Value", "fields": [
        {"name": "a", "type": {"type": "double", "connect.default": 0}, "default": 0},
        {"name": "b", "type": [{"type": "bytes", "scale": 2, "precision": 9, "logicalType": "decimal"}, "null"], "default": "\u0000"},
    ],
}  # fmt: skip
NONE: dict[str, Any] = {
    "no JSON": "{",
    "nothing": "",
    "a number": 7,
    "a list": [],
    "a name": "long",
    "no type": {"name": "x"},
    "another type": {"type": "recrd"},
    "no name": {"type": "record", "fields": []},
    "no field": {"type": "record", "name": "x", "fields": [7]},
    "an unknown name": {"type": "record", "name": "x", "fields": [{"name": "a", "type": "Missing"}]},
    "an array": {"type": "array", "items": "long"},
}


def text(schema: Any) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema, separators=(",", ":"))


class Held:
    """A schemas topic with what a test put there."""

    def __init__(self, *values: bytes) -> None:
        self.values = values

    def append(self, key: str, value: bytes) -> int:
        raise AssertionError("nothing is to be appended")

    def held(self) -> Iterator[tuple[int, bytes]]:
        yield from enumerate(self.values)
        self.values = ()


def registered(schema: Any, subject: str = "p.d.t-value") -> bytes:
    return json.dumps({"subject": subject, "version": 1, "schema": text(schema)}).encode()


@pytest.mark.parametrize("schema", [VALUE, DEBEZIUM], ids=["ours", "Debezium's"])
def test_a_schema_is_what_was_registered(schema: Any) -> None:
    assert schema == proven(json.dumps(schema), "here")
    assert schema == TopicRegistry(Held(registered(schema))).schema(0)


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_schema_is_refused_by_its_name_and_the_others_are_there(kind: str) -> None:
    registry = TopicRegistry(Held(registered(NONE[kind]), registered(VALUE)))
    for _ in range(2):
        with pytest.raises(Halt) as refused:
            registry.schema(0)
        assert ("schema_invalid", "schema id 0 (p.d.t-value)") == (refused.value.code, refused.value.place)
        assert refused.value.hint
    assert VALUE == registry.schema(1)
    assert 1 == registry.register("p.d.t-value", VALUE)


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"{}", b'{"subject": "s"}', b"7"])
def test_a_record_that_registers_nothing_is_refused_when_it_is_asked_for(value: bytes) -> None:
    registry = TopicRegistry(Held(value, registered(VALUE)))
    assert VALUE == registry.schema(1)
    with pytest.raises(Halt) as refused:
        registry.schema(0)
    assert ("schema_invalid", "schema id 0 (without a subject)") == (refused.value.code, refused.value.place)
    with pytest.raises(Halt) as refused:
        registry.schema(2)
    assert "schema_unknown" == refused.value.code


@pytest.fixture
def registry() -> Iterator[HttpRegistry]:
    """A registry whose ids are the schemas of NONE, in order, and one that is right behind them."""
    held = [*NONE.values(), VALUE]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"schema": text(held[int(self.path.rpartition("/")[2])])}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield HttpRegistry(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        serving.join()


def test_a_registry_s_answer_is_proven_too(registry: HttpRegistry) -> None:
    assert VALUE == registry.schema(len(NONE))
    for number in range(len(NONE)):
        with pytest.raises(Halt) as refused:
            registry.schema(number)
        assert "schema_invalid" == refused.value.code
        assert refused.value.place.endswith(f"/schemas/ids/{number}")
