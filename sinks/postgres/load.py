"""The initial load's side of the target: chunks of COPY tuples, each committed with its ledger row or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import psycopg
from psycopg.pq import TransactionStatus

from cdc.codec import COPY_HEADER, COPY_TRAILER
from cdc.codec.records import Opened
from cdc.config.load import TargetConfig
from cdc.errors import Halt, Refused, RowRefused, RowSuspected
from cdc.model.position import Position
from cdc.postgres.connection import Connection, compact, jsonb
from cdc.postgres.errors import decide, guarded
from cdc.protocol.applied import MADE, REMAKE, LedgerChunk, TableProgress
from cdc.protocol.table_states import TableState
from cdc.runtime import crash_points as crash
from sinks.contract import Plan
from sinks.counters import tell
from sinks.fold import Fold
from sinks.postgres.attached import fast, put_back, ways_back
from sinks.postgres.bisect import write_bisected
from sinks.postgres.fence import SHARED, check_held, connect_writer
from sinks.postgres.merge import BatchWriter
from sinks.postgres.quarantine import Quarantine, Schemas
from sinks.postgres.statements import ANOMALY, BEGIN, COMMIT, IMMEDIATE, StatementQueue, undo
from sinks.postgres.tables import TargetTable, ensure_table, found_columns, make_empty, names
from sinks.quarantine import HeldKeys, QuarantineLimits, Records, queued

_LEDGER = """
INSERT INTO cdc.chunks (pipeline, db, "table", load_no, chunk_no, low, high, rows)
SELECT t.pipeline, t.db, t."table", t.load_no, %(chunk)s, %(low)s, %(high)s, %(rows)s FROM cdc.tables t
 WHERE (t.pipeline, t.db, t."table") = (%(pipeline)s, %(db)s, %(table)s) AND t.load_no = %(load)s
 AND t.state = 'copying'"""

_START_LOAD = """UPDATE cdc.tables SET state = 'copying', floor = %s, ceiling = NULL, reason = '', rows_loaded = 0,
 load_no = load_no + 1, changed_at = now() WHERE (pipeline, db, "table") = (%s, %s, %s) RETURNING load_no"""
_LOAD_NO = 'SELECT load_no FROM cdc.tables WHERE (pipeline, db, "table") = (%s, %s, %s)'
_LOADED = """SELECT coalesce(sum(c.rows), 0)::int8 FROM cdc.chunks c
    JOIN cdc.tables t USING (pipeline, db, "table", load_no)
 WHERE (c.pipeline, c.db, c."table") = (%s, %s, %s)"""


class LoadedRows(Protocol):
    """Rows of a copy as records."""

    @property
    def keys(self) -> Sequence[bytes | None]: ...
    @property
    def values(self) -> Sequence[bytes]: ...
    @property
    def opened(self) -> Sequence[Opened]: ...
    @property
    def schemas(self) -> tuple[Mapping[str, object] | None, Mapping[str, object]]:
        """The Avro schemas of key and value."""

    changed: Mapping[tuple[str, str], int]
    """Is set to how many values policies changed in the rows, by (column, reason)."""

    def seen(self) -> Mapping[tuple[str, str], int]:
        """How many of these capture's policies changed."""


@dataclass(frozen=True, slots=True)
class TableLoad:
    """One attempt to load a table: its number, and the chunks of it that are in the target already."""

    state: TableProgress
    number: int
    done: tuple[LedgerChunk, ...]
    plan: Plan
    place: TargetTable


class ChunkWriter:
    """Takes the binary COPY tuples of one chunk."""

    def __init__(self, high: object) -> None:
        self.copy: psycopg.Copy | None = None
        self.high = high
        """May be set until the block is left, by a reader that learns late how far it came."""
        self.changed: Mapping[tuple[str, str], int] = {}
        """How many values policies changed in the chunk's rows, by (column, reason); set before the block is left."""

    def write(self, tuples: bytes | bytearray) -> None:
        """More rows: consecutive tuples without the format's header and trailer."""
        _write(self.copy, tuples)


@guarded("a chunk of a load")
def _write(copy: psycopg.Copy | None, tuples: bytes | bytearray) -> None:
    assert copy is not None
    copy.write(tuples)


