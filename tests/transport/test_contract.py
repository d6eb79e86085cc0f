"""The contract of a transport, on both: the in-process one and Kafka."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from cdc.errors import CdcError, Halt, Retry
from cdc.model.record import Message, Partition, Record
from cdc.protocol.copy_progress import Copies
from cdc.runtime import timing
from cdc.runtime.supervisor import Stopped
from cdc.transport.contract import Reader, Writer, nothing_below
from cdc.transport.direct import DirectLog
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.client_settings import DATA_TOPIC
from cdc.transport.kafka.reader import KafkaReader
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.kafka.signals import KafkaSignals, send
from cdc.transport.kafka.writer import KafkaWriter
from tests.helpers.servers import Broker

PARTITIONS = 2


@dataclass
class Transport:
    """Both ends of one transport under test."""

    kind: str
    writer: Writer
    reader: Reader
    prefix: str

    @property
    def topic(self) -> str:
        return f"{self.prefix}.db.table"

    def read(self, count: int) -> list[Message]:
        """The next `count` messages; fails when they do not come."""
        messages: list[Message] = []
        for _ in range(200):
            messages += self.reader.poll(0.1)
            if len(messages) >= count:
                return messages
        raise AssertionError(f"{len(messages)} of {count} messages came")


def _numbered(epoch: int, seq: int) -> bytes:
    number = f"{epoch}.{seq}".encode()
    return b"\0\0\0\0\1before" + bytes((2, 2 * len(number))) + number + b"after"


@pytest.fixture(params=["direct", "kafka"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A fresh transport with two partitions a topic."""
    if request.param == "direct":
        log = DirectLog("p", partitions=PARTITIONS)
        yield Transport("direct", log, log, "p")
        return
    kafka: Broker = request.getfixturevalue("kafka")
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {}, partitions=PARTITIONS)
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        yield Transport("kafka", writer, reader, kafka.prefix)


def test_records_of_a_partition_arrive_in_the_order_they_were_sent(transport: Transport) -> None:
    """Order holds across sends, and each record keeps its key and value."""
    assert transport.writer.prepare(transport.topic) == PARTITIONS
    for start in (0, 100):
        transport.writer.send(transport.topic, [Record(i % 2, b"k%d" % i, b"v%d" % i) for i in range(start, start + 100)])
    transport.writer.flush()
    transport.reader.assign({(transport.topic, 0): 0, (transport.topic, 1): 0}, 0)
    messages = transport.read(200)
    for partition in range(PARTITIONS):
        mine = [m for m in messages if m.partition == partition]
        assert [(b"k%d" % i, b"v%d" % i) for i in range(partition, 200, 2)] == [(m.key, m.value) for m in mine]
        assert list(range(100)) == [m.offset for m in mine]


def test_flush_names_the_last_numbered_record_and_not_the_tombstone_after_it(transport: Transport) -> None:
    """A cut that named a tombstone could not be checked: it bears no number."""
    transport.writer.prepare(transport.topic)
    transport.writer.send(transport.topic, [Record(0, b"a", b"1"), Record(0, b"a", b"2"), Record(0, b"a", None), Record(1, b"b", b"3")])
    assert {(transport.topic, 0): 1, (transport.topic, 1): 0} == dict(transport.writer.flush())
    assert {} == dict(transport.writer.flush())


def test_the_ends_are_where_the_next_records_go(transport: Transport) -> None:
    """End offsets count every record, tombstones too."""
    transport.writer.prepare(transport.topic)
    assert [0, 0] == transport.writer.ends(transport.topic)
    transport.writer.send(transport.topic, [Record(1, b"a", b"1"), Record(1, b"a", None)])
    transport.writer.flush()
    assert [0, 2] == transport.writer.ends(transport.topic)


def test_control_records_have_growing_offsets_and_can_be_read_back(transport: Transport) -> None:
    """A start record finds its own offset in what is read back."""
    first = transport.writer.append_control("start a", {"type": "start", "id": "a"})
    second = transport.writer.append_control("start b", {"type": "start", "id": "b"})
    assert first < second
    assert [(first, "a"), (second, "b")] == [(offset, doc["id"]) for offset, doc in transport.writer.control()]


