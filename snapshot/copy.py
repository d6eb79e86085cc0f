"""The initial load: from SELECT to COPY, many tables at once, resumable, beside a source where people work.

One visible position P is taken before the first read and one written position Q after the last; the log is applied from P on,
so at Q every keyed table equals the source whatever changed meanwhile. A table without a key is read whole at an exact
position. Every chunk commits with its ledger row; a restart goes on after the last one with the same P.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import cdc
from cdc import codec, crash, envelope, types
from cdc.catalog import Catalog
from cdc.errors import CdcError, Halt, Refused, RowRefused
from cdc.keyrange import Bound, KeyRange
from cdc.lifecycle import State
from cdc.model import Record, Table
from cdc.policies import Policies
from cdc.position import Position, least
from cdc.progress import Chunk, Progress, Stored, TableState
from cdc.topic import Idle

CHUNK_SECONDS = 1.0
CHUNK_BYTES = 32 << 20
_WRITE_BYTES = 256 << 10

Consume = Callable[[bytearray, int, int], int]
"""Takes a buffer with row packets in [start, end); returns how many bytes it used up."""


class Piece(Protocol):
    """A key range that was read."""

    @property
    def range(self) -> KeyRange: ...


class Reader(Protocol):
    """Reads one table of the source; `cdc.chunks.TableReader` is one."""

    def pieces(self, after: Bound | None, consume: Consume) -> Iterator[Piece]: ...
    def read(self, piece: KeyRange, consume: Consume) -> None: ...
    def exact(self) -> AbstractContextManager[Position]: ...
    def close(self) -> None: ...


Report = Callable[[str, int, int], None]
"""A table, the rows of it that are in the target, and how many there are by estimate."""


@dataclass(slots=True)
class _Work:
    """One table to load."""

    table: Table
    estimate: int
    rows: codec.RowPlan
    values: codec.ValuePlan
    state: TableState
    schemas: tuple[types.Schema | None, types.Schema]
    """Of the records of its rows: key and value."""
    load: Any = None
    """The target's handle on the load under way."""
    out: bytearray = field(default_factory=bytearray)
    read: int = 0
    """Rows transcoded so far."""

    def transcode(self, block: bytearray, start: int, end: int) -> int:
        """Take row packets; how many bytes of them were used up."""
        used, rows = codec.select_to_copy(self.rows, self.values, block, start, end, self.out)
        self.read += rows
        return int(used)

    def records(self, catalog: Catalog) -> Recorded:
        """An empty list of the table's rows as records, as a copy through the topics would publish them."""
        now_us = time.time_ns() // 1000
        stamp = envelope.stamp(
            0, 0, flavour=catalog.flavour, version=cdc.__version__, name="", ts_us=now_us, snapshot="true", db=self.table.db,
            table=self.table.name, server_id=catalog.server_id, gtid=None, file="", pos=0, transaction=None, now_us=now_us,
        )  # fmt: skip
        return Recorded(self, stamp, codec.Numbers(0, 1))

    def changed(self) -> dict[tuple[str, str], int]:
        """What policies changed in the rows that were read since this was asked last, by (column, reason)."""
        found = Counter(self.rows.anomalies)
        self.rows.anomalies.clear()
        return dict(found + Counter(self.values.taken()))

    def abandon(self) -> None:
        """Forget what was read and will not be written."""
        self.out.clear()
        self.changed()

    def hand_over(self, writer: Any) -> int:
        """Write what was read: the source's table is not locked any more, so the target may take its time."""
        size = len(self.out)
        if size:
            writer.write(bytes(self.out))
            self.out.clear()
        return size


@dataclass(slots=True)
class Recorded:
    """Rows of a chunk that is written with care: whole records, so that those that are refused can wait."""

    work: _Work
    stamp: codec.Stamp
    numbers: codec.Numbers
    found: list[Record] = field(default_factory=list)
    changed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """What policies changed, by (column, reason): capture's when the rows are asked for it, all of it once they are written."""

    def seen(self) -> dict[tuple[str, str], int]:
        """What policies of capture changed in these rows."""
        return self.work.changed()

    def take(self, block: bytearray, start: int, end: int) -> int:
        """Take row packets; how many bytes of them were used up."""
        return codec.encode_select(self.work.rows, block, start, end, self.stamp, self.numbers, self.found)

    @property
    def schemas(self) -> tuple[types.Schema | None, types.Schema]:
        return self.work.schemas

    @property
    def keys(self) -> list[bytes | None]:
        return [record.key for record in self.found]

    @property
    def values(self) -> list[bytes]:
        return [record.value or b"" for record in self.found]

    @property
    def opened(self) -> list[codec.Opened]:
        return self.work.values.open(self.values)


