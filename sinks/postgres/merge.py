"""Bring one folded batch into one table, by the cheapest way that is still exact.

A handful of rows goes by prepared statements. More rows go by binary COPY: new ones straight into the table, which the
server undoes if one exists already; the others into a temporary table, and from there by INSERT .. ON CONFLICT.
Rows of a table without a key are compared by their bytes (`*=`), so that json, -0 and null are themselves.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from operator import not_

import psycopg
from psycopg.pq.abc import PGresult

from cdc.codec import COPY_HEADER, COPY_TRAILER
from cdc.codec.policy_values import UNFIT
from cdc.errors import Halt
from cdc.model.table import AnomalyName
from cdc.postgres.connection import Connection
from sinks.contract import Plan, Row, TableBatch
from sinks.postgres.statements import Prepared, RowName, StatementQueue
from sinks.postgres.table_statements import TableStatements
from sinks.postgres.tables import TYPES_SQL, TargetTable, check_types, column_types

HANDFUL = 60
"""Up to so many rows of a table go by prepared statements. Measured 2026-11:
60 rows take 3.2 ms so and 3.6 ms by staging."""
PIECE_ROWS = 4_000
"""So many rows are encoded and sent at a time: the server works on them while the next ones are encoded,
and memory holds few."""
ABSENT = "row_absent"
"""Counted where a change that says some columns of a row finds no row."""
_QUEUE = 500
_SIZE = struct.Struct(">i").unpack_from
_TYPES = Prepared(TYPES_SQL)
_SAVEPOINT, _RELEASE, _UNDO = (
    Prepared(sql + " cdc_straight") for sql in ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")
)


class BatchWriter:
    """Writes batches on one connection, inside the transaction that is open on it."""

    def __init__(self, connection: Connection, wire: StatementQueue) -> None:
        self.connection, self.wire = connection, wire
        self._shapes: dict[tuple[int, str], TableStatements] = {}
        self._count = 0
        self._staged: set[str] = set()
        """Staging tables that exist for as long as the connection does."""
        self._fresh: set[str] = set()
        """Those made in this transaction: they go with it when it is undone."""
        self._used: set[str] = set()
        self.changed: Counter[AnomalyName] = Counter()
        """Values that policies changed in the rows written in this transaction, by (db, table, column, reason);
        and changes that found no row."""
        self.asks = False
        """Whether what is queued on the wire may still count something."""

    def merge_batch(self, batch: TableBatch, place: TargetTable) -> None:
        """Apply a batch; small ones are only queued on the wire and happen at its next flush."""
        shape = self._shape(batch.plan, place)
        if len(batch) <= HANDFUL:
            self._few(shape, batch)
        elif batch.plan.key:
            self._keyed(shape, batch)
        else:
            self._keyless(shape, batch)

    def meet(self, plan: Plan, place: TargetTable) -> None:
        """Have the plan take over what the table's types are, before any row is encoded by it."""
        self._shape(plan, place)

    def write_singly(self, batch: TableBatch, place: TargetTable) -> None:
        """Apply a batch row by row, whatever its size: slow, and the failing row is known by name."""
        self._few(self._shape(batch.plan, place), batch)
        self.wire.flush()

    def write_nothing(self, plan: Plan, place: TargetTable) -> None:
        """Say what writes rows into the table, without any row: it fails as it would for every row."""
        for sql in self._shape(plan, place).of_no_row:
            self.connection.execute(sql.encode())

    def committed(self) -> None:
        """The transaction is done: its staging tables stay, empty."""
        self._staged |= self._fresh
        self.undone()

    def undone(self) -> None:
        """The transaction is gone, and the staging tables that it made with it."""
        self._fresh.clear()
        self._used.clear()
        self.changed.clear()
        self.asks = False

    def _written(self, plan: Plan, rows: list[Row]) -> bytearray:
        """The tuples of rows that go into the table, with what policies changed in them counted."""
        out = bytearray()
        if rows:
            for (column, reason), times in plan.copy_rows(rows, out).items():
                self.changed[plan.db, plan.table, column, reason] += times
        return out

    def _pieces(self, plan: Plan, rows: list[Row]) -> Iterator[bytearray]:
        return (self._written(plan, rows[at : at + PIECE_ROWS]) for at in range(0, len(rows), PIECE_ROWS))

    def mark(self) -> tuple[set[str], set[str], Counter[AnomalyName]]:
        """Where to come back to when a savepoint is undone."""
        return set(self._fresh), set(self._used), self.changed.copy()

    def back_to(self, mark: tuple[set[str], set[str], Counter[AnomalyName]]) -> None:
        """The savepoint is undone, and with it the staging tables that were made or filled since,
        and what was counted."""
        self._fresh, self._used, self.changed = mark

    def _shape(self, plan: Plan, place: TargetTable) -> TableStatements:
        shape = self._shapes.get((id(plan), place.sql))
        if shape is None or shape.plan is not plan or shape.written != tuple(plan.columns):
            self.wire.flush()
            self._count += 1
            types = column_types(self.connection, plan, place)
            shape = self._shapes[id(plan), place.sql] = TableStatements(plan, place, types, self._count)
        return shape

    # A handful of rows: prepared statements.

    def _few(self, shape: TableStatements, batch: TableBatch) -> None:
        plan, table = batch.plan, str(shape.place)
        deletes, tuples = _deletable(plan, batch.deletes)
        for key, row in zip(deletes, fields(tuples, len(plan.key))):
            self._send(shape.delete, row, (table, key[5:]))
        for (one, count), row in zip(
            batch.removes, fields(_rows(plan, [row for row, _ in batch.removes]), len(plan.columns))
        ):
            self._remove(shape, row, count, (table, bytes(_rows(plan, [one]))))
        self.asks = self.asks or plan.partial
        there = self._is_there(plan) if plan.partial else None
        for key, row in zip(batch.keys, fields(self._written(plan, batch.upserts), len(plan.columns))):
            self._send(shape.insert, row, (table, key[5:]), there)
        for one, row in zip(batch.adds, fields(self._written(plan, batch.adds), len(plan.columns))):
            self._send(shape.insert, row, (table, bytes(_rows(plan, [one]))))

    def _is_there(self, plan: Plan) -> Callable[[PGresult], None]:
        """Counts a change of a row that is not there: right while it is copied, a loss else."""

        def counted(result: PGresult) -> None:
            if not result.command_tuples:
                self.changed[plan.db, plan.table, "", ABSENT] += 1

        return counted

    def _send(
        self,
        statement: Prepared,
        row: list[bytes | None],
        name: RowName,
        then: Callable[[PGresult], None] | None = None,
    ) -> None:
        self.wire.enqueue(statement, row, then, row=name)
        if len(self.wire.queue) >= _QUEUE:
            self.wire.flush()

    def _remove(self, shape: TableStatements, row: list[bytes | None], count: int, name: RowName) -> None:
        def gone(result: PGresult) -> None:
            _all_gone(shape.place, count, result.command_tuples or 0)

        self.wire.enqueue(shape.remove, [*row, struct.pack(">q", count)], gone, name)

    # Many rows: COPY.

    def _keyed(self, shape: TableStatements, batch: TableBatch) -> None:
        if batch.deletes:
            self._stage(shape, shape.keys, [_deletable(batch.plan, batch.deletes)[1]])
            self.connection.execute(shape.delete_staged.encode())
        new = list(compress(batch.upserts, batch.new))
        old = list(compress(batch.upserts, map(not_, batch.new)))
        if new and not self._straight(shape, new):
            old = new + old
        if old:
            self._stage(shape, shape.rows, self._pieces(batch.plan, old))
            done = self.connection.execute(shape.merge.encode()).rowcount
            if batch.plan.partial and done < len(old):
                self.changed[batch.plan.db, batch.plan.table, "", ABSENT] += len(old) - done

    def _straight(self, shape: TableStatements, rows: list[Row]) -> bool:
        """COPY into the table itself; False, with nothing done, when a row exists already.

        A miss costs the whole COPY, and misses come in a row (while the log is read again from before a copy), so each
        one doubles the number of batches that do not try.
        """
        if len(rows) <= HANDFUL or shape.skip_straight > 0:
            shape.skip_straight -= len(rows) > HANDFUL
            return False
        self.wire.enqueue(_SAVEPOINT)
        before = self.changed.copy()
        try:
            self._copy_straight(shape, rows)
        except psycopg.errors.UniqueViolation:
            self.wire.enqueue(_UNDO)
            self.changed = before
            shape.misses = min(shape.misses + 1, 7)
            shape.skip_straight = 2**shape.misses - 1
        else:
            shape.misses = 0
        self.wire.enqueue(_RELEASE)
        return not shape.misses

    def _keyless(self, shape: TableStatements, batch: TableBatch) -> None:
        if batch.removes:
            self._stage(shape, shape.gone, [_counted(batch)])
            deleted = self.connection.execute(shape.remove_staged.encode()).rowcount
            _all_gone(shape.place, sum(count for _, count in batch.removes), deleted)
        if batch.adds:
            self._copy_straight(shape, batch.adds)

    def _copy_straight(self, shape: TableStatements, rows: list[Row]) -> None:
        """COPY into the table itself, whose types somebody may have changed since we looked;
        from here to the commit nobody can."""
        self._copy(f"{shape.place.sql} ({shape.columns})", self._pieces(shape.plan, rows))
        self.check(shape.plan, shape.place)

    def check(self, plan: Plan, place: TargetTable) -> None:
        """Stop, at the next flush, unless the table's columns have the types of the rows that went in."""
        shape = self._shape(plan, place)

        def same(result: PGresult) -> None:
            check_types(plan, place, shape.types, (result.get_value(0, 0) or b"{}").decode())

        self.wire.enqueue(_TYPES, [place.sql.encode()], same)

    def _stage(self, shape: TableStatements, relation: str, pieces: Iterable[bytes | bytearray]) -> None:
        if relation not in self._staged and relation not in self._fresh:
            self.wire.enqueue(Prepared(shape.staging_sql(relation)))
            self._fresh.add(relation)
        elif relation in self._used:  # a second piece in one transaction: rare, so a new file for it does no harm
            self.wire.enqueue(Prepared(f"TRUNCATE {relation}"))
        self._used.add(relation)
        self._copy(relation, pieces)

    def _copy(self, relation: str, pieces: Iterable[bytes | bytearray]) -> None:
        self.wire.flush()
        copy_in(self.connection, f"COPY {relation} FROM STDIN (FORMAT BINARY)", pieces)


