"""`cdc quarantine`: the keys whose changes the target refused, looked at, replayed and discarded,
without showing a value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from cdc import codec
from cdc.config.load import Config, TargetConfig
from cdc.errors import Refused
from cdc.model.policies import Policies
from cdc.model.record import Document
from cdc.model.table import TableName
from cdc.state import quarantine as state_quarantine
from cdc.state.store import StateStore
from sinks.postgres.quarantine_release import Releaser

_DISCARDED = (
    "the target lacks these changes: cdc reconcile shows the rows that differ, "
    "and --repair has them read again. A row of a table without"
    " a key that is gone on one side only stops the pipeline when the source deletes it"
)


def listed(config: Config, table: str, key: str) -> Document:
    """The document of `cdc quarantine list`."""
    keys = _waiting(config.target, config.pipeline.name, table, key)
    return {
        "pipeline": config.pipeline.name,
        "total_keys": len(keys),
        "total_changes": sum(one["changes"] for one in keys),
        "keys": keys,
    }


def shown(config: Config, table: str, key: str) -> Document:
    """The document of `cdc quarantine show`: one key and each change that waits for it."""
    keys = _waiting(config.target, config.pipeline.name, table, key)
    if len(keys) != 1:
        rule = "no such key waits" if not keys else "several tables have a key with this hash"
        raise Refused(
            "quarantine_key",
            f"{table or 'any table'}, key {key}",
            rule,
            "cdc quarantine list names them; --table chooses one",
        )
    (one,) = keys
    with StateStore(config.target, config.pipeline.name) as state:
        changes = state_quarantine.changes(state, one["table"], one["key"])
        columns = _columns(state_quarantine.schema(state, one["table"], one["key"]))
    return {
        "pipeline": config.pipeline.name,
        **one,
        "columns": columns,
        "queue": [_stamped(change) for change in changes],
    }


def replayed(config: Config, table: str, key: str) -> Document:
    """The document of `cdc quarantine replay`: what became of each chosen key."""
    keys, found = _waiting(config.target, config.pipeline.name, table, key), list[Document]()
    if keys:  # else nothing is opened, and nothing made in a target that knows no pipeline
        with closing(_releaser(config.target, config.pipeline.name, config.policies.policies)) as work:
            found = [_replayed(work, one) for one in keys]
    refused = sum(one["outcome"] == "refused" for one in found)
    return {
        "pipeline": config.pipeline.name,
        "complete": not refused,
        "replayed": len(found) - refused,
        "refused": refused,
        "keys": found,
    }


def _releaser(target: TargetConfig, pipeline: str, policies: Policies) -> Releaser:
    return Releaser(target, pipeline, lambda value, key: codec.ValuePlan(value, key, policies))


def _replayed(work: Releaser, one: Document) -> Document:
    count, error = work.replay(_name(one), one["key"])
    outcome = "refused" if error else "replayed" if count else "gone"
    said = (error.code, error.sqlstate, error.rule) if error else ("", "", "")
    reason = dict(zip(("reason", "sqlstate", "rule"), said, strict=True))
    return {"table": one["table"], "key": one["key"], "outcome": outcome, "changes": count or one["changes"], **reason}


def discarded(config: Config, table: str, key: str, everything: bool) -> Document:
    """The document of `cdc quarantine discard`: which keys were dropped. What to drop must be said."""
    if not (table or key or everything):
        raise Refused(
            "quarantine_key", "cdc quarantine discard", "does not say what to drop", "--key, --table, or --all"
        )
    with closing(_releaser(config.target, config.pipeline.name, config.policies.policies)) as work:
        keys = _waiting(config.target, config.pipeline.name, table, key)
        found = [
            {"table": one["table"], "key": one["key"], "changes": work.discard(_name(one), one["key"])} for one in keys
        ]
    return {
        "pipeline": config.pipeline.name,
        "discarded": len(found),
        "keys": found,
        "note": _DISCARDED if found else "",
    }


def _waiting(target: TargetConfig, pipeline: str, table: str, key: str) -> list[Document]:
    with StateStore(target, pipeline) as state:
        return [_row(one) for one in state_quarantine.waiting(state, table, key)]


def _row(one: Mapping[str, Any]) -> Document:
    row = _stamped(one)
    return {"table": f"{row.pop('db')}.{row.pop('name')}", **row}


def _name(one: Document) -> TableName:
    db, _, table = str(one["table"]).partition(".")
    return db, table


def _stamped(row: Mapping[str, Any]) -> Document:
    return {name: _time(value) if isinstance(value, datetime) else value for name, value in row.items()}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _columns(envelope: Mapping[str, Any]) -> list[str]:
    """The columns of the row, by the names that the schema gives them."""
    before = next((field["type"] for field in envelope.get("fields", ()) if field["name"] == "before"), ())
    row = next((branch for branch in before if isinstance(branch, dict)), {})
    return [str(field["name"]) for field in row.get("fields", ())]
