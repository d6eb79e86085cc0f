"""How far the initial load is, and whether it is to rest, as the target tells it: the ledger of chunks, and one mark in cdc.pipeline."""

from __future__ import annotations

from typing import Any, NamedTuple

from cdc.config import Config
from cdc.state import State, guarded
from cdc.state_schema import VERSION

WINDOW_SECONDS = 60
_COPIED = """
SELECT c.db, c."table", sum(c.rows)::int8 FROM cdc.chunks c JOIN cdc.tables t USING (pipeline, db, "table", load_no)
 WHERE c.pipeline = %s AND t.state = 'copying' GROUP BY 1, 2"""
_RATE = f"""
SELECT coalesce(sum(rows) / greatest(extract(epoch FROM clock_timestamp() - min(loaded_at)), 1), 0)::float8 FROM cdc.chunks
 WHERE pipeline = %s AND loaded_at > clock_timestamp() - interval '{WINDOW_SECONDS} seconds'"""
_PAUSED = "SELECT load_paused_at IS NOT NULL FROM cdc.pipeline WHERE name = %s"
_PAUSE = """
UPDATE cdc.pipeline SET load_paused_at = CASE WHEN %s THEN coalesce(load_paused_at, now()) END WHERE name = %s"""


class Copied(NamedTuple):
    """What the ledger holds of loads under way."""

    rows: dict[tuple[str, str], int]
    """By (db, table)."""
    rows_per_second: float
    """Of the last minute, by whichever process."""
    paused: bool


@guarded("cdc.chunks")
def copied(state: State) -> Copied:
    """How far the tables under way are, from the ledger alone: no process has to be asked."""
    if state.version() < VERSION:
        return Copied({}, 0.0, False)
    rows = state.connection.execute(_COPIED.encode(), [state.pipeline]).fetchall()
    rate = _one(state, _RATE)
    return Copied({(db, table): count for db, table, count in rows}, float(rate), paused(state))


@guarded("cdc.pipeline")
def paused(state: State) -> bool:
    """Whether somebody asked the initial load to rest."""
    return bool(_one(state, _PAUSED))


def rest(config: Config, asked: bool) -> dict[str, Any]:
    """Ask the initial load to rest, or to go on; the document of `cdc snapshot --pause` and `--resume`."""
    with State(config.target, config.pipeline.name) as state:
        state.migrate()
        pause(state, asked)
    return {"pipeline": config.pipeline.name, "paused": asked}


@guarded("cdc.pipeline")
def pause(state: State, asked: bool) -> None:
    """Keep what is asked until the contrary is, whichever process loads."""
    state.connection.execute(_PAUSE.encode(), [asked, state.pipeline])


def _one(state: State, sql: str) -> Any:
    row = state.connection.execute(sql.encode(), [state.pipeline]).fetchone()
    return row[0] if row else None
