"""What `cdc reset` does in the target: it takes tables away, and what the pipeline knows of them.

A table that the pipeline made, and that nobody has attached anything to, is dropped. One that somebody else granted,
indexed, published or built a view on is emptied and stays, and so is one that was there before the pipeline. Nothing is
dropped by CASCADE. Every transaction is the pipeline's owner's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import psycopg

from cdc.model.table import TableName
from cdc.postgres.connection import Connection, jsonb
from cdc.postgres.errors import guarded
from cdc.protocol.applied import MADE, TableProgress
from cdc.state.requests import check_can_be_emptied
from cdc.state.resets import END, MARK
from cdc.state.store import StateStore
from sinks.postgres.attached import attached
from sinks.postgres.fence import step
from sinks.postgres.load import forget_rows
from sinks.postgres.shadow_table import empty, shadow_of
from sinks.postgres.statements import StatementQueue
from sinks.postgres.tables import TargetTable
from sinks.postgres.target import PostgresTarget
from sinks.postgres.transaction import WriterSession

_AT_ONCE = 100
"""Tables dropped in one transaction: each needs several locks."""
_KEPT_SCHEMA = (MADE, "key_schema", "value_schema", "renamed")
_RENEW = """
UPDATE cdc.tables SET state = 'new', floor = NULL, ceiling = NULL, rows_loaded = 0, reason = %s, schema = %s,
    changed_at = now()
 WHERE (pipeline, db, "table") = (%s, %s, %s)"""
_NO_COPY = """
UPDATE cdc.{} SET copies = jsonb_set(copies, '{{active}}', 'null') WHERE pipeline = %s
   AND (copies->'active'->>'db', copies->'active'->>'table') = (%s, %s)"""
_FORGOTTEN = ("quarantine", "quarantine_schema", "anomaly", "request", "copy", "copy_pace", "partition", "shard",
              "progress", "chunks", "tables")  # fmt: skip
"""The tables of schema `cdc` that know of copies and positions, each before those that it references."""


_RESET = "reset: it is copied anew at the next start; if not, cdc copy begins that"
"""The reason that a table bears from its reset until its copy begins."""


class Action(StrEnum):
    """What becomes of a table of the target."""

    DROPPED = "dropped"
    EMPTIED = "emptied"
    ABSENT = "absent"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class TakenTable:
    """One table that is to be taken away, and how."""

    known: TableProgress
    action: Action
    reason: str = ""

    @property
    def place(self) -> TargetTable:
        return TargetTable(self.known.target_schema, self.known.target_table)


@guarded("the target's tables")
def planned(state: StateStore, tables: Sequence[TableProgress]) -> list[TakenTable]:
    """What would become of these tables; Refused where one cannot be emptied because another table references it."""
    found = [_planned(state.connection, known) for known in tables]
    for one in found:
        if one.action == Action.EMPTIED:
            check_can_be_emptied(state, one.place.schema, one.place.table)
    return found


def _planned(connection: Connection, known: TableProgress) -> TakenTable:
    place = TargetTable(known.target_schema, known.target_table)
    if not known.ours:
        return TakenTable(known, Action.LEFT, "its place was refused: what stands there is not this pipeline's")
    if not _there(connection, place):
        return TakenTable(known, Action.ABSENT)
    if found := attached(connection, place):
        return TakenTable(known, Action.EMPTIED, ", ".join(found))
    if not known.schema.get(MADE):
        return TakenTable(known, Action.EMPTIED, "it was there before the pipeline")
    return TakenTable(known, Action.DROPPED)


def _there(connection: Connection, place: TargetTable) -> bool:
    row = connection.execute("SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)", [place.sql]).fetchone()
    return bool(row and row[0])


def take_away(target: PostgresTarget, tables: Sequence[TakenTable]) -> None:
    """Take the tables away, some in a transaction, each with all that is known of its rows: it is new, and is copied
    anew. Those that are gone already only lose that."""
    for first in range(0, len(tables), _AT_ONCE):
        some = tables[first : first + _AT_ONCE]
        _in_transaction(target, partial(_take_some, tables=some))


def begin(target: PostgresTarget, names: Sequence[str]) -> None:
    """From here on nothing starts until the reset of these tables is over; none: of all."""
    _in_transaction(target, lambda session: session.connection.execute(MARK, [jsonb(list(names)), session.pipeline]))


def forget(target: PostgresTarget) -> None:
    """Forget everything that the pipeline knows, the number of its owner excepted; that ends the reset."""

    def work(session: WriterSession) -> None:
        for table in _FORGOTTEN:
            session.connection.execute(f"DELETE FROM cdc.{table} WHERE pipeline = %s".encode(), [session.pipeline])
        session.connection.execute("UPDATE cdc.pipeline SET shards = 0 WHERE name = %s", [session.pipeline])
        session.connection.execute(END, [session.pipeline])

    _in_transaction(target, work)


def finish(target: PostgresTarget) -> None:
    """The reset of some tables is over."""
    _in_transaction(target, lambda session: session.connection.execute(END, [session.pipeline]))


def _in_transaction(target: PostgresTarget, work: Callable[[WriterSession], object]) -> None:
    session = target.session
    transaction = target.begin()

    def locked(wire: StatementQueue) -> None:
        wire.flush()  # the owner's row, before anything is touched
        work(session)

    transaction.within("cdc.tables", locked)
    transaction.finish()


def _take_some(session: WriterSession, tables: Sequence[TakenTable]) -> None:
    connection, pipeline = session.connection, session.pipeline
    connection.execute("UPDATE cdc.shard SET fence = fence + %s WHERE pipeline = %s", [step(), pipeline])
    for one in tables:
        session.wire.about(str(one.place))
        if one.action != Action.LEFT:
            connection.execute(f"DROP TABLE IF EXISTS {shadow_of(one.place).sql}".encode())
        if one.action in (Action.DROPPED, Action.EMPTIED) and _there(connection, one.place):
            _take(session, one)
        forget_rows(connection, (pipeline, *one.known.name))
        _renew(connection, pipeline, one)


def _take(session: WriterSession, one: TakenTable) -> None:
    if one.action == Action.DROPPED:
        try:
            with session.connection.transaction():
                session.connection.execute(f"DROP TABLE {one.place.sql}".encode())
                return
        except psycopg.errors.DependentObjectsStillExist:
            pass  # somebody has built on it since it was looked at
    empty(session.wire, one.place, readable=False)


def _renew(connection: Connection, pipeline: str, one: TakenTable) -> None:
    """The table is as one that was added, and says why; a copy of it that was under way is over."""
    name: TableName = one.known.name
    connection.execute('DELETE FROM cdc.copy WHERE (pipeline, db, "table") = (%s, %s, %s)', [pipeline, *name])
    for place in ("progress", "shard"):
        connection.execute(_NO_COPY.format(place).encode(), [pipeline, *name])
    schema = {key: value for key, value in one.known.schema.items() if key in _KEPT_SCHEMA}
    connection.execute(_RENEW, [_RESET, jsonb(schema), pipeline, *name])
