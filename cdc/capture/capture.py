"""From the source's log to the topics: whole transactions, numbered without gaps, and cuts above what is acknowledged.

One epoch is one `Capture`: it writes a start record, whose offset is the epoch, a base that says where it begins, and
then records and cuts until it ends. Nothing of an earlier epoch has to be made again alike: what lies above the base's
cut is void. A position is written only in a cut, and a cut only after everything below it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from cdc import codec
from cdc.binlog.events import Begin, Commit, Event, Heartbeat, LoggedStatement, RowsEvent
from cdc.capture.cascades import CascadeMarks, leave_changed
from cdc.capture.followed_tables import REASONS, FollowedTables, stop_for, vanished, where
from cdc.capture.restart import Restart, found_empty, from_history
from cdc.capture.schema_changes import COPIED_AGAIN, SchemaChanges
from cdc.capture.statements import List, passes
from cdc.capture.table_stream import Incremental, Log, TableStream
from cdc.codec import envelope
from cdc.ddl import classify as ddl
from cdc.errors import Halt, Retry
from cdc.model.foreign_key import ForeignKey
from cdc.model.position import Position
from cdc.model.record import RECORD_BYTES, Partition
from cdc.model.table import Table, TableName
from cdc.protocol.control import Base, Copy, Cut, Entry, Followed, Named, Start, key, to_document
from cdc.protocol.copy_progress import NOTHING, Ended
from cdc.runtime import clock, crash_points as crash, logs, timing
from cdc.runtime.counters import CaptureCounters
from cdc.runtime.moments import Through, believed
from cdc.transport.contract import Writer

Selects = Callable[[str, str], bool]
"""Whether the pipeline selects a table, by its database and name."""
SEND_BYTES = 512 << 10
PARTIAL_BYTES = 32 << 20
"""A transaction whose records weigh more than this passes in pieces, each closed by a partial cut:
nobody has to hold it whole."""


class Capture:
    """One epoch of a pipeline's capture."""

    def __init__(
        self,
        writer: Writer,
        prefix: str,
        flavour: str,
        version: str,
        tables: Sequence[Table],
        pipeline: str = "",
        listed_at: Position | None = None,
        changes: SchemaChanges | None = None,
        keys: Sequence[ForeignKey] = (),
    ) -> None:
        """`listed_at`: a position whose every change of a definition is in `tables`, and in their cascading `keys`;
        without `changes` a changed table stops capture."""
        self.writer, self.prefix = writer, prefix
        self.connector = envelope.Connector(version, flavour, prefix)
        self._pipeline = pipeline
        self.counters = CaptureCounters(waits=writer.waits)
        self.followings, self._changes = FollowedTables(tables, listed_at), changes
        self._cascades = CascadeMarks(keys)
        self.copying: Incremental | None = None
        self.lists: List | None = None
        """Asks the source for its tables, where a statement may have changed one that matters; None: it may have."""
        self._copies = NOTHING
        self._streams: dict[TableName, TableStream] = {}
        self._by_topic: dict[str, TableStream] = {}
        self._epoch = self._cut_no = 0
        self._changed: dict[Partition, Named] = {}
        self._all: dict[Partition, Named] = {}
        self._ends: Mapping[Partition, int] = {}
        self._unsent = self._uncut = 0
        self._last_cut = self._last_full = 0.0
        self._transaction: str | None = None
        self._total = 0
        self._partial_until: Position | None = None
        self._window = False
        """Whether a copy's window is open: no cut is written then, except for pieces of what is too large."""
        self.position: Position | None = None
        self._through, self._clock_offset_us = Through(), 0
        self._cut_at: Position | None = None
        """Where the newest cut stands, if it is whole and nothing was published since."""

    # -- the start of an epoch ---------------------------------------------------------------------------------------

    def start(
        self,
        first: Callable[[], Restart],
        previous: Restart | None = None,
        selects: Selects | None = None,
        lacks: Selects = lambda db, table: False,
    ) -> Restart:
        """Open an epoch and say where it begins: at `previous`, else at the newest cut that the topics hold,
        else at `first`. `lacks`: whether the source says that there is no such table."""
        start = Start(clock.fresh_id(), int(clock.now() * 1000), self._pipeline)
        self._epoch = self._append(start)
        crash.point("capture.started")
        known = previous or from_history(self.writer, self.prefix, self._epoch)
        restart = known or first()
        if self._changes is not None:
            self._changes.leave(restart, self.followings.names(), lacks, self._cascades.keys)
        leave_changed(self._cascades.keys, restart, self.followings.names(), stops=self._changes is None)
        self.followings.settle(restart, selects, self._cascades.keys)
        ends = self._follow(restart)
        crash.point("capture.prepared")
        if known is None and any(ends.values()) and not found_empty(self.writer, ends):
            rule = "hold records, but the control topic has no cut to go on from"
            hint = "cdc reset --all takes them away; or give the pipeline another transport.prefix"
            raise Halt("no_cut", f"topics {self.prefix}.*", rule, hint)
        self._begin(restart, ends)
        return restart

    def _follow(self, restart: Restart | None) -> dict[Partition, int]:
        ends: dict[Partition, int] = {}
        for table in self.followings.tables:
            topic = self.writer.topic(table.db, table.name)
            partitions = self.writer.prepare(topic)
            schemas = envelope.schemas(self.prefix, table, self.connector.flavour)
            key_id = None if schemas.key is None else self.writer.register(f"{topic}-key", schemas.key)
            value_id = self.writer.register(f"{topic}-value", schemas.value)
            numbers = codec.Numbers(self._epoch, partitions)
            followed = Followed(table.db, table.name, topic, partitions, key_id, value_id)
            self._streams[table.db, table.name] = self._by_topic[topic] = TableStream(table, followed, numbers)
            ends.update({(topic, p): end for p, end in enumerate(self.writer.ends(topic))})
        self._cascades.follow(self._streams)
        return ends

    def _begin(self, restart: Restart, ends: Mapping[Partition, int]) -> None:
        for stream in self._streams.values():
            stream.go_on(restart.named)
        self._cut_no, self.position, self._ends = restart.cut_no, restart.position, ends
        self._clock_offset_us = restart.clock_offset_us
        self._through.us = believed(restart.source_ts_us, clock.now_us() + restart.clock_offset_us, 0)
        self._all = {p: n for p, n in restart.named.items() if p in ends}
        tables = tuple(s.followed for s in self._streams.values())
        self._copies = restart.copies
        standing = tuple(sorted(self.followings.uncopied)), tuple(sorted(self.followings.gone))
        what = (restart.position, self._through.us, restart.copying, ends, self._all, tables, restart.copies)
        self._append(Base(self._epoch, restart.cut_no, *what, *standing, self._cascades.keys))
        crash.point("capture.based")
        if self._changes is not None:
            self._changes.begun()
        self.counters.epoch, self.counters.position = self._epoch, restart.position
        self.counters.source_ts_us = self._through.us
        if not restart.copying:
            self.cut(restart.position)

    def _append(self, entry: Entry, *, wait: bool = True) -> int:
        return self.writer.append_control(key(entry), to_document(entry), wait=wait)

    # -- the log -----------------------------------------------------------------------------------------------------

    def wants(self, db: str, table: str) -> bool:
        """Whether this table is followed, or was and is still selected."""
        return (db, table) in self._streams or (db, table) in self.followings.gone

    def run(self, log: Log, stopped: Callable[[], bool], selects: Selects) -> None:
        """Follow the log until told to stop; a torn transaction at the end stays without a cut, and so is void."""
        for event in self._read(log):
            if isinstance(event, RowsEvent):
                with logs.about(event.table.db, event.table.name):
                    self._rows(event)
            elif isinstance(event, Commit):
                self._commit(event, log)
            elif isinstance(event, Begin):
                self._transaction = event.transaction
                self._total = 0
            elif isinstance(event, Heartbeat):
                self._heartbeat(event, log)
            else:
                self._statement(event, selects)
            if stopped():
                return

    def _read(self, log: Log) -> Iterator[Event]:
        """The log's events; where it cannot be read further, everything before that is published."""
        try:
            yield from log  # type: ignore[misc]
        except Halt:
            self._stand_here()
            raise

    def _stand_here(self) -> None:
        """Before a stop: a cut behind the last whole transaction; inside of one it would name a part of it."""
        self._leave_window()
        if self.position is not None and (self._transaction is None or not self._total):
            self._cut_here(self.position)
            self.writer.flush()

    def _rows(self, event: RowsEvent) -> None:
        name = event.table.db, event.table.name
        if name in self.followings.early:
            return
        stream = self._streams.get(name)
        if stream is None:
            self._stand_here()
            raise vanished(*name)
        try:
            stream.check(event.table)
        except Halt:
            if not self._set_back([name], self._transaction):
                if self.followings.was_listed_behind(self._transaction):
                    self._end_epoch("changed", [name], stream.table.qualified)
                raise
            return
        before = list(stream.numbers.seq) if (marked := self._cascades.acts(event)) else []
        form = stream.form(event, self.connector, self.writer)
        stamp = stream.stamp(self.connector, event, self._transaction, form.schemas)
        count, made = stream.encode(event, form.plan, stamp, self._total)
        if marked:
            self._cascades.mark(stream, event.kind, before, self._transaction, moved=made > count)
        self._total = stream.numbers.total
        self.counters.rows += count
        self._rowed(event.end - event.start)

    def _leave_window(self) -> None:
        """Before a stop: what lies in an open window has no cut, so it is read again without one,
        and then everything up to here has."""
        if self._window:
            rule = "a copy's window is open where the log cannot be followed"
            raise Retry("window_torn", self.prefix, rule, "the copy is laid aside")

    def _rowed(self, size: int) -> None:
        self.counters.bytes += size
        self._unsent += size
        self._uncut += size
        if self._unsent > SEND_BYTES:
            self._send()
            crash.point("capture.sent_within")
        if (self._uncut > PARTIAL_BYTES or self._cascades.due) and self.position is not None:
            self.cut(self.position, partial=True)

    def _commit(self, event: Commit, log: Log) -> None:
        self._transaction = None
        self.position = event.position
        self.counters.transactions += 1
        pending, now_us = log.pending(), log.clock_us()
        self._read_through(self._through.committed(event.ts_us, now_us, last=not pending), now_us)
        if not pending or self._cascades.due or clock.monotonic() - self._last_cut > timing.TIMES.cut_seconds:
            self._cut_here(event.position)
        if not pending or now_us - self._through.us < timing.TIMES.near_us:
            self._turn(log)

    def _read_through(self, us: int, now_us: int) -> None:
        self.counters.source_ts_us, self._clock_offset_us = us, now_us - clock.now_us()

    def _heartbeat(self, event: Heartbeat, log: Log) -> None:
        if self.followings.reached(event.at) and not self._streams:
            raise Halt("no_tables", "source.tables", "selects no table that exists and that the account may read",
                       "GRANT SELECT; or select the tables that the target holds")  # fmt: skip
        if self._transaction is None:
            self.position, now_us = event.at, log.clock_us()
            self._read_through(self._through.proved(event.ts_us, now_us), now_us)
            self._cut_here(event.at)
            self._turn(log)

    def _turn(self, log: Log) -> None:
        """Let copies go on, where nothing that was there before this epoch is left to read:
        it may hold what stops us."""
        rests = self._partial_until is None and self.position and self.followings.reached(self.position)
        if self.copying is not None and rests:
            self.copying.turn(log)

    def _cut_here(self, position: Position) -> None:
        if self._partial_until is not None and position.covers(self._partial_until):
            self._partial_until = None
            if self._window:
                self._window = False
                assert self.copying is not None
                self.copying.closed()
        if not self._window:
            self.cut(position, partial=self._partial_until is not None)

    def _statement(self, event: LoggedStatement, selects: Selects) -> None:
        watched = partial(self.followings.watched, selects, event.transaction)
        while isinstance(
            verdict := ddl.classify(event.sql, event.db, watched(), sql_mode=event.sql_mode), ddl.Unsupported
        ):
            if passes(verdict, event.transaction, self.followings, self._is_followed, self.lists):
                logs.logger("capture").info("statement_passed", place=where(verdict, event), reason=verdict.reason)
                return
            if not self._set_back(verdict.tables, event.transaction):
                self._end_epoch(verdict.reason, verdict.tables, where(verdict, event))
                self._stand_here()
                raise stop_for(verdict, event)

    def _end_epoch(self, reason: str, tables: Collection[TableName], place: str) -> None:
        """Where a copy that is made later holds what changed: the next epoch makes it."""
        names = self.followings.meant(tables)
        if self._changes is not None and reason in COPIED_AGAIN and not names & self.followings.gone:
            self._stand_here()
            raise self._changes.end_epoch(names, place, REASONS[reason])

    def _is_followed(self, table: Table) -> bool:
        """Whether its rows are read by this description."""
        return self._streams[table.db, table.name].is_like(table)

    def _set_back(self, tables: Collection[TableName], transaction: str | None) -> bool:
        """Let tables that are still to be copied begin again, where that is all that a change of theirs asks for."""
        names = self.followings.set_back(tables, transaction)
        if names and self.copying is not None:
            self.copying.set_back(names)
        return bool(names)

    # -- copies ----------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The offset of this epoch's start record."""
        return self._epoch

    @property
    def next_cut(self) -> int:
        """The number that the next cut will bear."""
        return self._cut_no + 1

    def streams(self) -> list[TableStream]:
        """The followed tables."""
        return list(self._streams.values())

    def stream(self, db: str, table: str) -> TableStream | None:
        """One followed table."""
        return self._streams.get((db, table))

    def cut_at_rest(self) -> Position:
        """A whole cut at the transaction's end where capture stands, acknowledged; that position."""
        assert self.position is not None
        if self._cut_at is not self.position:
            self.cut(self.position)
        self.writer.flush()
        return self.position

    def read_until(self, until: Position) -> None:
        """The rows of a window's chunk are published: no cut is whole before the log is followed to `until`."""
        self._partial_until, self._window = until, True
        assert self.position is not None
        self._cut_here(self.position)

    def announce(self, copy: Copy) -> None:
        """Write the barrier with which a table's copy begins."""
        self._append(copy)
        crash.point("capture.copy_announced")

    def copied(self, size: int) -> None:
        """So many bytes of rows were read; publish them in pieces."""
        self._rowed(size)

    def copied_all(self, until: Position) -> None:
        """The last row is read: cuts stay partial until the log is followed to `until`."""
        self._partial_until = until
        crash.point("capture.copied")
        if self.position is not None:
            self._cut_here(self.position)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        for stream in self._streams.values():
            if stream.out:
                crash.point("capture.sending")
                self._uncut += RECORD_BYTES * len(stream.out)
                self.writer.send(stream.followed.topic, stream.out)
                stream.out = []
                crash.point("capture.sent")
        self._unsent = 0

    def cut(self, position: Position, *, partial: bool = False) -> None:
        """Acknowledge everything, then say so, and up to which moment of the source that is everything."""
        self._send()
        crash.point("capture.acknowledging")
        for partition, offset in self.writer.flush().items():
            if offset < self._ends[partition] or (partition in self._all and offset <= self._all[partition].offset):
                place, hint = f"{partition[0]}:{partition[1]}", "capture goes back to what the broker still holds"
                raise Retry("records_lost", place, "the broker has lost acknowledged records", hint)
            seq = self._by_topic[partition[0]].numbers.seq[partition[1]]
            self._all[partition] = self._changed[partition] = Named(offset, self._epoch, seq)
        crash.point("capture.acknowledged")
        now = clock.monotonic()
        full = not partial and (self._last_full == 0 or now - self._last_full > timing.TIMES.full_cut_seconds)
        self._cut_no += 1
        ended: tuple[Ended, ...] = ()
        if not partial and self.copying is not None:
            self._copies, ended = self.copying.said()
            full = full or bool(ended)
        named = dict(self._all if full else self._changed)
        followed = self.followings.followed() if full else ()
        anomalies = tuple(one for stream in self._streams.values() for one in stream.anomalies())
        what = (full, partial, named, anomalies, followed, self._copies, ended, self._clock_offset_us)
        entry = Cut(self._epoch, self._cut_no, position, self._through.us, *what, *self._cascades.said(full=full))
        self._append(entry, wait=False)
        crash.point("capture.partial_cut" if partial else "capture.cut")
        if full:
            self._last_full, self._changed = now, {}
        self._last_cut, self._uncut = now, 0
        self._cut_at = None if partial else position
        self.counters.count_cut(entry.cut_no, position, entry.source_ts_us, anomalies)
