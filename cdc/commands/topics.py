"""`cdc topics read`: the records of a topic for who debugs. Values are masked unless asked for, and that is logged."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from cdc.config.load import Config, TransportConfig
from cdc.errors import Halt, Refused
from cdc.model import names
from cdc.model.record import Document
from cdc.runtime import logs
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.connect import broker_of, registry_of
from cdc.transport.kafka.topic_records import TopicRecords
from cdc.transport.record_view import HeldRecord, RecordView
from cdc.transport.schema_registry import HttpRegistry

BEGIN, END = "begin", "end"
Bounds = dict[int, tuple[int, int]]
"""By partition: the offset to begin at, and the one before which what was held at the call ends."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records of a topic."""

    partition: int | None = None
    """None: all, one after the other."""
    start: str = BEGIN
    """An offset, "begin" or "end"."""
    limit: int = 0
    """The most records; 0: all."""
    follow: bool = False
    """What comes afterwards too, until told to stop."""
    values: bool = False


def read(config: Config, name: str, wanted: Wanted, stop: threading.Event) -> tuple[str, Iterator[Document]]:
    """The topic's name, and its records as documents, read as they are asked for.

    Raises Refused, before any record is read, where there is no such topic, partition or offset.
    """
    if config.transport.kind != "kafka":
        rule = 'without kind = "kafka" there are no topics to read'
        raise Refused("transport", "transport.kind", rule, "cdc status shows what flows")
    broker = broker_of(config.transport, lambda: None)
    topic = _topic(broker, name)
    records = TopicRecords(broker, topic)
    bounds = {partition: _bounds(records, partition, wanted) for partition in _partitions(broker, topic, wanted)}
    view = RecordView(broker.prefix, _schemas(config.transport, broker), values=wanted.values)
    if wanted.values:
        asked = {"partitions": list(bounds), "start": wanted.start, "limit": wanted.limit, "uid": os.getuid()}
        logs.logger("topics").warning("values_shown", topic=topic, **asked)
    found = _records(records, bounds, wanted, stop)
    return topic, _documents(found, view, min(wanted.limit, sys.maxsize))


def _documents(found: Generator[HeldRecord], view: RecordView, limit: int) -> Iterator[Document]:
    """Closes the consumer also where a record cannot be shown: one that is left open holds up the process's end."""
    with closing(found):
        for record in islice(found, limit or None):
            yield view.document(record)


def _topic(broker: KafkaBroker, name: str) -> str:
    """A topic by its whole name, by its table, or by what follows the prefix."""
    prefix = broker.prefix
    db, _, table = name.partition(".")
    whole = [name] if name.startswith(f"{prefix}.") else []
    for topic in [*whole, names.topic(prefix, db, table) if table else f"{prefix}.{name}"]:
        if broker.exists(topic):
            return topic
    hint = "a table as db.table (cdc status lists them), control, schemas, signal, or a topic's whole name"
    raise Refused("topic_unknown", name, f"the broker has no such topic of this pipeline ({prefix}.*)", hint)


def _partitions(broker: KafkaBroker, topic: str, wanted: Wanted) -> list[int]:
    count = broker.known(topic)
    if wanted.partition is None:
        if count > 1 and wanted.start not in (BEGIN, END):
            raise Refused("usage", "--from", f"is an offset of one of {count} partitions", "give --partition")
        return list(range(count))
    if wanted.partition >= count:
        raise Refused("usage", "--partition", f"the topic has {count} partitions", f"0 to {count - 1}")
    return [wanted.partition]


def _bounds(records: TopicRecords, partition: int, wanted: Wanted) -> tuple[int, int]:
    low, end = records.bounds(partition)
    first = {BEGIN: str(low), END: str(end)}.get(wanted.start, wanted.start)
    if not (first.isascii() and first.isdigit()):
        raise Refused("usage", "--from", "is no offset", "an offset, begin or end")
    if not low <= int(first) <= end:
        place = f"topic {records.topic} partition {partition}"
        raise Refused("offset_not_held", place, f"holds offsets from {low} to below {end}", "--from begin")
    return int(first), end


def _schemas(transport: TransportConfig, broker: KafkaBroker) -> Callable[[int], Document]:
    """What finds schemas; nothing is made where there are none."""
    if not transport.registry and not broker.exists(names.schemas_topic(broker.prefix)):
        return _no_schemas
    registry = registry_of(transport, broker)
    if isinstance(registry, HttpRegistry):
        registry.check()
    return registry.schema


def _no_schemas(schema_id: int) -> Document:
    raise Halt("schema_unknown", f"schema id {schema_id}", "there is no schemas topic", "is transport.registry right?")


def _records(records: TopicRecords, bounds: Bounds, wanted: Wanted, stop: threading.Event) -> Generator[HeldRecord]:
    with closing(records):
        for partition, (first, end) in bounds.items():
            for record in records.held(partition, first, end):
                yield record
                if stop.is_set():
                    return
        if wanted.follow:
            yield from records.coming({partition: end for partition, (_, end) in bounds.items()}, stop)