def _all_gone(place: TargetTable, wanted: int, gone: int) -> None:
    if gone != wanted:
        raise Halt("row_missing", str(place), f"{wanted} rows were to go and {gone} were there",
                   "something else writes the table: copy it again")  # fmt: skip


def _rows(plan: Plan, rows: list[Row]) -> bytearray:
    out = bytearray()
    if rows:
        plan.copy_rows(rows, out)
    return out


def _keys(plan: Plan, keys: list[bytes]) -> bytearray:
    out = bytearray()
    if keys:
        plan.copy_keys(keys, out)
    return out


def _deletable(plan: Plan, keys: list[bytes]) -> tuple[list[bytes], bytearray]:
    """The keys that may be in the target, and their tuples: one without a form in PostgreSQL (a NUL in it) never is."""
    try:
        return keys, _keys(plan, keys)
    except Halt as error:
        if error.code not in UNFIT:
            raise
    found = [key for key in keys if _has_form(plan, key)]
    return found, _keys(plan, found)


def _has_form(plan: Plan, key: bytes) -> bool:
    try:
        plan.copy_keys([key], bytearray())
    except Halt as error:
        if error.code not in UNFIT:
            raise
        return False
    return True


def _counted(batch: TableBatch) -> bytearray:
    """Each removed row's tuple with its count as a first field."""
    out = bytearray()
    head = struct.Struct(">hii")
    for row, count in batch.removes:
        out += head.pack(len(batch.plan.columns) + 1, 4, count)
        out += _rows(batch.plan, [row])[2:]
    return out


def fields(tuples: bytes | bytearray, width: int) -> list[list[bytes | None]]:
    """The fields of consecutive binary COPY tuples, as binary parameters."""
    rows: list[list[bytes | None]] = []
    at, end = 0, len(tuples)
    while at < end:
        at += 2
        row: list[bytes | None] = []
        for _ in range(width):
            (size,) = _SIZE(tuples, at)
            at += 4
            if size < 0:
                row.append(None)
            else:
                row.append(bytes(tuples[at : at + size]))
                at += size
        rows.append(row)
    return rows


def copy_in(connection: Connection, sql: str, pieces: Iterable[bytes | bytearray]) -> int:
    """COPY tuples into a table, each piece on its way before the next one is made; how many rows went in."""
    with connection.cursor() as cursor:
        with cursor.copy(sql.encode()) as copy:
            copy.write(COPY_HEADER)
            for piece in pieces:
                copy.write(piece)
            copy.write(COPY_TRAILER)
        return cursor.rowcount
