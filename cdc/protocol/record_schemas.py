"""JSON Schemas of the records that are JSON on the wire, made from the types that write and read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cdc.model.position import Position
from cdc.model.record import Document
from cdc.protocol import signals
from cdc.protocol.control import Base, Copy, Cut, Start

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {int: "integer", str: "string", bool: "boolean", float: "number", NoneType: "null"}
_PARTITION = r"^[A-Za-z0-9._-]{1,249}:\d+$"
"""A topic's name and a partition's number, where a mapping goes by partitions."""
_OPTIONAL = frozenset({"floor", "peers"})
"""A position's fields that are left out where they say nothing."""
_ADDED_LATER = frozenset({"file_created"})
"""Not in positions of earlier versions."""


def control() -> Document:
    """Any record of the control topic."""
    made = {kind.__name__.lower(): _object(kind, type=kind.__name__.lower()) for kind in (Start, Base, Cut, Copy)}
    defs = {**made, "position": _object(Position)}
    return {
        "$schema": _DIALECT,
        "title": "A record of the control topic",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in made],
        "$defs": defs,
    }


def signal() -> Document:
    """A record of the signal topic, in Debezium's form; what else such a record holds is ignored."""
    names = "names, or regular expressions"
    tables = {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": names}
    condition = {
        "type": "object",
        "properties": {"data-collection": {"type": "string"}, "filter": {"type": "string"}},
        "required": ["data-collection", "filter"],
    }
    key = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    data = {
        "type": "object",
        "properties": {
            "data-collections": tables,
            "type": {"enum": ["INCREMENTAL", "incremental"]},
            "additional-conditions": {"type": "array", "items": condition},
            "keys": {"type": "array", "items": key, "maxItems": signals.MOST_KEYS, "description": "ours: only these"},
            "swap": {"type": "boolean", "description": "ours: old rows stay readable until the new ones are complete"},
        },
    }
    text = {"type": "string", "description": "the same object as a text, as in Debezium's table"}
    return {
        "$schema": _DIALECT,
        "title": "A record of the signal topic",
        "description": "Its key is the prefix of the topics.",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "type": {"enum": list(signals.TYPES)},
            "data": {"anyOf": [data, text]},
        },
        "required": ["type"],
    }


def registered_schema() -> Document:
    """A record of the schemas topic: a schema's id is the record's offset."""
    fields: Document = {
        "subject": {"type": "string"},
        "version": {"type": "integer", "minimum": 1},
        "schema": {"type": "string", "description": "an Avro schema, as JSON text"},
    }
    return {
        "$schema": _DIALECT,
        "title": "A record of the schemas topic",
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _shape(kind: Any) -> Document:
    """The schema of a value of this type, as `to_document` spells it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Position:
        return {"$ref": "#/$defs/position"}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        return {"anyOf": [_shape(one) for one in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _shape(arguments[0])} if arguments[-1] is ... else _items(list(arguments), [])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {
            "type": "object",
            "propertyNames": {"pattern": _PARTITION},
            "additionalProperties": _shape(arguments[1]),
            "description": "topic:partition -> value",
        }
    return _object(kind) if is_dataclass(kind) else _items_of(kind)


def _object(kind: Any, **constants: str) -> Document:
    hints = get_type_hints(kind)
    names = [*constants, *(name for name in kind.__slots__ if name in hints)]
    said = {name: {"const": value} for name, value in constants.items()}
    return {
        "type": "object",
        "properties": {name: said.get(name) or _shape(hints[name]) for name in names},
        "required": [name for name in names if name not in _OPTIONAL | _ADDED_LATER],
        "additionalProperties": False,
    }


def _items_of(kind: Any) -> Document:
    """Of a named tuple, which is written as an array."""
    hints = get_type_hints(kind)
    return _items(list(hints.values()), list(hints), least=len(hints) - len(kind._field_defaults))


def _items(kinds: list[Any], names: list[str], least: int | None = None) -> Document:
    document = {"type": "array", "prefixItems": [_shape(one) for one in kinds], "items": False}
    document["minItems"] = len(kinds) if least is None else least
    return document | ({"description": ", ".join(names)} if names else {})
