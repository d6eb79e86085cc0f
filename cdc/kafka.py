"""The transport over real brokers: an idempotent, gapless producer and a consumer that never jumps.

No Kafka transactions: librdkafka lacks KIP-890, and the protocol of numbers and cuts does not need them
(docs/decisions/001-protocol.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from cdc import crash, names
from cdc.errors import CdcError, Halt, Retry
from cdc.kafka_broker import CONTROL_TOPIC, DATA_TOPIC, OUT_OF_RANGE, KafkaBroker, leave, translate
from cdc.model import Message, Record
from cdc.schemas import Registry
from cdc.topic import Document, Partition, by_partition, control_topic

_MAX_UNACKNOWLEDGED = 200_000  # records in librdkafka's queue; above it send waits, so that produce never meets a full queue
_MAX_UNACKNOWLEDGED_BYTES = 64 << 20
_MOST_MESSAGES = 4_000  # of one poll: for a moment each is held twice, by librdkafka and by us
_CLOSE_SECONDS = 2.0

_GOES_BACK = "capture goes back to what the broker still holds"
_SILENCE_SECONDS = 5.0
"""An answer that long overdue (heartbeat cuts come twice a second) is a reason to ask whether the broker is there at all."""


def _ask_after_silence(broker: KafkaBroker, since: float) -> float:
    """Raise Retry when the broker has gone without librdkafka saying so; the time from which silence counts now."""
    if time.monotonic() - since < _SILENCE_SECONDS:
        return since
    broker.check()
    return time.monotonic()


class KafkaWriter:
    """Capture's end: everything acknowledged by all replicas, in order, without gaps, or the process ends."""

    def __init__(self, broker: KafkaBroker, registry: Registry) -> None:
        self._broker, self._registry = broker, registry
        self._producer, self._consumer = broker.producer(), broker.consumer(fetch_wait_ms=1)
        self._control = control_topic(broker.prefix)
        broker.prepare(self._control, 1, CONTROL_TOPIC)
        self._acknowledged: dict[Partition, int] = {}
        self._bytes = 0
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
        return self._broker.prepare(topic, self._broker.partitions(topic), DATA_TOPIC)

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append in this order; waits while too much is unacknowledged."""
        self._wait_for_room()
        for partition, run in by_partition(records).items():
            self._send_to(topic, partition, run)

    def _send_to(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        messages: list[dict[str, Any]] = [{"key": key, "value": value} for _, key, value, _ in records]
        messages[-1]["callback"] = self._on_last(topic, records[-1])
        self._bytes += sum([len(record[2] or b"") for record in records])
        start = 0
        for at in [at for at, record in enumerate(records) if record[3] is not None]:
            self._produce(topic, partition, messages[start:at])
            self._produce_with_headers(topic, partition, messages[at], records[at].headers or [])
            start = at + 1
        self._produce(topic, partition, messages[start:])
        crash.point("kafka.produced")

    def _wait_for_room(self) -> None:
        while len(self._producer) > _MAX_UNACKNOWLEDGED or self._bytes > _MAX_UNACKNOWLEDGED_BYTES:
            self._producer.poll(0.05)
            self._broker.breathe()
            if not len(self._producer):
                self._bytes = 0

    def _on_last(self, topic: str, record: Record) -> Callable[[KafkaError | None, KafkaMessage], None]:
        back = 1 if record.value is None else 0  # a tombstone bears no number; its delete is right before it

        def acknowledged(message: KafkaMessage) -> None:
            self._acknowledged[topic, record.partition] = int(message.offset() or 0) - back

        return self._broker.noting(acknowledged)

    def _produce(self, topic: str, partition: int, run: list[dict[str, Any]]) -> None:
        # The partition is given for the whole batch: confluent-kafka 2.16 ignores the one in a message (a contract test found it).
        # A full queue or an oversized message raises nothing: it shows in the count and in `_error`.
        if run and self._producer.produce_batch(topic, run, partition=partition) != len(run):
            failed = next(m["_error"] for m in run if "_error" in m)
            raise Halt(
                "not_produced", f"topic {topic}", str(failed), "nothing is lost: restart after raising message.max.bytes or the like"
            )
        self._producer.poll(0)

    def _produce_with_headers(self, topic: str, partition: int, message: dict[str, Any], headers: list[tuple[str, bytes]]) -> None:
        kwargs = {"on_delivery": message.pop("callback")} if "callback" in message else {}
        self._producer.produce(topic, headers=dict(headers), partition=partition, **message, **kwargs)

    def flush(self) -> Mapping[Partition, int]:
        """Wait until everything sent is acknowledged."""
        asked = time.monotonic()
        while self._producer.flush(1.0):
            self._broker.breathe()
            asked = _ask_after_silence(self._broker, asked)
        self._broker.trouble.check()
        self._bytes = 0
        if self._lost:
            raise Retry("records_lost", f"topic {self._control}", "the broker has lost acknowledged control records", _GOES_BACK)
        if self._disturbed:
            self.check_alone()
        done, self._acknowledged = self._acknowledged, {}
        return done

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        """Append to the control topic; its offset once acknowledged, or -1 at once without `wait`."""
        value = json.dumps(document).encode()
        if wait:
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
        for message in self._broker.read(self._consumer, self._control, 0, self._epoch + 1, end if end > self._epoch + 1 else 0):
            if json.loads(message.value() or b"{}")["type"] == "start":
                raise Halt("superseded", f"topic {self._control} offset {message.offset()}", "another capture of this pipeline has started",
                           "run one capture per pipeline; if none runs now, start it again")  # fmt: skip

    def control(self, last: int = 0) -> Iterable[tuple[int, Document]]:
        """The last control records still held; 0: all of them."""
        low, end = self._broker.watermarks(self._consumer, self._control, 0)
        for message in self._broker.read(self._consumer, self._control, 0, max(low, end - last) if last else low, end):
            yield int(message.offset() or 0), json.loads(message.value() or b"{}")

    def ends(self, topic: str) -> list[int]:
        """The offset that the next record of each partition gets."""
        return [self._broker.watermarks(self._consumer, topic, p)[1] for p in range(self.prepare(topic))]

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        """Whether the record at `offset` bears this number, or has expired by retention."""
        low, high = self._broker.watermarks(self._consumer, *partition)
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
        self._producer.purge(in_flight=False)  # giving up what is in flight would break the promise of no gaps: a fatal error
        with suppress(KafkaException):  # what a dying producer says is known already, or does not matter any more
            self._producer.flush(1.0)
        self._consumer.close()


def _control_lost(topic: str, offset: int, end: int) -> CdcError:
    return Halt(
        "control_lost",
        f"topic {topic}",
        f"it ends at {end}, and everything below {offset} is applied",
        "the broker lost control records after it had acknowledged them, or this is another pipeline's topic: "
        "copy the tables into a fresh pipeline",
    )


class KafkaReader:
    """The sink's end: partitions assigned by hand at stored offsets; Kafka's committed offsets play no part."""

    def __init__(self, broker: KafkaBroker, registry: Registry) -> None:
        self.control_topic = control_topic(broker.prefix)
        self._broker, self._registry = broker, registry
        self._consumer = broker.consumer()
        self._held: frozenset[Partition] = frozenset()
        self._placed: dict[Partition, int] = {}
        self._heard = time.monotonic()

    def topic(self, db: str, table: str) -> str:
        """Debezium's name for the topic of a table."""
        return names.topic(self._broker.prefix, db, table)

    def assign(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Read on from these offsets; what was fetched and not polled is fetched again."""
        self._broker.prepare(self.control_topic, 1, CONTROL_TOPIC)
        self.hold(frozenset())  # librdkafka remembers a pause across assignments
        self._place({**offsets, (self.control_topic, 0): control})

    def _place(self, offsets: dict[Partition, int]) -> None:
        self._placed = offsets
        self._consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()])

    def poll(self, seconds: float) -> list[Message]:
        """What has arrived; waits for the first record only."""
        messages = self._consumer.consume(1, seconds)
        if messages:
            messages += self._consumer.consume(_MOST_MESSAGES, 0)
            self._heard = time.monotonic()
        else:
            self._broker.breathe()
            self._heard = _ask_after_silence(self._broker, self._heard)
        for message in messages:
            error = message.error()
            if error is not None and error.code() not in OUT_OF_RANGE:
                raise translate(error, f"topic {message.topic()} partition {message.partition()}")
            if error is not None:
                self._out_of_range(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0), error)
        messages = [message for message in messages if message.error() is None]
        # Straight into the tuple: `Message(...)` costs as much as all the calls within it.
        new: Callable[..., Message] = tuple.__new__
        return [new(Message, (m.topic(), m.partition(), m.offset(), m.key(), m.value())) for m in messages]

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Fetch no more of these for now: else a partition that is far ahead of the cuts would be held in memory whole."""
        if new := partitions - self._held:
            self._consumer.pause([TopicPartition(*partition) for partition in new])
        if over := self._held - partitions:
            self._consumer.resume([TopicPartition(*partition) for partition in over])
        self._held = partitions

    def _out_of_range(self, topic: str, partition: int, offset: int, error: KafkaError) -> None:
        """An offset that comes next is not held. Data that a broker lost comes again behind a base: wait for it at the end.

        That end may have passed the offset since. Nothing is skipped by that: a cut that names a lost record stops as long as no base
        goes back behind it, and a base says where each partition goes on.
        """
        low, end = self._broker.watermarks(self._consumer, topic, partition)
        if topic == self.control_topic and offset > end:
            raise _control_lost(topic, offset, end)
        if topic == self.control_topic or offset < low:
            raise translate(error, f"topic {topic} partition {partition}")
        held = {(p.topic, p.partition): p.offset for p in self._consumer.position(self._consumer.assignment())}
        self._place({**self._placed, **{p: at for p, at in held.items() if at >= 0}, (topic, partition): min(offset, end)})

    def control_before(self, offset: int) -> bytes | None:
        """The control record below this offset; None when retention or compaction removed it. Halt when the topic ends below."""
        self._broker.prepare(self.control_topic, 1, CONTROL_TOPIC)
        low, end = self._broker.watermarks(self._consumer, self.control_topic, 0)
        if offset > end:
            raise _control_lost(self.control_topic, offset, end)
        held = self._broker.read(self._consumer, self.control_topic, 0, offset - 1, offset) if low < offset else ()
        return next((bytes(message.value() or b"") for message in held), None)

    def schema(self, schema_id: int) -> Document:
        """The schema that was registered under this id."""
        return self._registry.schema(schema_id)

    def release(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Tell the broker, for people who watch consumer groups; nothing reads it back."""
        wanted = [TopicPartition(t, p, o) for (t, p), o in {**offsets, (self.control_topic, 0): control}.items()]
        self._consumer.commit(offsets=wanted, asynchronous=True)

    def close(self) -> None:
        """Leave without committing. librdkafka waits for the answer to a `release` under way, for ever if the broker is gone: not we."""
        leave(self._consumer, _CLOSE_SECONDS)
