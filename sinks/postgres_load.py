"""The initial load's side of the target: chunks of COPY tuples, each committed with its ledger row or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.pq import TransactionStatus

from cdc import crash
from cdc.codec import COPY_HEADER, COPY_TRAILER
from cdc.config import TargetConfig
from cdc.errors import Halt
from cdc.progress import Chunk, TableState
from cdc.state import decide, guarded, jsonb
from sinks.contract import Plan
from sinks.postgres_fence import SHARED, check_held, connect_writer
from sinks.postgres_schema import Place, names
from sinks.postgres_wire import BEGIN, COMMIT, Wire, undo

_LEDGER = """
INSERT INTO cdc.chunks (pipeline, db, "table", load_no, chunk_no, low, high, rows)
SELECT t.pipeline, t.db, t."table", t.load_no, %(chunk)s, %(low)s, %(high)s, %(rows)s FROM cdc.tables t
 WHERE (t.pipeline, t.db, t."table") = (%(pipeline)s, %(db)s, %(table)s) AND t.load_no = %(load)s AND t.state = 'copying'"""


@dataclass(frozen=True, slots=True)
class Load:
    """One attempt to load a table: its number, and the chunks of it that are in the target already."""

    state: TableState
    number: int
    done: tuple[Chunk, ...]
    plan: Plan
    place: Place


class ChunkWriter:
    """Takes the binary COPY tuples of one chunk."""

    def __init__(self, high: object) -> None:
        self.copy: psycopg.Copy | None = None
        self.high = high
        """May be set until the block is left, by a reader that learns late how far it came."""

    def write(self, tuples: bytes | bytearray) -> None:
        """More rows: consecutive tuples without the format's header and trailer."""
        _write(self.copy, tuples)


@guarded("a chunk of a load")
def _write(copy: psycopg.Copy | None, tuples: bytes | bytearray) -> None:
    assert copy is not None
    copy.write(tuples)


class Loader:
    """One connection that loads chunks; several may work at once, none beside a new owner of the pipeline."""

    def __init__(self, target: TargetConfig, pipeline: str, fence: int) -> None:
        self.pipeline, self.fence = pipeline, fence
        self.connection = connect_writer(target, pipeline, "load", again=True)
        self.wire = Wire(self.connection)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def chunk(self, load: Load, chunk: Chunk) -> Iterator[ChunkWriter]:
        """Write one chunk: leaving the block commits rows and ledger row together, an error in it undoes both.

        `chunk.rows` is counted by the server. A connection lost at the commit leaves the outcome open: ask the ledger.
        """
        cursor = self._begin()
        writer = ChunkWriter(chunk.high)
        failed: psycopg.Error | None = None
        try:
            with cursor.copy(f"COPY {load.place.sql} ({_columns(load.plan)}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
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
        self._commit(load, chunk, writer.high, cursor.rowcount)

    @guarded("a chunk of a load")
    def _begin(self) -> psycopg.Cursor[tuple[object, ...]]:
        undo(self.wire)
        self.wire.send(BEGIN)
        self.wire.send(SHARED, [self.pipeline.encode(), b"%d" % self.fence], lambda result: check_held(self.pipeline, result))
        self.wire.flush()
        return self.connection.cursor()

    @guarded("a chunk of a load")
    def _commit(self, load: Load, chunk: Chunk, high: object, rows: int) -> None:
        ledger = {"pipeline": self.pipeline, "db": load.state.db, "table": load.state.table, "load": load.number,
                  "chunk": chunk.number, "low": jsonb(chunk.low), "high": jsonb(high), "rows": rows}  # fmt: skip
        try:
            written = self.connection.execute(_LEDGER, ledger).rowcount
        except psycopg.errors.UniqueViolation:
            written = 0
        if written != 1:
            undo(self.wire)
            raise Halt("chunk_repeated", str(load.place), f"chunk {chunk.number} of load {load.number} is done, or the load is over",
                       "start again: the ledger says what is missing")  # fmt: skip
        crash.point("load.ledger")
        self.wire.send(COMMIT)
        self.wire.flush()
        crash.point("load.chunk")


def _columns(plan: Plan) -> str:
    return names(column.name for column in plan.columns)
