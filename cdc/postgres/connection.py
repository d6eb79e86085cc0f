"""Connections to the target: their settings, their limits, and what a refused one means."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.config.load import ServerUrl, TargetConfig
from cdc.errors import CdcError, Refused, Retry, own_words
from cdc.postgres.errors import LATER, Cause, cause, decide, guarded
from cdc.postgres.patience import PatientConnection
from cdc.postgres.probe import refusal
from cdc.runtime import logs, timing

Connection = psycopg.Connection[tuple[Any, ...]]
_MYSELF = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_AT_WORK = """
SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity
 WHERE (pid, backend_start) = (%s, %s)"""


def connect(target: TargetConfig, purpose: str = "cdc", *, again: bool = False) -> Connection:
    """An autocommit connection in UTC, ISO dates and UTF-8, whose waits are all bounded: by the server itself, and by
    `target.answer_timeout_seconds` where it does not answer and does not say on another connection that it works.

    `again` says that this process was connected before: a refusal without a stated reason may pass, and is tried again.
    """
    connection, session = _opened(target, purpose, again)
    connection.why_silent = partial(_why_silent, target, purpose, session)
    return connection


def _opened(target: TargetConfig, purpose: str, again: bool) -> tuple[PatientConnection, tuple[Any, ...]]:
    """A connection, and what names its session in the server."""
    url, seconds = target.url, target.answer_timeout_seconds
    settings: dict[str, Any] = {
        "host": url.host, "port": url.port, "user": url.user or None, "password": url.password or None,
        "dbname": url.database, "application_name": purpose[:63], "client_encoding": "UTF8",
        "connect_timeout": timing.TIMES.target_connect_seconds, "keepalives_idle": max(1, int(seconds)),
        "keepalives_interval": max(1, int(seconds / 3)), "keepalives_count": 3, **url.options,
    }  # fmt: skip
    try:
        connection = _connected(settings, url, again)
    except Refused as error:
        if error.code != "target_auth":
            raise
        connection = _connected(
            settings, url, again
        )  # it may have been starting up, and ready by the time it was asked why
    connection.patience_seconds = seconds
    return connection, _prepared(connection, target)


def _why_silent(target: TargetConfig, purpose: str, session: tuple[Any, ...]) -> str:
    """Why a session's answer will not come, by what the server says on a new connection; "" while it works on it, and
    while it can only say that it is there."""
    try:
        found = _activity(target, session)
    except CdcError as error:
        if error.code in ("target_unreachable", "target_lost"):
            return "and no new connection gets an answer"
        logs.logger("target").warning("silence_unknown", place=purpose, code=error.code, rule=error.rule)
        return ""
    if found is None:
        return "and the session is gone there"
    kind, event, blocked_by = found
    if kind == "Client":
        return "while it waits for us: what was sent is lost on the way"
    logs.logger("target").info("still_at_work", place=purpose, wait=f"{kind}: {event}", blocked_by=blocked_by)
    return ""


@guarded("the target")
def _activity(target: TargetConfig, session: tuple[Any, ...]) -> tuple[Any, ...] | None:
    asking, _ = _opened(target, "cdc asks", again=True)
    asking.patience_seconds = min(asking.patience_seconds, timing.TIMES.target_connect_seconds)
    with closing(asking):
        return asking.execute(_AT_WORK, session).fetchone()


def _connected(settings: dict[str, Any], url: ServerUrl, again: bool) -> PatientConnection:
    try:
        return PatientConnection.connect(autocommit=True, **settings)
    except psycopg.Error as error:
        decision = _unconnected(error, url, again)
    raise decision


def _unconnected(error: psycopg.Error, url: ServerUrl, again: bool) -> CdcError:
    """What a failed connection means: the driver keeps no SQLSTATE of it, so the server is asked again,
    up to the password."""
    state, words = error.sqlstate or refusal(url), own_words(error).removeprefix("connection failed: ")
    if state[:2] == "08":
        return Retry(
            "target_unreachable",
            str(url),
            f"no connection to PostgreSQL: {words}",
            "is it running, and reachable from here?",
        )
    kind, code = cause(state[:2])  # a database that takes no connections now says 55000, and may again
    if kind in (Cause.AWAY, Cause.CONFLICT):
        return Retry(code, str(url), f"PostgreSQL says {state}: {words}", LATER)
    if not state and f'database "{url.database}" does not exist' in str(error):
        return Refused("target_database", str(url), "the database does not exist", f'CREATE DATABASE "{url.database}"')
    if not state and any(word in str(error) for word in ("certificate", "SSL")):  # libpq's own words decide
        hint = (
            "?sslmode=verify-full&sslrootcert=... in target.url names the authority that signed the server's "
            "certificate"
        )
        return Refused("target_tls", str(url), f"no TLS connection by the options of target.url: {words}", hint)
    if not state and again:
        return Retry(
            "target_refuses",
            str(url),
            f"the server is up and refuses us: {words}",
            "no free connection, or was the password changed?",
        )
    said = f" (it says {state})" if state else ""
    return Refused(
        code if kind is Cause.DENIED else "target_auth",
        str(url),
        f"the server is up and refuses us{said}: {words}",
        "check user, password, database, TLS and free connections",
    )


def _prepared(connection: Connection, target: TargetConfig) -> tuple[Any, ...]:
    """Set the session up; what names it in the server."""
    try:
        said = connection.execute(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; "
            "SET bytea_output = 'hex';"
            f"SET lock_timeout = {timing.TIMES.target_lock_ms}; "
            f"SET idle_in_transaction_session_timeout = {timing.TIMES.target_idle_ms};"
            f"SET statement_timeout = 0; SET synchronous_commit = {'on' if target.synchronous_commit else 'off'};"
            f"SET search_path = pg_catalog; {_MYSELF}".encode()
        )
        while said.nextset():
            pass
        return said.fetchone() or (None, None)
    except psycopg.Error as error:
        decision = decide(error, str(target.url), starting=True)
    connection.close()
    raise decision


def jsonb(document: object) -> Jsonb | None:
    """A document as a parameter; None is SQL's null."""
    return None if document is None else Jsonb(document)


def compact(document: object) -> str:
    """JSON without blanks."""
    return json.dumps(document, separators=(",", ":"))