def test_a_writer_whose_epoch_is_over_says_so(kafka: Broker) -> None:
    """By itself when it is asked, and by the gap between its control records when it goes on."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as old, closing(KafkaWriter(broker, topic_registry(broker))) as new:
        old.append_control("start a", {"type": "start", "id": "a"})
        old.append_control("cut", {"type": "cut"}, wait=False)
        old.flush()
        old.check_alone()
        new.append_control("start b", {"type": "start", "id": "b"})
        old.append_control("cut", {"type": "cut"}, wait=False)
        with pytest.raises(Halt) as stopped:
            old.flush()
        assert "superseded" == stopped.value.code
        with pytest.raises(Halt):
            old.check_alone()
        new.append_control("cut", {"type": "cut"}, wait=False)
        new.flush()  # what the old one left behind is no start
        new.check_alone()


def test_control_and_data_reach_the_same_reader(transport: Transport) -> None:
    """One assignment covers both."""
    transport.writer.prepare(transport.topic)
    transport.reader.assign({(transport.topic, 0): 0}, 0)
    transport.writer.send(transport.topic, [Record(0, None, b"row")])
    transport.writer.flush()
    transport.writer.append_control("cut", {"type": "cut"}, wait=False)
    topics = {(m.topic, m.value) for m in transport.read(2)}
    assert {(transport.topic, b"row"), (transport.reader.control_topic, b'{"type": "cut"}')} == topics


def test_a_new_assignment_delivers_again_what_was_not_released(transport: Transport) -> None:
    """A sink that rolled back reads the same records once more."""
    transport.writer.prepare(transport.topic)
    transport.writer.send(transport.topic, [Record(0, None, b"%d" % i) for i in range(10)])
    transport.writer.flush()
    partition: Partition = (transport.topic, 0)
    transport.reader.assign({partition: 0}, 0)
    assert 10 == len(transport.read(10))
    transport.reader.release({partition: 4}, 0)
    transport.reader.assign({partition: 6}, 0)
    assert [6, 7, 8, 9] == [m.offset for m in transport.read(4)]


def test_an_offset_that_is_no_longer_held_is_an_error_or_told_and_never_passed_in_silence(
    transport: Transport, request: pytest.FixtureRequest
) -> None:
    """In process nothing is held for anybody else. What a broker let expire may all have been applied: the numbers tell."""
    transport.writer.prepare(transport.topic)
    transport.writer.send(transport.topic, [Record(0, None, b"%d" % i) for i in range(10)])
    transport.writer.flush()
    partition: Partition = (transport.topic, 0)
    transport.reader.assign({partition: 0}, 0)
    transport.read(10)
    if transport.kind == "direct":
        transport.reader.release({partition: 8}, 0)
        with pytest.raises(Halt) as caught:
            transport.reader.assign({partition: 5}, 0)
        assert "offset_gone" == caught.value.code
        return
    kafka: Broker = request.getfixturevalue("kafka")
    expire(kafka, transport.topic, 8)
    transport.reader.assign({partition: 5, (transport.topic, 1): 0}, 0)
    assert [(7, None, None), (8, None, b"8"), (9, None, b"9")] == [m[2:] for m in transport.read(3)]
    assert nothing_below(partition, 8) == (*partition, 7, None, None)


def test_control_records_that_expired_stop_the_reader(kafka: Broker) -> None:
    """They say what numbers mean, which tables give way to a copy, and what is void: without them nothing is known."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        for name in "abc":
            writer.append_control(f"start {name}", {"type": "start", "id": name})
        both = Transport("kafka", writer, reader, kafka.prefix)
        _let_expire(kafka, reader.control_topic, 2)
        reader.assign({}, 2)  # all that is gone was read
        assert [2] == [m.offset for m in both.read(1)]
        reader.assign({}, 1)
        with pytest.raises(Halt) as stopped:
            both.read(1)
        assert ("offset_gone", "is not held: the topic begins at 2") == (stopped.value.code, stopped.value.rule)


def _let_expire(kafka: Broker, topic: str, below: int) -> None:
    """As if somebody had given a compacted topic a retention, which alone lets records expire."""
    kafka.configure(topic, {"cleanup.policy": "delete"})
    expire(kafka, topic, below)


