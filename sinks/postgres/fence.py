"""One writer per pipeline: a number in the target that only the last opener holds, locked by every transaction that
writes.

It grows by a random step: a failover of the target may lose the last takeovers, and a number that was given is not
given again. Every connection that may write holds a shared advisory lock of its pipeline for as long as it lives. So
whoever takes over finds them all, even stopped ones, ends them, and waits for their row locks before it reads the
positions.
"""

from __future__ import annotations

import hashlib
from contextlib import closing

import psycopg
from psycopg.pq.abc import PGresult

from cdc.config.load import TargetConfig
from cdc.errors import CdcError, Halt, Retry
from cdc.postgres.connection import Connection, connect
from cdc.postgres.errors import guarded
from cdc.runtime import clock, crash_points as crash, timing
from cdc.state.processes import myself
from sinks.postgres.statements import Prepared

ONLY = Prepared("SELECT fence, releases FROM cdc.pipeline WHERE name = $1 AND fence = $2::int8 FOR UPDATE")
SHARED = Prepared("SELECT fence, releases FROM cdc.pipeline WHERE name = $1 AND fence = $2::int8 FOR SHARE")
"""For transactions that may run beside one another but never beside a change of the fence:
chunks, and states of tables."""

UNHURRIED = Prepared("SET LOCAL synchronous_commit = off")
"""For what is said of hundreds of tables, one by one: the commit of a chunk, or of the first position,
makes all before it durable."""

_KEY = "hashtextextended('cdc pipeline ' || %(pipeline)s::text, 0)"
_HELD = f"""
  FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (classid::int8 << 32 | objid::int8) = {_KEY}"""
_WRITERS = f"SELECT pg_terminate_backend(pid) {_HELD}"
_HOLDERS = f"SELECT count(*) {_HELD}"
_OWNER = "SELECT fence, owner, opened_at FROM cdc.pipeline WHERE name = %s"
_RAISE = """
UPDATE cdc.pipeline SET fence = fence + %(step)s, backend_pid = pg_backend_pid(), owner = %(owner)s, opened_at = now()
 WHERE name = %(pipeline)s RETURNING fence"""
_BY_A_SUCCESSOR = ("fenced", "target_lost", "target_stopped", "superseded", "server_id_taken")
_KEEP = """
UPDATE cdc.pipeline SET backend_pid = pg_backend_pid(), opened_at = now()
 WHERE name = %(pipeline)s AND fence = %(fence)s RETURNING fence"""


@guarded("the target")
def connect_writer(target: TargetConfig, pipeline: str, purpose: str, *, again: bool) -> Connection:
    """A connection that the next owner of the pipeline will find and end."""
    connection = connect(target, f"cdc {pipeline} {purpose}", again=again)
    connection.prepare_threshold = (
        None  # else the driver's DEALLOCATE ALL after a ROLLBACK would take the wire's statements too
    )
    try:
        hold_beside(connection, pipeline)
    except psycopg.Error:
        connection.close()
        raise
    return connection


def hold_beside(connection: Connection, place: str) -> None:
    """Be found, for as long as the connection lives, by whoever takes this place over."""
    connection.execute(f"SELECT pg_advisory_lock_shared({_KEY})".encode(), {"pipeline": place})


@guarded("cdc.pipeline")
def holders(connection: Connection, place: str) -> int:
    """How many other connections hold this place."""
    row = connection.execute(_HOLDERS.encode(), {"pipeline": place}).fetchone()
    return int(row[0]) if row else 0


def end_holders(connection: Connection, place: str) -> None:
    """End the other connections that hold this place."""
    connection.execute(_WRITERS.encode(), {"pipeline": place})


def step() -> int:
    """By how much a fence is raised: from 1 to 2 to the power of 40, at random."""
    return 1 + int.from_bytes(hashlib.blake2b(clock.fresh_id().encode(), digest_size=5).digest())


@guarded("cdc.pipeline")
def raise_fence(connection: Connection, pipeline: str) -> int:
    """Take the pipeline over: end its other writers, wait until their transactions are gone;
    the number that is now ours."""
    end_holders(connection, pipeline)
    crash.point("fence.cleared")
    row = connection.execute(_RAISE, {"pipeline": pipeline, "owner": myself(), "step": step()}).fetchone()
    if row is None:
        raise fenced(pipeline)
    crash.point("fence.raised")
    return int(row[0])


@guarded("cdc.pipeline")
def keep_fence(connection: Connection, pipeline: str, fence: int) -> None:
    """Go on as the owner after a lost connection: end what we had there, a load's connections too, and wait for what
    they commit; stop if another one took over."""
    ours = "SELECT 1 FROM cdc.pipeline WHERE name = %s AND fence = %s"
    if connection.execute(ours, [pipeline, fence]).fetchone() is not None:
        end_holders(connection, place=pipeline)
    if connection.execute(_KEEP, {"pipeline": pipeline, "fence": fence}).fetchone() is None:
        raise fenced(pipeline)
    crash.point("fence.kept")


def fenced(pipeline: str, by: str = "another process") -> Halt:
    """What a process hears that is no longer the writer."""
    return Halt("fenced", f"pipeline {pipeline}", f"{by} has taken over", "run one process per pipeline and target")


def successor(target: TargetConfig, pipeline: str, fence: int, error: CdcError) -> CdcError:
    """Why the work of the owner with this number ended: another owner, by its name, if there is one by now.

    Who takes over first ends its forerunner's connections, which looks like a lost target, and then raises the number;
    its capture ends the other one's.
    """
    if not fence or error.code not in _BY_A_SUCCESSOR:
        return error
    until = clock.monotonic() + timing.TIMES.successor_seconds
    try:
        with closing(connect(target, f"cdc {pipeline} fence", again=True)) as connection:
            while True:
                row = connection.execute(_OWNER, [pipeline]).fetchone()
                if row is not None and row[0] != fence:
                    return fenced(pipeline, f"{row[1]} (since {row[2]:%Y-%m-%d %H:%M:%S} UTC)")
                if row is None or clock.monotonic() > until:
                    return error
                clock.sleep(timing.TIMES.position_poll_seconds)
    except (CdcError, psycopg.Error):
        return error


def check_held(pipeline: str, result: PGresult) -> None:
    """The lock statement must have found our number."""
    if result.ntuples != 1:
        raise fenced(pipeline)


def releases(result: PGresult) -> int:
    """What the lock statement says of how often keys were released from quarantine by others than the sink."""
    return int(result.get_value(0, 1) or b"0")


def check_committed(result: PGresult) -> None:
    """The commit must have been one: PostgreSQL answers ROLLBACK where the transaction had failed."""
    if result.command_status != b"COMMIT":
        raise Retry("target_conflict", "the commit", "PostgreSQL rolled the transaction back", "tried again")
