"""The topic that stands in for a schema registry."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    Producer,
)

from cdc.model.names import schemas_topic
from cdc.runtime import timing
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.client_settings import CONTROL_TOPIC
from cdc.transport.schema_registry import Registry, TopicRegistry


class SchemasTopic:
    """The compacted topic behind `TopicRegistry`."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker, self._topic = broker, schemas_topic(broker.prefix)
        self._next = 0
        self._producer: Producer | None = (
            None  # made once: a client takes longer to make than all the schemas of a database to write
        )
        self._consumer: Consumer | None = None

    def append(self, key: str, value: bytes) -> int:
        """Append, acknowledged; its offset."""
        self._producer = self._producer or self._broker.producer()
        with self._broker.producing({self._topic: len(key) + len(value)}):
            return self._broker.append(self._producer, self._topic, key, value)

    def held(self) -> Iterator[tuple[int, bytes]]:
        """Every record held now and not given out before: offsets and schemas never change."""
        self._broker.prepare(self._topic, 1, CONTROL_TOPIC)
        consumer = self._consumer = self._consumer or self._broker.consumer(timing.TIMES.fetch_held_ms)
        end = self._broker.watermarks(consumer, self._topic, 0)[1]
        for message in self._broker.read(
            consumer, self._topic, 0, self._next or OFFSET_BEGINNING, end if end > self._next else 0
        ):
            yield int(message.offset() or 0), bytes(message.value() or b"")
        self._next = end


def topic_registry(broker: KafkaBroker) -> Registry:
    """The registry for those who run none."""
    return TopicRegistry(SchemasTopic(broker))
