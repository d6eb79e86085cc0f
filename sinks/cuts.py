"""From partitions to consistent cuts: which records make up the next state of the source; pure.

Control records and data records are fed in as they arrive, each partition in order. `take` gives the next thing to do, in
control order: the records of the next complete cuts, a base to enter, or a copy to begin. What is void is dropped and counted
by reason; a hole in the numbers, or a record that a cut names and that is not there, stops.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter

from cdc.control import Anomaly, Base, Copy, Cut, Entry, Ledger, Named, Start, from_document, mark
from cdc.copies import NOTHING, Copies, Ended
from cdc.errors import Halt
from cdc.model import Message, weight
from cdc.position import Position
from cdc.progress import Partition, Progress
from cdc.topic import Reader

Opened = tuple[int, int, str, int, int, int, int, tuple[int, int], int]
"""epoch, seq, op, before_at, before_end, after_at, after_end, (start, end) of the transaction's id, ts_us."""
Open = Callable[[Sequence[bytes]], Sequence[Opened]]
"""Reads the envelopes of some values of one topic."""

AHEAD_BYTES = 8 << 20
"""Memory of records that wait for their cut, in one partition; above it the partition is read no further until a cut needs it."""
AHEAD_CUTS = 2_000
BATCH_BYTES = 12 << 20
"""A batch this large is large enough, however few its rows are."""


@dataclass(slots=True)
class Changes:
    """The records of one topic that are to be applied, in order."""

    values: list[bytes] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Changes up to the end of a cut; a `partial` one ends no consistent state and must not be committed."""

    cut: Cut
    topics: dict[str, Changes]
    rows: int
    partial: bool
    anomalies: list[Anomaly] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    """The copies that end with its cuts."""
    bytes: int = 0


@dataclass(slots=True)
class Enter:
    """An epoch's base: numbers and offsets become the base's, then reading goes on at its end offsets."""

    base: Base


@dataclass(slots=True)
class Begin:
    """A table is copied whole from here on: what it holds gives way to the rows that follow."""

    copy: Copy


@dataclass(slots=True)
class Meet:
    """In scaled mode: all shards are to stand here before anyone goes on. `offset` and `mark` are the control record's."""

    offset: int
    entry: Base | Copy | Cut
    mark: str


Step = Batch | Enter | Begin | Meet


@dataclass(slots=True)
class At:
    """How far the records taken so far reach; becomes `Progress` when it is committed."""

    cut_no: int = 0
    epoch: int = -1
    control_next: int = 0
    position: Position | None = None
    source_ts_us: int = 0
    mark: str = ""
    """Of the control record before `control_next`."""
    offsets: dict[Partition, int] = field(default_factory=dict)
    numbers: dict[Partition, int] = field(default_factory=dict)
    copies: Copies = NOTHING


