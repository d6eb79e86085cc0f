"""librdkafka's producer and consumer, and the brokers behind them: the product's own transport runs over these.

Kept as Kafka has it (`test_contract` asks both): offsets grow, retention moves the first one, compaction leaves holes, a consumer whose
next offset is not held gets an error once and nothing more, what a dead producer had under way arrives late or never.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_INVALID, KafkaError, TopicPartition

from cdc.errors import Halt, Retry
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.record_limits import RecordLimits
from tests.simulation.scheduler import Killed, Scheduler

Place = tuple[str, int]


class Held(NamedTuple):
    """A record that a broker holds."""

    offset: int
    key: bytes | None
    value: bytes | None
    time: float


@dataclass
class Partition:
    """One partition's log."""

    low: int = 0
    end: int = 0
    held: list[Held] = field(default_factory=list)

    def append(self, key: bytes | None, value: bytes | None, time: float) -> int:
        self.held.append(Held(self.end, key, value, time))
        self.end += 1
        return self.end - 1

    def since(self, offset: int, most: int) -> list[Held]:
        """Records from an offset on."""
        if not self.held or offset > self.held[-1].offset:
            return []
        at = bisect_left(self.held, offset, key=itemgetter(0))
        return self.held[at : at + most]


class Sent(NamedTuple):
    """A record under way."""

    place: Place
    key: bytes | None
    value: bytes | None
    told: Callable[[KafkaError | None, Any], None] | None


