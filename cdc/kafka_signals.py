"""The signal topic: requests to capture, in Debezium's form, kept for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka import TopicPartition

from cdc.kafka_broker import KafkaBroker, translate
from cdc.topic import signal_topic

SIGNAL_TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1"}
_MOST = 1_000


class KafkaSignals:
    """Capture's end of the topic: read by hand from a number on; nothing is committed."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker, self._topic = broker, signal_topic(broker.prefix)
        broker.prepare(self._topic, 1, SIGNAL_TOPIC)
        self._consumer = broker.consumer()

    def seek(self, number: int) -> None:
        """Read from this offset on, or from the first one that is held."""
        low, _ = self._broker.watermarks(self._consumer, self._topic, 0)
        self._consumer.assign([TopicPartition(self._topic, 0, max(low, number))])

    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        """What has come since."""
        found = []
        for message in self._consumer.consume(_MOST, 0):
            error = message.error()
            if error is not None:
                raise translate(error, f"topic {self._topic}")
            key = message.key()
            found.append((int(message.offset() or 0), None if key is None else bytes(key), bytes(message.value() or b"")))
        return found

    def close(self) -> None:
        """Give up the connection."""
        self._consumer.close()


def send(broker: KafkaBroker, document: Mapping[str, Any]) -> int:
    """Append a signal, acknowledged; its number."""
    topic = signal_topic(broker.prefix)
    broker.prepare(topic, 1, SIGNAL_TOPIC)
    producer = broker.producer()
    return broker.append(producer, topic, broker.prefix, json.dumps(document).encode())
