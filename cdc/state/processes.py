"""Which processes of a pipeline run, as the target knows it, and why those that ended did.

Every process that works for a pipeline has a session in the target of its own (`cdc/state/presence.py`) and holds an
advisory lock in it. The server gives the lock up when the session ends, however the process died: so a lock proves that
one runs, and a row of cdc.process, which outlives it, says no more than what it was.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cdc.model.finding import Finding
from cdc.postgres.connection import Connection, jsonb
from cdc.postgres.errors import guarded

RUN, CAPTURE, APPLY, SNAPSHOT = "run", "capture", "apply", "snapshot"
_KEPT = 20
_PLACE = "(hashtextextended('cdc process ' || %(pipeline)s::text, 0) & 2147483647)::int4"
_HOLD = f"SELECT pg_advisory_lock_shared({_PLACE}, %(number)s)"
_LOCKS = f"""
SELECT l.objid::int8, l.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.state_change)::float8,
       a.backend_start
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.classid::int8 = {_PLACE}
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_ROWS = """
SELECT number, command, owner, started_at, heard_at, doing, ended_at, ended FROM cdc.process
 WHERE pipeline = %(pipeline)s ORDER BY started_at DESC, number"""
_KNOWN = "SELECT to_regclass('cdc.process') IS NOT NULL"
_SAY = """
INSERT INTO cdc.process AS p (pipeline, number, command, owner, started_at, doing)
VALUES (%(pipeline)s, %(number)s, %(command)s, %(owner)s, clock_timestamp() - make_interval(secs => %(age)s), %(doing)s)
ON CONFLICT (pipeline, number) DO UPDATE SET doing = EXCLUDED.doing, heard_at = clock_timestamp()"""
_END = """
UPDATE cdc.process SET ended_at = clock_timestamp(), ended = %(ended)s
 WHERE (pipeline, number) = (%(pipeline)s, %(number)s)"""
_FORGET = f"""
DELETE FROM cdc.process WHERE pipeline = %(pipeline)s AND number <> ALL (%(live)s) AND number NOT IN (
    SELECT number FROM cdc.process WHERE pipeline = %(pipeline)s ORDER BY started_at DESC LIMIT {_KEPT})"""
_LOADING = """
SELECT EXISTS (SELECT FROM cdc.tables WHERE pipeline = %(pipeline)s AND state <> 'refused')
   AND NOT EXISTS (SELECT FROM cdc.progress WHERE pipeline = %(pipeline)s)"""
ABANDONED = ("copy_abandoned", "the first copy was begun, is not complete, and no process makes it")
GOES_ON = "cdc snapshot, or cdc run, goes on where it was"


@dataclass(frozen=True, slots=True)
class PipelineProcess:
    """One process of a pipeline; times are those of the target's clock."""

    number: int
    command: str
    """run, capture, apply or snapshot."""
    owner: str
    """host:pid; "" where the target has no row of it yet."""
    started_at: datetime | None
    heard_at: datetime | None = None
    doing: Mapping[str, Any] = field(default_factory=dict)
    """By half: its state, and what it was tried again for."""
    ended_at: datetime | None = None
    ended: Mapping[str, str] | None = None
    """Why it ended: code, place, rule and hint; None: it did not say."""
    runs: bool = False
    heard_seconds: float | None = None
    """How long ago one that runs was heard of; None: this role may not see it."""


def myself() -> str:
    """How a process is named: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def application(pipeline: str, command: str) -> str:
    """What the session is called in which a process says that it runs."""
    return f"cdc presence {command} {pipeline}"


@guarded("cdc.process")
def hold(connection: Connection, pipeline: str, number: int) -> None:
    """Run, in the target's eyes, for as long as the connection lives; a machine that vanishes is missed soon."""
    connection.execute("SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3")
    connection.execute(_HOLD.encode(), {"pipeline": pipeline, "number": number})


@guarded("cdc.process")
def known(connection: Connection) -> bool:
    """Whether schema `cdc` has the table; one of an earlier version, or none, has not."""
    row = connection.execute(_KNOWN).fetchone()
    return bool(row and row[0])


@guarded("cdc.process")
def say(connection: Connection, pipeline: str, number: int, said: Mapping[str, Any]) -> None:
    """Keep who runs and what it does; `said`: command, owner, age in seconds, doing."""
    given = {"pipeline": pipeline, "number": number, **said, "doing": jsonb(said["doing"])}
    connection.execute(_SAY, given)
    live = [one.number for one in processes(connection, pipeline) if one.runs]
    connection.execute(_FORGET.encode(), {"pipeline": pipeline, "live": live})


@guarded("cdc.process")
def end(connection: Connection, pipeline: str, number: int, ended: Mapping[str, str]) -> None:
    """Keep why a process ends."""
    connection.execute(_END, {"pipeline": pipeline, "number": number, "ended": jsonb(dict(ended))})


@guarded("cdc.process")
def processes(connection: Connection, pipeline: str) -> list[PipelineProcess]:
    """Those that run and the last ones that ended, the newest first."""
    asked = {"pipeline": pipeline}
    rows = connection.execute(_ROWS, asked).fetchall() if known(connection) else []
    locks: dict[int, Sequence[Any]] = {int(row[0]): row[1:] for row in connection.execute(_LOCKS.encode(), asked)}
    found = []
    for number, command, owner, started_at, heard_at, doing, ended_at, ended in rows:
        lock = locks.pop(number, None)
        heard = None if lock is None else lock[2]
        runs = lock is not None and ended_at is None
        found.append(PipelineProcess(number, command, owner, started_at, heard_at, doing, ended_at, ended, runs, heard))
    unsaid = [
        PipelineProcess(number, _command(name), "", started_at, runs=True, heard_seconds=heard)
        for number, (_, name, heard, started_at) in locks.items()
    ]
    return unsaid + found


def _command(application_name: str | None) -> str:
    words = (application_name or "").split()
    return words[2] if words[:2] == ["cdc", "presence"] and len(words) > 2 else ""


@guarded("cdc.tables")
def loading(connection: Connection, pipeline: str) -> bool:
    """Whether a first copy was begun and is not complete."""
    row = connection.execute(_LOADING, {"pipeline": pipeline}).fetchone()
    return bool(row and row[0])


def abandoned(connection: Connection, pipeline: str, found: Sequence[PipelineProcess]) -> list[Finding]:
    """A first copy that nobody makes any more, as a finding."""
    made = any(one.runs and one.command in (RUN, SNAPSHOT) for one in found)
    if made or not loading(connection, pipeline):
        return []
    return [Finding("warning", ABANDONED[0], f"pipeline {pipeline}", ABANDONED[1], f"-- {GOES_ON}")]