class ChunkLoader:
    """One connection that loads chunks; several may work at once, none beside a new owner of the pipeline."""

    def __init__(self, target: TargetConfig, pipeline: str, fence: int) -> None:
        self.pipeline, self.fence = pipeline, fence
        self.connection = connect_writer(target, pipeline, "load", again=True)
        self.wire = StatementQueue(self.connection)
        self._merge = BatchWriter(self.connection, self.wire)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def chunk(self, load: TableLoad, chunk: LedgerChunk) -> Iterator[ChunkWriter]:
        """Write one chunk: leaving the block commits rows and ledger row together, an error in it undoes both.

        `chunk.rows` is counted by the server. A connection lost at the commit leaves the outcome open: ask the ledger.
        """
        cursor = self._begin(load)
        writer = ChunkWriter(chunk.high)
        failed: psycopg.Error | None = None
        try:
            with cursor.copy(
                f"COPY {load.place.sql} ({_columns(load.plan)}) FROM STDIN (FORMAT BINARY)".encode()
            ) as copy:
                writer.copy = copy
                copy.write(COPY_HEADER)
                yield writer
                copy.write(COPY_TRAILER)
        except psycopg.Error as error:
            failed = error
        finally:
            if failed is not None or self.connection.info.transaction_status != TransactionStatus.INTRANS:
                undo(self.wire)
        if failed is not None:
            decision = decide(failed, str(load.place))
            del failed
            raise decision
        self._check(load)
        self._commit(load, chunk, writer.high, cursor.rowcount, writer.changed)

    def chunk_with_care(self, load: TableLoad, chunk: LedgerChunk, rows: LoadedRows, limits: QuarantineLimits) -> int:
        """Write one chunk of which rows are refused: these wait in quarantine, as rows that a copy brought; how many
        they are.

        `chunk.high` must be known. Halt when more are refused than `limits` allow, of the chunk or of the pipeline.
        """

        seen = Counter(rows.seen())

        def work(strict: bool) -> int:
            self._begin(load)
            if strict:
                self.wire.enqueue(IMMEDIATE)
            records = Records(rows.keys, rows.values, rows.opened)
            refused, waiting = self._bisected(load, records, Schemas(0, *rows.schemas), limits)
            rows.changed = seen + Counter({what[2:]: times for what, times in self._merge.changed.items()})
            self._commit(load, chunk, chunk.high, len(rows.values) - waiting, rows.changed)
            self._merge.committed()
            tell((load.state.db, load.state.table), refused)
            return waiting

        written = guarded(str(load.place))(work)
        try:
            return written(strict=False)
        except RowSuspected:  # by a constraint that is checked at the commit, where nobody knows the row
            self._merge.undone()
            return written(strict=True)
        finally:
            undo(self.wire)
            self._merge.undone()

    def _bisected(
        self, load: TableLoad, records: Records, schemas: Schemas, limits: QuarantineLimits
    ) -> tuple[dict[bytes, RowRefused], int]:
        """The refused keys, each with its reason, and how many rows of them are queued."""
        held_keys, fold, name = HeldKeys(limits), Fold(load.plan), (load.state.db, load.state.table)
        quarantine = Quarantine(self.connection, self.wire, self.pipeline)
        held_keys.replace(quarantine.held())
        fold.add(records.keys, records.values, records.opened)
        batch = fold.take()
        found = write_bisected(self._merge, self.wire, batch, load.place, held_keys.room(len(batch)))
        refused = {unit.identity: unit.error for unit in found if unit.error}
        waiting = queued(load.plan, records, refused.keys(), refused)
        quarantine.add(name, schemas, waiting, load.state.floor)
        return refused, len(waiting)

    @guarded("a chunk of a load")
    def _begin(self, load: TableLoad) -> psycopg.Cursor[tuple[object, ...]]:
        undo(self.wire)
        self.wire.enqueue(BEGIN)
        self.wire.enqueue(
            SHARED, [self.pipeline.encode(), b"%d" % self.fence], lambda result: check_held(self.pipeline, result)
        )
        self.wire.flush()
        try:
            self._merge.meet(load.plan, load.place)
        except Halt:
            undo(self.wire)
            raise
        return self.connection.cursor()

    @guarded("a chunk of a load")
    def _check(self, load: TableLoad) -> None:
        """COPY has read the rows as what the table's columns are: somebody may have made other types of them."""
        try:
            self._merge.check(load.plan, load.place)
            self.wire.flush()
        except Halt:
            undo(self.wire)
            raise

    @guarded("a chunk of a load")
    def _commit(
        self, load: TableLoad, chunk: LedgerChunk, high: object, rows: int, changed: Mapping[tuple[str, str], int]
    ) -> None:
        ledger = {"pipeline": self.pipeline, "db": load.state.db, "table": load.state.table, "load": load.number,
                  "chunk": chunk.number, "low": jsonb(chunk.low), "high": jsonb(high), "rows": rows}  # fmt: skip
        try:
            written = self.connection.execute(_LEDGER, ledger).rowcount
        except psycopg.errors.UniqueViolation:
            written = 0
        if written != 1:
            undo(self.wire)
            raise Halt("chunk_repeated", str(load.place), f"chunk {chunk.number} of load {load.number} is done, "
                                                          "or the load is over",
                       "start again: the ledger says what is missing")  # fmt: skip
        for what, times in changed.items():
            self.wire.say(ANOMALY, self.pipeline, load.state.db, load.state.table, *what, times)
        crash.point("load.ledger")
        self.wire.enqueue(COMMIT)
        self.wire.flush()
        crash.point("load.chunk")


