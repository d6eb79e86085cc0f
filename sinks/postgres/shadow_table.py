"""What copies that are made while streaming do to the target beside writing rows: second tables, and a record of each
outcome.

A second table takes the rows of a copy while the first stays as it is shown; when the copy ends, the first is made
equal to it by deleting what is gone or different and inserting what is new. Readers never wait, and a snapshot taken
before sees all the old rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from psycopg import errors

from cdc.errors import Refused
from cdc.protocol.copy_progress import Ended
from cdc.runtime import logs, timing
from cdc.state.requests import demand_unreferenced
from sinks.contract import Plan
from sinks.postgres.statements import IMMEDIATE, Prepared, StatementQueue
from sinks.postgres.tables import TargetTable, names, quoted

_RECORD = Prepared("""
INSERT INTO cdc.copy (pipeline, request, db, "table", kind, outcome, rows, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (pipeline, request, db, "table") DO UPDATE
    SET kind = EXCLUDED.kind, outcome = EXCLUDED.outcome, rows = EXCLUDED.rows,
 reason = EXCLUDED.reason, at = now()""")
_SOON, _LATE = (
    Prepared(f"SET LOCAL lock_timeout = {ms}") for ms in (timing.TIMES.target_truncate_ms, timing.TIMES.target_lock_ms)
)
_SAVEPOINT, _RELEASE, _UNDO = (
    Prepared(sql + " cdc_wait") for sql in ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")
)


def record(wire: StatementQueue, pipeline: str, ended: Ended) -> None:
    """Keep what became of a copy that somebody asked for."""
    if ended.request:
        wire.say(
            _RECORD, pipeline, ended.request, ended.db, ended.table, ended.kind, ended.outcome, ended.rows, ended.reason
        )


def shadow_of(place: TargetTable) -> TargetTable:
    """The second table of a table: in its schema, under a name that no source table has by chance."""
    return replace(place, table=f"cdc_copy_{hashlib.sha256(place.table.encode()).hexdigest()[:16]}")


def make_shadow(wire: StatementQueue, place: TargetTable) -> None:
    """Make the second table, empty and like the first, in place of an earlier one."""
    shadow = shadow_of(place)
    if not _had(wire, Prepared(f"DROP TABLE IF EXISTS {shadow.sql}")):
        raise Refused(
            "second_table",
            str(shadow),
            "is there from an earlier copy, and somebody reads it",
            "ask again when they have gone",
        )
    wire.enqueue(Prepared(f"CREATE TABLE {shadow.sql} (LIKE {place.sql} INCLUDING ALL)"))
    wire.flush()


def become_equal(wire: StatementQueue, place: TargetTable, plan: Plan, *, strict: bool) -> None:
    """Make the first table equal to the second; `strict`: deferred constraints are checked at the end of this,
    not at the commit."""
    shadow, columns = shadow_of(place), [column.name for column in plan.columns]
    same = " AND ".join(f"s.{quoted(columns[at])} = t.{quoted(columns[at])}" for at in plan.key)
    mine, other = (", ".join(f"{side}.{quoted(one)}" for one in columns) for side in "ts")
    equal = f"ROW({mine})::record OPERATOR(pg_catalog.*=) ROW({other})::record"
    if strict:
        wire.enqueue(Prepared("SET CONSTRAINTS ALL DEFERRED"))
    wire.enqueue(Prepared(f"ANALYZE {shadow.sql}"))
    wire.enqueue(
        Prepared(f"DELETE FROM {place.sql} t WHERE NOT EXISTS (SELECT FROM {shadow.sql} s WHERE {same} AND {equal})")
    )
    wire.enqueue(Prepared(
        f"INSERT INTO {place.sql} ({names(columns)}) SELECT {names(columns)} FROM {shadow.sql} s"
        f" WHERE NOT EXISTS (SELECT FROM {place.sql} t WHERE {same})"
    ))  # fmt: skip
    if strict:
        wire.enqueue(IMMEDIATE)
    wire.flush()


def drop_shadow(wire: StatementQueue, place: TargetTable) -> None:
    """Drop the second table; while somebody reads it (a dump reads all), it is emptied and left to the next copy."""
    shadow = shadow_of(place)
    if not _had(wire, Prepared(f"DROP TABLE IF EXISTS {shadow.sql}")):
        logs.logger("apply").warning("second_table_kept", table=str(shadow), reason="somebody reads it: it is empty")
        wire.enqueue(Prepared(f"DELETE FROM {shadow.sql}"))
        wire.flush()


def empty(wire: StatementQueue, place: TargetTable, *, readable: bool) -> None:
    """Empty a table; `readable`: readers see the old rows until the commit. Refused where a foreign key references its
    rows.

    TRUNCATE waits for every reader, and whoever comes later waits behind it: so it waits shortly, and then the rows are
    deleted.
    """
    wire.flush()
    demand_unreferenced(wire.connection, place.schema, place.table)
    if wire.connection.execute(f"SELECT 1 FROM {place.sql} LIMIT 1".encode()).fetchone() is None:
        return
    if readable or not _had(wire, Prepared(f"TRUNCATE {place.sql}")):
        wire.enqueue(Prepared(f"DELETE FROM {place.sql}"))
        wire.flush()


def _had(wire: StatementQueue, statement: Prepared) -> bool:
    """Run what needs a table for itself alone; False, with nothing done, when it is not to be had soon,
    or not by this role."""
    for one in (_SAVEPOINT, _SOON, statement, _LATE, _RELEASE):
        wire.enqueue(one)
    try:
        wire.flush()
    except (errors.LockNotAvailable, errors.InsufficientPrivilege, errors.ObjectInUse):
        wire.clear()
        wire.enqueue(_UNDO)
        wire.enqueue(_RELEASE)
        wire.flush()
        return False
    return True
