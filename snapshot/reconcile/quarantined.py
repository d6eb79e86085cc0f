"""Which rows that differ wait in quarantine, under the name that quarantine, its commands and its log lines give them.

A row is named there by the bytes of its key on the wire, which the servers cannot compute; here they are made of the
key's text where that is the same for certain: of integers and of text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cdc.codec.records import avro_long, avro_text
from cdc.model.digest import Key, short_hash
from cdc.model.table import Column, Table

Waiting = Mapping[str, Collection[str]]
"""By table ("db.table"), the hashes of the keys that wait."""
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})


def name_of(waiting: Waiting, table: Table, key: Key) -> str:
    """The row's name in quarantine if it waits there; "" if it does not, or nobody can tell."""
    parts = [_on_the_wire(table.columns[at], text) for at, text in zip(table.key, key, strict=False)]
    if len(parts) != len(table.key) or not all(parts):
        return ""
    name = short_hash(b"".join(parts))
    return name if name in waiting.get(table.qualified, ()) else ""


def _on_the_wire(column: Column, text: str) -> bytes:
    """The value's Avro form; empty where its text does not say it."""
    if column.type in _INTEGERS and not (column.type == "bigint" and column.unsigned):
        return avro_long(int(text))
    return avro_text(text) if column.type in _TEXTS else b""
