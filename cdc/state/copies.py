"""How far copies are, as the target tells it: no process has to be asked, and none has to have lived through all of it.

Of the initial load the ledger of chunks tells it, and one mark in cdc.pipeline whether it is to rest; of a copy that is
made while the log is followed the last cut, and how it went in the last minute (cdc.copy_pace).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cdc.config.load import TargetConfig
from cdc.model.table import TableName
from cdc.postgres.errors import guarded
from cdc.protocol.applied import Progress
from cdc.protocol.copy_progress import Copies
from cdc.runtime import timing
from cdc.state.migrations import VERSION
from cdc.state.store import StateStore

INITIAL = "initial"
_RECENT = f"loaded_at > clock_timestamp() - interval '{timing.TIMES.recent_seconds} seconds'"
_RATE = f"""
coalesce(sum(rows) FILTER (WHERE {_RECENT})
 / greatest(extract(epoch FROM clock_timestamp() - min(loaded_at) FILTER (WHERE {_RECENT})), 1), 0)::float8"""
_LOADED = f"""
SELECT c.db, c."table", sum(c.rows)::int8, {_RATE}
 FROM cdc.chunks c JOIN cdc.tables t USING (pipeline, db, "table", load_no)
 WHERE c.pipeline = %s AND t.state = 'copying' GROUP BY 1, 2"""
_LOAD_RATE = f"SELECT {_RATE} FROM cdc.chunks WHERE pipeline = %s"
_PACE = f"""
SELECT coalesce((max(rows) - min(rows)) / greatest(extract(epoch FROM clock_timestamp() - min(at)), 1), 0)::float8
 FROM cdc.copy_pace
 WHERE (pipeline, copy) = (%s, %s) AND at > clock_timestamp() - interval '{timing.TIMES.recent_seconds} seconds'"""
_PAUSED = "SELECT load_paused_at IS NOT NULL FROM cdc.pipeline WHERE name = %s"
_PAUSE = """
UPDATE cdc.pipeline SET load_paused_at = CASE WHEN %s THEN coalesce(load_paused_at, now()) END WHERE name = %s"""


class Going(NamedTuple):
    """A table whose copy has begun and is not over."""

    kind: str
    """initial; or as in `cdc.protocol.copy_progress`: whole, where, keys."""
    rows: int
    """In the target by now."""
    rows_per_second: float
    """Of the last minute, by whichever process."""


class Copied(NamedTuple):
    """What the target holds of copies under way."""

    tables: dict[TableName, Going]
    """By (db, table)."""
    rows_per_second: float
    """Of all of them in the last minute."""
    paused: bool


@guarded("cdc.chunks")
def copied(state: StateStore, progress: Progress | None) -> Copied:
    """How far the tables under way are; `progress`: None until the initial load is over."""
    if state.version() < VERSION:
        return Copied({}, 0.0, False)
    if progress is not None:
        return _streamed(state, progress.copies)
    rows = state.connection.execute(_LOADED.encode(), [state.pipeline]).fetchall()
    tables = {(db, table): Going(INITIAL, count, rate) for db, table, count, rate in rows}
    return Copied(tables, float(_one(state, _LOAD_RATE)), paused(state))


def _streamed(state: StateStore, copies: Copies) -> Copied:
    active = copies.active
    if active is None:
        return Copied({}, 0.0, copies.paused)
    rate = float(_one(state, _PACE, active.id))
    return Copied({(active.db, active.table): Going(active.kind, active.rows, rate)}, rate, copies.paused)


@guarded("cdc.pipeline")
def paused(state: StateStore) -> bool:
    """Whether somebody asked the initial load to rest."""
    return bool(_one(state, _PAUSED))


def rest(target: TargetConfig, pipeline: str, asked: bool) -> dict[str, Any]:
    """Ask the initial load to rest, or to go on; the document of `cdc snapshot --pause` and `--resume`."""
    with StateStore(target, pipeline) as state:
        state.migrate()
        pause(state, asked)
    return {"pipeline": pipeline, "paused": asked}


@guarded("cdc.pipeline")
def pause(state: StateStore, asked: bool) -> None:
    """Keep what is asked until the contrary is, whichever process loads.

    Chunks hold the pipeline's row one beside the other, so that to change it one would wait for all of them; who waits
    for the table is not overtaken (https://www.postgresql.org/docs/current/explicit-locking.html).
    """
    with state.connection.transaction():
        state.connection.execute("LOCK TABLE cdc.pipeline IN EXCLUSIVE MODE")
        state.connection.execute(_PAUSE.encode(), [asked, state.pipeline])


def _one(state: StateStore, sql: str, *more: str) -> Any:
    row = state.connection.execute(sql.encode(), [state.pipeline, *more]).fetchone()
    return row[0] if row else None
