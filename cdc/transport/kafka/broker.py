"""A cluster of brokers: its address and settings, its topics, and what it reports in the background.

No Kafka transactions: librdkafka lacks KIP-890, and the protocol of numbers and cuts does not need them
(docs/decisions/001-protocol.md). Settings: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message as KafkaMessage,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from cdc.errors import CdcError, Halt, Refused, Retry, own_words
from cdc.runtime import clock, crash_points as crash, timing
from cdc.transport.contract import Idle
from cdc.transport.kafka.client_settings import CLIENT, CONSUMER, MEMBER, PRODUCER
from cdc.transport.kafka.record_limits import RecordLimits, too_large

T = TypeVar("T")
OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)
"""The offset that comes next is not held, or what was read below it is not any more."""
_SETUP_ERRORS = {
    KafkaError._AUTHENTICATION: "broker_auth",
    KafkaError._SSL: "broker_tls",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "broker_privilege",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "broker_privilege",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "broker_privilege",
}


class _Trouble:
    """What librdkafka reported in the background: remembered, and raised where the owner can act on it."""

    def __init__(self, bootstrap: str) -> None:
        self._place = f"kafka {bootstrap}"
        self._error: KafkaError | None = None
        self.words = ""
        """What was said last of a broker that cannot be reached: which one, and why."""
        self.away_since: float | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _SETUP_ERRORS:
            self._error = error
        elif error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE):
            self.away_since = self.away_since or clock.monotonic()
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                self.words = _timeless(error)

    def forget_absence(self) -> None:
        """From here on `away_since` tells of a new absence only."""
        self.away_since = None

    def fail(self, error: KafkaError) -> None:
        """A record that will never be acknowledged: nothing may be built on it."""
        self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise translate(self._error, self._place)


def translate(error: KafkaError, place: str) -> CdcError:
    """The decision that goes with a librdkafka error."""
    if error.code() in _SETUP_ERRORS:
        return Refused(
            _SETUP_ERRORS[error.code()], place, _said(error), "check transport.kafka: security.protocol, sasl.*, ssl.*"
        )
    if error.code() in OUT_OF_RANGE:
        return Halt(
            "offset_gone",
            place,
            "the broker no longer holds the offset that comes next",
            "cdc reset --all, and start again",
        )
    if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.MSG_SIZE_TOO_LARGE):
        return Halt(
            "producer_fatal",
            place,
            _said(error),
            "restart the process: it starts from the newest cut that the broker holds",
        )
    return Retry("broker_lost", place, _said(error), "the broker is away or busy")


def _said(error: KafkaError) -> str:
    """What the error is called; of a login that failed, what was said of it. A broker's words about a record are left
    out: they may quote it."""
    of_login = error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)
    return f"{_timeless(error) if of_login else KafkaError(error.code()).str()} ({error.name()})"


def _timeless(error: KafkaError) -> str:
    """Its words without how long it took: the same error is to have the same text."""
    return own_words(error.str().partition(" (after ")[0])


def _is_settling(error: BaseException) -> bool:
    codes = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)
    return isinstance(error, KafkaException) and error.args[0].code() in codes


def _settings(bootstrap: str, extra: Mapping[str, Any], own: Mapping[str, Any], trouble: _Trouble) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "cdc",
        "error_cb": trouble,
        "log_level": 2,
        **CLIENT,
        **own,
        **extra,
    }


class KafkaBroker:
    """What both ends share: the cluster's address, its topics, and reading a partition from A to B."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        kafka: Mapping[str, Any],
        *,
        partitions: int = 1,
        partitions_of: Mapping[str, int] | None = None,
        answer_seconds: float = timing.TIMES.answer_seconds,
        idle: Idle | None = None,
    ) -> None:
        """`partitions_of`: of the topics of some tables, by patterns of "database.table".

        `answer_seconds`: a connection on which a request waits longer is given up by librdkafka, which connects again
        and asks again; what was produced keeps its number, so that it is not there twice.
        """
        self.bootstrap, self.prefix = bootstrap, prefix
        self._partitions, self._partitions_of = partitions, partitions_of or {}
        self.place = f"kafka {bootstrap}"
        self.trouble = _Trouble(bootstrap)
        self._kafka, self._idle, self.answer_seconds = dict(kafka), idle, answer_seconds
        # A consumer takes a producer's limit for one of its own, which its other settings must then not be below.
        self._reading = {name: value for name, value in kafka.items() if name != "message.max.bytes"}
        milliseconds = int(answer_seconds * 1000)
        self._patience = {"socket.timeout.ms": min(milliseconds, timing.TIMES.answer_longest_ms)}
        self._patience_with_records = {"request.timeout.ms": min(milliseconds * 4 // 5, timing.TIMES.answer_longest_ms)}
        self._admin = AdminClient(self._settings(self._kafka, {}))
        self.limits = RecordLimits(self._admin, self._kafka)
        self._known: dict[str, int] = {}

    @contextmanager
    def producing(self, sizes: Mapping[str, int]) -> Iterator[None]:
        """Raise what ends a producer, which whichever call comes next is told.

        `sizes`: of the largest record, not yet acknowledged, of each topic.
        """
        try:
            yield
        except (KafkaException, SystemError) as e:  # the latter where a delivery was told at that moment
            error = e if isinstance(e, KafkaException) else e.__cause__
            if not isinstance(error, KafkaException):
                raise
            text = error.args[0].str()
            topic = next((one for one in sizes if f" {one} [" in text), "")
            if topic and KafkaError(KafkaError.MSG_SIZE_TOO_LARGE).str() in text:
                raise too_large(topic, sizes[topic], self.limits.topics([topic]).get(topic)) from None
            raise translate(error.args[0], f"topic {topic}" if topic else self.place) from None

    def producer(self) -> Producer:
        """An idempotent producer."""
        return Producer(self._settings(self._kafka, {**PRODUCER, **self._patience_with_records}))

    def consumer(self, fetch_wait_ms: int = timing.TIMES.fetch_wait_ms) -> Consumer:
        """A consumer that is assigned by hand and never joins a group;
        who reads what is there already has nothing to wait for."""
        own = {**CONSUMER, "group.id": f"cdc-{self.prefix}", "fetch.wait.max.ms": fetch_wait_ms}
        return Consumer(self._settings(self._reading, own))

    def member(self, group: str) -> Consumer:
        """A consumer that joins a group, to be given partitions; it reads nothing that was there before."""
        return Consumer(self._settings(self._reading, {**MEMBER, "group.id": group}))

    def _settings(self, theirs: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
        return _settings(self.bootstrap, theirs, {**self._patience, **own}, self.trouble)

    def check_stop(self) -> None:
        """Raise what happened in the background; let the owner stop."""
        self.trouble.check()
        away_since = self.trouble.away_since
        if away_since is not None and clock.monotonic() - away_since > timing.TIMES.away_seconds:
            self.check()  # raises unless one answers after all
            self.trouble.forget_absence()
        if self._idle is not None:
            self._idle()

    def check(self) -> None:
        """Refuse a broker that cannot be reached or does not let us in."""
        until = clock.monotonic() + timing.TIMES.call_seconds
        self.trouble.forget_absence()
        while True:
            try:
                topics = self._admin.list_topics(timeout=timing.TIMES.ask_seconds).topics
                self._known = {name: len(topic.partitions) for name, topic in topics.items()}
                return
            except KafkaException as e:
                self._admin.poll(0)  # the call's own error says too little: what happened is told in the background
                self.trouble.check()
                if self.trouble.away_since or clock.monotonic() > until:
                    hint = "is the broker up, transport.bootstrap right, and security.protocol the one of that port?"
                    raise Retry(
                        "broker_unreachable", self.place, self.trouble.words or _said(e.args[0]), hint
                    ) from None

    def prepare(self, topic: str, partitions: int, config: Mapping[str, str]) -> int:
        """Make the topic unless it exists; its number of partitions."""
        if topic not in self._known:
            self.check()
        if topic not in self._known:
            self._create(topic, partitions, config)
            crash.point("kafka.topic_created")
            self._known[topic] = partitions
        return self._known[topic]

    def partitions(self, topic: str) -> int:
        """How many partitions a table's topic gets that is made now."""
        fitting = (
            count for pattern, count in self._partitions_of.items() if fnmatchcase(topic, f"{self.prefix}.{pattern}")
        )
        return next(fitting, self._partitions)

    def _create(self, topic: str, partitions: int, config: Mapping[str, str]) -> None:
        new = NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=dict(config))
        seconds = timing.TIMES.call_seconds
        try:
            self._answer(self._admin.create_topics([new], operation_timeout=seconds, request_timeout=seconds)[topic])
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translate(e.args[0], f"topic {topic}") from None

    def _answer(self, asked: Future[T]) -> T:
        """What the broker says to a question of an administrator;
        it may hang, and the owner may be told to stop meanwhile."""
        until = clock.monotonic() + 3 * timing.TIMES.call_seconds
        while True:
            try:
                return asked.result(timeout=timing.TIMES.ask_seconds)
            except TimeoutError:
                self.check_stop()
                if clock.monotonic() > until:
                    raise Retry("broker_lost", self.place, "no answer in time", "the broker is away or busy") from None

    def exists(self, topic: str) -> bool:
        """Whether the broker has this topic."""
        if topic not in self._known:
            self.check()
        return topic in self._known

    def topics(self) -> set[str]:
        """The names of all topics that the broker lets us see."""
        self.check()
        return set(self._known)

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until the broker does not list it any more; one that is gone is none."""
        until = clock.monotonic() + 3 * timing.TIMES.call_seconds
        try:
            self._answer(self._admin.delete_topics([topic], request_timeout=timing.TIMES.call_seconds)[topic])
        except KafkaException as e:
            if e.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise translate(e.args[0], f"topic {topic}") from None
        while topic in self.topics():
            if clock.monotonic() > until:
                raise Retry("broker_lost", f"topic {topic}", "is still listed after it was deleted", "try again")
            clock.sleep(timing.TIMES.settle_poll_seconds)

    def identity(self, topic: str) -> str:
        """What tells the topic from every other one of its name that there was or will be."""
        try:
            described = self._admin.describe_topics(
                TopicCollection([topic]), request_timeout=timing.TIMES.call_seconds
            )[topic]
            return str(self._answer(described).topic_id)
        except KafkaException as e:
            raise translate(e.args[0], f"topic {topic}") from None

    def known(self, topic: str) -> int:
        """How many partitions an existing topic has."""
        return self._known[topic]

    def first(self, topic: str) -> bytes | None:
        """The value of the oldest record held in partition 0."""
        consumer = self.consumer()
        try:
            low, high = self.watermarks(consumer, topic, 0)
            held = self.read(consumer, topic, 0, OFFSET_BEGINNING, high if low < high else 0)
            return next((bytes(message.value() or b"") for message in held), None)
        finally:
            consumer.close()

    def watermarks(self, consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
        """The first offset held and the one that comes next; a topic just made may take a moment to have a leader."""
        settling = Retrying(
            retry=retry_if_exception(_is_settling),
            wait=wait_fixed(timing.TIMES.settle_poll_seconds),
            stop=stop_after_delay(timing.TIMES.call_seconds),
            reraise=True,
        )
        try:
            low, high = settling(
                consumer.get_watermark_offsets, TopicPartition(topic, partition), timeout=timing.TIMES.call_seconds
            )
        except KafkaException as e:
            raise translate(e.args[0], f"topic {topic}") from None
        return int(low), int(high)

    def read(self, consumer: Consumer, topic: str, partition: int, first: int, end: int) -> Iterator[KafkaMessage]:
        """The records held in [first, end); first may be OFFSET_BEGINNING. Compaction may have left holes."""
        if end <= 0:
            return
        consumer.assign([TopicPartition(topic, partition, first)])
        heard = clock.monotonic()
        while True:
            messages = consumer.consume(
                1, timing.TIMES.first_wait_seconds
            )  # asked for many it would wait for many, or the whole time
            for message in messages + consumer.consume(10_000, 0) if messages else ():
                error = message.error()
                if error is not None:
                    raise translate(error, f"topic {topic}")
                if (message.offset() or 0) < end:
                    yield message
            where = consumer.position([TopicPartition(topic, partition)])[0].offset
            if where >= end:
                consumer.unassign()  # else it would go on fetching
                return
            self.check_stop()
            heard = clock.monotonic() if messages else ask_after_silence(self, heard)

    def append(self, producer: Producer, topic: str, key: str, value: bytes) -> int:
        """Append one record to partition 0; its offset once acknowledged."""
        offsets: list[int] = []
        producer.produce(
            topic,
            value,
            key.encode(),
            partition=0,
            on_delivery=self.noting(lambda m: offsets.append(int(m.offset() or 0))),
        )
        asked = clock.monotonic()
        while not offsets:
            producer.flush(1.0)
            self.check_stop()
            asked = ask_after_silence(self, asked)
        return offsets[0]

    def noting(self, acknowledged: Callable[[KafkaMessage], None]) -> Callable[[KafkaError | None, KafkaMessage], None]:
        """A delivery callback: an error is remembered as fatal, anything else goes to `acknowledged`."""

        def delivered(error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None:
                self.trouble.fail(error)
            else:
                acknowledged(message)

        return delivered


def leave(consumer: Consumer, seconds: float) -> None:
    """Close, but wait for a broker that is gone for so long only:
    librdkafka itself waits for the answers to what is under way."""
    closing = threading.Thread(target=consumer.close, name="close", daemon=True)
    closing.start()
    closing.join(seconds)


def ask_after_silence(broker: KafkaBroker, since: float) -> float:
    """Raise Retry when the broker has gone without librdkafka saying so; the time from which silence counts now."""
    if clock.monotonic() - since < timing.TIMES.poll_silence_seconds:
        return since
    broker.check()
    return clock.monotonic()