class SimBrokers:
    """The cluster."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.topics: dict[str, list[Partition]] = {}
        self.made: dict[str, int] = {}
        """How often each topic was made."""
        self.configs: dict[str, Mapping[str, str]] = {}
        self.down = False
        self.notices = True
        """Whether the brokers know after a loss which sequence numbers of a producer they have."""
        self.producers: list[SimProducer] = []
        self.late: list[Sent] = []
        """What dead producers had under way and the network still holds."""
        self.appended: Callable[[Place, Held], None] = lambda place, held: None
        """Told of every record, for the oracle."""

    def partition(self, place: Place) -> Partition | None:
        """A partition that exists."""
        topic = self.topics.get(place[0])
        return topic[place[1]] if topic is not None and place[1] < len(topic) else None

    def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> None:
        """Make a topic."""
        self.made.setdefault(topic, 1)
        self.topics.setdefault(topic, [Partition() for _ in range(partitions)])
        self.configs.setdefault(topic, config)

    def arrive(self, sent: Sent) -> int:
        """A record reaches its partition; its offset."""
        partition = self.partition(sent.place)
        if partition is None:
            return -1
        offset = partition.append(sent.key, sent.value, self.scheduler.now)
        self.appended(sent.place, partition.held[-1])
        self.scheduler.notify("broker")
        return offset

    def deliver_late(self) -> None:
        """What dead producers had under way arrives, or some of it."""
        late, self.late = self.late, []
        for sent in late:
            self.arrive(sent)

    def retain(self, seconds: float) -> None:
        """Data records older than this are gone, as retention has it."""
        for topic, partitions in self.topics.items():
            if self.configs[topic].get("cleanup.policy") == "delete":
                for one in partitions:
                    kept = [held for held in one.held if held.time >= self.scheduler.now - seconds]
                    if len(kept) < len(one.held):
                        one.held, one.low = kept, kept[0].offset if kept else one.end

    def compact(self, lag_seconds: float) -> None:
        """Of each key of a compacted topic the newest record stays, and all that are young; the last one always does."""
        for topic, partitions in self.topics.items():
            if self.configs[topic].get("cleanup.policy") == "compact":
                for one in partitions:
                    newest = {held.key: held.offset for held in one.held}
                    young = self.scheduler.now - lag_seconds
                    one.held = [h for h in one.held if newest[h.key] == h.offset or h.time >= young or h.offset == one.end - 1]

    def remake(self, topic: str) -> None:
        """A topic is deleted and made again: it holds nothing, and its offsets begin anew."""
        self.made[topic] += 1
        self.topics[topic] = [Partition() for _ in self.topics[topic]]
        self.notices = True
        self.scheduler.notify("broker")

    def lose(self, place: Place, count: int) -> int:
        """The last records of a partition are gone although they were acknowledged; how many."""
        one = self.topics[place[0]][place[1]]
        count = min(count, len(one.held))
        if count:
            one.end = one.held[-count].offset
            del one.held[-count:]
            one.low = min(one.low, one.end)
        return count


class SimMessage:
    """What librdkafka hands over."""

    __slots__ = ("_error", "_key", "_offset", "_partition", "_topic", "_value")

    def __init__(self, place: Place, offset: int, key: bytes | None, value: bytes | None, error: KafkaError | None = None) -> None:
        (self._topic, self._partition), self._offset, self._key, self._value, self._error = (
            place,
            offset,
            key,
            value,
            error,
        )

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def error(self) -> KafkaError | None:
        return self._error


class SimProducer:
    """An idempotent producer: everything in order, each record once."""

    def __init__(self, brokers: SimBrokers, process: Any) -> None:
        self._brokers, self._process = brokers, process
        self._queue: deque[Sent] = deque()
        self._last: dict[Place, int] = {}
        self._answers: deque[tuple[Sent, int]] = deque()
        """What has arrived, and the owner has not heard of."""
        self._fatal = False
        process.producers.append(self)
        brokers.producers.append(self)

    def __len__(self) -> int:
        return len(self._queue)

    def produce(self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int = 0, **more: Any) -> None:
        """Send one record."""
        self._alive()
        self._queue.append(Sent((topic, partition), key, value, more.get("on_delivery")))

    def produce_batch(self, topic: str, messages: Sequence[Mapping[str, Any]], partition: int = 0) -> int:
        """Send many."""
        self._alive()
        for one in messages:
            self._queue.append(Sent((topic, partition), one["key"], one["value"], one.get("callback")))
        self._brokers.scheduler.step()
        return len(messages)

    def poll(self, seconds: float) -> int:
        """Let some of what is under way arrive."""
        self._alive()
        self.flow(self._brokers.scheduler.random.randint(0, 4))
        self._hear()
        if seconds:
            self._brokers.scheduler.sleep(seconds)
        return 0

    def flush(self, seconds: float) -> int:
        """Let all of it arrive, unless the brokers are away; how much has not."""
        self._brokers.scheduler.step()
        self._alive()
        if self._brokers.down and self._queue:
            self._brokers.scheduler.sleep(seconds)
            self._alive()
        while self._queue and not self._brokers.down:
            self.flow(self._brokers.scheduler.random.randint(1, 8))
            self._hear()
            self._brokers.scheduler.step()
            self._alive()
        self._hear()
        return len(self._queue)

    def _hear(self) -> None:
        while self._answers:
            sent, offset = self._answers.popleft()
            if sent.told is not None:
                sent.told(None, SimMessage(sent.place, offset, sent.key, sent.value))
        if self._fatal:
            raise Halt("producer_fatal", "kafka simulated", "a sequence number is out of order", "restart the process")

    def flow(self, most: int) -> None:
        """So many records arrive, whatever the owner does."""
        while self._queue and most and not self._brokers.down and not self._fatal:
            sent = self._queue[0]
            partition = self._brokers.partition(sent.place)
            if partition is not None and partition.end <= self._last.get(sent.place, -1) and self._brokers.notices:
                self._fatal = True
                return
            self._queue.popleft()
            offset = self._last[sent.place] = self._brokers.arrive(sent)
            self._answers.append((sent, offset))
            most -= 1

    def purge(self, in_flight: bool = True) -> None:
        """Forget what was not sent."""
        self._queue.clear()

    def die(self) -> None:
        """The process is gone: some of what was under way arrives, now or later."""
        self._brokers.producers.remove(self)
        queue, chance = list(self._queue), self._brokers.scheduler.random
        self._queue.clear()
        arrives = chance.randint(0, len(queue))
        now = chance.randint(0, arrives)
        for sent in queue[:now]:
            if not self._brokers.down:
                self._brokers.arrive(sent)
        self._brokers.late += queue[now:arrives]

    def _alive(self) -> None:
        if not self._process.alive:
            raise Killed


class SimConsumer:
    """A consumer that is assigned by hand."""

    def __init__(self, brokers: SimBrokers, process: Any) -> None:
        self._brokers, self._process = brokers, process
        self._next: dict[Place, int] = {}
        self._consumed: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._failed: set[Place] = set()

    def _alive(self) -> None:
        if not self._process.alive:
            raise Killed

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these from these offsets on."""
        self._alive()
        self._next = {}
        for one in partitions:
            place = (one.topic, one.partition)
            held = self._brokers.partition(place)
            self._next[place] = held.low if one.offset == OFFSET_BEGINNING and held is not None else one.offset
        self._consumed, self._failed = {}, set()

    def unassign(self) -> None:
        """Read nothing."""
        self._next = {}

    def assignment(self) -> list[TopicPartition]:
        """What is read."""
        return [TopicPartition(*place) for place in self._next]

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Behind the last record that was taken."""
        return [TopicPartition(p.topic, p.partition, self._consumed.get((p.topic, p.partition), OFFSET_INVALID)) for p in partitions]

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more of these."""
        self._paused |= {(p.topic, p.partition) for p in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these again."""
        self._paused -= {(p.topic, p.partition) for p in partitions}

    def consume(self, most: int, seconds: float) -> list[SimMessage]:
        """What has arrived; waits for so long when there is nothing."""
        self._brokers.scheduler.step()
        self._alive()
        for producer in [one for one in self._brokers.producers if one]:  # librdkafka sends by itself
            producer.flow(self._brokers.scheduler.random.randint(0, 8))
        found = self._taken(most)
        if not found and seconds:
            self._brokers.scheduler.wait("broker", seconds)
            self._alive()
            found = self._taken(most)
        return found

    def _taken(self, most: int) -> list[SimMessage]:
        if self._brokers.down:
            return []
        places = [place for place in self._next if place not in self._paused and place not in self._failed and self._has(place)]
        if len(places) > 1:
            self._brokers.scheduler.random.shuffle(places)
        found: list[SimMessage] = []
        for place in places:
            if len(found) < most:
                found += self._of(place, min(most - len(found), self._brokers.scheduler.random.choice((1, 8, 64, 4096))))
        return found

    def _has(self, place: Place) -> bool:
        partition = self._brokers.partition(place)
        return partition is not None and partition.end != self._next[place]

    def _of(self, place: Place, most: int) -> list[SimMessage]:
        partition, offset = self._brokers.partition(place), self._next[place]
        if partition is None:
            return []
        if not partition.low <= offset <= partition.end:
            self._failed.add(place)
            return [SimMessage(place, offset, None, None, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
        held = partition.since(offset, most)
        if held:
            self._next[place] = self._consumed[place] = held[-1].offset + 1
        return [SimMessage(place, one.offset, one.key, one.value) for one in held]

    def get_watermark_offsets(self, where: TopicPartition, timeout: float = 0.0) -> tuple[int, int]:
        """The first offset held and the one that comes next."""
        self._brokers.scheduler.step()
        self._alive()
        self._process.reach(self._brokers)
        partition = self._brokers.partition((where.topic, where.partition))
        assert partition is not None
        return partition.low, partition.end

    def commit(self, **_: Any) -> None:
        """Kafka's committed offsets play no part."""

    def close(self) -> None:
        """Read nothing any more."""
        self._next = {}


class SimKafka(KafkaBroker):
    """The product's view of the cluster, with clients of ours."""

    def __init__(self, brokers: SimBrokers, process: Any, prefix: str, partitions: int, idle: Callable[[], None]) -> None:
        self._brokers, self._process = brokers, process
        self.bootstrap, self.prefix, self.place = "simulated", prefix, "kafka simulated"
        self._partitions, self._partitions_of = partitions, {}
        self._idle = idle
        self._known = {}
        self.limits = RecordLimits(None, {})  # type: ignore[arg-type]
        self.trouble = _Quiet()  # type: ignore[assignment]

    def producer(self) -> Any:
        return SimProducer(self._brokers, self._process)

    def consumer(self, fetch_wait_ms: int = 100) -> Any:
        return SimConsumer(self._brokers, self._process)

    def check(self) -> None:
        self._process.reach(self._brokers)
        self._known = {name: len(partitions) for name, partitions in self._brokers.topics.items()}

    def identity(self, topic: str) -> str:
        self._process.reach(self._brokers)
        return f"{topic} {self._brokers.made[topic]}"

    def _create(self, topic: str, partitions: int, config: Mapping[str, str]) -> None:
        self._process.reach(self._brokers)
        self._brokers.create(topic, partitions, config)


class _Quiet:
    """Nothing is told in the background."""

    away_since = None

    def check(self) -> None:
        pass

    def forget_absence(self) -> None:
        pass

    def fail(self, error: KafkaError) -> None:
        raise Retry("broker_lost", "kafka simulated", error.name(), "")
