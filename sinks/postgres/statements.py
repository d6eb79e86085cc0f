"""Prepared statements over one connection, queued and sent together: a small commit costs two round trips, not ten.

Parameters are bytes in the server's own formats, cut from COPY tuples, so no value becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import generators, pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from cdc.errors import RowRefused
from cdc.postgres.connection import Connection
from cdc.postgres.errors import ROW_HINT
from cdc.runtime import crash_points as crash

Parameters = Sequence[bytes | None]
Check = Callable[[PGresult], None]
RowName = tuple[str, bytes]
"""A table, and the bytes that identify the row in it."""
NO_ROW: RowName = ("", b"")
MOST_BYTES = (1 << 30) - (1 << 16)
"""So many bytes of parameters a message holds at most: beyond, PostgreSQL calls its length invalid and hangs up."""
_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One SQL statement; `oids` declare binary parameters, without them parameters are text."""

    sql: str
    oids: tuple[int, ...] = ()


BEGIN, COMMIT = Prepared("BEGIN"), Prepared("COMMIT")
IMMEDIATE = Prepared("SET CONSTRAINTS ALL IMMEDIATE")
ANOMALY = Prepared("""
INSERT INTO cdc.anomaly AS a (pipeline, db, "table", "column", reason, count) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (pipeline, db, "table", "column", reason) DO UPDATE
    SET count = a.count + EXCLUDED.count, last_at = now()""")


@dataclass(frozen=True, slots=True)
class Sent:
    """A queued statement, what becomes of its result, the row it carries (never shown, only hashed),
    and what it is about."""

    statement: Prepared
    parameters: Parameters
    check: Check | None
    row: RowName
    place: str


class StatementQueue:
    """A queue of statements for one connection; `flush` is the only thing that talks to the server."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queue: list[Sent] = []
        self.failed: RowName = NO_ROW
        """The row that the last failed flush stopped at."""
        self.failed_at = ""
        """What the statement was about that it stopped at; else what is done now."""
        self._place = ""
        self._names: dict[Prepared, bytes] = {}
        self._count = 0

    def about(self, place: str) -> None:
        """What is queued from now on is about this place, whoever sends it in the end."""
        self._place = self.failed_at = place

    def enqueue(
        self, statement: Prepared, parameters: Parameters = (), check: Check | None = None, row: RowName = NO_ROW
    ) -> None:
        """Queue a statement; its result goes to `check` at the next flush.

        RowRefused for one that the server would end the session at, as often as it is sent.
        """
        if sum(map(len, filter(None, parameters))) > MOST_BYTES:
            raise RowRefused("target_value", self._place, "above 1 GiB, which no message holds", ROW_HINT, "54000")
        self.queue.append(Sent(statement, parameters, check, row, self._place))

    def say(self, statement: Prepared, *values: object, check: Check | None = None) -> None:
        """Queue a statement with its parameters as text; None is NULL."""
        self.enqueue(statement, [None if value is None else str(value).encode() for value in values], check)

    def clear(self) -> None:
        """Forget what is queued and was never sent."""
        self.queue.clear()

    def flush(self) -> None:
        """Run the queue in order; the first statement that fails stops the rest."""
        if not self.queue:
            return
        queue, self.queue = self.queue, []
        self.failed, self.failed_at = NO_ROW, self._place
        results = self._run(queue)
        for sent, result in zip(queue, results):
            if sent.check is not None:
                sent.check(result)

    def _run(self, queue: list[Sent]) -> list[PGresult]:
        connection = self.connection.pgconn
        connection.enter_pipeline_mode()
        try:
            preparing = [self._dispatch(sent) for sent in queue]
            connection.pipeline_sync()
            self.connection.wait(generators.send(connection))
            crash.point("target.sent")
            results, failed = self._collect(queue, preparing)
            self._fetch()
        finally:
            if connection.status == pq.ConnStatus.OK:
                connection.exit_pipeline_mode()
        if failed is not None:
            raise failed
        return results

    def _dispatch(self, sent: Sent) -> bool:
        """Put one statement on its way; whether a preparation goes before it."""
        connection, statement = self.connection.pgconn, sent.statement
        name = self._names.get(statement)
        new = name is None
        if name is None:
            self._count += 1
            name = self._names[statement] = b"cdc%d" % self._count
            connection.send_prepare(name, statement.sql.encode(), statement.oids or None)
        count = len(sent.parameters)
        connection.send_query_prepared(
            name, sent.parameters or None, [1 if statement.oids else 0] * count if count else None
        )
        return new

    def _collect(self, queue: list[Sent], preparing: list[bool]) -> tuple[list[PGresult], psycopg.Error | None]:
        results: list[PGresult] = []
        failures: list[psycopg.Error] = []
        for sent, new in zip(queue, preparing):
            if new and not self._succeeded(sent, failures):
                self._names.pop(sent.statement, None)
            self._succeeded(sent, failures, results)
        return results, failures[0] if failures else None

    def _succeeded(self, sent: Sent, failures: list[psycopg.Error], results: list[PGresult] | None = None) -> bool:
        result = self._fetch()
        if results is not None:
            results.append(result)
        if result.status in _OK:
            return True
        if not failures:
            self.failed, self.failed_at = sent.row, sent.place
            failures.append(error_from_result(result))
        return False

    def _fetch(self) -> PGresult:
        results: list[PGresult] = self.connection.wait(generators.fetch_many(self.connection.pgconn))
        if not results:
            raise psycopg.OperationalError("the server sent no result")
        return results[-1]


def moment(at_us: int) -> str:
    """Microseconds since 1970 as PostgreSQL reads a timestamptz."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat()


def undo(wire: StatementQueue) -> None:
    """Leave no transaction open; a connection that cannot even do that is closed, which undoes it too."""
    wire.clear()
    connection = wire.connection
    status = connection.info.transaction_status
    try:
        if status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR):
            connection.execute("ROLLBACK")
        elif status == pq.TransactionStatus.ACTIVE:
            connection.close()
    except psycopg.Error:
        connection.close()
