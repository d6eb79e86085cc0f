"""The initial load: from SELECT to COPY, many key ranges at once, resumable, beside a source where people work.

One visible position P is taken before the first read and one written position Q after the last; the log is applied from
P on, so at Q every keyed table equals the source whatever changed meanwhile. A table without a key is read whole at an
exact position. Every chunk commits with its ledger row; a restart copies what the ledger lacks, with the same P. A
table that changes meanwhile leaves the load (`snapshot/load/changed_tables.py`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cdc.codec import envelope
from cdc.errors import CdcError, Halt, Refused, RowSuspected
from cdc.model.policies import Policies
from cdc.model.position import Position, least
from cdc.model.table import AnomalyName, Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.key_range import KeyRange
from cdc.mysql.table_reader import Consume, Piece, Readers, TableReader
from cdc.protocol.applied import LedgerChunk, Progress, Stored
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, crash_points as crash, logs, timing
from cdc.transport.contract import Idle
from sinks.postgres.load import ChunkLoader
from sinks.postgres.table_loads import TableLoads
from sinks.quarantine import QuarantineLimits
from snapshot.load.changed_tables import SHAPE, ChangedTables
from snapshot.load.progress import LoadProgress
from snapshot.load.rows import Recorded, RowBuffer
from snapshot.load.spans import Span, SpanAllocator, as_stored
from snapshot.load.throttle import Throttle
from snapshot.load.workers import Look, Pool, TableWork, TableWorker

CHUNK_BYTES = 32 << 20


class Copier:
    """Loads tables through the target's loader connections; raises what stops all, marks refused what stops one."""

    def __init__(
        self,
        catalog: Catalog,
        read: Readers,
        target: TableLoads,
        check_stop: Idle,
        tally: LoadProgress,
        pace: Throttle,
        quarantine: QuarantineLimits,
        policies: Policies,
    ) -> None:
        """`quarantine` says how many rows that the target refuses may wait; if none may, the first stops the load."""
        self._catalog, self._read, self._target = catalog, read, target
        self._quarantine, self._policies = quarantine, policies
        self._breathe, self._tally, self._pace = check_stop, tally, pace
        self._lock = threading.Lock()  # guards the target's main connection and the catalog
        self._errors: list[BaseException] = []
        self.changed: Counter[AnomalyName] = Counter()
        """Values that policies changed in the rows that are in the target, by (db, table, column, reason)."""

    def load(self, tables: Sequence[Table], prefix: str, stored: Stored, parallel: int, look: Look) -> Position:
        """Copy every table that is not yet in the target and store the first position, from which the log is to be
        applied.

        `parallel` workers share all ranges of all tables; `look` is asked once a second how fast they may read.
        """
        changes = ChangedTables(self._catalog, self._target, self._tally)
        works = [self._prepare(table, prefix) for table in changes.as_begun(tables, stored)]
        started_us = clock.now_us()
        floor, again = self._floor(stored)
        crash.point("load.floor")
        works = changes.remaining(works)
        for work in works:
            self._begin(work, floor, again)
        self._run([work for work in works if work.load is not None and work.walk.left], floor, parallel, look)
        works = changes.remaining(works)
        ceiling = self._catalog.log.written_position()
        crash.point("load.ceiling")
        for work in works:
            if work.load is not None and work.table.key:
                work.state = self._target.finish_load(work.load, ceiling)
                crash.point("load.finished")
        crash.point("load.ended")
        resumed = any(state.floor == floor for state in stored.tables.values())  # then nobody knows how old P is
        first = (
            Stored(None, {work.state.name: work.state for work in works}).lowest_floor or floor
        )  # as capture may have seen it
        self._target.save([], Progress(0, -1, 0, first, 0 if resumed else started_us))
        crash.point("load.stored")
        return first

    def _prepare(self, table: Table, prefix: str) -> TableWork:
        schemas = envelope.key_schema(prefix, table), envelope.value_schema(prefix, table, self._catalog.flavour)
        rows = RowBuffer(table, schemas, self._policies)
        renamed = rows.values.renamed
        schema = {SHAPE: table.shape} | ({"renamed": renamed} if renamed else {})
        state = self._target.create_table(rows.values, schema)
        return TableWork(table, self._catalog.row_estimate(table), state, schemas, [rows])

    def _floor(self, stored: Stored) -> tuple[Position, bool]:
        """P, and whether loads under way must start again because the log no longer reaches back to theirs."""
        held = (TableState.COPYING, TableState.CATCHING_UP)
        floors = [s.floor for s in stored.tables.values() if s.floor is not None and s.state in held]
        if floors:
            floor = floors[0]
            for other in floors[1:]:
                floor = least(floor, other)
            if not self._catalog.identity.purged(floor):
                self._catalog.identity.check(floor)
                return floor, False
        return self._catalog.log.visible_position(), bool(floors)

    def _begin(self, work: TableWork, floor: Position, again: bool) -> None:
        """Start the table's load, or find it under way; one that is over stays so."""
        name = work.table.qualified
        if not again and work.state.state not in (TableState.NEW, TableState.COPYING):
            self._tally.begin(name, work.state.rows_loaded, work.state.rows_loaded)
            return
        # Without a key there is one chunk, whose position nobody stored if the load was not finished: it is read anew.
        work.load = self._target.begin_load(work.rows[0].values, floor, again=again or not work.table.key)
        work.state, work.walk = work.load.state, SpanAllocator(work.load.done)
        rows = sum(chunk.rows for chunk in work.load.done)
        self._tally.begin(name, rows, work.estimate if work.walk.left else rows)
        crash.point("load.begun")

    # -- threads -----------------------------------------------------------------------------------------------------

    def _run(self, works: Sequence[TableWork], floor: Position, parallel: int, look: Look) -> None:
        pool, over = Pool(works), threading.Event()
        self._pace.heed(look())
        watch = threading.Thread(target=self._watch, args=(look, over), name="copy-watch")
        threads = [threading.Thread(target=self._drain, args=(pool, floor), name=f"copy-{i}") for i in range(parallel)]
        for thread in (watch, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        watch.join()
        if self._errors:
            raise self._errors[0]

    def _watch(self, look: Look, over: threading.Event) -> None:
        try:
            while not over.wait(timing.TIMES.load_look_seconds):
                self._pace.heed(look())
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)

    def _drain(self, pool: Pool, floor: Position) -> None:
        try:
            loader = self._target.loader()
            try:
                while not self._errors and (work := pool.next()) is not None:
                    self._table(work, loader, floor)
            finally:
                loader.close()
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)

    # -- one table ---------------------------------------------------------------------------------------------------

    def _table(self, work: TableWork, loader: ChunkLoader, floor: Position) -> None:
        load = work.load
        if load is None:
            return  # refused a moment ago
        try:
            rows = work.rows.pop()
        except IndexError:
            rows = RowBuffer(work.table, work.schemas, self._policies)
        try:
            hand = TableWorker(work, replace(load, plan=rows.values), loader, rows, self._open(work.table))
            try:
                with logs.about(work.table.qualified):
                    if work.table.key:
                        self._keyed(hand)
                    else:
                        self._keyless(hand, floor)
            finally:
                hand.reader.close()
        except Refused as refusal:
            self._refuse(work, refusal)
        except Halt:
            if work.load is not None and not self._is_changed(work):
                raise  # else another worker found meanwhile that the table is refused, or has changed

    def _keyed(self, hand: TableWorker) -> None:
        name, walk = hand.work.table.qualified, hand.work.walk
        while hand.work.load is not None and (span := walk.claim(hand.reader.scout)) is not None:
            left: Span | None = span
            while left is not None:
                self._await_leave()
                left = self._part(hand, left)
                self._tally.copied(name, hand.rows.read)
            if walk.settled():
                self._tally.finished(name)

    def _part(self, hand: TableWorker, span: Span) -> Span | None:
        """Copy a part of the span, with care if a row of it is refused; what is left of it."""
        try:
            return self._chunk(hand, span)
        except RowSuspected:
            if not self._quarantine.keys:
                raise
        return self._with_care(hand, span)

    def _chunk(self, hand: TableWorker, span: Span) -> Span | None:
        """Copy and commit a part of the span; what is left of it."""
        rows, reached, written, started = hand.rows, span.after, 0, time.monotonic()
        rows.begin()
        with hand.loader.chunk(hand.load, LedgerChunk(span.number, as_stored(span.after))) as writer:
            for piece in hand.reader.pieces(span.after, rows.transcode, span.upto):
                crash.point("load.read")
                written += rows.hand_over(writer)
                crash.point("load.written")
                reached = piece.range.upto
                self._rest(hand, piece, rows.fresh())
                late = time.monotonic() - started > timing.TIMES.chunk_seconds
                if span.divisible and (written > CHUNK_BYTES or late or self._pace.paused):
                    break
            writer.high = as_stored(reached)
            writer.changed = changed = rows.changed()
        self._count(hand.work, changed)
        return span.rest(reached)

    def _with_care(self, hand: TableWorker, span: Span) -> Span | None:
        """Copy one piece again, of which a row may be refused:
        any reading between P and Q serves, so a later one does too."""
        hand.rows.abandon()
        hand.reader.close()  # it may have been left in the middle of an answer
        hand.reader = self._open(hand.work.table)
        found = hand.rows.records(self._catalog)
        upto = span.upto
        for piece in hand.reader.pieces(span.after, found.take, span.upto):
            self._rest(hand, piece, len(found.found))
            if span.divisible:
                upto = piece.range.upto
                break
        self._write_with_care(hand, LedgerChunk(span.number, as_stored(span.after), as_stored(upto)), found)
        return span.rest(upto)

    def _write_with_care(self, hand: TableWorker, chunk: LedgerChunk, found: Recorded) -> None:
        hand.loader.chunk_with_care(hand.load, chunk, found, self._quarantine)
        self._count(hand.work, found.changed)
        hand.rows.read = len(found.found)

    def _keyless(self, hand: TableWorker, floor: Position) -> None:
        work, rows = hand.work, hand.rows
        self._await_leave()
        try:
            with hand.loader.chunk(hand.load, LedgerChunk(0)) as writer:
                position = self._exactly(hand, rows.transcode)
                crash.point("load.keyless_read")
                rows.hand_over(writer)
                writer.changed = changed = rows.changed()
            self._count(work, changed)
        except RowSuspected:
            if not self._quarantine.keys:
                raise
            rows.abandon()
            hand.reader.close()
            hand.reader = self._open(work.table)
            found = rows.records(self._catalog)
            position = self._exactly(hand, found.take)
            self._write_with_care(hand, LedgerChunk(0), found)
        crash.point("load.keyless_copied")
        exact = position.later_than(floor)  # what is prepared at it (XA) was prepared above P's own floor
        with self._lock:
            work.state = self._target.finish_load(hand.load, exact, floor=exact)
        self._tally.copied(work.table.qualified, rows.read)
        self._tally.finished(work.table.qualified)

    def _exactly(self, hand: TableWorker, consume: Consume) -> Position:
        """Read the whole table at an exact position."""
        started = time.monotonic()
        with hand.reader.exact() as position:
            hand.reader.read(KeyRange(), consume)
        self._tally.took(time.monotonic() - started, locking=hand.reader.locking)
        return position

    def _open(self, table: Table) -> TableReader:
        """A reader of the table; that the server refuses us is not the table's fault."""
        try:
            return self._read(table)
        except Refused as error:
            raise Halt(error.code, error.place, error.rule, error.hint) from None

    def _is_changed(self, work: TableWork) -> bool:
        """Whether the table is not any more what was listed: then it leaves the load, and the others go on."""
        if self._read.changed(work.table):
            with self._lock:
                work.load, work.changed = None, True
        return work.changed

    def _count(self, work: TableWork, changed: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            for (column, reason), times in changed.items():
                self.changed[work.table.db, work.table.name, column, reason] += times

    def _refuse(self, work: TableWork, refusal: CdcError) -> None:
        with self._lock:
            if work.load is None:
                return
            work.state = replace(work.load.state, state=TableState.REFUSED, reason=f"{refusal.rule}: {refusal.hint}")
            work.load = None
            self._target.save([work.state])

    # -- pace --------------------------------------------------------------------------------------------------------

    def _rest(self, hand: TableWorker, piece: Piece, rows: int) -> None:
        """After a piece of so many rows: rest as long as the pace demands."""
        self._tally.took(piece.seconds, locking=hand.reader.locking)
        until = time.monotonic() + self._pace.rest(rows, piece.seconds)
        self._breathe_all()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, timing.TIMES.load_nap_seconds))
            self._breathe_all()

    def _await_leave(self) -> None:
        """Between two chunks: wait while the copy is paused, with no transaction open."""
        self._breathe_all()
        while self._pace.paused:
            time.sleep(timing.TIMES.load_nap_seconds)
            self._breathe_all()

    def _breathe_all(self) -> None:
        self._breathe()
        if self._errors:
            raise _Abandoned


class _Abandoned(Exception):
    """Another thread failed; its error is the one that counts."""