def expire(kafka: Broker, topic: str, below: int) -> None:
    """The broker forgets what retention would: the records of partition 0 below this offset."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(topic, 0, below)]).values():
        done.result(30)


def test_records_that_a_broker_lost_are_waited_for_where_they_come_again_and_control_records_are_not(kafka: Broker) -> None:
    """Capture goes back behind what it lost and says so by a base; what it says of that must itself not be lost."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        topic = f"{kafka.prefix}.t"
        writer.prepare(topic)
        writer.send(topic, [Record(0, None, b"%d" % i) for i in range(10)])
        writer.flush()
        writer.append_control("start", {"type": "start"})
        reader.assign({(topic, 0): 99}, 0)
        transport = Transport("kafka", writer, reader, kafka.prefix)
        assert [reader.control_topic] == [m.topic for m in transport.read(1)]
        until = time.monotonic() + 60
        while reader._placed[topic, 0] != 10:
            assert [] == reader.poll(0.1)
            assert time.monotonic() < until
        writer.send(topic, [Record(0, None, b"again")])
        writer.flush()
        assert [(topic, 10, b"again")] == [(m.topic, m.offset, m.value) for m in transport.read(1)]
        assert [] == reader._read_on({(topic, 0): 9})  # by the time it is asked the end is beyond it again
        assert [(9, b"9"), (10, b"again")] == [(m.offset, m.value) for m in transport.read(2)]
        with pytest.raises(Halt) as asked:
            reader.control_before(99)
        reader.assign({}, 99)
        with pytest.raises(Halt) as read:
            transport.read(1)
        assert ["control_lost"] * 2 == [asked.value.code, read.value.code]


def test_the_control_record_before_an_offset_is_known_again(kafka: Broker) -> None:
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        for name in "abc":
            writer.append_control(f"start {name}", {"type": "start", "id": name})
        assert b'{"type": "start", "id": "b"}' == reader.control_before(2)
        assert b'{"type": "start", "id": "c"}' == reader.control_before(3)
        reader.assign({}, 2)
        assert [2] == [m.offset for m in Transport("kafka", writer, reader, kafka.prefix).read(1)]


def test_a_writer_whose_control_record_was_lost_goes_back(kafka: Broker) -> None:
    """The next one lands where it was."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        writer.append_control("start a", {"type": "start", "id": "a"})
        writer.append_control("cut", {"type": "cut"})
        writer._landed(1)  # as a broker answers that has lost the cut
        with pytest.raises(Retry) as lost:
            writer.flush()
        assert "records_lost" == lost.value.code


def test_the_first_records_of_a_writer_that_land_below_where_it_began_tell_a_loss(kafka: Broker) -> None:
    """Also where more of them come than were lost: the last one then lands where nothing has been."""
    topic = f"{kafka.prefix}.t"
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as before, closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        before.prepare(topic)
        before.send(topic, [Record(0, None, b"a")])
        before.flush()
        assert [1] == writer.ends(topic)
        kafka.delete(topic)
        _made_again(kafka, topic)
        writer.send(topic, [Record(0, None, b"b"), Record(0, None, b"c")])
        with pytest.raises(Retry) as lost:
            writer.flush()
        assert "records_lost" == lost.value.code


def _made_again(kafka: Broker, topic: str) -> None:
    """A topic that is being deleted still seems to be there for a while."""
    until = time.monotonic() + 60
    while True:
        broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
        with closing(broker.consumer()) as consumer:
            broker.prepare(topic, 1, DATA_TOPIC)
            with suppress(Retry):
                if broker.watermarks(consumer, topic, 0) == (0, 0):
                    return
        assert time.monotonic() < until


def test_a_schema_keeps_its_number_and_is_found_by_it(transport: Transport) -> None:
    """Registering again gives the same id; both ends agree on it."""
    schema = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
    other = {"type": "record", "name": "Key", "fields": []}
    first = transport.writer.register("s-key", schema)
    assert first == transport.writer.register("s-key", schema)
    assert first != transport.writer.register("s-key", other)
    assert schema == transport.reader.schema(first)


def test_a_writer_that_is_far_ahead_waits_and_can_be_stopped_meanwhile() -> None:
    """Back-pressure of the in-process transport: bounded, and the wish to end gets through."""
    stop = threading.Event()

    def idle() -> None:
        if stop.is_set():
            raise Stopped

    log = DirectLog("p", limit_bytes=10_000, idle=idle)
    log.prepare("t")
    log.send("t", [Record(0, None, b"x" * 20_000)])
    log.append_control("cut 0", {"type": "cut"})
    ended: list[str] = []

    def send() -> None:
        try:
            log.send("t", [Record(0, None, b"y")])
            ended.append("sent")
        except Stopped:
            ended.append("stopped")

    blocked = threading.Thread(target=send)
    blocked.start()
    blocked.join(0.3)
    assert blocked.is_alive(), "send went on above the bound"
    log.assign({("t", 0): 0}, 0)
    log.poll(1)
    log.release({("t", 0): 1}, 1)
    blocked.join(5)
    assert ["sent"] == ended
    log.send("t", [Record(0, None, b"x" * 20_000)])
    log.append_control("cut 0", {"type": "cut"})
    blocked = threading.Thread(target=send)
    blocked.start()
    stop.set()
    blocked.join(5)
    assert ["sent", "stopped"] == ended


def test_a_writer_goes_on_above_the_bound_until_there_is_a_cut_by_which_room_can_be_made() -> None:
    """Else a piece of a large transaction that weighs more than the bound would wait for ever for its own partial cut."""
    log = DirectLog("p", limit_bytes=10_000)
    log.prepare("t")

    def send() -> threading.Thread:
        sender = threading.Thread(target=lambda: log.send("t", [Record(0, b"k", b"x" * 20_000)]), daemon=True)
        sender.start()
        sender.join(0.3)
        return sender

    log.append_control("base 0", {"type": "base"})
    assert [False] * 3 == [send().is_alive() for _ in range(3)]
    log.append_control("cut 0", {"type": "cut"})
    held = send()
    assert held.is_alive()
    log.assign({("t", 0): 0}, 0)
    assert 5 == len(log.poll(1))
    log.release({("t", 0): 3}, 2)
    held.join(5)
    assert not held.is_alive()
    assert not send().is_alive()


def test_a_tombstone_at_the_head_does_not_keep_what_is_behind_it() -> None:
    """Released records leave memory although an older partition ends in a tombstone."""
    log = DirectLog("p", limit_bytes=10_000)
    log.prepare("a")
    log.prepare("b")
    log.send("a", [Record(0, b"k", b"gone"), Record(0, b"k", None)])
    log.send("b", [Record(0, b"k", b"x" * 20_000)])
    log.assign({("a", 0): 0, ("b", 0): 0}, 0)
    assert 3 == len(log.poll(1))
    log.release({("a", 0): 1, ("b", 0): 1}, 0)
    sender = threading.Thread(target=lambda: log.send("b", [Record(0, b"k", b"more")]), daemon=True)
    sender.start()
    sender.join(5)
    assert not sender.is_alive()


def test_a_held_partition_delivers_nothing_until_it_is_let_go_and_then_all_in_order(kafka: Broker) -> None:
    """Librdkafka throws away what it had fetched of it, and remembers the pause: neither may show."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {}, partitions=PARTITIONS)
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        both = Transport("kafka", writer, reader, kafka.prefix)
        held, other = (both.topic, 0), (both.topic, 1)
        writer.prepare(both.topic)
        records = [Record(i % 2, b"k", b"%d" % i) for i in range(20_000)]
        writer.send(both.topic, records)
        writer.flush()
        reader.assign({held: 0, other: 0}, 0)
        first = both.read(1)
        reader.hold(frozenset({held}))
        writer.send(both.topic, records)
        writer.flush()
        rest = both.read(20_000 - sum(m.partition == 1 for m in first))
        assert {m.partition for m in rest} == {1}
        reader.hold(frozenset())
        rest += both.read(40_000 - len(first) - len(rest))
        assert [m.offset for m in first + rest if m.partition == 0] == list(range(20_000))
        reader.hold(frozenset({held}))
        reader.assign({held: 0}, 0)
        assert both.read(1)[0].partition == 0


