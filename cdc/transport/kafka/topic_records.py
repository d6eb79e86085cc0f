"""The records of one topic, whole, for people who look into it; nothing is made, committed or joined."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message as KafkaMessage, TopicPartition

from cdc.runtime import timing
from cdc.transport.kafka.broker import KafkaBroker, leave, translate
from cdc.transport.record_view import HeldRecord


class TopicRecords:
    """Reads one topic that exists."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker, self.topic = broker, topic
        self._consumer = broker.consumer(timing.TIMES.fetch_held_ms)

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is held, and the one that comes next."""
        return self._broker.watermarks(self._consumer, self.topic, partition)

    def held(self, partition: int, first: int, end: int) -> Iterator[HeldRecord]:
        """The records held in [first, end), in order; compaction may have left holes."""
        for message in self._broker.read(self._consumer, self.topic, partition, first, end if first < end else 0):
            yield _record(message)

    def coming(self, offsets: Mapping[int, int], stop: threading.Event) -> Iterator[HeldRecord]:
        """The records of these partitions from these offsets on, as they come, until told to stop."""
        self._consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()])
        while not stop.is_set():
            for message in self._consumer.consume(1, timing.TIMES.first_wait_seconds):
                error = message.error()
                if error is not None:
                    raise translate(error, f"topic {self.topic}")
                yield _record(message)
            self._broker.check_stop()

    def close(self) -> None:
        """Give up the connection."""
        leave(self._consumer, timing.TIMES.close_seconds)


def _record(message: KafkaMessage) -> HeldRecord:
    kind, milliseconds = message.timestamp()
    key, value = message.key(), message.value()
    listed: Any = message.headers()
    headers = tuple((str(name), None if data is None else bytes(data)) for name, data in listed or ())
    return HeldRecord(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0),
        None if kind == TIMESTAMP_NOT_AVAILABLE else int(milliseconds), headers,
        None if key is None else bytes(key), None if value is None else bytes(value),
    )  # fmt: skip
