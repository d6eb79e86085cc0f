"""Avro by fastavro, beside the codec: schemas are proven before they are used, and records are read for people."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

from cdc.errors import Halt, Malformed
from cdc.model.record import Document

_FRAME = 5
"""A zero and the schema's id, big-endian."""
_NO_SCHEMA = (SchemaParseException, ValueError, TypeError, KeyError, AttributeError, RecursionError)
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ArithmeticError,
    MemoryError,
)


def proven(text: str, place: str) -> Document:
    """The record's schema that a text holds; Halt `schema_invalid` names the place where it holds none."""
    try:
        schema = json.loads(text)
        writer_of(schema)
    except _NO_SCHEMA as error:
        raise _invalid(place, f"is no Avro schema ({type(error).__name__})") from None
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise _invalid(place, "is no Avro schema of a record")
    return schema


def _invalid(place: str, rule: str) -> Halt:
    return Halt(
        "schema_invalid",
        place,
        rule,
        "who registered it? What bears it cannot be read: copy the table into a fresh topic",
    )


def writer_of(schema: Any) -> Any:
    """The schema as the library reads by it.

    Without defaults: who reads by the writer's schema needs none, and the library wants 0.0 where others write 0.
    """
    return fastavro.parse_schema(json.loads(json.dumps(schema), object_hook=_without_default))


def _without_default(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "default"}


def schema_id(data: bytes) -> int | None:
    """The id of the schema by which these bytes are written; None where they bear none."""
    return int.from_bytes(data[1:_FRAME], "big") if len(data) >= _FRAME and data[0] == 0 else None


def read(data: bytes, writer: Any) -> Document:
    """The record behind the frame; Malformed, without a value, where the bytes are not one to the last of them."""
    body = io.BytesIO(data[_FRAME:])
    try:
        datum: Any = fastavro.schemaless_reader(body, writer, None, handle_unicode_errors="replace")
    except _UNREADABLE as error:
        rule = f"cannot be read by its schema ({type(error).__name__})"
        raise Malformed("malformed_record", "record", rule) from None
    if body.read(1) or not isinstance(datum, dict):
        raise Malformed("malformed_record", "record", "is not one record by its schema")
    return datum
