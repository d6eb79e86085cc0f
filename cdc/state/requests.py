"""Requests and outcomes of copies in the target: the channel of a pipeline without a broker,
and what became of each copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cdc.errors import Refused
from cdc.postgres.connection import Connection, jsonb
from cdc.postgres.errors import guarded
from cdc.protocol.copy_progress import Copies
from cdc.runtime.lag import APPLY
from cdc.state.store import StateStore

_ASK = """
WITH given AS (
    INSERT INTO cdc.request_number AS n (pipeline, next)
    SELECT %(pipeline)s, 1 + greatest(0, (SELECT max(number) + 1 FROM cdc.request WHERE pipeline = %(pipeline)s),
                                      (SELECT (copies->>'read')::int8 FROM cdc.progress WHERE pipeline = %(pipeline)s))
    ON CONFLICT (pipeline) DO UPDATE SET next = greatest(n.next + 1, EXCLUDED.next) RETURNING next - 1 AS number)
INSERT INTO cdc.request (pipeline, number, signal) SELECT %(pipeline)s, number, %(signal)s FROM given
    RETURNING number"""

_REFERENCED = """
SELECT o.conname, o.conrelid::regclass::text, o.confrelid::regclass::text FROM pg_constraint o
 WHERE o.contype = 'f' AND o.conrelid <> o.confrelid
 AND o.confrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
 ORDER BY 2, 1 LIMIT 1"""


class RequestTable:
    """Capture's end of the table where there is no broker; owns the state's connection."""

    stage = APPLY

    def __init__(self, state: StateStore, prefix: str) -> None:
        self._state, self._key = state, prefix.encode()
        self._next = 0

    def resume(self, known: Copies) -> Copies:
        """Numbers only grow here, whatever is deleted."""
        return known

    def seek(self, number: int) -> None:
        """Read from this number on."""
        self._next = number

    @guarded("cdc.request")
    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        """What has come since; none comes below it later, because whoever adds one holds the count's lock until it is
        there."""
        rows = self._state.connection.execute(
            "SELECT number, signal FROM cdc.request WHERE pipeline = %s AND number >= %s ORDER BY number LIMIT 1000",
            [self._state.pipeline, self._next],
        ).fetchall()
        found: list[tuple[int, bytes | None, bytes]] = [
            (number, self._key, json.dumps(signal).encode()) for number, signal in rows
        ]
        self._next = found[-1][0] + 1 if found else self._next
        return found

    def close(self) -> None:
        """Give up the connection."""
        self._state.close()


@guarded("cdc.request")
def ask(state: StateStore, signal: Mapping[str, Any]) -> int:
    """Add a signal; its number."""
    with state.connection.transaction():
        row = state.connection.execute(_ASK, {"pipeline": state.pipeline, "signal": jsonb(dict(signal))}).fetchone()
    return int(row[0]) if row else 0


@guarded("cdc.copy")
def outcomes(state: StateStore, request: str) -> list[dict[str, Any]]:
    """What became of the copies of one request so far."""
    rows = state.connection.execute(
        'SELECT db, "table", kind, outcome, rows, reason FROM cdc.copy WHERE (pipeline, request) = (%s, %s) '
        'ORDER BY db, "table"',
        [state.pipeline, request],
    )
    names = ("db", "table", "kind", "outcome", "rows", "reason")
    return [dict(zip(names, row, strict=True)) for row in rows]


@guarded("pg_constraint")
def check_can_be_emptied(state: StateStore, schema: str, table: str) -> None:
    """As `demand_unreferenced`, before anything is asked."""
    demand_unreferenced(state.connection, schema, table)


def demand_unreferenced(connection: Connection, schema: str, table: str) -> None:
    """Refuse a table of the target that holds rows and that a foreign key of another one references:
    it cannot be without them."""
    found = connection.execute(_REFERENCED, [schema, table]).fetchone()
    if found is not None and connection.execute(f"SELECT 1 FROM {found[2]} LIMIT 1".encode()).fetchone() is not None:
        rule = f"foreign key {found[0]} of {found[1]} references its rows: it cannot be emptied"
        hint = "cdc copy --swap; or drop the key, and make it again when the copy is done"
        raise Refused("target_referenced", f"{schema}.{table}", rule, hint)
