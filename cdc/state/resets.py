"""What `cdc reset` has begun to take away and has not finished: a mark in the target, so that nothing starts in
between."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.errors import Refused
from cdc.postgres.errors import guarded
from cdc.state.migrations import VERSION
from cdc.state.store import StateStore

_READ = "SELECT reset->>'at', reset->'tables' FROM cdc.pipeline WHERE name = %s AND reset IS NOT NULL"
MARK = """
UPDATE cdc.pipeline SET reset = jsonb_build_object(
    'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'tables', %s::jsonb)
 WHERE name = %s"""
"""Begin one of these tables (db.table as a JSON array; none: all), in a pipeline."""
END = "UPDATE cdc.pipeline SET reset = NULL WHERE name = %s"


@dataclass(frozen=True, slots=True)
class PendingReset:
    """A reset that was begun and is not finished."""

    at: str
    """When, by the target's clock."""
    tables: tuple[str, ...]
    """db.table of each; none: all, and everything that the pipeline knows."""

    @property
    def hint(self) -> str:
        """The command that finishes it."""
        return f"cdc reset {' '.join(self.tables) or '--all'} finishes it"


@guarded("cdc.pipeline")
def pending(state: StateStore) -> PendingReset | None:
    """The reset that was begun and is not finished."""
    if state.version() < VERSION:
        return None
    row = state.connection.execute(_READ, [state.pipeline]).fetchone()
    return None if row is None else PendingReset(str(row[0]), tuple(row[1]))


def demand_none(state: StateStore) -> None:
    """Refuse to start while one is not finished."""
    found = pending(state)
    if found is not None:
        rule = f"a reset was begun at {found.at} and is not finished"
        raise Refused("reset_unfinished", f"pipeline {state.pipeline}", rule, found.hint)
