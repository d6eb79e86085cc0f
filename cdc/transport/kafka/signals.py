"""The signal topic: requests to capture, in Debezium's form, kept for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from confluent_kafka import TopicPartition

from cdc.errors import Retry
from cdc.model.names import signal_topic
from cdc.protocol.copy_progress import Copies
from cdc.runtime import logs
from cdc.runtime.lag import PUBLISH
from cdc.transport.kafka.broker import OUT_OF_RANGE, KafkaBroker, translate
from cdc.transport.kafka.client_settings import SIGNAL_TOPIC

_MOST = 1_000


class KafkaSignals:
    """Capture's end of the topic: read by hand from a number on; nothing is committed."""

    stage = PUBLISH

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker, self._topic = broker, signal_topic(broker.prefix)
        broker.prepare(self._topic, 1, SIGNAL_TOPIC)
        self._consumer = broker.consumer()

    def resume(self, known: Copies) -> Copies:
        """A topic that was made anew is read from its beginning; one that lost its last records, from its end on."""
        _, end = self._broker.watermarks(self._consumer, self._topic, 0)
        identity = self._broker.identity(self._topic)
        anew = known.channel not in ("", identity) or (not known.channel and known.read > end)
        if not anew and known.read <= end:
            return replace(known, channel=identity)
        logs.logger("capture").warning("signals_anew", topic=self._topic, read=known.read, end=end, lost=not anew)
        return replace(
            known, next=0 if anew else min(known.next, end), read=0 if anew else end, last=None, channel=identity
        )

    def seek(self, number: int) -> None:
        """Read from this offset on, or from the first one that is held."""
        low, _ = self._broker.watermarks(self._consumer, self._topic, 0)
        self._consumer.assign([TopicPartition(self._topic, 0, max(low, number))])

    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        """What has come since."""
        found = []
        for message in self._consumer.consume(_MOST, 0):
            error = message.error()
            if error is not None and error.code() in OUT_OF_RANGE:
                raise Retry(
                    "broker_lost", f"topic {self._topic}", "the request that comes next is not held", "asked again"
                )
            if error is not None:
                raise translate(error, f"topic {self._topic}")
            key = message.key()
            found.append(
                (int(message.offset() or 0), None if key is None else bytes(key), bytes(message.value() or b""))
            )
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
