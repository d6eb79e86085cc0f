"""Requests and outcomes of copies in the target: the channel of a pipeline without a broker, and what became of each copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cdc.state import State, guarded, jsonb

_NUMBERED = "SELECT pg_advisory_xact_lock(hashtextextended('cdc request ' || %s::text, 0))"
_ASK = """
INSERT INTO cdc.request (pipeline, number, signal)
SELECT %(pipeline)s, coalesce(max(number) + 1, 0), %(signal)s FROM cdc.request WHERE pipeline = %(pipeline)s RETURNING number"""


class RequestTable:
    """Capture's end of the table where there is no broker; owns the state's connection."""

    def __init__(self, state: State, prefix: str) -> None:
        self._state, self._key = state, prefix.encode()
        self._next = 0

    def seek(self, number: int) -> None:
        """Read from this number on."""
        self._next = number

    @guarded("cdc.request")
    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        """What has come since; numbers have no gaps, because whoever adds one holds a lock until it is there."""
        rows = self._state.connection.execute(
            "SELECT number, signal FROM cdc.request WHERE pipeline = %s AND number >= %s ORDER BY number LIMIT 1000",
            [self._state.pipeline, self._next],
        ).fetchall()
        found: list[tuple[int, bytes | None, bytes]] = [(number, self._key, json.dumps(signal).encode()) for number, signal in rows]
        self._next = found[-1][0] + 1 if found else self._next
        return found

    def close(self) -> None:
        """Give up the connection."""
        self._state.close()


@guarded("cdc.request")
def ask(state: State, signal: Mapping[str, Any]) -> int:
    """Add a signal; its number."""
    with state.connection.transaction():
        state.connection.execute(_NUMBERED, [state.pipeline])
        row = state.connection.execute(_ASK, {"pipeline": state.pipeline, "signal": jsonb(dict(signal))}).fetchone()
    return int(row[0]) if row else 0


@guarded("cdc.copy")
def outcomes(state: State, request: str) -> list[dict[str, Any]]:
    """What became of the copies of one request so far."""
    rows = state.connection.execute(
        'SELECT db, "table", kind, outcome, rows, reason FROM cdc.copy WHERE (pipeline, request) = (%s, %s) ORDER BY db, "table"',
        [state.pipeline, request],
    )
    names = ("db", "table", "kind", "outcome", "rows", "reason")
    return [dict(zip(names, row, strict=True)) for row in rows]
