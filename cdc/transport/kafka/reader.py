"""Reading topics of a cluster: a consumer that never jumps over what is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Message as KafkaMessage, TopicPartition

from cdc.errors import CdcError, Halt
from cdc.model import names
from cdc.model.names import control_topic
from cdc.model.record import Document, Message, Partition
from cdc.runtime import clock, timing
from cdc.transport.contract import nothing_below
from cdc.transport.kafka.broker import OUT_OF_RANGE, KafkaBroker, ask_after_silence, leave, translate
from cdc.transport.kafka.client_settings import CONTROL_TOPIC
from cdc.transport.schema_registry import Registry

_MOST_MESSAGES = 4_000  # of one poll: for a moment each is held twice, by librdkafka and by us


def _control_lost(topic: str, offset: int, end: int) -> CdcError:
    return Halt(
        "control_lost",
        f"topic {topic}",
        f"it ends at {end}, and everything below {offset} is applied",
        "the broker lost control records after it had acknowledged them, or this is another pipeline's topic: "
        "cdc reset --all, and start again",
    )


def _control_expired(topic: str, offset: int, low: int) -> CdcError:
    return Halt(
        "offset_gone",
        f"topic {topic} offset {offset}",
        f"is not held: the topic begins at {low}",
        "what capture said there is unknown: is the topic's cleanup.policy compact? Copy the tables into a fresh "
        "pipeline",
    )


def _out_of_range(messages: Sequence[KafkaMessage]) -> dict[Partition, int]:
    """The offsets that are not held, of partitions; any other error is raised."""
    gone: dict[Partition, int] = {}
    for message in messages:
        error = message.error()
        assert error is not None
        if error.code() not in OUT_OF_RANGE:
            raise translate(error, f"topic {message.topic()} partition {message.partition()}")
        gone[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0)
    return gone


class KafkaReader:
    """The sink's end: partitions assigned by hand at stored offsets; Kafka's committed offsets play no part."""

    bounded = False

    def __init__(self, broker: KafkaBroker, registry: Registry) -> None:
        self.control_topic = control_topic(broker.prefix)
        self._broker, self._registry = broker, registry
        self._consumer = broker.consumer()
        self._held: frozenset[Partition] = frozenset()
        self._placed: dict[Partition, int] = {}
        self._heard = clock.monotonic()

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
            self._heard = clock.monotonic()
        else:
            self._broker.check_stop()
            self._heard = ask_after_silence(self._broker, self._heard)
        gone = [message for message in messages if message.error() is not None]
        # Straight into the tuple: `Message(...)` costs as much as all the calls within it.
        new: Callable[..., Message] = tuple.__new__
        found = [
            new(Message, (m.topic(), m.partition(), m.offset(), m.key(), m.value()))
            for m in messages
            if m.error() is None
        ]
        return found + self._read_on(_out_of_range(gone)) if gone else found

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Fetch no more of these for now: else a partition that is far ahead of the cuts would be held in memory
        whole."""
        if new := partitions - self._held:
            self._consumer.pause([TopicPartition(*partition) for partition in new])
        if over := self._held - partitions:
            self._consumer.resume([TopicPartition(*partition) for partition in over])
        self._held = partitions

    def _read_on(self, gone: Mapping[Partition, int]) -> list[Message]:
        """Go on where offsets that come next are not held; what tells of each partition that nothing below a place
        comes any more.

        What has expired is lost if a number is missing then, or a cut names one, and only then. Data that a broker lost
        comes again behind a base: it is waited for at the end. That end may have passed the offset since, and nothing
        is skipped by that: a cut that names a lost record stops as long as no base goes back behind it, and a base says
        where each partition goes on.
        """
        places: dict[Partition, int] = {}
        for partition, offset in gone.items():
            low, end = self._broker.watermarks(self._consumer, *partition)
            if partition[0] == self.control_topic:
                raise (
                    _control_lost(partition[0], offset, end)
                    if offset > end
                    else _control_expired(partition[0], offset, low)
                )
            places[partition] = max(low, min(offset, end))
        held = {(p.topic, p.partition): p.offset for p in self._consumer.position(self._consumer.assignment())}
        self._place({**self._placed, **{p: at for p, at in held.items() if at >= 0}, **places})
        return [nothing_below(partition, at) for partition, at in places.items() if at > gone[partition]]

    def control_before(self, offset: int) -> bytes | None:
        """The control record below this offset; None when retention or compaction removed it.
        Halt when the topic ends below."""
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
        """Leave without committing. librdkafka waits for the answer to a `release` under way,
        for ever if the broker is gone: not we."""
        leave(self._consumer, timing.TIMES.close_seconds)
