"""The schemas of data records, as Debezium writes them, and the constant parts of their values.

Every column's schema carries the parameters `__debezium.source.column.*`, so that a sink can choose its types from the
schema alone. No field has a default but null: the table map knows none, and the two ways a row comes in must agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from cdc.codec.records import Stamp, avro_long, avro_optional_long, avro_optional_text, avro_text, frame
from cdc.model import policies, types
from cdc.model.policy_sql import boolean
from cdc.model.table import Column, Table, TableName
from cdc.model.types import Schema

SNAPSHOT_MARKS = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"
PARAMETER = "__debezium.source.column."


def avro_name(name: str) -> str:
    """The name with everything that Avro forbids made `_`."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if re.match(r"[A-Za-z_]", safe) else f"_{safe}"


def field_names(table: Table) -> list[str]:
    """Avro field names of the columns in order, unique: what Avro allows stays,
    and others that fall together get a number."""
    taken = {column.name for column in table.columns if avro_name(column.name) == column.name}
    names: list[str] = []
    for column in table.columns:
        name, number = avro_name(column.name), 1
        while name != column.name and name in taken:
            number += 1
            name = f"{avro_name(column.name)}_{number}"
        taken.add(name)
        names.append(name)
    return names


def namespace(prefix: str, table: Table) -> str:
    """The Avro namespace of a table's records."""
    return ".".join(avro_name(part) for part in (*prefix.split("."), table.db, table.name))


def column_schema(column: Column) -> Schema:
    """The column's Avro type with its source parameters, without the null branch."""
    schema = dict(types.wire(column))
    known = schema.get("connect.parameters")
    schema["connect.parameters"] = (dict(known) if isinstance(known, dict) else {}) | _parameters(column)
    return schema


def _parameters(column: Column) -> dict[str, str]:
    length = column.scale if types.of(column).temporal else column.length
    found = {"type": column.type.upper() + (" UNSIGNED" if column.unsigned else "")}
    if length:
        found["length"] = str(length)
    if column.scale and not types.of(column).temporal:
        found["scale"] = str(column.scale)
    if boolean(column) and column.display == 1:  # Debezium's consumers know a TINYINT(1) by its length
        found["length"] = "1"
    found["name"] = column.name
    chosen = types.chosen_of(column, at_capture=True)
    return {PARAMETER + key: value for key, value in found.items()} | {
        policies.PARAMETER + key: value for key, value in chosen.items()
    }


def key_schema(prefix: str, table: Table) -> Schema | None:
    """The schema of the record's key, columns in key order; None for a table without a key."""
    if not table.key:
        return None
    names, space = field_names(table), namespace(prefix, table)
    fields: list[Schema] = [{"name": names[i], "type": column_schema(table.columns[i])} for i in table.key]
    return {"type": "record", "name": "Key", "namespace": space, "fields": fields, "connect.name": f"{space}.Key"}


def _unlike(schema: Schema, seen: set[str]) -> Schema:
    """A record under a name of its own: Avro lets a name be defined once,
    and a mere reference could not carry the parameters."""
    if schema["type"] != "record":
        return schema
    name = str(schema["name"])
    while name in seen:
        name = f"{schema['name']}_{len(seen) + 1}"
    seen.add(name)
    return schema | {"name": name}


def _field(name: str, column: Column, seen: set[str]) -> Schema:
    schema = _unlike(column_schema(column), seen)
    if types.nullable_on_wire(column):
        return {"name": name, "type": ["null", schema], "default": None}
    return {"name": name, "type": schema}


def row_schema(prefix: str, table: Table) -> Schema:
    """The schema of one row, `Value`."""
    seen: set[str] = set()
    space = namespace(prefix, table)
    fields = [_field(name, column, seen) for name, column in zip(field_names(table), table.columns, strict=True)]
    return {"type": "record", "name": "Value", "namespace": space, "fields": fields, "connect.name": f"{space}.Value"}


def _optional(name: str, kind: str) -> Schema:
    return {"name": name, "type": ["null", kind], "default": None}


def source_schema(flavour: str) -> Schema:
    """The schema of the `source` block."""
    space = f"io.debezium.connector.{flavour}"
    mark = {
        "type": "string",
        "connect.version": 1,
        "connect.parameters": {"allowed": SNAPSHOT_MARKS},
        "connect.default": "false",
        "connect.name": "io.debezium.data.Enum",
    }
    fields: list[Schema] = [
        {"name": "version", "type": "string"},
        {"name": "connector", "type": "string"},
        {"name": "name", "type": "string"},
        {"name": "ts_ms", "type": "long"},
        {"name": "snapshot", "type": [mark, "null"], "default": "false"},
        {"name": "db", "type": "string"},
        _optional("sequence", "string"),
        _optional("ts_us", "long"),
        _optional("ts_ns", "long"),
        _optional("table", "string"),
        {"name": "server_id", "type": "long"},
        _optional("gtid", "string"),
        {"name": "file", "type": "string"},
        {"name": "pos", "type": "long"},
        {"name": "row", "type": "int"},
        _optional("thread", "long"),
        _optional("query", "string"),
    ]
    name = f"{space}.Source"
    return {
        "type": "record",
        "name": "Source",
        "namespace": space,
        "fields": fields,
        "connect.version": 1,
        "connect.name": name,
    }


