"""The in-process transport: bounded, holds only what the sink has not released, forgets everything with the process.

Nothing here survives a restart, and nothing has to: capture reads the log again from the position that the target
stores. Control offsets go on from the target's stored one, so that epochs grow across restarts as they do with a
broker.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from cdc.errors import Halt
from cdc.model import names
from cdc.model.names import control_topic
from cdc.model.record import Document, Message, Partition, Record, weight
from cdc.runtime import clock, timing
from cdc.runtime.lag import APPLY, Waits
from cdc.transport.contract import Idle, by_partition


class _Run:
    """What one `send` put into one partition: handed over and forgotten as a whole,
    so that no record costs a step of its own."""

    __slots__ = ("bytes", "is_cut", "messages", "numbered", "partition")

    def __init__(self, partition: Partition, messages: list[Message], *, is_cut: bool = False) -> None:
        self.partition, self.messages, self.is_cut = partition, messages, is_cut
        self.bytes = weight(messages)
        self.numbered = next((message.offset for message in reversed(messages) if message.value is not None), -1)
        """The offset of the last record that bears a number; -1: there are tombstones only."""

    def since(self, offset: int) -> _Run:
        """The part of it from an offset on."""
        if self.messages[0].offset >= offset:
            return self
        return _Run(self.partition, [m for m in self.messages if m.offset >= offset], is_cut=self.is_cut)


class DirectLog:
    """Both ends of the in-process transport; capture and the sink may run in two threads.

    `limit_bytes` bounds what lies between them: `send` blocks above it for as long as a cut is there which the sink can
    apply and release. Without one nothing would ever make room: the piece of a large transaction that is under way is
    larger than the bound then, and bounded by capture, which closes it with a partial cut.
    """

    bounded = True

    def __init__(
        self,
        prefix: str,
        *,
        first_control: int = 0,
        partitions: int = 1,
        limit_bytes: int = 32 << 20,
        idle: Idle | None = None,
    ) -> None:
        self.prefix, self.control_topic = prefix, control_topic(prefix)
        self._partitions, self._limit, self._idle = partitions, limit_bytes, idle
        self.waits = Waits()
        self._changed = clock.condition()
        self._held: deque[_Run] = deque()
        self._read = 0
        self._first_control = first_control
        self._ends: dict[Partition, int] = {(self.control_topic, 0): first_control}
        self._released: dict[Partition, int] = {(self.control_topic, 0): first_control}
        self._unflushed: dict[Partition, int] = {}
        self._schemas: dict[str, int] = {}
        self._bytes = self._cuts = 0
        self._closed = False

    def topic(self, db: str, table: str) -> str:
        """The name of the topic that holds a table's records: never a broker's, so it may be the table's own."""
        return names.private_topic(self.prefix, db, table)

    # -- the writer's end -------------------------------------------------------------------------------------------

    def prepare(self, topic: str) -> int:
        """Make the topic unless it exists; its number of partitions."""
        with self._changed:
            for number in range(self._partitions):
                self._ends.setdefault((topic, number), 0)
        return self._partitions

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append in this order, per partition; blocks while the bound is exceeded."""
        with self._changed:
            with self.waits.on(APPLY):
                self._wait_for_room()
            for number, run in by_partition(records).items():
                numbered = self._append((topic, number), run)
                if numbered >= 0:
                    self._unflushed[topic, number] = numbered
            self._changed.notify_all()

    def _append(self, partition: Partition, records: Sequence[Record], *, is_cut: bool = False) -> int:
        first, new = self._ends[partition], tuple.__new__  # `Message(...)` would cost as much as all the rest
        messages = [
            new(Message, (*partition, offset, key, value)) for offset, (_, key, value, _) in enumerate(records, first)
        ]
        run = _Run(partition, messages, is_cut=is_cut)
        self._ends[partition] = first + len(messages)
        self._held.append(run)
        self._bytes += run.bytes
        self._cuts += is_cut
        return run.numbered

    def _wait_for_room(self) -> None:
        while self._bytes > self._limit and self._cuts:
            if self._idle is not None:
                self._idle()
            if self._closed:
                raise Halt("transport_closed", self.control_topic, "the reader has gone")
            self._changed.wait(timing.TIMES.direct_wait_seconds)

    def flush(self) -> Mapping[Partition, int]:
        """What was sent is acknowledged at once; the last numbered offsets since the last call."""
        with self._changed:
            done, self._unflushed = self._unflushed, {}
        return done

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        """Append to the control log; its offset."""
        with self._changed:
            record = Record(0, key.encode(), json.dumps(document).encode())
            offset = self._append((self.control_topic, 0), [record], is_cut=document["type"] == "cut")
            self._changed.notify_all()
        return offset

    def check_alone(self) -> None:
        """Nobody else can write here."""

    def control(self, last: int = 0) -> Iterable[tuple[int, Document]]:
        """The last control records not yet released; 0: all of them."""
        with self._changed:
            messages = [
                message for run in self._held if run.partition[0] == self.control_topic for message in run.messages
            ]
        return [(message.offset, json.loads(message.value or b"{}")) for message in messages[-last:]]

    def ends(self, topic: str) -> list[int]:
        """The offset that the next record of each partition gets."""
        with self._changed:
            return [self._ends[topic, number] for number in range(self._partitions)]

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        """Nothing outlives a process here, so no record of an earlier one is held."""
        return False

    def register(self, subject: str, schema: Document) -> int:
        """The number of this schema, given unless known."""
        with self._changed:
            return self._schemas.setdefault(json.dumps(schema), len(self._schemas) + 1)

    # -- the reader's end -------------------------------------------------------------------------------------------

    def assign(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Deliver again, from these offsets, whatever is not released.

        Whoever has applied no control record of this process has the data offsets of an earlier one, whose records went
        with it.
        """
        earlier = 0 < self._first_control == control
        wanted = {**({} if earlier else offsets), (self.control_topic, 0): control}
        with self._changed:
            for partition, offset in wanted.items():
                if offset < self._released.get(partition, 0):
                    raise Halt(
                        "offset_gone",
                        f"{partition[0]}:{partition[1]}",
                        f"offset {offset} is no longer held",
                        "restart the process",
                    )
            self._held = deque(rest for run in self._held if (rest := run.since(wanted.get(run.partition, 0))).messages)
            self._bytes = sum(run.bytes for run in self._held)
            self._cuts = sum(run.is_cut for run in self._held)
            self._read = 0

    def control_before(self, offset: int) -> bytes | None:
        """What an earlier process wrote went with it."""
        return None

    def poll(self, seconds: float) -> list[Message]:
        """What has arrived since the last call, in the order it was sent; empty after `seconds`."""
        with self._changed:
            if len(self._held) == self._read and not self._closed:
                self._changed.wait(seconds)
            runs = list(islice(self._held, self._read, None))
            self._read = len(self._held)
        return [message for run in runs for message in run.messages]

    def hold(self, partitions: frozenset[Partition]) -> None:
        """What lies between the ends is bounded as a whole, in the order of the log: there is nothing to hold."""

    def schema(self, schema_id: int) -> Document:
        """The schema registered under this id."""
        with self._changed:
            for text, number in self._schemas.items():
                if number == schema_id:
                    return dict(json.loads(text))
        raise Halt("schema_unknown", f"schema {schema_id}", "no such schema was registered", "restart the process")

    def release(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Forget what lies wholly below these offsets: a send at once, as cuts stand between sends."""
        with self._changed:
            self._released.update(offsets)
            self._released[self.control_topic, 0] = control
            while self._read and self._is_done(self._held[0]):
                done = self._held.popleft()
                self._bytes -= done.bytes
                self._cuts -= done.is_cut
                self._read -= 1
            self._changed.notify_all()

    def _is_done(self, run: _Run) -> bool:
        return run.numbered < self._released.get(run.partition, 0)  # a tombstone tells this reader nothing

    def close(self) -> None:
        """Wake everybody up; a writer that waits for room gives up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
