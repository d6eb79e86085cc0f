"""What a transport promises; `direct` and `kafka` keep it, and one contract suite runs against both.

Records of one partition are read in the order they were sent, each exactly where `append` put it: offsets grow, but may
have gaps. A record is *acknowledged* when `flush` has returned after its `send`; only then may a cut name it. The
control topic is one more ordered log, of JSON documents. Nothing is delivered twice to one assignment; a new assignment
starts at the offsets it is given. An offset that is no longer held is never jumped over in silence: it is an error, or,
of data that expired, reading goes on at the first that is held, behind a message that says so (`nothing_below`). A
writer that is too far ahead of the readers blocks in `send` (back-pressure) and calls `idle` now and then while it
waits, so that its owner can stop it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from cdc.model.record import Document, Message, Partition, Record
from cdc.runtime.lag import Waits


class Writer(Protocol):
    """Capture's end of a transport."""

    waits: Waits
    """Told while capture waits here for others."""

    def topic(self, db: str, table: str) -> str:
        """The name of the topic that holds a table's records; no two followed tables have the same."""

    def prepare(self, topic: str) -> int:
        """Make the topic unless it exists; its number of partitions."""

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append in this order, per partition. Returns before they are acknowledged;
        raises Halt when one never will be."""

    def flush(self) -> Mapping[Partition, int]:
        """Wait until everything sent is acknowledged; the offset of the last *numbered* record sent since the last
        flush."""

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        """Append to the control topic; its offset once acknowledged, or -1 at once without `wait`."""

    def check_alone(self) -> None:
        """Raise Halt when another writer's start record stands behind ours; `flush` looks too when it has reason to."""

    def control(self, last: int = 0) -> Iterable[tuple[int, Document]]:
        """The last so many control records still held, in order, as of the call; 0: all of them."""

    def ends(self, topic: str) -> list[int]:
        """The offset that the next record of each partition gets."""

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        """Whether the record at `offset` bears this number. True also where retention has removed it since."""

    def register(self, subject: str, schema: Document) -> int:
        """The id of this schema, readable by every consumer when the call returns."""

    def close(self) -> None:
        """Give up connections; unacknowledged records may or may not arrive."""


class Reader(Protocol):
    """The sink's end of a transport."""

    control_topic: str
    bounded: bool
    """Whether the writer waits for room that `release` makes."""

    def topic(self, db: str, table: str) -> str:
        """The writer's name for the topic that holds a table's records."""

    def assign(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Read these partitions from these offsets on, the control topic from `control` on;
        may be called again to add or move."""

    def poll(self, seconds: float) -> list[Message]:
        """What has arrived, control records among them; empty after `seconds`."""

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Deliver no more of exactly these for now; a transport that is bounded as a whole need not heed it."""

    def control_before(self, offset: int) -> bytes | None:
        """The control record below this offset; None when retention or compaction removed it.
        Halt when the topic ends below."""

    def schema(self, schema_id: int) -> Document:
        """The schema that the writer registered under this id."""

    def release(self, offsets: Mapping[Partition, int], control: int) -> None:
        """Everything below these offsets is applied (and, between whole cuts, will be read again only after a
        restart)."""

    def close(self) -> None:
        """Give up connections."""


def nothing_below(partition: Partition, offset: int) -> Message:
    """A message that no record is, the last of its poll: nothing below this offset comes any more.
    It has neither key nor value."""
    return Message(*partition, offset - 1, None, None)


def by_partition(records: Sequence[Record]) -> Mapping[int, Sequence[Record]]:
    """Records of one topic as one run for each partition, each in order."""
    if len({record[0] for record in records}) == 1:
        return {records[0].partition: records}
    runs: dict[int, list[Record]] = {}
    for record in records:
        runs.setdefault(record.partition, []).append(record)
    return runs


Idle = Callable[[], None]
"""Called while a writer waits; may raise to give up."""