def test_holds_tells_the_number_at_an_offset(kafka: Broker) -> None:
    """A broker that lost acknowledged records is found out by the number that stands where the cut's record was."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        topic = f"{kafka.prefix}.t"
        writer.prepare(topic)
        writer.send(topic, [Record(0, None, _numbered(7, 12)), Record(0, None, _numbered(7, 13))])
        writer.flush()
        assert writer.holds((topic, 0), 1, 7, 13)
        assert not writer.holds((topic, 0), 1, 7, 12)
        assert not writer.holds((topic, 0), 0, 8, 12)
        assert not writer.holds((topic, 0), 2, 7, 14)
        assert not writer.holds((f"{topic}.deleted", 0), 0, 7, 12), "a topic that is not there holds nothing; nobody is away"
        writer.prepare(f"{topic}.deleted")
        writer.send(f"{topic}.deleted", [Record(0, None, _numbered(7, 12))])
        writer.flush()
        assert writer.holds((f"{topic}.deleted", 0), 0, 7, 12)


def test_what_lies_beyond_a_partition_s_end_is_asked_of_the_broker_once(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that goes back behind a topic that was made anew looks at each cut there is."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        topic = f"{kafka.prefix}.t"
        writer.prepare(topic)
        asked, ends = list[str](), broker.watermarks

        def watermarks(consumer: Any, topic: str, partition: int) -> tuple[int, int]:
            asked.append(topic)
            return ends(consumer, topic, partition)

        monkeypatch.setattr(broker, "watermarks", watermarks)
        assert not any(writer.holds((topic, 0), offset, 7, offset + 1) for offset in range(1000))
        assert [topic] == asked


@pytest.mark.parametrize(
    ("kafka_settings", "limit", "size", "named"),
    [
        ({}, "1048588", 3_000_000, "its max.message.bytes = 1,048,588 bytes"),
        ({"message.max.bytes": 1_000_000}, "20000000", 2_000_000, "transport.kafka message.max.bytes = 1,000,000 bytes"),
        ({}, "1000000000", 105_000_000, "the broker's socket.request.max.bytes = 104,857,600 bytes"),
    ],
)
def test_a_record_too_large_stops_with_its_size_and_the_setting_that_says_so(
    kafka: Broker, kafka_settings: dict[str, int], limit: str, size: int, named: str
) -> None:
    """By the topic's answer, by the client's own, and before a broker would end the connection again and again."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, kafka_settings)
    with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        topic = f"{kafka.prefix}.t"
        writer.prepare(topic)
        kafka.configure(topic, {"max.message.bytes": limit})
        with pytest.raises(Halt) as caught:
            writer.send(topic, [Record(0, None, b"small"), Record(0, b"key", os.urandom(size)), Record(0, None, b"small")])
            writer.flush()
    assert ("record_too_large", f"topic {topic}") == (caught.value.code, caught.value.place)
    assert f"{size + 3:,} bytes" in caught.value.rule
    assert named in caught.value.rule
    assert "start again" in caught.value.hint


