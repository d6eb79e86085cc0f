"""The pipeline's state in the target: schema `cdc`, read and moved with the rows it stands for.

This is the floor that opens PostgreSQL connections and turns the driver's errors into decisions. A decision names SQLSTATE,
table and constraint, never the server's message, detail or context: those carry values.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from cdc import crash
from cdc.config import ServerUrl, TargetConfig
from cdc.copies import Copies
from cdc.errors import CdcError, Refused, Retry
from cdc.lifecycle import State as Standing
from cdc.position import Position, least
from cdc.progress import Chunk, Partition, Progress, Stored, TableState
from cdc.state_errors import LATER, Cause, cause, verdict
from cdc.state_probe import refusal
from cdc.state_schema import MIGRATIONS, VERSION

Connection = psycopg.Connection[tuple[Any, ...]]
P = ParamSpec("P")
R = TypeVar("R")

_MIGRATION_LOCK = 7163274401  # any fixed number: who migrates schema `cdc` holds it
_LOCK_TIMEOUT_MS = 10_000
_IDLE_TIMEOUT_MS = 120_000  # between two pieces of an oversized transaction
_TCP_TIMEOUT_MS = 30_000

PLACE = "cut_no, epoch, control_next, position, (extract(epoch FROM source_ts) * 1000000)::bigint, control_mark, copies"
"""How far a sink is, without its partitions: columns of cdc.progress, and of cdc.shard."""


def connect(target: TargetConfig, purpose: str = "cdc", *, again: bool = False) -> Connection:
    """An autocommit connection in UTC, ISO dates and UTF-8, whose waits are all bounded.

    `again` says that this process was connected before: a refusal without a stated reason may pass, and is tried again.
    """
    url = target.url
    settings: dict[str, Any] = {
        "host": url.host, "port": url.port, "user": url.user or None, "password": url.password or None, "dbname": url.database,
        "application_name": purpose[:63], "client_encoding": "UTF8", "connect_timeout": 10, "tcp_user_timeout": _TCP_TIMEOUT_MS,
        "keepalives_idle": 30, **url.options,
    }  # fmt: skip
    try:
        connection = _connected(settings, url, again)
    except Refused as error:
        if error.code != "target_auth":
            raise
        connection = _connected(settings, url, again)  # it may have been starting up, and ready by the time it was asked why
    return _prepared(connection, target)


def _connected(settings: dict[str, Any], url: ServerUrl, again: bool) -> Connection:
    try:
        return psycopg.connect(autocommit=True, **settings)
    except psycopg.Error as error:
        decision = _unconnected(error, url, again)
    raise decision


def _unconnected(error: psycopg.Error, url: ServerUrl, again: bool) -> CdcError:
    """What a failed connection means: the driver keeps no SQLSTATE of it, so the server is asked again, up to the password."""
    state = error.sqlstate or refusal(url)
    if state[:2] == "08":
        return Retry("target_unreachable", str(url), "no connection to PostgreSQL", "is it running, and reachable from here?")
    kind, code = cause(state)
    if kind in (Cause.AWAY, Cause.CONFLICT):
        return Retry(code, str(url), f"PostgreSQL says {state}", LATER)
    if not state and f'database "{url.database}" does not exist' in str(error):
        return Refused("target_database", str(url), "the database does not exist", f'CREATE DATABASE "{url.database}"')
    if not state and any(word in str(error) for word in ("certificate", "SSL")):  # libpq's own words: they decide and stay inside
        hint = "?sslmode=verify-full&sslrootcert=... in target.url names the authority that signed the server's certificate"
        return Refused("target_tls", str(url), "no TLS connection by the options of target.url", hint)
    if not state and again:
        return Retry("target_refuses", str(url), "the server is up and refuses us", "no free connection, or was the password changed?")
    said = f" (it says {state})" if state else ""
    return Refused(code if kind is Cause.DENIED else "target_auth", str(url), f"the server is up and refuses us{said}",
                   "check user, password, database, TLS and free connections")  # fmt: skip


def _prepared(connection: Connection, target: TargetConfig) -> Connection:
    try:
        connection.execute(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';"
            f"SET lock_timeout = {_LOCK_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS};"
            f"SET statement_timeout = 0; SET synchronous_commit = {'on' if target.synchronous_commit else 'off'};"
            "SET search_path = pg_catalog"
        )
    except psycopg.Error as error:
        decision = decide(error, str(target.url), starting=True)
    else:
        return connection
    connection.close()
    raise decision


def decide(error: psycopg.Error, place: str, *, starting: bool = False) -> CdcError:
    """What a driver's error means, by SQLSTATE alone; nothing of its text is kept."""
    state = error.sqlstate or ""
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost and not state:
        return verdict(state, place, "the connection to PostgreSQL is lost", lost=True)
    return verdict(state, place, f"PostgreSQL says {state or 'nothing'} ({type(error).__name__})" + _named(error), starting=starting)