def transaction_schema() -> Schema:
    """The schema of the `transaction` block."""
    fields: list[Schema] = [
        {"name": "id", "type": "string"},
        {"name": "total_order", "type": "long"},
        {"name": "data_collection_order", "type": "long"},
    ]
    return {
        "type": "record",
        "name": "block",
        "namespace": "event",
        "fields": fields,
        "connect.version": 1,
        "connect.name": "event.block",
    }


def value_schema(prefix: str, table: Table, flavour: str) -> Schema:
    """The schema of the record's value, `Envelope`; it also carries the table's true names,
    which its namespace may not."""
    space = namespace(prefix, table)
    fields: list[Schema] = [
        {"name": "before", "type": ["null", row_schema(prefix, table)], "default": None},
        {"name": "after", "type": ["null", f"{space}.Value"], "default": None},
        {"name": "source", "type": source_schema(flavour)},
        {"name": "transaction", "type": ["null", transaction_schema()], "default": None},
        {"name": "op", "type": "string"},
        _optional("ts_ms", "long"),
        _optional("ts_us", "long"),
        _optional("ts_ns", "long"),
    ]
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": space,
        "fields": fields,
        "connect.version": 2,
        "connect.parameters": {"cdc.source.db": table.db, "cdc.source.table": table.name},
        "connect.name": f"{space}.Envelope",
    }


PARTIAL = "cdc.partial"
"""The parameter of a value's schema that has some of its table's columns alone; it holds the key's schema id."""


def some_columns(table: Table, columns: Sequence[int]) -> Table:
    """The table with these columns alone, its key among them."""
    return replace(
        table, columns=tuple(table.columns[at] for at in columns), key=tuple(columns.index(at) for at in table.key)
    )


def partial_schema(prefix: str, part: Table, flavour: str, key_id: int) -> Schema:
    """The schema of the record's value where only these columns of the row are known."""
    schema = value_schema(prefix, part, flavour)
    known: dict[str, str] = schema["connect.parameters"]  # type: ignore[assignment]
    return {**schema, "connect.parameters": {**known, PARTIAL: str(key_id)}}


class RecordSchemas(NamedTuple):
    """The schemas of a table's records."""

    key: Schema | None
    """None for a table without a key."""
    value: Schema


def schemas(prefix: str, table: Table, flavour: str) -> RecordSchemas:
    """The schemas of the records of a table."""
    return RecordSchemas(key_schema(prefix, table), value_schema(prefix, table, flavour))


# Small transactions and wide rows pay for their stamps more than for their rows: what many stamps share is made once.
_text, _optional_text = lru_cache(1024)(avro_text), lru_cache(1024)(avro_optional_text)


class Connector(NamedTuple):
    """Who writes the records, as their `source` blocks say it."""

    version: str
    flavour: str
    name: str
    """The prefix of the topics."""


class LogPlace(NamedTuple):
    """Where rows were read, as their `source` blocks say it; without GTID and file where they were not logged."""

    ts_us: int
    server_id: int
    gtid: str | None = None
    file: str = ""
    pos: int = 0


@lru_cache(64)
def _head(connector: Connector, ts_us: int, snapshot: str, db: str) -> bytes:
    names = [_text(name) for name in connector]
    return b"".join([*names, avro_long(ts_us // 1000), b"\0", _text(snapshot), _text(db)])


@lru_cache(64)
def _tail(ts_us: int, table: str, server_id: int, gtid: str | None, file: str) -> bytes:
    times = avro_optional_long(ts_us) + avro_optional_long(ts_us * 1000)
    return b"".join([times, _optional_text(table), avro_long(server_id), _optional_text(gtid), _text(file)])


def stamp(
    schemas: tuple[int, int],
    connector: Connector,
    table: TableName,
    place: LogPlace,
    now_us: int,
    snapshot: str = "false",
    transaction: str | None = None,
) -> Stamp:
    """What all records of one rows event share, ready to be copied around each row.

    `schemas`: the ids of the schemas of key (0 without one) and value; `table`: its database and name.
    """
    head = _head(connector, place.ts_us, snapshot, table[0])
    tail = _tail(place.ts_us, table[1], place.server_id, place.gtid, place.file) + avro_long(place.pos)
    now = avro_optional_long(now_us // 1000) + avro_optional_long(now_us) + avro_optional_long(now_us * 1000)
    block = b"" if transaction is None else b"\2" + _text(transaction)
    return Stamp(frame(schemas[0]), frame(schemas[1]), head, tail, block, now)
