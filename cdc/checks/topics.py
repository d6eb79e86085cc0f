"""What is asked of a broker: whether it lets us in, and whose topics these are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from cdc.checks.source import Examined
from cdc.errors import Malformed, Refused
from cdc.model import names
from cdc.model.finding import Finding
from cdc.model.names import control_topic
from cdc.model.table import Table
from cdc.protocol import control
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.record_limits import FRAME, LARGE, RecordLimit
from cdc.transport.schema_registry import HttpRegistry

_HINT = "give transport.prefix a name that nothing else writes to, or delete its topics"


@dataclass(frozen=True, slots=True)
class TopicsCheck:
    """What is asked of the broker of a pipeline's topics."""

    broker: KafkaBroker
    registry: str
    """The address of a registry of schemas; "" where none is named."""
    pipeline: str

    def reach(self) -> None:
        """The broker lets us in, and so does the registry if one is named."""
        self.broker.check()
        if self.registry:
            HttpRegistry(self.registry, self.broker.answer_seconds).check()

    def demand(self, tables: Sequence[Table]) -> None:
        """Reach both, and find that these tables' topics are ours to write."""
        self.reach()
        self.demand_prefix(tables)

    def has_begun(self) -> bool:
        """Whether capture has written here."""
        return self.broker.exists(control_topic(self.broker.prefix))

    def demand_prefix(self, tables: Sequence[Table]) -> None:
        """Refuse to write topics that something else has written.

        The next cuts of another pipeline's capture would be void.
        """
        broker, prefix = self.broker, self.broker.prefix
        place = f"transport.prefix {prefix}"
        if self.has_begun():
            owner = _owner(broker, control_topic(prefix), place)
            if owner and owner != self.pipeline:
                raise Refused("prefix_taken", place, f"its topics are written by pipeline {owner}", _HINT)
            return
        topics = [names.topic(prefix, table.db, table.name) for table in tables]
        with closing(broker.consumer()) as consumer:
            held = [name for name in topics if broker.exists(name) and _holds_records(broker, consumer, name)]
        if held:
            raise Refused("prefix_taken", place, f"{held[0]} holds records, and there is no control topic", _HINT)

    def large_rows(self, found: Examined) -> list[Finding]:
        """Warnings where a change of a row that the source can hold is more than the brokers, or topics, take."""
        largest = {
            names.topic(self.broker.prefix, table.db, table.name): _largest_change(table, found.packet_bytes)
            for table in found.tables
        }
        limits, warnings = self.broker.limits, []
        for limit in (limits.client(), *limits.request()):
            above = [topic for topic, size in largest.items() if size > limit.bytes]
            warnings += _limited(above, largest, limit)
        of_topics = [(limit, topic) for topic, limit in limits.topics(largest).items() if largest[topic] > limit.bytes]
        for bound in sorted({limit.bytes for limit, _ in of_topics}):
            above = [topic for limit, topic in of_topics if limit.bytes == bound]
            warnings += _limited(above, largest, next(limit for limit, topic in of_topics if topic == above[0]))
        return warnings


_SMALL = 65_535
"""Bytes of a row's columns that are no TEXT, BLOB or the like."""
_LONG = (4 << 30) - 1
_SIZES = {"tiny": 255, "": 65_535, "medium": (16 << 20) - 1, "long": _LONG}
_COLUMN_BYTES = {f"{size}{kind}": most for size, most in _SIZES.items() for kind in ("text", "blob")}


def _largest_change(table: Table, packet_bytes: int) -> int:
    """About what a record of the table can weigh, with the row before and after; never less than a batch."""
    row = _SMALL + sum(_COLUMN_BYTES.get(column.type, 0) for column in table.columns)
    row += _LONG * sum(column.type in ("json", "geometry") for column in table.columns)
    return max(LARGE, 2 * min(row, packet_bytes) + FRAME)


def _limited(topics: Sequence[str], largest: Mapping[str, int], limit: RecordLimit) -> list[Finding]:
    """A risk and no obstacle: most tables whose columns could hold such rows have none."""
    if not topics:
        return []
    place = f"topic {topics[0]}" + (f" and {len(topics) - 1} more" if topics[1:] else "")
    rule = (
        f"a record can be of {max(largest[topic] for topic in topics):,} bytes (batches of small ones; a row of "
        f"max_allowed_packet before and after its change), and {limit.setting} is {limit.bytes:,}: "
        "a larger one stops capture"
    )
    return [Finding("warning", "record_limit", place, rule, f"-- {limit.mend}")]


def _owner(broker: KafkaBroker, topic: str, place: str) -> str:
    """The pipeline that wrote the topic's first start record; compaction keeps every start."""
    value = broker.first(topic)
    if value is None:
        return ""
    try:
        entry = control.from_document(json.loads(value), 0)
    except (ValueError, Malformed):
        raise Refused("prefix_taken", place, f"{topic} is not a control topic", _HINT) from None
    return entry.pipeline if isinstance(entry, control.Start) else ""


def _holds_records(broker: KafkaBroker, consumer: Any, topic: str) -> bool:
    return any(low < high for low, high in (broker.watermarks(consumer, topic, p) for p in range(broker.known(topic))))
