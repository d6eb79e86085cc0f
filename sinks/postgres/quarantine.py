"""`cdc.quarantine`: changes that wait, written and taken out in the transactions that move rows and positions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cdc.model.position import Position
from cdc.model.table import TableName
from cdc.postgres.connection import Connection, compact
from cdc.runtime import crash_points as crash
from sinks.postgres.statements import Prepared, StatementQueue, moment
from sinks.quarantine import Queued, key_hash

_QUEUE = Prepared("""
INSERT INTO cdc.quarantine (pipeline, db, "table", key_hash, key, op, value, reason, sqlstate, rule, epoch, seq,
    source_transaction,
 source_ts, position, schema_id, schema_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
 $16, $17)""")
_SCHEMA = Prepared("""
INSERT INTO cdc.quarantine_schema (pipeline, hash, key_schema, value_schema) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING""")
_DROP = Prepared(
    'DELETE FROM cdc.quarantine WHERE (pipeline, db, "table", key_hash, key) = ($1, $2, $3, $4, $5::bytea)'
)
_CLEAR = Prepared('DELETE FROM cdc.quarantine WHERE (pipeline, db, "table") = ($1, $2, $3)')
_HELD = 'SELECT DISTINCT db, "table", key FROM cdc.quarantine WHERE pipeline = %s'
BEHIND = "queued_behind"
"""The reason of a change that was not refused itself."""


@dataclass(frozen=True, slots=True)
class Schemas:
    """What rebuilds the plan of queued records, whatever becomes of the topic's registry."""

    number: int
    """The value schema's id in the topic."""
    key: Mapping[str, object] | None
    value: Mapping[str, object]

    @property
    def documents(self) -> tuple[str | None, str]:
        return None if self.key is None else compact(dict(self.key)), compact(dict(self.value))

    @property
    def hash(self) -> str:
        return hashlib.sha256("\n".join(part or "" for part in self.documents).encode()).hexdigest()[:32]


class Quarantine:
    """Statements on one pipeline's wire; they happen at its next flush, in the transaction that is open."""

    def __init__(self, connection: Connection, wire: StatementQueue, pipeline: str) -> None:
        self.connection, self.wire, self.pipeline = connection, wire, pipeline

    def add(self, name: TableName, schemas: Schemas, changes: Sequence[Queued], at: Position | None) -> None:
        """Queue changes of a table, in this order behind those that wait already."""
        if changes:
            self._send(_SCHEMA, schemas.hash, *schemas.documents)
        position = None if at is None else compact(at.to_json())
        for one in changes:
            reason = ("", "", "") if one.error is None else (one.error.code, one.error.sqlstate, one.error.rule)
            self._send(
                _QUEUE, *name, key_hash(one.identity), _bytea(one.identity), one.op, _bytea(one.value),
                reason[0] or BEHIND, *reason[1:], one.epoch, one.seq, one.transaction, moment(one.ts_us), position,
                schemas.number, schemas.hash,
            )  # fmt: skip
        if changes:
            crash.point("quarantine.queued")

    def drop(self, name: TableName, identities: Iterable[bytes]) -> None:
        """Forget what waits for these."""
        for identity in identities:
            self._send(_DROP, *name, key_hash(identity), _bytea(identity))

    def clear(self, name: TableName) -> None:
        """Forget what waits for a table that is emptied."""
        self._send(_CLEAR, *name)

    def held(self) -> dict[TableName, set[bytes]]:
        """The identities that are held, by table."""
        self.wire.flush()
        found: dict[TableName, set[bytes]] = {}
        for db, table, key in self.connection.execute(_HELD, [self.pipeline]):
            found.setdefault((db, table), set()).add(key)
        crash.point("quarantine.known")
        return found

    def _send(self, statement: Prepared, *parameters: object) -> None:
        self.wire.say(statement, self.pipeline, *parameters)


def _bytea(data: bytes) -> str:
    return "\\x" + data.hex()