def _named(error: psycopg.Error) -> str:
    """Names of the objects concerned: definitions, never values."""
    diag = error.diag
    names = (("table", diag.table_name), ("column", diag.column_name), ("constraint", diag.constraint_name))
    return "".join(f", {word} {name}" for word, name in names if name)


def guarded(place: str, *, starting: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn the driver's errors into decisions, leaving no chain to the original: its text holds values."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except psycopg.Error as error:
                decision = decide(error, place, starting=starting)
            raise decision

        return run

    return wrap


def jsonb(document: object) -> Jsonb | None:
    """A document as a parameter; None is SQL's null."""
    return None if document is None else Jsonb(document)


def _position(document: Any) -> Position | None:
    return None if document is None else Position.from_json(document)


class State:
    """The stored state of one pipeline; owns its connection unless it is handed one."""

    def __init__(self, target: TargetConfig, pipeline: str, connection: Connection | None = None) -> None:
        self.target, self.pipeline = target, pipeline
        self.connection = connection or connect(target, f"cdc {pipeline} state")

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @guarded("schema cdc")
    def version(self) -> int:
        """The version of schema `cdc`; 0 when there is none."""
        found = self.connection.execute("SELECT to_regclass('cdc.schema_version')").fetchone()
        if found is None or found[0] is None:
            return 0
        row = self.connection.execute("SELECT coalesce(max(version), 0) FROM cdc.schema_version").fetchone()
        return int(row[0]) if row else 0

    def check(self) -> bool:
        """Whether the schema is the one this program knows; a newer one is refused."""
        version = self.version()
        if version > VERSION:
            raise Refused("state_newer", "schema cdc", f"has version {version}, this program knows {VERSION}", "update this program")
        return version == VERSION

    def migrate(self) -> None:
        """Bring schema `cdc` to this program's version and know this pipeline; safe beside others who do the same."""
        if not self.check():
            self._migrate()
            crash.point("migration.done")
        self._register()

    @guarded("schema cdc")
    def _migrate(self) -> None:
        with self.connection.transaction():
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
            if self.version() == 0:
                self.connection.execute("CREATE SCHEMA IF NOT EXISTS cdc")
                self.connection.execute("CREATE TABLE IF NOT EXISTS cdc.schema_version"
                                        " (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")  # fmt: skip
            self.check()
            for number in range(self.version() + 1, VERSION + 1):
                self.connection.execute(MIGRATIONS[number - 1].encode())
                self.connection.execute("INSERT INTO cdc.schema_version (version) VALUES (%s)", [number])
                crash.point("migration.step")

    @guarded("cdc.pipeline")
    def _register(self) -> None:
        self.connection.execute("INSERT INTO cdc.pipeline (name) VALUES (%s) ON CONFLICT DO NOTHING", [self.pipeline])

    def read(self) -> Stored:
        """Everything stored about this pipeline, at one moment; nothing when the schema is not there yet."""
        return self._read() if self.version() else Stored(None, {})

    @guarded("schema cdc")
    def _read(self) -> Stored:
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return Stored(self._progress(), {state.name: state for state in self._tables()})

    def tables(self) -> list[TableState]:
        """The state of each table, in the order of names."""
        return list(self.read().tables.values())

    def lowest_floor(self) -> Position | None:
        """The position that the floor of every table covers; None when no table has one."""
        floors = [state.floor for state in self.tables() if state.floor is not None and state.state != Standing.REFUSED]
        return functools.reduce(least, floors) if floors else None

    def _progress(self) -> Progress | None:
        row = self._place()
        if row is None:
            return None
        return Progress(row[0], row[1], row[2], Position.from_json(row[3]), row[4], self._partitions(), row[5], Copies.from_json(row[6]))

    def _place(self) -> Any:
        return self.connection.execute(f"SELECT {PLACE} FROM cdc.progress WHERE pipeline = %s".encode(), [self.pipeline]).fetchone()

    def _partitions(self) -> Mapping[Partition, tuple[int, int]]:
        rows = self.connection.execute("SELECT topic, partition, next_offset, seq FROM cdc.partition WHERE pipeline = %s", [self.pipeline])
        return {(topic, partition): (offset, seq) for topic, partition, offset, seq in rows}

    @guarded("cdc.tables")
    def table(self, db: str, table: str) -> TableState | None:
        """The state of one table, None when it is not known."""
        return next(iter(self._tables((db, table))), None)

    def _tables(self, only: tuple[str, str] | None = None) -> list[TableState]:
        rows = self.connection.execute(
            'SELECT db, "table", target_schema, target_table, state, floor, ceiling, rows_loaded, reason, schema FROM cdc.tables'
            ' WHERE pipeline = %s AND (%s::text IS NULL OR (db, "table") = (%s, %s)) ORDER BY db, "table"',
            [self.pipeline, only and only[0], *(only or (None, None))],
        )
        return [
            TableState(db, table, schema, name, Standing(state), _position(floor), _position(ceiling), loaded, reason, document)
            for db, table, schema, name, state, floor, ceiling, loaded, reason, document in rows
        ]

    @guarded("cdc.chunks")
    def chunks(self, db: str, table: str) -> list[Chunk]:
        """The ledger of the table's current load, in the order of numbers."""
        rows = self.connection.execute(
            "SELECT c.chunk_no, c.low, c.high, c.rows FROM cdc.chunks c JOIN cdc.tables t"
            ' USING (pipeline, db, "table", load_no) WHERE (c.pipeline, c.db, c."table") = (%s, %s, %s) ORDER BY c.chunk_no',
            [self.pipeline, db, table],
        )
        return [Chunk(*row) for row in rows]

    @guarded("cdc.quarantine")
    def quarantined(self) -> dict[tuple[str, str], int]:
        """How many keys of each table wait in quarantine."""
        rows = self.connection.execute(
            'SELECT db, "table", count(DISTINCT key_hash) FROM cdc.quarantine WHERE pipeline = %s GROUP BY 1, 2', [self.pipeline]
        )
        return {(db, table): count for db, table, count in rows}

    @guarded("cdc.anomaly")
    def anomalies(self) -> dict[tuple[str, str, str, str], int]:
        """How often each anomaly was met: (db, table, column, reason) -> count."""
        rows = self.connection.execute('SELECT db, "table", "column", reason, count FROM cdc.anomaly WHERE pipeline = %s', [self.pipeline])
        return {(db, table, column, reason): count for db, table, column, reason, count in rows}

    @guarded("cdc.reconciliation")
    def store_reconciliation(self, started_us: int, differences: int, report: Mapping[str, object]) -> int:
        """Keep a report; returns its number."""
        row = self.connection.execute(
            "INSERT INTO cdc.reconciliation (pipeline, started_at, differences, report)"
            " VALUES (%s, 'epoch'::timestamptz + %s * interval '1 microsecond', %s, %s) RETURNING id",
            [self.pipeline, started_us, differences, Jsonb(report)],
        ).fetchone()
        return int(row[0]) if row else 0

    @guarded("cdc.reconciliation")
    def reconciliations(self, limit: int = 30) -> list[dict[str, Any]]:
        """The newest reports first."""
        rows = self.connection.execute(
            "SELECT report FROM cdc.reconciliation WHERE pipeline = %s ORDER BY started_at DESC, id DESC LIMIT %s", [self.pipeline, limit]
        )
        return [report for (report,) in rows]


def compact(document: object) -> str:
    """JSON without blanks."""
    return json.dumps(document, separators=(",", ":"))
