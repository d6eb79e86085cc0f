"""From the source's log to the topics: whole transactions, numbered without gaps, and cuts above what is acknowledged.

One epoch is one `Capture`: it writes a start record, whose offset is the epoch, a base that says where it begins, and then
records and cuts until it ends. Nothing of an earlier epoch has to be made again alike: what lies above the base's cut is void.
A position is written only in a cut, and a cut only after everything below it is acknowledged.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cdc import codec, control, crash, ddl, envelope
from cdc.binlog_events import Begin, Commit, Event, Heartbeat, Rows, Statement, TableMap
from cdc.columns import as_catalogued
from cdc.control import Anomaly, Base, Cut, Followed, Named, Start
from cdc.epoch import Restart, from_history
from cdc.errors import Halt, Retry
from cdc.model import Record, Table
from cdc.position import Position
from cdc.topic import Document, Partition, Writer

CUT_SECONDS = 0.05
"""Under load a cut is written this often; an idle log is cut at once."""
FULL_CUT_SECONDS = 60.0
SEND_BYTES = 512 << 10
PARTIAL_BYTES = 32 << 20
"""A transaction larger than this passes in pieces, each closed by a partial cut, so that nobody has to hold it whole."""


_REASONS: Mapping[str, str] = {
    "created": "a table was created that the selection covers",
    "changed": "the columns of a followed table were changed",
    "dropped": "a followed table was dropped",
    "renamed": "a followed table was renamed",
    "truncated": "a followed table was truncated",
    "written": "rows of a followed table were changed by a statement instead of row images",
    "database": "a database that holds followed tables was changed",
    "unknown": "the log holds a statement that cannot be proven irrelevant",
}


class Log(Protocol):
    """What capture needs of `BinlogReader`."""

    def __iter__(self) -> Iterable[Event]: ...
    def pending(self) -> bool: ...
    def clock_us(self) -> int: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Counters:
    """What has been captured since the start, for metrics; read from another thread."""

    position: Position | None = None
    source_ts_us: int = 0
    cut_no: int = 0
    epoch: int = 0
    rows: int = 0
    bytes: int = 0
    transactions: int = 0
    cuts: int = 0
    read_at: float = 0.0
    published_at: float = 0.0
    published_ts_us: int = 0
    anomalies: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    """(db, table, column, reason) -> values that were not kept as they were."""


class Stream:
    """One followed table on its way: its plan, its numbers, and the records not yet sent."""

    def __init__(self, table: Table, followed: Followed, numbers: codec.Numbers) -> None:
        self.table, self.followed, self.numbers = table, followed, numbers
        self.plan = codec.RowPlan(table)
        self.out: list[Record] = []
        self._shapes: set[bytes] = set()

    def check(self, shape: TableMap) -> None:
        """Stop when the log shows another shape of the table than the one that is followed."""
        if shape.fingerprint in self._shapes:
            return
        table = shape.table()
        if self.table not in (table, as_catalogued(table)):
            raise Halt("schema_changed", self.table.qualified, "the table's columns are not those that were copied",
                       "schema changes are not followed yet: drop the pipeline's target tables and state, and copy again")  # fmt: skip
        self._shapes.add(shape.fingerprint)
        if table != self.table:  # the log alone knows every member of an ENUM
            known, self.table, self.plan = self.plan, table, codec.RowPlan(table)
            self.plan.anomalies.update(known.anomalies)


class Capture:
    """One epoch of a pipeline's capture."""

    def __init__(self, writer: Writer, prefix: str, flavour: str, version: str, tables: Sequence[Table], pipeline: str = "") -> None:
        self.writer, self.prefix, self.flavour, self.version = writer, prefix, flavour, version
        self._pipeline = pipeline
        self.counters = Counters()
        self._tables = tables
        self._streams: dict[tuple[str, str], Stream] = {}
        self._by_topic: dict[str, Stream] = {}
        self._epoch = 0
        self._cut_no = 0
        self._changed: dict[Partition, Named] = {}
        self._all: dict[Partition, Named] = {}
        self._ends: Mapping[Partition, int] = {}
        self._unsent = self._uncut = 0
        self._last_cut = self._last_full = 0.0
        self._transaction: str | None = None
        self._total = 0
        self._partial_until: Position | None = None
        self.position: Position | None = None
        self.added: list[Table] = []
        """Selected tables that were never copied: followed they cannot be."""
        self._gone: frozenset[tuple[str, str]] = frozenset()
        """Selected tables that were followed and do not exist any more: their rows in the log must not be passed over."""
        self._added_by: Position | None = None

    # -- the start of an epoch ---------------------------------------------------------------------------------------

    def start(
        self, first: Callable[[], Restart], previous: Restart | None = None, selects: Callable[[str, str], bool] | None = None
    ) -> Restart:
        """Open an epoch and say where it begins: at `previous`, else at the newest cut that the topics hold, else at `first`."""
        start = Start(uuid.uuid4().hex, int(time.time() * 1000), self._pipeline)
        self._epoch = self._append(start)
        crash.point("capture.started")
        restart = previous or from_history(self.writer, self.prefix, self._epoch)
        if restart is not None and restart.followed is not None:
            gone = restart.followed.difference((table.db, table.name) for table in self._tables)
            self._gone = frozenset(name for name in gone if selects is not None and selects(*name))
            self.added = [table for table in self._tables if (table.db, table.name) not in restart.followed]
            self._tables = [table for table in self._tables if (table.db, table.name) in restart.followed]
        ends = self._follow(restart)
        crash.point("capture.prepared")
        if restart is None:
            if any(ends.values()):
                raise Halt(
                    "no_cut",
                    f"topics {self.prefix}.*",
                    "hold records, but the control topic has no cut to go on from",
                    "give the pipeline another transport.prefix, or delete its topics",
                )
            restart = first()
        self._begin(restart, ends)
        return restart

    def _follow(self, restart: Restart | None) -> dict[Partition, int]:
        ends: dict[Partition, int] = {}
        for table in self._tables:
            topic = self.writer.topic(table.db, table.name)
            partitions = self.writer.prepare(topic)
            key = envelope.key_schema(self.prefix, table)
            key_id = None if key is None else self._register(f"{topic}-key", key)
            value_id = self._register(f"{topic}-value", envelope.value_schema(self.prefix, table, self.flavour))
            numbers = codec.Numbers(self._epoch, partitions)
            followed = Followed(table.db, table.name, topic, partitions, key_id, value_id)
            self._streams[table.db, table.name] = self._by_topic[topic] = Stream(table, followed, numbers)
            ends.update({(topic, p): end for p, end in enumerate(self.writer.ends(topic))})
        return ends

    def _register(self, subject: str, schema: Document) -> int:
        return self.writer.register(subject, schema)

    def _begin(self, restart: Restart, ends: Mapping[Partition, int]) -> None:
        for stream in self._streams.values():
            for p in range(stream.followed.partitions):
                named = restart.named.get((stream.followed.topic, p))
                stream.numbers.seq[p] = named.seq if named else 0
        self._cut_no, self.position, self._ends = restart.cut_no, restart.position, ends
        self._all = {p: n for p, n in restart.named.items() if p in ends}
        tables = tuple(s.followed for s in self._streams.values())
        self._append(Base(self._epoch, restart.cut_no, restart.position, restart.source_ts_us, restart.copying, ends, self._all, tables))
        crash.point("capture.based")
        self.counters.epoch, self.counters.position = self._epoch, restart.position
        self.counters.source_ts_us = restart.source_ts_us
        if not restart.copying:
            self.cut(restart.position, restart.source_ts_us)

    def _append(self, entry: control.Entry, *, wait: bool = True) -> int:
        return self.writer.append_control(control.key(entry), control.to_document(entry), wait=wait)

    # -- the log -----------------------------------------------------------------------------------------------------

    def wants(self, db: str, table: str) -> bool:
        """Whether this table is followed, or was and is still selected."""
        return (db, table) in self._streams or (db, table) in self._gone

    def refuse_changed(self, by: Position) -> None:
        """Stop for a selection that changed at `by`, the end of the log when the tables were listed: DDL in it is told before."""
        self._added_by = by if self.added or not self._streams else None

    def _check_selection(self, at: Position) -> None:
        if self._added_by is None or not at.covers(self._added_by):
            return
        if self.added:
            names = ", ".join(table.qualified for table in self.added)
            raise Halt("table_added", names, "is selected and was never copied", "exclude it, or copy all into a fresh pipeline")
        raise Halt("no_tables", "source.tables", "selects no table that was copied", "select the tables that the target holds")

    def run(self, log: Log, stopped: Callable[[], bool], selects: Callable[[str, str], bool]) -> None:
        """Follow the log until told to stop; a torn transaction at the end stays without a cut, and so is void."""
        for event in log:  # type: ignore[attr-defined]
            self.counters.read_at = time.time()
            if isinstance(event, Rows):
                self._rows(event)
            elif isinstance(event, Commit):
                self._commit(event, log)
            elif isinstance(event, Begin):
                self._transaction = event.transaction
                self._total = 0
            elif isinstance(event, Heartbeat):
                self._heartbeat(event)
            else:
                self._statement(event, selects)
            if stopped():
                return

    def _rows(self, event: Rows) -> None:
        stream = self._streams.get((event.table.db, event.table.name)) or self._vanished(event)
        stream.check(event.table)
        stamp = self._stamp(stream, event)
        stream.numbers.begin(self._total)
        count = codec.encode_rows(stream.plan, event.body, event.start, event.end, event.kind, stamp, stream.numbers, stream.out)
        self._total = stream.numbers.total
        self.counters.rows += count
        self._rowed(event.end - event.start)

    def _vanished(self, event: Rows) -> Stream:
        if self.position is not None and not self._total:
            self._cut_here(self.position, self.counters.source_ts_us)
            self.writer.flush()
        raise Halt(
            "table_gone",
            f"{event.table.db}.{event.table.name}",
            "the table was dropped or renamed while nobody read the log, and rows of it from before are still to be read",
            "everything before them is published; exclude the table, or copy all into a fresh pipeline",
        )

    def _rowed(self, size: int) -> None:
        self.counters.bytes += size
        self._unsent += size
        self._uncut += size
        if self._unsent > SEND_BYTES:
            self._send()
            crash.point("capture.sent_within")
        if self._uncut > PARTIAL_BYTES and self.position is not None:
            self.cut(self.position, self.counters.source_ts_us, partial=True)

    def _stamp(self, stream: Stream, event: Rows) -> codec.Stamp:
        gtid = self._transaction if self._transaction and not self._transaction.startswith("file=") else None
        return envelope.stamp(
            stream.followed.key_schema or 0,
            stream.followed.value_schema,
            flavour=self.flavour,
            version=self.version,
            name=self.prefix,
            ts_us=event.ts_us,
            snapshot="false",
            db=event.table.db,
            table=event.table.name,
            server_id=event.server_id,
            gtid=gtid,
            file=event.file,
            pos=event.offset,
            transaction=self._transaction,
            now_us=time.time_ns() // 1000,
        )

    def _commit(self, event: Commit, log: Log) -> None:
        self._transaction = None
        self.position = event.position
        self.counters.transactions += 1
        pending = log.pending()
        ts_us = self.counters.source_ts_us = event.ts_us if pending else _refined(event.ts_us, log.clock_us())
        if not pending or time.monotonic() - self._last_cut > CUT_SECONDS:
            self._cut_here(event.position, ts_us)

    def _heartbeat(self, event: Heartbeat) -> None:
        self._check_selection(event.at)
        if self._transaction is None:
            self.position = event.at
            self._cut_here(event.at, event.ts_us)

    def _cut_here(self, position: Position, ts_us: int) -> None:
        if self._partial_until is not None and position.covers(self._partial_until):
            self._partial_until = None
        self.cut(position, ts_us, partial=self._partial_until is not None)

    def _statement(self, event: Statement, selects: Callable[[str, str], bool]) -> None:
        verdict = ddl.classify(event.sql, event.db, selects, sql_mode=event.sql_mode)
        if isinstance(verdict, ddl.Unsupported):
            if self.position is not None and not self._total:  # a cut inside a transaction would name a part of it
                self._cut_here(self.position, self.counters.source_ts_us)
                self.writer.flush()
            names = ", ".join(f"{db}.{table}" if table else db for db, table in verdict.tables) or event.db
            raise Halt(
                "statement_unsupported",
                f"{names} at {event.transaction}",
                _REASONS[verdict.reason],
                "everything before it is published; exclude the table, or copy all into a fresh pipeline",
            )

    # -- the initial copy through the topics ---------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The offset of this epoch's start record."""
        return self._epoch

    @property
    def next_cut(self) -> int:
        """The number that the next cut will bear."""
        return self._cut_no + 1

    def streams(self) -> list[Stream]:
        """The followed tables."""
        return list(self._streams.values())

    def announce(self, copy: control.Copy) -> None:
        """Say that the exact copy of a table without a key begins."""
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
            self._cut_here(self.position, self.counters.source_ts_us)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        for stream in self._streams.values():
            if stream.out:
                crash.point("capture.sending")
                self.writer.send(stream.followed.topic, stream.out)
                stream.out = []
                crash.point("capture.sent")
        self._unsent = 0

    def cut(self, position: Position, ts_us: int, *, partial: bool = False) -> None:
        """Acknowledge everything, then say so."""
        self._send()
        crash.point("capture.acknowledging")
        for partition, offset in self.writer.flush().items():
            if offset < self._ends[partition] or (partition in self._all and offset <= self._all[partition].offset):
                raise Retry("records_lost", f"{partition[0]}:{partition[1]}", "the broker has lost acknowledged records",
                            "capture goes back to what the broker still holds")  # fmt: skip
            seq = self._by_topic[partition[0]].numbers.seq[partition[1]]
            self._all[partition] = self._changed[partition] = Named(offset, self._epoch, seq)
        crash.point("capture.acknowledged")
        now = time.monotonic()
        full = not partial and (self._last_full == 0 or now - self._last_full > FULL_CUT_SECONDS)
        self._cut_no += 1
        named = dict(self._all if full else self._changed)
        followed = (*self._streams, *sorted(self._gone)) if full else ()
        entry = Cut(self._epoch, self._cut_no, position, ts_us, full, partial, named, tuple(self._anomalies()), followed)
        self._append(entry, wait=False)
        crash.point("capture.partial_cut" if partial else "capture.cut")
        if full:
            self._last_full, self._changed = now, {}
        self._last_cut, self._uncut = now, 0
        self._count_cut(entry)

    def _anomalies(self) -> Iterator[Anomaly]:
        """What the codec could not keep since the last cut; it travels in the cut, so that it is counted once where rows are."""
        for stream in self._streams.values():
            found = stream.plan.anomalies
            if found:
                yield from (Anomaly(stream.table.db, stream.table.name, column, reason, n) for (column, reason), n in found.items())
                found.clear()

    def _count_cut(self, entry: Cut) -> None:
        counters = self.counters
        counters.cut_no, counters.position = entry.cut_no, entry.position
        counters.published_ts_us, counters.published_at = entry.source_ts_us, time.time()
        counters.cuts += 1
        for anomaly in entry.anomalies:
            counters.anomalies[anomaly[:4]] = counters.anomalies.get(anomaly[:4], 0) + anomaly.times


def _refined(ts_us: int, clock_us: int) -> int:
    """A commit time of whole seconds (MariaDB) within the second that runs now: now, if nothing waits behind it.

    An older one stays as it is: that no bytes have come yet does not prove that the server has none.
    """
    return clock_us if ts_us % 1_000_000 == 0 and 0 <= clock_us - ts_us < 1_000_000 else ts_us
