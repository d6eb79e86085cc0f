"""What is asked of a broker: whether it lets us in, and whose topics these are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from cdc.errors import Malformed, Refused
from cdc.model import names
from cdc.model.names import control_topic
from cdc.model.table import Table
from cdc.protocol import control
from cdc.transport.kafka.broker import KafkaBroker
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
