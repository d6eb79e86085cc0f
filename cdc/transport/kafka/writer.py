"""Writing to topics of a cluster: an idempotent, gapless producer, and what its topics hold already.

No Kafka transactions: librdkafka lacks KIP-890, and the protocol of numbers and cuts does not need them
(docs/decisions/001-protocol.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message as KafkaMessage

from cdc.errors import Halt, Retry
from cdc.model import names
from cdc.model.names import control_topic
from cdc.model.record import Document, Partition, Record
from cdc.runtime import clock, crash_points as crash, timing
from cdc.runtime.lag import PUBLISH, Waits
from cdc.transport.contract import by_partition
from cdc.transport.kafka.broker import KafkaBroker, ask_after_silence
from cdc.transport.kafka.client_settings import CONTROL_TOPIC, DATA_TOPIC
from cdc.transport.kafka.record_limits import FRAME, LARGE, too_large
from cdc.transport.schema_registry import Registry

_MAX_UNACKNOWLEDGED = (
    200_000  # records in librdkafka's queue; above it send waits, so that produce never meets a full queue
)
_MAX_UNACKNOWLEDGED_BYTES = 64 << 20

_GOES_BACK = "capture goes back to what the broker still holds"


class KafkaWriter:
    """Capture's end: everything acknowledged by all replicas, in order, without gaps, or the process ends."""

    def __init__(self, broker: KafkaBroker, registry: Registry) -> None:
        self._broker, self._registry, self.waits = broker, registry, Waits()
        self._producer, self._consumer = broker.producer(), broker.consumer(timing.TIMES.fetch_held_ms)
        self._control = control_topic(broker.prefix)
        broker.prepare(self._control, 1, CONTROL_TOPIC)
        self._acknowledged: dict[Partition, tuple[int, bool]] = {}
        """The offset of the last record sent to each partition, and whether it bears a number."""
        self._sent: Counter[Partition] = Counter()
        """Records since the last flush; behind `_ends`, where that one or the epoch's beginning left each partition,
        they found room."""
        self._ends: dict[Partition, int] = {}
        self._bytes = 0
        self._largest: dict[str, int] = {}
        """The bytes of the largest record sent to each topic since the last flush."""
        self._limits, self._asked = [broker.limits.client()], False
        """What no record may be above, and whether the brokers have been asked: when one is large."""
        self._absent: set[str] = set()
        self._highs: dict[Partition, int] = {}
        """Where partitions ended when it was first asked what they hold:
        a search goes through many offsets beyond that."""
        """Topics that somebody has deleted."""
        self._epoch = self._control_next = -1
        self._disturbed = False
        """Whether somebody else has appended to the control topic since we looked."""
        self._lost = False
        """Whether a control record of ours landed where an earlier one was."""

    def topic(self, db: str, table: str) -> str:
        """Debezium's name for the topic of a table."""
        return names.topic(self._broker.prefix, db, table)

    def prepare(self, topic: str) -> int:
        """Make the topic unless it exists; its number of partitions."""
        self._absent.discard(topic)
        self._highs = {partition: high for partition, high in self._highs.items() if partition[0] != topic}
        return self._broker.prepare(topic, self._broker.partitions(topic), DATA_TOPIC)

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append in this order; waits while too much is unacknowledged."""
        with self._broker.producing(self._largest):
            with self.waits.on(PUBLISH):
                self._wait_for_room()
            for partition, run in by_partition(records).items():
                self._send_to(topic, partition, run)

    def _send_to(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        messages: list[dict[str, Any]] = [{"key": key, "value": value} for _, key, value, _ in records]
        size = sum([len(record[2] or b"") for record in records])
        if size > self._largest.get(topic, 0):
            self._largest[topic] = max(self._largest.get(topic, 0), self._checked(topic, records))
        messages[-1]["callback"] = self._on_last(topic, records[-1])
        self._sent[topic, partition] += len(records)
        self._bytes += size
        start = 0
        for at in [at for at, record in enumerate(records) if record[3] is not None]:
            self._produce(topic, partition, messages[start:at])
            self._produce_with_headers(topic, partition, messages[at], records[at].headers or [])
            start = at + 1
        self._produce(topic, partition, messages[start:])
        crash.point("kafka.produced")

    def _checked(self, topic: str, records: Sequence[Record]) -> int:
        """The bytes of the largest record; stops at one that would never arrive, or would end each connection."""
        size = max(len(key or b"") + len(value or b"") for _, key, value, _ in records)
        if size > LARGE and not self._asked:
            self._limits, self._asked = self._limits + self._broker.limits.request(), True
        for limit in self._limits:
            if size + FRAME > limit.bytes:
                raise too_large(topic, size, limit)
        return size

    def _wait_for_room(self) -> None:
        asked = clock.monotonic()
        while len(self._producer) > _MAX_UNACKNOWLEDGED or self._bytes > _MAX_UNACKNOWLEDGED_BYTES:
            self._producer.poll(timing.TIMES.flush_poll_seconds)
            self._broker.check_stop()
            asked = ask_after_silence(self._broker, asked)
            if not len(self._producer):
                self._bytes = 0

    def _on_last(self, topic: str, record: Record) -> Callable[[KafkaError | None, KafkaMessage], None]:
        def acknowledged(message: KafkaMessage) -> None:
            self._acknowledged[topic, record.partition] = int(message.offset() or 0), record.value is not None

        return self._broker.noting(acknowledged)

    def _produce(self, topic: str, partition: int, run: list[dict[str, Any]]) -> None:
        # The partition is given for the whole batch: confluent-kafka 2.16 ignores the one in a message (a contract test
        # found it).
        # A full queue or an oversized message raises nothing: it shows in the count and in `_error`.
        if run and self._producer.produce_batch(topic, run, partition=partition) != len(run):
            failed = next(m["_error"] for m in run if "_error" in m)
            raise Halt("not_produced", f"topic {topic}", str(failed), "nothing is lost: mend it, and start again")
        self._producer.poll(0)

    def _produce_with_headers(
        self, topic: str, partition: int, message: dict[str, Any], headers: list[tuple[str, bytes]]
    ) -> None:
        kwargs = {"on_delivery": message.pop("callback")} if "callback" in message else {}
        self._producer.produce(topic, headers=dict(headers), partition=partition, **message, **kwargs)

    def flush(self) -> Mapping[Partition, int]:
        """Wait until everything sent is acknowledged."""
        with self.waits.on(PUBLISH), self._broker.producing(self._largest):
            self._await_answers()
        self._broker.trouble.check()
        self._bytes = 0
        if self._lost:
            raise Retry(
                "records_lost", f"topic {self._control}", "the broker has lost acknowledged control records", _GOES_BACK
            )
        if self._disturbed:
            self.check_alone()
        done, self._acknowledged = self._acknowledged, {}
        for partition, (last, _) in done.items():
            if last - self._sent[partition] + 1 < self._ends.get(partition, 0):
                place = f"{partition[0]}:{partition[1]}"
                raise Retry("records_lost", place, "the broker has lost acknowledged records", _GOES_BACK)
            self._ends[partition] = last + 1
        self._sent.clear()
        self._largest.clear()
        # A tombstone bears no number; its delete is right before it.
        return {partition: last if numbered else last - 1 for partition, (last, numbered) in done.items()}

    def _await_answers(self) -> None:
        asked = clock.monotonic()
        while self._producer.flush(1.0):
            self._broker.check_stop()
            asked = ask_after_silence(self._broker, asked)

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        """Append to the control topic; its offset once acknowledged, or -1 at once without `wait`."""
        value = json.dumps(document).encode()
        if wait:
            sizes = {**self._largest, self._control: len(key) + len(value)}
            with self.waits.on(PUBLISH), self._broker.producing(sizes):
                offset = self._broker.append(self._producer, self._control, key, value)
            self._epoch = offset if document["type"] == "start" else self._epoch
            self._landed(offset)
            return offset
        acknowledged = self._broker.noting(lambda message: self._landed(int(message.offset() or 0)))
        self._producer.produce(self._control, value, key.encode(), partition=0, on_delivery=acknowledged)
        return -1

    def _landed(self, offset: int) -> None:
        self._lost = self._lost or offset < self._control_next
        self._disturbed = self._disturbed or offset != self._control_next > 0
        self._control_next = offset + 1

    def check_alone(self) -> None:
        """Raise Halt when another capture has opened an epoch since ours: all that we write is void from there on."""
        self._disturbed = False
        end = self._broker.watermarks(self._consumer, self._control, 0)[1]
        for message in self._broker.read(
            self._consumer, self._control, 0, self._epoch + 1, end if end > self._epoch + 1 else 0
        ):
            if json.loads(message.value() or b"{}")["type"] == "start":
                raise Halt("superseded", f"topic {self._control} offset {message.offset()}", "another capture of this "
                                                                                             "pipeline has started",
                           "run one capture per pipeline; if none runs now, start it again")  # fmt: skip

    def control(self, last: int = 0) -> Iterable[tuple[int, Document]]:
        """The last control records still held; 0: all of them."""
        low, end = self._broker.watermarks(self._consumer, self._control, 0)
        for message in self._broker.read(self._consumer, self._control, 0, max(low, end - last) if last else low, end):
            yield int(message.offset() or 0), json.loads(message.value() or b"{}")

    def ends(self, topic: str) -> list[int]:
        """The offset that the next record of each partition gets; from the first question on none may land below it."""
        found = [self._broker.watermarks(self._consumer, topic, p)[1] for p in range(self.prepare(topic))]
        self._ends = {(topic, p): end for p, end in enumerate(found)} | self._ends
        return found

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        """Whether the record at `offset` bears this number, or has expired by retention."""
        if partition[0] in self._absent or not self._broker.exists(partition[0]):
            self._absent.add(partition[0])
            return False
        if offset >= self._highs.get(partition, offset + 1):
            return False
        low, high = self._broker.watermarks(self._consumer, *partition)
        self._highs.setdefault(partition, high)
        if not low <= offset < high:
            return offset < low
        value = next(self._broker.read(self._consumer, *partition, offset, offset + 1)).value() or b""
        number = f"{epoch}.{seq}".encode()
        return bytes((2, 2 * len(number))) + number in value  # source.sequence: Avro's union branch 1, length, text

    def register(self, subject: str, schema: Document) -> int:
        """The schema's id in the registry or in the schemas topic."""
        return self._registry.register(subject, schema)

    def close(self) -> None:
        """Drop what has not been sent; what is under way may or may not arrive."""
        self._producer.purge(
            in_flight=False
        )  # giving up what is in flight would break the promise of no gaps: a fatal error
        with suppress(KafkaException):  # what a dying producer says is known already, or does not matter any more
            self._producer.flush(1.0)
        self._consumer.close()