class Cuts:
    """Assembles cuts above what is stored."""

    def __init__(self, stored: Progress | None, floors: Mapping[str, Position], control_topic: str, open_: Open) -> None:
        self.at = At()
        if stored is not None:
            self.at = At(stored.cut_no, stored.epoch, stored.control_next, stored.position, stored.source_ts_us, stored.mark)
            self.at.offsets = {p: offset for p, (offset, _) in stored.partitions.items()}
            self.at.numbers = {p: seq for p, (_, seq) in stored.partitions.items()}
            self.at.copies = stored.copies
        self.floors = dict(floors)
        """By topic: changes of transactions at or below are in the copy already."""
        self.void: Counter[str] = Counter()
        self._control_topic, self._open = control_topic, open_
        self._buffers: dict[Partition, list[Message]] = {}
        self._bytes: Counter[Partition] = Counter()
        self.buffered = 0
        """Memory of the records that wait for their cut."""
        self._held: frozenset[Partition] = frozenset()
        self._fetched: dict[Partition, int] = dict(self.at.offsets)
        self._pending: deque[tuple[int, Entry | None, str]] = deque()
        self._ledger = Ledger(self.at.epoch)
        self._skip_until = self.at.position
        """What is applied may be ahead of the cuts that come next: after a base that went back, and after a restart within that."""
        self._known: dict[tuple[str, bytes], bool] = {}

    # -- in ----------------------------------------------------------------------------------------------------------

    def feed(self, messages: Iterable[Message]) -> None:
        """Take what has arrived."""
        for partition, run in groupby(messages, key=itemgetter(0, 1)):
            if partition[0] == self._control_topic:
                for message in run:
                    self._feed_control(message)
            else:
                self._feed_data(partition, list(run))

    def _feed_data(self, partition: Partition, run: list[Message]) -> None:
        known = self._fetched.get(partition, 0)
        if run[0].offset < known:
            run = [message for message in run if message.offset >= known]
        if run:
            self._fetched[partition] = run[-1].offset + 1
            kept = [message for message in run if message.value is not None]
            self._weigh(partition, weight(kept))
            self._buffers.setdefault(partition, []).extend(kept)

    def _weigh(self, partition: Partition, size: int) -> None:
        self._bytes[partition] += size
        self.buffered += size

    def _feed_control(self, message: Message) -> None:
        entry = from_document(json.loads(message.value or b"{}"), message.offset)
        if not isinstance(entry, Start) and entry.epoch > self._ledger.epoch:
            raise Halt(
                "control_lost",
                f"{self._control_topic} offset {message.offset}",
                f"a record of epoch {entry.epoch}, whose start was never seen",
                "the broker lost control records after it had acknowledged them: copy the tables into a fresh pipeline",
            )
        counts = self._ledger.add(message.offset, entry)
        self._pending.append((message.offset, self._mine(entry) if counts else None, mark(message.value or b"")))

    def _mine(self, entry: Entry) -> Entry:
        """What of a control record concerns us: all."""
        return entry

    def next_offsets(self) -> dict[Partition, int]:
        """Where fetching goes on, per partition."""
        return dict(self._fetched)

    def next_control(self) -> int:
        """Where fetching of the control topic goes on."""
        return self._pending[-1][0] + 1 if self._pending else self.at.control_next

    def ahead(self, *, stuck: bool = False) -> frozenset[Partition]:
        """The partitions that are far enough ahead of the cuts to be read no further for now.

        A partition that the next cut needs is never among them, nor, when nothing has come (`stuck`), the control topic: what the
        cut names may be lost, and the base that makes the cut void stands further on.
        """
        if not self._held and self.buffered <= AHEAD_BYTES and len(self._pending) <= AHEAD_CUTS:
            return self._held
        cut = next((entry for _, entry, _ in self._pending if isinstance(entry, Cut)), None)
        needed = {p for p, named in cut.partitions.items() if self._fetched.get(p, 0) <= named.offset} if cut is not None else ()
        limit = {p: AHEAD_BYTES // 2 if p in self._held else AHEAD_BYTES for p in self._bytes}
        held = {p for p, size in self._bytes.items() if size > limit[p] and p not in needed}
        control = (self._control_topic, 0)
        if not stuck and len(self._pending) > (AHEAD_CUTS // 2 if control in self._held else AHEAD_CUTS):
            held.add(control)
        self._held = frozenset(held)
        return self._held

    # -- out ---------------------------------------------------------------------------------------------------------

    def take(self, limit_rows: int) -> Step | None:
        """The next step that is complete; None when more must arrive first."""
        batch: Batch | None = None
        while self._pending:
            offset, entry, seen = self._pending[0]
            if self._stops_before(offset, entry):
                break
            if self._is_void(entry):
                self.void["control"] += 1
            elif isinstance(entry, Base | Copy):
                if batch is None and (isinstance(entry, Base) or self._is_followed_up()):
                    return self._single(offset, entry)
                return batch
            elif isinstance(entry, Start):
                self.at.epoch = max(self.at.epoch, offset)
            elif isinstance(entry, Cut):
                if not self._complete(entry) or (entry.partial and batch is not None and not batch.partial):
                    break
                batch = self._add(batch, entry)
            self._pending.popleft()
            self.at.control_next, self.at.mark = offset + 1, seen
            if batch is not None and (batch.rows >= (1 if batch.partial else limit_rows) or batch.bytes >= BATCH_BYTES):
                break
        return batch

    def _is_void(self, entry: Entry | None) -> bool:
        return entry is None or (not isinstance(entry, Start) and self._ledger.went_below(entry))

    def _stops_before(self, offset: int, entry: Entry | None) -> bool:
        """Whether nothing is to be taken from this record on: never."""
        return False

    def _is_followed_up(self) -> bool:
        """Whether the cut with which the copy stands has arrived: till then its table is not locked in vain."""
        cut = next((entry for _, entry, _ in islice(self._pending, 1, None) if isinstance(entry, Cut)), None)
        return cut is not None and self._complete(cut)

    def _single(self, offset: int, entry: Base | Copy) -> Step:
        self.at.control_next, self.at.mark = offset + 1, self._pending.popleft()[2]
        return Enter(entry) if isinstance(entry, Base) else Begin(entry)

    def _complete(self, cut: Cut) -> bool:
        return all(named.seq <= self.at.numbers.get(p, 0) or self._fetched.get(p, 0) > named.offset for p, named in cut.partitions.items())

    def _add(self, batch: Batch | None, cut: Cut) -> Batch:
        batch = batch or Batch(cut, {}, 0, cut.partial)
        for partition, named in cut.partitions.items():
            if named.seq > self.at.numbers.get(partition, 0):
                self._gather(partition, named, cut, batch)
        self._move_to(cut)
        batch.cut, batch.partial = cut, cut.partial
        if cut.partial or self._skip_until is None:  # else its rows are in the target already, and were counted with them
            batch.anomalies += cut.anomalies
        batch.ended += cut.ended
        return batch

    def _move_to(self, cut: Cut) -> None:
        self.at.cut_no = cut.cut_no
        if cut.partial:
            return
        self.at.copies = cut.copies
        if self.at.position is None or cut.position.covers(self.at.position):
            self.at.position = cut.position
            self._skip_until = None
            self._known.clear()
            self.floors = {t: floor for t, floor in self.floors.items() if not cut.position.covers(floor)}
        elif not self.at.position.covers(cut.position):  # read behind a base on another server, whose log has another order
            self.at.position = self.at.position.joined(cut.position)
        self.at.source_ts_us = max(self.at.source_ts_us, cut.source_ts_us)

    def _gather(self, partition: Partition, named: Named, cut: Cut, batch: Batch) -> None:
        messages = self._taken(partition, named.offset + 1)
        changes = batch.topics.get(partition[0])
        if changes is None:
            changes = batch.topics[partition[0]] = Changes()
        before = len(changes.values)
        batch.bytes += weight(messages)
        self.at.numbers[partition] = self._accept(partition, messages, cut.epoch, changes)
        self.at.offsets[partition] = named.offset + 1
        batch.rows += len(changes.values) - before
        if self.at.numbers[partition] != named.seq:
            raise Halt(
                "records_missing",
                f"{partition[0]}:{partition[1]} offset {named.offset}",
                f"the cut names number {named.seq}, the partition has {self.at.numbers[partition]}",
                "the broker lost acknowledged records: restart capture, it goes back to what the broker still holds",
            )

    def _accept(self, partition: Partition, messages: list[Message], epoch: int, changes: Changes) -> int:
        seq = self.at.numbers.get(partition, 0)
        values = [message.value or b"" for message in messages]
        opened = self._open(values)
        checking = self._skip_until is not None or bool(self.floors)
        if not checking and _in_order(opened, epoch, seq):
            changes.values += values
            changes.keys += [message.key for message in messages]
            changes.opened += opened
            return seq + len(opened)
        for message, row in zip(messages, opened, strict=True):
            if row[0] != epoch or row[1] <= seq:
                self.void["epoch" if row[0] != epoch else "repeat"] += 1
                continue
            seq += 1
            if row[1] != seq:
                raise Halt(
                    "hole",
                    f"{partition[0]}:{partition[1]} offset {message.offset}",
                    f"number {row[1]} follows {seq - 1}",
                    "records were lost in the topic: copy the table again",
                )
            if checking and self._applied(partition[0], message.value or b"", row):
                self.void["applied"] += 1
                continue
            changes.values.append(message.value or b"")
            changes.keys.append(message.key)
            changes.opened.append(row)
        return seq

    # -- what the target holds already -------------------------------------------------------------------------------

    def _applied(self, topic: str, value: bytes, row: Opened) -> bool:
        start, end = row[7]
        if end <= start:
            return False  # a row that was read, not logged: it belongs to no transaction
        transaction = value[start:end]
        known = self._known.get((topic, transaction))
        if known is None:
            text = transaction.decode()
            known = self._skip_until is not None and self._skip_until.contains(text)
            known = known or (topic in self.floors and self.floors[topic].contains(text))
            self._known[topic, transaction] = known
        return known

    def enter(self, base: Base) -> None:
        """Go on from a base: its numbers, its offsets; what is applied already is skipped transaction by transaction."""
        if self.at.position is None:
            self.at.position = base.position
        elif not self.at.position.covers(base.position):
            raise base_beyond(base)
        self._skip_until, self.at.copies = self.at.position, base.copies
        for partition, end in base.ends.items():
            self.at.offsets[partition], self.at.numbers[partition] = end, base.number(partition)
            self._forget(partition)  # what was read ahead a broker may have lost since: it is asked for again
            self._fetched[partition] = end

    def _forget(self, partition: Partition) -> None:
        self._weigh(partition, -weight(self._buffers.pop(partition, [])))

    def _taken(self, partition: Partition, end: int) -> list[Message]:
        """The messages below an offset, taken out of the partition's buffer."""
        buffer = self._buffers.get(partition, [])
        at = bisect_left(buffer, end, key=itemgetter(2))
        taken = buffer[:at]
        del buffer[:at]
        self._weigh(partition, -weight(taken))
        return taken


def base_beyond(base: Base) -> Halt:
    """What is said of a base that would lose something."""
    return Halt(
        "base_beyond",
        f"base of epoch {base.epoch}",
        "capture begins beyond what the target has applied",
        "changes between the two would be lost: copy the tables again",
    )


def check_mark(reader: Reader, stored: Progress | None) -> None:
    """Stop unless the control topic still holds the record that was applied last: what comes after it is then what follows it.

    A record that is gone by compaction or retention is none that a broker lost: others stand behind it.
    """
    if stored is None or not stored.mark:
        return
    record = reader.control_before(stored.control_next)
    if record is not None and mark(record) != stored.mark:
        raise Halt(
            "control_lost",
            f"{reader.control_topic} offset {stored.control_next - 1}",
            "holds another record than the one that was applied",
            "the broker lost control records after it had acknowledged them: copy the tables into a fresh pipeline",
        )


def _in_order(opened: Sequence[Opened], epoch: int, seq: int) -> bool:
    """Whether these are the next numbers of the epoch without any exception, as nearly always; looked at without a loop of ours."""
    return {row[0] for row in opened} <= {epoch} and [row[1] for row in opened] == list(range(seq + 1, seq + 1 + len(opened)))
