"""A stranger's consumer: confluent-kafka, fastavro, and what the documents say about the topics. It imports nothing of the product.

A record's key and value are Avro behind five bytes: zero, and the schema's number, big-endian. The number is the offset of the
schema's record in `<prefix>.schemas`, whose value is JSON {subject, version, schema}.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.helpers.servers import Broker


@dataclass(frozen=True)
class Record:
    """One record as the broker holds it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def records(kafka: Broker, topic: str) -> list[Record]:
    """Everything a topic holds now, partition after partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"{kafka.prefix}-stranger", "enable.auto.commit": False})
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        return [
            record for number in sorted(found.partitions) for record in _held(consumer, TopicPartition(topic, number, OFFSET_BEGINNING))
        ]
    finally:
        consumer.close()


def _held(consumer: Consumer, at: TopicPartition) -> Iterator[Record]:
    _, end = consumer.get_watermark_offsets(at, timeout=10)
    consumer.assign([at])
    while end > 0:
        for message in [m for m in [consumer.poll(0.5)] if m is not None]:
            assert message.error() is None
            offset = message.offset() or 0
            if offset < end:
                headers: Any = message.headers() or ()
                yield Record(at.topic, at.partition, offset, message.key(), message.value(), dict(headers))
        if consumer.position([at])[0].offset >= end:
            return


def control_records(kafka: Broker) -> list[dict[str, Any]]:
    """The control topic's records."""
    if f"{kafka.prefix}.control" not in kafka.topics():
        return []
    return [json.loads(record.value or b"{}") for record in records(kafka, f"{kafka.prefix}.control")]


@dataclass
class Schemas:
    """The schemas topic, as a registry."""

    kafka: Broker
    subjects: dict[int, str] = field(default_factory=dict)
    parsed: dict[int, Any] = field(default_factory=dict)
    raw: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for record in records(self.kafka, f"{self.kafka.prefix}.schemas"):
            document = json.loads(record.value or b"{}")
            self.subjects[record.offset] = document["subject"]
            self.raw[record.offset] = json.loads(document["schema"])
            self.parsed[record.offset] = fastavro.parse_schema(self.raw[record.offset])

    def number(self, framed: bytes) -> int:
        assert framed[0] == 0
        return int.from_bytes(framed[1:5], "big")

    def read(self, framed: bytes | None) -> Any:
        """The datum behind the frame; every byte belongs to it."""
        if framed is None:
            return None
        body = io.BytesIO(framed[5:])
        datum = fastavro.schemaless_reader(body, self.parsed[self.number(framed)], None)
        assert body.read() == b""
        return datum


def murmur2(data: bytes) -> int:
    """Kafka's hash, from its Java source (org.apache.kafka.common.utils.Utils#murmur2)."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, count: int) -> int:
    """Where Kafka's own default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % count