class Copier:
    """Loads tables through the target's loader connections; raises what stops all, marks refused what stops one."""

    def __init__(
        self,
        catalog: Catalog,
        read: Callable[[Table], Reader],
        target: Any,
        breathe: Idle,
        report: Report,
        careful: Any = None,
        policies: Policies | None = None,
    ) -> None:
        """`careful` writes a chunk of which rows are refused, and says how many: (loader, load, chunk, records); None: they stop."""
        self._catalog, self._read, self._target = catalog, read, target
        self._careful, self._policies = careful, policies
        self._breathe, self._report = breathe, report
        self._lock = threading.Lock()  # guards the target's main connection and the catalog
        self._errors: list[BaseException] = []
        self.changed: Counter[tuple[str, str, str, str]] = Counter()
        """Values that policies changed in the rows that are in the target, by (db, table, column, reason)."""

    def load(self, tables: Sequence[Table], prefix: str, stored: Stored, parallel: int) -> Position:
        """Copy every table that is not yet in the target and store the first position, from which the log is to be applied."""
        works = [self._prepare(table, prefix) for table in tables]
        floor, again = self._floor(stored)
        self._catalog.check_unchanged(tables)
        crash.point("load.floor")
        started_us = time.time_ns() // 1000
        self._run([work for work in works if again or work.state.state in (State.NEW, State.COPYING)], floor, again, parallel)
        ceiling = self._catalog.written_position()
        crash.point("load.ceiling")
        for work in works:
            if work.load is not None and work.table.key:
                self._target.finish_load(work.load, ceiling)
                crash.point("load.finished")
        crash.point("load.ended")
        self._target.save([], Progress(0, -1, 0, floor, started_us))
        crash.point("load.stored")
        return floor

    def _prepare(self, table: Table, prefix: str) -> _Work:
        catalog = self._catalog
        key, value = envelope.key_schema(prefix, table), envelope.value_schema(prefix, table, catalog.flavour)
        values = codec.ValuePlan(value, key, self._policies)
        state: TableState = self._target.create_table(values, {"renamed": values.renamed} if values.renamed else None)
        return _Work(table, catalog.row_estimate(table), codec.RowPlan(table), values, state, (key, value))

    def _floor(self, stored: Stored) -> tuple[Position, bool]:
        """P, and whether loads under way must start again because the log no longer reaches back to theirs."""
        floors = [s.floor for s in stored.tables.values() if s.floor is not None and s.state in (State.COPYING, State.CATCHING_UP)]
        if floors:
            floor = floors[0]
            for other in floors[1:]:
                floor = least(floor, other)
            if not self._catalog.purged(floor):
                return floor, False
        return self._catalog.visible_position(), bool(floors)

    # -- threads -----------------------------------------------------------------------------------------------------

    def _run(self, works: Sequence[_Work], floor: Position, again: bool, parallel: int) -> None:
        todo: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        for work in sorted(works, key=lambda w: -w.estimate):
            todo.put(work)
        threads = [threading.Thread(target=self._drain, args=(todo, floor, again), name=f"copy-{i}") for i in range(parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _drain(self, todo: queue.SimpleQueue[_Work], floor: Position, again: bool) -> None:
        try:
            loader = self._target.loader()
            try:
                while not self._errors:
                    self._table(todo.get_nowait(), loader, floor, again)
            finally:
                loader.close()
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)

    # -- one table ---------------------------------------------------------------------------------------------------

    def _table(self, work: _Work, loader: Any, floor: Position, again: bool) -> None:
        with self._lock:  # without a key there is one chunk, whose position nobody stored if the load was not finished: it is read anew
            work.load = self._target.begin_load(work.values, floor, again=again or not work.table.key)
        crash.point("load.begun")
        try:
            if work.table.key:
                self._keyed(work, loader)
            else:
                self._keyless(work, loader, floor)
        except Refused as refusal:
            self._refuse(work, refusal)

    def _keyed(self, work: _Work, loader: Any) -> None:
        done: list[Chunk] = list(work.load.done)
        work.read = sum(chunk.rows for chunk in done)
        if done and done[-1].high is None:
            return
        after: Bound | None = tuple(str(v) for v in done[-1].high) if done and isinstance(done[-1].high, list) else None
        number, last = len(done), False
        while not last:
            try:
                for reached in self._chunks(work, loader, number, after):
                    number, after, last = reached
                    self._report(work.table.qualified, work.read, work.estimate)
            except RowRefused:
                if self._careful is None:
                    raise
                work.abandon()
                after, last = self._with_care(work, loader, number, after)
                number += 1

    def _chunks(self, work: _Work, loader: Any, number: int, after: Bound | None) -> Iterator[tuple[int, Bound | None, bool]]:
        """Copy chunk after chunk; of each the number that comes next, the bound that it reached, and whether it was the last."""
        with closing(self._open(work.table)) as reader:
            pieces, last = reader.pieces(after, work.transcode), False
            while not last:
                started = time.monotonic()
                with loader.chunk(work.load, Chunk(number, _bound(after))) as writer:
                    written = 0
                    for piece in pieces:
                        crash.point("load.read")
                        written += work.hand_over(writer)
                        crash.point("load.written")
                        after = piece.range.upto
                        last = after is None
                        self._breathe_all()
                        if last or written > CHUNK_BYTES or time.monotonic() - started > CHUNK_SECONDS:
                            break
                    writer.high = _bound(after)
                    writer.changed = changed = work.changed()
                self._count(work, changed)
                number += 1
                yield number, after, last

    def _with_care(self, work: _Work, loader: Any, number: int, after: Bound | None) -> tuple[Bound | None, bool]:
        """Copy one piece again, of which a row may be refused: any reading between P and Q serves, so a later one does too."""
        rows = work.records(self._catalog)
        with closing(self._open(work.table)) as reader:
            piece = next(iter(reader.pieces(after, rows.take)))
        upto = piece.range.upto
        self._careful(loader, work.load, Chunk(number, _bound(after), _bound(upto)), rows)
        self._count(work, rows.changed)
        work.read += len(rows.found)
        self._breathe_all()
        return upto, upto is None

    def _keyless(self, work: _Work, loader: Any, floor: Position) -> None:
        try:
            with loader.chunk(work.load, Chunk(0)) as writer:
                position = self._exactly(work, work.transcode)
                crash.point("load.keyless_read")
                work.hand_over(writer)
                changed: Mapping[tuple[str, str], int] = work.changed()
                writer.changed = changed
        except RowRefused:
            if self._careful is None:
                raise
            work.abandon()
            rows = work.records(self._catalog)
            position = self._exactly(work, rows.take)
            self._careful(loader, work.load, Chunk(0), rows)
            changed = rows.changed
        crash.point("load.keyless_copied")
        exact = replace(position, floor=floor.begin)  # what is prepared at it (XA) was prepared above P's own floor
        self._count(work, changed)
        with self._lock:
            self._target.finish_load(work.load, exact, floor=exact)
        self._report(work.table.qualified, work.read, work.estimate)

    def _exactly(self, work: _Work, consume: Consume) -> Position:
        """Read the whole table at an exact position."""
        with closing(self._open(work.table)) as reader, reader.exact() as position:
            reader.read(KeyRange(), consume)
        return position

    def _open(self, table: Table) -> Reader:
        """A reader of the table; that the server refuses us is not the table's fault."""
        try:
            return self._read(table)
        except Refused as error:
            raise Halt(error.code, error.place, error.rule, error.hint) from None

    def _count(self, work: _Work, changed: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            for (column, reason), times in changed.items():
                self.changed[work.table.db, work.table.name, column, reason] += times

    def _refuse(self, work: _Work, refusal: CdcError) -> None:
        refused = replace(work.load.state, state=State.REFUSED, reason=f"{refusal.rule}: {refusal.hint}")
        work.load = None
        with self._lock:
            self._target.save([refused])

    def _breathe_all(self) -> None:
        self._breathe()
        if self._errors:
            raise _Abandoned


def _bound(after: Bound | None) -> list[str] | None:
    return None if after is None else list(after)


class _Abandoned(Exception):
    """Another thread failed; its error is the one that counts."""
