"""Records of topics as documents for people who debug. Masked unless asked: the data are health records.

Masked, a value shows its type and, of texts, bytes and arrays, its length; so do keys, and whatever cannot be read.
What surrounds a row (operation, position, transaction, times) is shown as it is, and so is what our own topics say, but
for keys and conditions in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from cdc.errors import Halt, Malformed, Refused
from cdc.model.names import control_topic, schemas_topic, signal_topic
from cdc.model.record import Document
from cdc.transport.avro_records import read, schema_id, writer_of

_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "double",
    Decimal: "decimal",
    str: "string",
    bytes: "bytes",
    list: "array",
}
_ENVELOPE = frozenset({"op", "source", "transaction", "ts_ms", "ts_us", "ts_ns"})
"""What surrounds the row in an envelope; whatever else stands there is masked."""
_OF_ROWS = frozenset({"after", "data", "query"})
"""What may hold values in our own topics and in a source block: a copy's last key, a request's keys, a statement."""


_OF_REQUESTS = frozenset({"id", "type", "data-collections", "swap"})
"""What a request says that is no value of a row."""


class HeldRecord(NamedTuple):
    """One record as a broker holds it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None
    value: bytes | None


class RecordView:
    """Makes documents of records; their schemas are asked for once."""

    def __init__(self, prefix: str, schema: Callable[[int], Document], *, values: bool) -> None:
        """`schema` finds one by its id, or raises Halt or Refused; `values`: nothing is masked."""
        self._prefix, self._signal_topic = prefix, signal_topic(prefix)
        self._json = {control_topic(prefix), self._signal_topic}
        self._schemas_topic, self._schema, self._values = schemas_topic(prefix), schema, values
        self._writers: dict[int, Any] = {}

    def document(self, record: HeldRecord) -> Document:
        """As in schemas/json/topic_record.schema.json; `unread` has the reason where key or value could not be read."""
        unread: list[str] = []
        key, value = self._read(record, unread)
        return {
            "topic": record.topic, "partition": record.partition, "offset": record.offset,
            "timestamp": _time(record.timestamp_ms),
            "headers": {name: self._avro(data, unread, self._masked) for name, data in record.headers},
            "key_schema": self._id(record, record.key), "value_schema": self._id(record, record.value),
            "key": key, "value": value, "masked": not self._values, "unread": sorted(set(unread)),
        }  # fmt: skip

    def _id(self, record: HeldRecord, data: bytes | None) -> int | None:
        return None if data is None or record.topic in self._json | {self._schemas_topic} else schema_id(data)

    def _read(self, record: HeldRecord, unread: list[str]) -> tuple[Any, Any]:
        if record.topic in self._json or record.topic == self._schemas_topic:
            key = None if record.key is None else record.key.decode("utf-8", "replace")
            foreign = record.topic == self._signal_topic and key != self._prefix and not self._values
            return masked(key) if foreign else key, self._said(record, unread)
        return self._avro(record.key, unread, self._masked), self._avro(record.value, unread, self._envelope)

    def _said(self, record: HeldRecord, unread: list[str]) -> Any:
        """What a record of our own topics says, which is JSON."""
        if record.value is None:
            return None
        try:
            document = json.loads(record.value)
            if record.topic == self._schemas_topic:
                return {**document, "schema": json.loads(document["schema"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            unread.append("json")
            return self._masked(record.value)
        if self._values:
            return document
        return _asked(document) if record.topic == self._signal_topic else _discreet(document)

    def _avro(self, data: bytes | None, unread: list[str], shown: Callable[[Any], Any]) -> Any:
        """The datum by its schema; the bytes themselves where there is none."""
        number = None if data is None else schema_id(data)
        if data is None or number is None:
            return None if data is None else self._masked(data)
        try:
            if number not in self._writers:
                self._writers[number] = writer_of(self._schema(number))
            return shown(read(data, self._writers[number]))
        except (Halt, Refused, Malformed) as error:
            unread.append(error.code)
            return self._masked(data)

    def _masked(self, datum: Any) -> Any:
        return plain(datum) if self._values else masked(datum)

    def _envelope(self, datum: Document) -> Any:
        if self._values or not {"op", "source", "after"} <= datum.keys():
            return self._masked(datum)
        surrounds = _ENVELOPE | {name for name, value in datum.items() if value is None}
        return {name: (_discreet if name in surrounds else masked)(value) for name, value in datum.items()}


def masked(datum: Any) -> Any:
    """The same shape with each value's type in its place, and the length of texts (in characters), bytes and arrays."""
    if isinstance(datum, Mapping):
        return {name: masked(value) for name, value in datum.items()}
    kind = _TYPES.get(type(datum), "other")
    return {"type": kind, "length": len(datum)} if isinstance(datum, str | bytes | list) else {"type": kind}


def _discreet(document: Any) -> Any:
    """The document, but for what in it may hold values of rows."""
    if isinstance(document, Mapping):
        return {name: (masked if name in _OF_ROWS and value else _discreet)(value) for name, value in document.items()}
    return [_discreet(value) for value in document] if isinstance(document, list) else plain(document)


def _asked(signal: Any) -> Any:
    """A request by what is known to be no value of a row: anybody may have written it."""
    if not isinstance(signal, Mapping):
        return masked(signal)
    return {name: _asked_for(name, value) for name, value in signal.items()}


def _asked_for(name: str, value: Any) -> Any:
    if name == "data" and isinstance(value, Mapping):
        return _asked(value)
    texts = value if isinstance(value, list) else [value]
    return value if name in _OF_REQUESTS and all(isinstance(one, str | bool) for one in texts) else masked(value)


def plain(datum: Any) -> Any:
    """What JSON can hold of a datum: bytes as Base64; what else it has no form for, as text."""
    if isinstance(datum, Mapping):
        return {str(name): plain(value) for name, value in datum.items()}
    if isinstance(datum, list | tuple):
        return [plain(value) for value in datum]
    if isinstance(datum, bytes):
        return base64.b64encode(datum).decode()
    if datum is None or isinstance(datum, bool | int | str) or (isinstance(datum, float) and datum - datum == 0):
        return datum
    return str(datum)


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a producer that counts in another unit
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
