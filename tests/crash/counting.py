"""A reader of the topics beside the pipeline, that counts: which numbers exist, which row each brought, and what the last cut names."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from tests.helpers.servers import Broker

Partition = tuple[str, int]
_LOOK_SECONDS, _POLL_SECONDS = 0.3, 0.1


class Counted(NamedTuple):
    """One numbered record."""

    offset: int
    epoch: int
    seq: int


class Counting:
    """Reads all topics under a prefix, from their beginning, for the length of a block."""

    def __init__(self, broker: Broker, settings: Mapping[str, str]) -> None:
        """`settings`: what each topic is set to when it is seen first, as far as it keeps or compacts its records."""
        self._settings = settings
        self._broker, self.prefix, self._prefix = broker, broker.prefix, f"{broker.prefix}."
        self.records: dict[Partition, list[Counted]] = {}
        self.first: dict[str, dict[int, tuple[int, int]]] = {}
        """By topic, for each row's `op` the partition and the lowest number that a record of it has."""
        self.control: dict[int, dict[str, Any]] = {}
        self._schemas: dict[int, Any] = {}
        self._set_already: set[str] = set()
        self._waiting: list[tuple[Partition, int, bytes]] = []
        """Records whose schema is still on its way."""
        self._read: dict[Partition, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="counting")

    def __enter__(self) -> Counting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert [] == self._errors

    def number(self, topic: str, op: int) -> tuple[int, int] | None:
        """The partition and the lowest number of a row; None: nothing of it was read yet."""
        with self._lock:
            return self.first.get(topic, {}).get(op)

    def needed_from(self, partition: Partition, next_offset: int) -> int:
        """The offset of the first record that a sink which reads on there has still to see; without any, the one that comes next.

        Looked up under one lock: between two, records come by that one of them does not know and the other counts as seen.
        """
        with self._lock:
            waiting = (offset for where, offset, _ in self._waiting if where == partition)
            numbered = (one.offset for one in self.records.get(partition, ()))
            owed = (offset for offset in (*numbered, *waiting) if offset >= next_offset)
            return min(owed, default=max(next_offset, self._read.get(partition, 0)))

    def named(self) -> dict[Partition, int]:
        """At rest: the number that each partition of the newest epoch has come to."""
        with self._lock:
            documents = [self.control[offset] for offset in sorted(self.control)]
        found: dict[Partition, int] = {}
        epoch = max((offset for offset, one in self.control.items() if one["type"] == "start"), default=-1)
        for one in documents:
            if one["type"] == "base" and one["epoch"] == epoch:
                found = {}
            if one["type"] in ("base", "cut") and one["epoch"] == epoch:
                named: dict[str, list[int]] = one["named" if one["type"] == "base" else "partitions"]
                found |= {_partition(text): seq for text, (_, _, seq) in named.items()}
        return found

    def forget(self, topic: str) -> None:
        """The topic was made anew."""
        with self._lock:
            self._read = {partition: at for partition, at in self._read.items() if partition[0] != topic}
            self.records = {partition: kept for partition, kept in self.records.items() if partition[0] != topic}

    def _run(self) -> None:
        try:
            settings = {
                "bootstrap.servers": self._broker.bootstrap, "group.id": f"{self._prefix}counting", "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "allow.auto.create.topics": False,
            }  # fmt: skip
            consumer, admin = Consumer(settings), AdminClient({"bootstrap.servers": self._broker.bootstrap})
            known: frozenset[Partition] = frozenset()
            while not self._stop.is_set():
                topics = admin.list_topics(timeout=30).topics
                now = frozenset(
                    (name, number) for name, topic in topics.items() if name.startswith(self._prefix) for number in topic.partitions
                )
                if now != known:
                    known = now
                    self._set(admin, {topic for topic, _ in now})
                    consumer.assign([TopicPartition(*one, self._read.get(one, OFFSET_BEGINNING)) for one in sorted(now)])
                for _ in range(round(_LOOK_SECONDS / _POLL_SECONDS)):
                    for message in consumer.consume(5_000, _POLL_SECONDS) if known else ():
                        if message.error() is None:
                            self._take(message)
                if not known:
                    self._stop.wait(_LOOK_SECONDS)
            consumer.close()
        except BaseException as error:  # noqa: BLE001 - handed to the owner, whom it fails
            self._errors.append(error)

    def _set(self, admin: AdminClient, topics: set[str]) -> None:
        for topic in topics - self._set_already:
            kept = topic.removeprefix(self._prefix).count(".") == 1
            wanted = {name: value for name, value in self._settings.items() if kept or name != "retention.ms"}
            entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()]
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
            with suppress(KafkaException):  # it may be gone
                admin.incremental_alter_configs([resource])[resource].result(30)
        self._set_already |= topics

    def _take(self, message: Message) -> None:
        topic, offset, value = str(message.topic()), int(message.offset() or 0), message.value()
        partition = topic, int(message.partition() or 0)
        kind = topic.removeprefix(self._prefix)
        if value is None:
            pass
        elif kind == "schemas":
            self._schemas[offset] = fastavro.parse_schema(json.loads(json.loads(value)["schema"]))
            waiting = len(self._waiting)
            for one in self._waiting[:waiting]:
                self._count(*one)
            with self._lock:
                del self._waiting[:waiting]
        elif kind == "control":
            with self._lock:
                self.control[offset] = json.loads(value)
        elif "." in kind:
            self._count(partition, offset, bytes(value))
        self._read[partition] = offset + 1  # once what it brought is known: `needed_from`

    def _count(self, partition: Partition, offset: int, value: bytes) -> None:
        schema = self._schemas.get(int.from_bytes(value[1:5], "big"))
        if schema is None:
            with self._lock:
                self._waiting.append((partition, offset, value))
            return
        found: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
        sequence = found["source"]["sequence"]
        epoch, _, seq = sequence.partition(".")
        with self._lock:
            self.records.setdefault(partition, []).append(Counted(offset, int(epoch), int(seq)))
            op = (found.get("after") or {}).get("op")
            if op is not None:
                known = self.first.setdefault(partition[0], {}).get(op)
                if known is None or int(seq) < known[1]:
                    self.first[partition[0]][op] = (partition[1], int(seq))


def _partition(text: str) -> Partition:
    topic, _, number = text.rpartition(":")
    return topic, int(number)
