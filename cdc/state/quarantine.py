"""What waits in quarantine, as questions to the target: names, hashes, reasons, sizes and positions, never a value."""

from __future__ import annotations

from typing import Any

from cdc.postgres.errors import guarded
from cdc.state.migrations import VERSION
from cdc.state.store import StateStore

_CHOSEN = (
    "q.pipeline = %(pipeline)s AND (%(table)s = '' OR q.db || '.' || q.\"table\" = %(table)s) "
    "AND (%(key)s = '' OR q.key_hash = %(key)s)"
)
_KEYS = f"""
SELECT q.db, q."table", q.key_hash, count(*)::int8, sum(octet_length(q.value))::int8, min(q.at), max(q.at),
 (array_agg(q.reason ORDER BY q.id))[1], (array_agg(q.sqlstate ORDER BY q.id))[1], (array_agg(q.rule ORDER BY q.id))[1]
 FROM cdc.quarantine q WHERE {_CHOSEN} GROUP BY 1, 2, 3 ORDER BY min(q.id)"""
_CHANGES = f"""
SELECT q.op, q.reason, q.epoch, q.seq, octet_length(q.value), q.at, q.source_ts, q.source_transaction, q.position
 FROM cdc.quarantine q WHERE {_CHOSEN} ORDER BY q.id"""
_SCHEMA = f"""
SELECT s.value_schema FROM cdc.quarantine q JOIN cdc.quarantine_schema s ON (s.pipeline, s.hash) = (q.pipeline,
q.schema_hash)
 WHERE {_CHOSEN} ORDER BY q.id DESC LIMIT 1"""
_KEY_NAMES = ("db", "name", "key", "changes", "bytes", "first_at", "last_at", "reason", "sqlstate", "rule")
_CHANGE_NAMES = ("op", "reason", "epoch", "number", "bytes", "queued_at", "source_ts", "transaction", "position")


@guarded("cdc.quarantine")
def waiting(state: StateStore, table: str = "", key: str = "") -> list[dict[str, Any]]:
    """The keys that wait, longest first; of one table ("db.table") or with one hash when these are given."""
    if state.version() < VERSION:  # nothing ever waited there
        return []
    rows = state.connection.execute(_KEYS.encode(), {"pipeline": state.pipeline, "table": table, "key": key})
    return [dict(zip(_KEY_NAMES, row, strict=True)) for row in rows]


def names_by_table(state: StateStore) -> dict[str, set[str]]:
    """The hashes of the keys that wait, by table."""
    found = dict[str, set[str]]()
    for one in waiting(state):
        found.setdefault(f"{one['db']}.{one['name']}", set()).add(one["key"])
    return found


@guarded("cdc.quarantine")
def changes(state: StateStore, table: str, key: str) -> list[dict[str, Any]]:
    """The changes that wait for one key, in their order."""
    rows = state.connection.execute(_CHANGES.encode(), {"pipeline": state.pipeline, "table": table, "key": key})
    return [dict(zip(_CHANGE_NAMES, row, strict=True)) for row in rows]


@guarded("cdc.quarantine_schema")
def schema(state: StateStore, table: str, key: str) -> dict[str, Any]:
    """The Avro schema of the newest of these changes."""
    row = state.connection.execute(
        _SCHEMA.encode(), {"pipeline": state.pipeline, "table": table, "key": key}
    ).fetchone()
    return dict(row[0]) if row else {}