def forget_rows(connection: Connection, name: tuple[str, str, str]) -> None:
    """Nothing that a load said of the rows of a table (pipeline, db, table) counts any more."""
    for ledger in ("chunks", "anomaly", "quarantine"):
        connection.execute(f'DELETE FROM cdc.{ledger} WHERE (pipeline, db, "table") = (%s, %s, %s)'.encode(), name)


def given_up(
    connection: Connection, pipeline: str, place: TargetTable, known: TableProgress, reason: str
) -> TableProgress:
    """The state of a table whose load is given up: what it brought is gone, and its target too if that was made for it.

    A target that was found (it may have grants, views, columns of its own), or that something depends on by now, is
    emptied instead.
    """
    forget_rows(connection, (pipeline, *known.name))
    if found_columns(connection, place.sql):
        try:
            with connection.transaction():
                connection.execute(f"{'DROP TABLE' if known.schema.get(MADE) else 'TRUNCATE'} {place.sql}".encode())
        except psycopg.errors.DependentObjectsStillExist:
            connection.execute(f"TRUNCATE {place.sql}".encode())
    schema = {MADE: bool(known.schema.get(MADE)), REMAKE: True}
    return TableProgress(known.db, known.table, place.schema, place.table, reason=reason, schema=schema)


def _columns(plan: Plan) -> str:
    return names(column.name for column in plan.columns)


def fit(connection: Connection, pipeline: str, plan: Plan, place: TargetTable, known: TableProgress) -> None:
    """Make a table's target anew in the open transaction if it was made for other columns; it is not copied yet.

    Grants and indexes that somebody gave it are put back; what could not be (a view on it, say) keeps it as it is.
    """
    try:
        ensure_table(connection, plan, place, adopt=True)
    except Refused as unfit:
        if known.schema.get(MADE) and (lost := fast(connection, place)):
            rule = f"{unfit.rule}; to make it anew would take with it: {', '.join(lost)}"
            raise Refused(unfit.code, unfit.place, rule, "ask whose that is to take it away; then cdc copy") from None
        again = ways_back(connection, place)
        given_up(connection, pipeline, place, known, "")
        ensure_table(connection, plan, place, adopt=True)
        put_back(connection, place, again)


def begun(
    connection: Connection,
    pipeline: str,
    known: TableProgress | None,
    done: Sequence[LedgerChunk],
    into: tuple[Plan, TargetTable],
    floor: Position,
    again: bool,
) -> TableLoad:
    """A table's load in the open transaction: the one that is under way, or, `again` or without one,
    a new one of the empty table."""
    plan, place = into
    name = (pipeline, plan.db, plan.table)
    if known is not None and known.state == TableState.COPYING and not again:
        row = connection.execute(_LOAD_NO, name).fetchone()
        return TableLoad(known, row[0] if row else 0, tuple(done), plan, place)
    row = connection.execute(_START_LOAD, [compact(floor.to_json()), *name]).fetchone()
    if known is None or row is None:
        raise Halt("table_unknown", str(place), "a table is loaded that was not created first")
    make_empty(connection, place)
    forget_rows(connection, name)
    return TableLoad(
        replace(known, state=TableState.COPYING, floor=floor, ceiling=None, reason="", rows_loaded=0),
        row[0],
        (),
        plan,
        place,
    )


def finished(
    connection: Connection, pipeline: str, load: TableLoad, ceiling: Position, floor: Position | None
) -> TableProgress:
    """The state of a table whose load is complete; Halt when another load of it has begun."""
    name = (pipeline, load.state.db, load.state.table)
    row, number = connection.execute(_LOADED, name).fetchone(), connection.execute(_LOAD_NO, name).fetchone()
    if row is None or number is None or number[0] != load.number:
        raise Halt("load_over", str(load.place), "another load of the table has begun", "start again")
    return replace(
        load.state, state=TableState.CATCHING_UP, floor=floor or load.state.floor, ceiling=ceiling, rows_loaded=row[0]
    )
