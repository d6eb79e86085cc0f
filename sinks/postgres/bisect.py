"""Write a batch although some of its rows are refused: halved under savepoints until each refused row stands alone.

Everything else of the batch is written, in the transaction that is open. A row is refused by PostgreSQL
(`cdc/postgres/errors.py`) or has no form there at all (a NUL in a key); any other error is raised. What may be a row's
or the table's is asked of the table: it is a row's if the statement passes without one. No error keeps a chain to the
driver's: that one holds values. Docs: docs/decisions/049-the-rows-own-refusals.md.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg

from cdc.codec.policy_values import UNFIT
from cdc.errors import CdcError, Halt, RowRefused, RowSuspected
from cdc.postgres.errors import ROW_HINT, decide
from sinks.contract import TableBatch
from sinks.postgres.merge import BatchWriter
from sinks.postgres.statements import Prepared, RowName, StatementQueue
from sinks.postgres.tables import TargetTable
from sinks.quarantine import Unit, joined, key_hash, systemic, units

_SAVEPOINT, _RELEASE, _UNDO = (
    Prepared(sql + " cdc_try") for sql in ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")
)


def row_refused(error: CdcError) -> RowRefused | None:
    """The error as one that concerns a single row; None when it is about more."""
    if isinstance(error, RowRefused):
        return error
    if isinstance(error, Halt) and error.code in UNFIT:
        return RowRefused(error.code, error.place, error.rule, error.hint)
    return None


def at_row(error: RowRefused, row: RowName) -> RowRefused:
    """The same error, naming the row by the hash of what identifies it."""
    if not row[0]:
        return error
    return RowRefused(error.code, f"{row[0]}, key {key_hash(row[1])}", error.rule, error.hint, error.sqlstate)


def unfit(batch: TableBatch) -> bytes:
    """What identifies the first row of which no COPY tuple can be made."""
    for part in units(batch):
        try:
            batch.plan.copy_rows([*part.batch.upserts, *part.batch.adds], bytearray())
        except CdcError:
            return part.identity
    return b""


def located(refused: RowRefused, merge: BatchWriter, batch: TableBatch, place: TargetTable) -> RowRefused:
    """The same refusal, naming the row of the batch that it is about:
    the rows are applied one by one, and the caller undoes that."""
    if not refused.sqlstate:
        return at_row(refused, (refused.place, unfit(batch)))
    try:
        merge.write_singly(batch, place)
    except (psycopg.Error, CdcError):
        return at_row(refused, merge.wire.failed)
    return refused


def write_bisected(
    merge: BatchWriter, wire: StatementQueue, batch: TableBatch, place: TargetTable, room: int
) -> list[Unit]:
    """Write what can be written; the units that cannot, each with its reason. Halt when they are more than `room`."""
    if _tried(merge, wire, batch, place) is None:
        return []
    pending, refused = _halves(units(batch)), list[Unit]()
    while pending:
        part = pending.pop()
        error = _tried(merge, wire, joined(part), place)
        if error is None:
            continue
        if len(part) > 1:
            pending += _halves(part)
            continue
        refused.append(replace(part[0], error=error))
        if len(refused) > room:
            rule = f"{len(refused)} of {len(batch)} keys of one batch were refused, with room for {room}"
            raise systemic((batch.db, batch.table), rule, [error])
    return refused


def _halves(part: list[Unit]) -> list[list[Unit]]:
    """Two halves, the later one first: the list is taken from its end."""
    half = len(part) // 2
    return [part[half:], part[:half]] if half else [part]


def _tried(merge: BatchWriter, wire: StatementQueue, batch: TableBatch, place: TargetTable) -> RowRefused | None:
    """Write a batch, or leave everything as it was and say which refusal it met."""
    wire.enqueue(_SAVEPOINT)
    wire.flush()
    mark, error = merge.mark(), None
    try:
        merge.merge_batch(batch, place)
        wire.enqueue(_RELEASE)
        wire.flush()
    except psycopg.Error as refusal:
        error = decide(refusal, str(place))
    except CdcError as refusal:
        error = refusal
    if error is None:
        return None
    refused = row_refused(error)
    if refused is None and not isinstance(error, RowSuspected):
        raise error
    wire.clear()
    wire.enqueue(_UNDO)
    wire.flush()
    merge.back_to(mark)
    if refused is None:
        refused = _convicted(merge, error, batch, place)
    wire.enqueue(_RELEASE)
    wire.flush()
    return refused


def _convicted(merge: BatchWriter, error: CdcError, batch: TableBatch, place: TargetTable) -> RowRefused:
    """The suspicion as a refusal of a row: the same statements are fine without one. Halt where they are not."""
    try:
        merge.write_nothing(batch.plan, place)
    except psycopg.Error as refusal:
        halt = decide(refusal, str(place))
    else:
        return as_refused(error)
    raise Halt(halt.code, halt.place, halt.rule, halt.hint) if isinstance(halt, RowSuspected) else halt


def as_refused(error: CdcError) -> RowRefused:
    """What was suspected, as a row's refusal."""
    sqlstate = error.sqlstate if isinstance(error, RowSuspected) else ""
    return RowRefused("target_value", error.place, error.rule, ROW_HINT, sqlstate)