def test_headers_keep_their_record_in_order(kafka: Broker) -> None:
    """Records with headers go another way through the client and must not overtake or fall behind."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    registry = topic_registry(broker)
    with closing(KafkaWriter(broker, registry)) as writer, closing(KafkaReader(broker, registry)) as reader:
        topic = f"{kafka.prefix}.t"
        writer.prepare(topic)
        headers = [("__debezium.newkey", b"n")]
        writer.send(topic, [Record(0, b"k", b"%d" % i, headers if i % 3 == 1 else None) for i in range(300)])
        writer.flush()
        reader.assign({(topic, 0): 0}, 0)
        values = [m.value for m in Transport("kafka", writer, reader, kafka.prefix).read(300)]
        assert [b"%d" % i for i in range(300)] == values


def test_an_unreachable_broker_is_named() -> None:
    """The address, the rule and the mend."""
    with pytest.raises(CdcError) as caught:
        KafkaBroker("127.0.0.1:1", "p", {}).check()
    assert ("broker_unreachable", "kafka 127.0.0.1:1") == (caught.value.code, caught.value.place)


def test_a_table_s_topic_may_have_a_number_of_partitions_of_its_own_and_one_that_is_there_keeps_its_number(kafka: Broker) -> None:
    topics = [f"{kafka.prefix}.db.{table}" for table in ("large_one", "large", "small")]
    for partitions_of, wanted in (({"db.large_*": 5, "db.large*": 3}, [5, 3, 2]), ({}, [5, 3, 2])):
        broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {}, partitions=2, partitions_of=partitions_of)
        with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
            assert wanted == [writer.prepare(topic) for topic in topics]
            assert wanted == [len(writer.ends(topic)) for topic in topics]


def test_requests_of_a_topic_that_was_made_anew_are_read_from_its_beginning(kafka: Broker) -> None:
    """And those of one that lost its last records from its end on: what comes there is new, whatever its number was before."""
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaSignals(broker)) as signals:
        assert [0, 1, 2] == [send(broker, {"id": str(n)}) for n in range(3)]
        known = signals.resume(Copies(2, 3, ("db", "t")))
        assert (2, 3, ("db", "t"), True) == (known.next, known.read, known.last, bool(known.channel))
        assert known == signals.resume(known)
        lost = signals.resume(replace(known, next=8, read=9))
        assert (3, 3, None) == (lost.next, lost.read, lost.last)
        for copies in (replace(known, channel="another"), Copies(8, 9)):
            anew = signals.resume(copies)
            assert (0, 0, None, known.channel) == (anew.next, anew.read, anew.last, anew.channel)


def test_a_broker_that_never_answers_is_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, ask_seconds=0.01, call_seconds=0.02))
    with pytest.raises(Retry, match="no answer in time"):
        KafkaBroker("127.0.0.1:1", "p", {})._answer(Future[object]())


def test_who_waits_for_a_broker_that_never_answers_can_be_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, ask_seconds=0.01))

    def told() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        KafkaBroker("127.0.0.1:1", "p", {}, idle=told)._answer(Future[object]())
