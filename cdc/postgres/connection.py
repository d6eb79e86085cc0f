"""Connections to the target: their settings, their limits, and what a refused one means."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from cdc.config.load import ServerUrl, TargetConfig
from cdc.errors import CdcError, Refused, Retry, own_words
from cdc.postgres.errors import LATER, Cause, cause, decide
from cdc.postgres.probe import refusal
from cdc.runtime import timing

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(target: TargetConfig, purpose: str = "cdc", *, again: bool = False) -> Connection:
    """An autocommit connection in UTC, ISO dates and UTF-8, whose waits are all bounded.

    `again` says that this process was connected before: a refusal without a stated reason may pass, and is tried again.
    """
    url = target.url
    settings: dict[str, Any] = {
        "host": url.host, "port": url.port, "user": url.user or None, "password": url.password or None,
        "dbname": url.database, "application_name": purpose[:63], "client_encoding": "UTF8",
        "connect_timeout": timing.TIMES.target_connect_seconds, "tcp_user_timeout": timing.TIMES.target_tcp_ms,
        "keepalives_idle": timing.TIMES.target_keepalive_seconds, **url.options,
    }  # fmt: skip
    try:
        connection = _connected(settings, url, again)
    except Refused as error:
        if error.code != "target_auth":
            raise
        connection = _connected(
            settings, url, again
        )  # it may have been starting up, and ready by the time it was asked why
    return _prepared(connection, target)


def _connected(settings: dict[str, Any], url: ServerUrl, again: bool) -> Connection:
    try:
        return psycopg.connect(autocommit=True, **settings)
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


def _prepared(connection: Connection, target: TargetConfig) -> Connection:
    try:
        connection.execute(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; "
            "SET bytea_output = 'hex';"
            f"SET lock_timeout = {timing.TIMES.target_lock_ms}; "
            f"SET idle_in_transaction_session_timeout = {timing.TIMES.target_idle_ms};"
            f"SET statement_timeout = 0; SET synchronous_commit = {'on' if target.synchronous_commit else 'off'};"
            "SET search_path = pg_catalog"
        )
    except psycopg.Error as error:
        decision = decide(error, str(target.url), starting=True)
    else:
        return connection
    connection.close()
    raise decision


def jsonb(document: object) -> Jsonb | None:
    """A document as a parameter; None is SQL's null."""
    return None if document is None else Jsonb(document)


def compact(document: object) -> str:
    """JSON without blanks."""
    return json.dumps(document, separators=(",", ":"))
