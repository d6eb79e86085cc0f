"""From partitions to consistent cuts: which records make up the next state of the source; pure.

Control records and data records are fed in as they arrive, each partition in order. `take` gives the next thing to do,
in control order: the records of the next complete cuts, a base to enter, or a copy to begin. What is void is dropped
and counted by reason; a hole in the numbers, or a record that a cut names and that is not there, stops.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter

from cdc.codec.records import Opened
from cdc.model.position import Position
from cdc.model.record import Message, Partition, weight
from cdc.protocol.applied import Progress
from cdc.protocol.control import Base, Copy, Cut, Entry, Named, Start, from_document, mark
from cdc.protocol.ledger import Ledger
from sinks.losses import base_beyond, expired, hole, missing, or_unread, start_lost
from sinks.scope import WHOLE, Scope
from sinks.steps import At, Batch, BeginCopy, Enter, Meet, Step, TopicChanges

Open = Callable[[Sequence[bytes]], Sequence[Opened]]
"""Reads the envelopes of some values of one topic; `UNREAD` where the schema is not known."""
UNREAD = Opened(-2, -1, "", -1, -1, -1, -1, (0, 0), 0)
"""A record whose schema no base names belongs to no epoch that counts:
that of one which does would be missed in the numbers."""

AHEAD_BYTES = 8 << 20
"""Memory of records that wait for their cut, in one partition;
above it the partition is read no further until a cut needs it."""
AHEAD_CUTS = 2_000
BATCH_BYTES = 12 << 20
"""A batch this large is large enough, however few its rows are."""


class CutAssembler:
    """Assembles cuts above what is stored."""

    def __init__(
        self,
        stored: Progress | None,
        floors: Mapping[str, Position],
        control_topic: str,
        open_: Open,
        bounded: bool = False,
        scope: Scope = WHOLE,
    ) -> None:
        """`bounded`: what is read ahead is room that capture waits for. `scope`:
        which partitions are assembled, and where it stops."""
        self._bounded, self._copying, self._scope = bounded, False, scope
        self.at = At()
        if stored is not None:
            self.at = At(
                stored.cut_no, stored.epoch, stored.control_next, stored.position, stored.source_ts_us, stored.mark
            )
            self.at.offsets = {p: offset for p, (offset, _) in stored.partitions.items()}
            self.at.numbers = {p: seq for p, (_, seq) in stored.partitions.items()}
            self.at.copies, self.at.clock_offset_us = stored.copies, stored.clock_offset_us
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
        self._expired: dict[Partition, int] = {}
        """Below it the partition holds nothing any more, and held something when we asked for it."""
        self._pending: deque[tuple[int, Entry | None, str]] = deque()
        self._ledger = Ledger(self.at.epoch)
        self._skip_until = self.at.position
        """What is applied may be ahead of the cuts that come next:
        after a base that went back, and after a restart within that."""
        self._since, self._unproven = self.at.position, set(self.at.offsets)
        """The partitions of which records may come that were applied by then:
        none behind a cut that names one and covers it."""
        self._known: dict[tuple[str, bytes], bool] = {}
        self._closing = -1
        """The cut that is met whose rows are taken, and which is not passed yet."""
        self._unread: Message | None = None
        """A record of unknown schema below the cut at hand."""

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
            if run[-1].key is None and run[-1].value is None:
                self._expired[partition] = run[-1].offset + 1
            kept = [message for message in run if message.value is not None]
            self._weigh(partition, weight(kept))
            self._buffers.setdefault(partition, []).extend(kept)

    def _weigh(self, partition: Partition, size: int) -> None:
        self._bytes[partition] += size
        self.buffered += size

    def _feed_control(self, message: Message) -> None:
        entry = from_document(json.loads(message.value or b"{}"), message.offset)
        if not isinstance(entry, Start) and entry.epoch > self._ledger.epoch:
            raise start_lost(self._control_topic, message.offset, entry.epoch)
        counts = self._ledger.add(message.offset, entry)
        self._pending.append((message.offset, self._scope.ours(entry) if counts else None, mark(message.value or b"")))

    def next_offsets(self) -> dict[Partition, int]:
        """Where fetching goes on, per partition."""
        return dict(self._fetched)

    def next_control(self) -> int:
        """Where fetching of the control topic goes on."""
        return self._pending[-1][0] + 1 if self._pending else self.at.control_next

    def ahead(self, *, stuck: bool = False) -> frozenset[Partition]:
        """The partitions that are far enough ahead of the cuts to be read no further for now.

        A partition that the next cut needs is never among them, nor, when nothing has come (`stuck`), the control
        topic: what the cut names may be lost, and the base that makes the cut void stands further on.
        """
        if not self._held and self.buffered <= AHEAD_BYTES and len(self._pending) <= AHEAD_CUTS:
            return self._held
        cut = next((entry for _, entry, _ in self._pending if isinstance(entry, Cut)), None)
        needed = (
            {p for p, named in cut.partitions.items() if self._fetched.get(p, 0) <= named.offset}
            if cut is not None
            else ()
        )
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
            if self._scope.ends_at(offset):
                break
            if self._scope.meets(entry) and not self._is_void(entry):
                return batch if batch is not None else self._meeting(offset, entry, seen)
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

    def _meeting(self, offset: int, entry: Base | Copy | Cut, seen: str) -> Step | None:
        """What comes before a record that is met is taken: the meeting,
        or first the rows of a cut with which a copy ends."""
        if isinstance(entry, Cut) and offset != self._closing:
            return self._closed(offset, entry)
        return Meet(offset, entry, seen) if not isinstance(entry, Copy) or self._is_followed_up() else None

    def _closed(self, offset: int, cut: Cut) -> Batch | None:
        """The rows of a cut with which a copy ends; its record is not passed before all have applied theirs."""
        if not self._complete(cut):
            return None
        self._closing, again = offset, self.at.cut_no == cut.cut_no
        batch = self._add(None, cut)
        batch.ended = []
        if again:  # its rows were committed before, and counted with them what was odd
            batch.anomalies = []
        return batch

    def is_over(self) -> bool:
        """Whether nothing is left below the end of the scope, where compaction may have left nothing;
        the place is that end then."""
        end = self._scope.end
        if end is None:
            return False
        if self.at.control_next < end and self._pending and self._scope.ends_at(self._pending[0][0]):
            self.at.control_next, self.at.mark = end, ""
        return self.at.control_next >= end

    def _is_followed_up(self) -> bool:
        """Whether the whole cut has arrived with which the pieces behind a copy's barrier are committed.

        Its table may be locked till then, so that is not left to a capture that may be away. And capture takes a table
        for emptied only if a sink can have applied a whole cut behind the barrier. Where capture waits for us, or
        copies all, pieces are taken at once.
        """
        later = [
            entry
            for _, entry, _ in islice(self._pending, 1, None)
            if isinstance(entry, Cut) and not self._is_void(entry)
        ]
        return any(not cut.partial for cut in later) or (
            (self._bounded or self._copying) and any(self._complete(cut) for cut in later[:1])
        )

    def _single(self, offset: int, entry: Base | Copy) -> Step:
        self.at.control_next, self.at.mark = offset + 1, self._pending.popleft()[2]
        return Enter(entry) if isinstance(entry, Base) else BeginCopy(entry)

    def _complete(self, cut: Cut) -> bool:
        return all(
            named.seq <= self.at.numbers.get(p, 0) or self._fetched.get(p, 0) > named.offset
            for p, named in cut.partitions.items()
        )

    def _add(self, batch: Batch | None, cut: Cut) -> Batch:
        batch = batch or Batch(cut, {}, 0, cut.partial)
        for partition, named in cut.partitions.items():
            if named.seq > self.at.numbers.get(partition, 0):
                self._gather(partition, named, cut, batch)
        if cut.cascades:
            batch.cascades += cut.cascades
            batch.floors |= self.floors
        self._move_to(cut)
        batch.cut, batch.partial = cut, cut.partial
        if (
            cut.partial or self._skip_until is None
        ):  # else its rows are in the target already, and were counted with them
            batch.anomalies += cut.anomalies
        batch.ended += cut.ended
        return batch

    def _move_to(self, cut: Cut) -> None:
        self.at.cut_no = cut.cut_no
        if cut.partial:
            return
        self.at.copies, self._copying = cut.copies, False
        if self.at.position is None or cut.position.covers(self.at.position):
            self.at.position = cut.position
            self._skip_until = None
            self._known.clear()
            self.floors = {t: floor for t, floor in self.floors.items() if not cut.position.covers(floor)}
            self.at.clock_offset_us = cut.clock_offset_us
            if cut.source_ts_us:  # the newest word counts, also where it takes back what an earlier one said
                self.at.source_ts_us = cut.source_ts_us
        elif not self.at.position.covers(
            cut.position
        ):  # read behind a base on another server, whose log has another order
            self.at.position = self.at.position.joined(cut.position)

    def _gather(self, partition: Partition, named: Named, cut: Cut, batch: Batch) -> None:
        messages = self._taken(partition, named.offset + 1)
        self.at.moved.setdefault(partition, (self.at.offsets.get(partition, 0), self.at.numbers.get(partition, 0)))
        changes = batch.topics.get(partition[0])
        if changes is None:
            changes = batch.topics[partition[0]] = TopicChanges()
        before, self._unread = len(changes.values), None
        batch.bytes += weight(messages)
        self.at.numbers[partition] = self._accept(partition, messages, cut.epoch, changes)
        self.at.offsets[partition] = named.offset + 1
        batch.rows += len(changes.values) - before
        changes.pieces.append((partition[1], len(changes.values)))
        if self._skip_until is None:
            self._unproven.discard(partition)
        if self.at.numbers[partition] != named.seq:
            gone = named.offset < self._expired.get(partition, 0)
            raise or_unread(self._unread, (expired if gone else missing)(partition, named, self.at.numbers[partition]))

    def _accept(self, partition: Partition, messages: list[Message], epoch: int, changes: TopicChanges) -> int:
        seq = self.at.numbers.get(partition, 0)
        values = [message.value or b"" for message in messages]
        opened = self._open(values)
        checking = partition in self._unproven or bool(self.floors)
        if not checking and _in_order(opened, epoch, seq):
            changes.values += values
            changes.keys += [message.key for message in messages]
            changes.opened += opened
            return seq + len(opened)
        for message, row in zip(messages, opened, strict=True):
            if row.epoch != epoch or row.seq <= seq:
                self._pass_over(message, row, epoch)
                continue
            seq += 1
            if row.seq != seq:
                raise or_unread(
                    self._unread, hole(partition, message.offset, row.seq, seq - 1, partition in self._expired)
                )
            if checking and self._applied(partition[0], message.value or b"", row):
                self.void["applied"] += 1
                continue
            changes.values.append(message.value or b"")
            changes.keys.append(message.key)
            changes.opened.append(row)
        return seq

    def _pass_over(self, message: Message, row: Opened, epoch: int) -> None:
        """A void record."""
        if row is UNREAD:
            self._unread = message
        self.void["schema" if row is UNREAD else "epoch" if row.epoch != epoch else "repeat"] += 1

    # -- what the target holds already -------------------------------------------------------------------------------

    def _applied(self, topic: str, value: bytes, row: Opened) -> bool:
        start, end = row.transaction
        if end <= start:
            return False  # a row that was read, not logged: it belongs to no transaction
        transaction = value[start:end]
        known = self._known.get((topic, transaction))
        if known is None:
            text = transaction.decode()
            known = self._since is not None and self._since.contains(text)
            known = known or (topic in self.floors and self.floors[topic].contains(text))
            self._known[topic, transaction] = known
        return known

    def enter(self, base: Base) -> None:
        """Go on from a base: its numbers, its offsets; what is applied already is skipped transaction by
        transaction."""
        if self.at.position is None:
            self.at.position = base.position
        elif not self.at.position.covers(base.position):
            raise base_beyond(base)
        self._skip_until, self.at.copies, self._copying = self.at.position, base.copies, base.copying
        self._since = self.at.position
        self._unproven.update(base.ends)
        for partition, end in base.ends.items():
            self.at.offsets[partition], self.at.numbers[partition] = end, base.number(partition)
            self.at.moved[partition] = None
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


def _in_order(opened: Sequence[Opened], epoch: int, seq: int) -> bool:
    """Whether these are the next numbers of the epoch without any exception, as nearly always;
    looked at without a loop of ours."""
    return {row.epoch for row in opened} <= {epoch} and [row.seq for row in opened] == list(
        range(seq + 1, seq + 1 + len(opened))
    )
