"""Questions that need only the two databases: how far is the pipeline, and has it everything written by now?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cdc import codec
from cdc.config.load import Config, SourceConfig, TargetConfig
from cdc.errors import Halt, Retry
from cdc.model.names import target_of
from cdc.model.position import Position
from cdc.model.table import TableName
from cdc.monitoring import halves
from cdc.monitoring.wait import waiting
from cdc.mysql.catalog import Catalog
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.copy_progress import WHOLE
from cdc.protocol.table_states import SHOWN_AS_CONSISTENT, TableState
from cdc.state import copies as state_copy, processes, resets
from cdc.state.copies import INITIAL, Copied, Going
from cdc.state.migrations import VERSION
from cdc.state.store import StateStore


def status(config: Config) -> dict[str, Any]:
    """The document of `cdc status`."""
    with StateStore(config.target, config.pipeline.name) as target:
        running = _running(config, target)
        stored, quarantined = target.read(), target.quarantined() if target.version() else {}
        behind = target.behind() if stored.progress else None
        copied = state_copy.copied(target, stored.progress)
    progress = stored.progress
    source, selected = _source(config.source, progress)
    shown = source["continues"] is not False
    tables = [
        _table(
            config.target.schema_,
            name,
            stored,
            quarantined.get(name, 0),
            copied.tables.get(name),
            selected.get(name),
            shown,
        )
        for name in sorted({*selected, *stored.tables})
    ]
    return {
        "pipeline": config.pipeline.name,
        **running,
        "transport": config.transport.kind,
        "codec": codec.KIND,
        "source": source,
        "captured": {"position": _json(progress.position if progress else None)},
        "applied": _applied(progress),
        # what capture has read and published is known to its process alone (its metrics); here, end to end
        "lag_seconds": {"read": None, "publish": None} | dict.fromkeys(("apply", "total"), behind if shown else None),
        "copying": _loading(copied, tables)
        if progress is None and stored.tables
        else _streaming(copied, stored, tables),
        "tables": tables,
    }


def _running(config: Config, target: StateStore) -> dict[str, Any]:
    """Who runs, and a reset that is not finished."""
    found = processes.processes(target.connection, target.pipeline)
    known = target.version() == VERSION
    loading = bool(target.version()) and processes.loading(target.connection, target.pipeline)
    owners = target.owners() if known else {}
    halves_ = halves.halves(found, loading, owners, here=config.snapshot.through == "target")
    reset = resets.pending(target) if known else None
    return {
        "running": halves.all_run(halves_) and reset is None,
        "halves": halves_,
        "reset": None if reset is None else {"at": reset.at, "tables": reset.tables, "hint": reset.hint},
    }


def _source(source: SourceConfig, progress: Progress | None) -> tuple[dict[str, Any], dict[TableName, int]]:
    """What the source says, and of each selected table about how many rows it has; one that cannot be asked says
    why."""
    try:
        with Catalog(source) as catalog:
            selected = {(t.db, t.name): catalog.row_estimate(t) for t in catalog.tables(source.tables, source.exclude)}
            said = {
                "flavour": catalog.flavour,
                "version": catalog.version,
                "position": catalog.log.written_position().to_json(),
            }
            return said | _identity(catalog, progress), selected
    except Retry as error:
        unsaid: dict[str, Any] = {"flavour": None, "version": None, "position": None, "continues": None}
        return unsaid | {"reason": f"{error.code}: {error.place}: {error.rule}"}, {}


def _identity(catalog: Catalog, progress: Progress | None) -> dict[str, Any]:
    """Whether the source's log provably continues what was applied:
    else nothing is known of how far behind the target is."""
    try:
        if progress is not None:
            catalog.identity.check(progress.position)
    except Halt as stop:
        return {"continues": False, "reason": f"{stop.code}: {stop.place}: {stop.rule}"}
    return {"continues": None if progress is None else True, "reason": ""}


def _loading(copied: Copied, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The initial load in all; what is copied is counted, the rest is the source's guess."""
    wanted = [table for table in tables if table["state"] != TableState.REFUSED]
    rows = sum(table["rows_loaded"] for table in wanted)
    estimate = sum(
        table["rows_loaded"] if table["ceiling"] else max(table["rows_loaded"], table["rows_estimated"] or 0)
        for table in wanted
    )
    return _in_all(copied, rows, estimate)


def _streaming(copied: Copied, stored: Stored, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The copy that is made while the log is followed, and the tables that capture copies next because nothing of them
    is here yet."""
    fresh = {f"{one.db}.{one.table}" for one in stored.tables.values() if one.state == TableState.NEW}
    wanted = [table for table in tables if table["copying"] or table["source"] in fresh]
    if not wanted and not copied.paused:
        return None
    rows = sum(table["copying"]["rows"] for table in wanted if table["copying"])
    guesses = [_wanted_rows(table) for table in wanted]
    return _in_all(copied, rows, sum(guess or 0 for guess in guesses), known=None not in guesses)


def _wanted_rows(table: Mapping[str, Any]) -> int | None:
    """How many rows of a table its copy brings; None: nobody has counted those that were asked for."""
    going = table["copying"]
    if going and going["kind"] not in (INITIAL, WHOLE):
        return None
    return max(going["rows"] if going else 0, table["rows_estimated"] or 0)


def _in_all(copied: Copied, rows: int, estimate: int, known: bool = True) -> dict[str, Any]:
    rate = copied.rows_per_second
    return {
        "rows": rows,
        "rows_estimated": max(rows, estimate),
        "rows_per_second": rate,
        "remaining_seconds": _remaining(rows, estimate if known else None, rate),
        "paused": copied.paused,
    }


def _remaining(rows: int, estimate: int | None, rate: float) -> float | None:
    return max(0, estimate - rows) / rate if rate and estimate is not None else None


def _json(position: Position | None) -> dict[str, object] | None:
    return None if position is None else position.to_json()


def _time(us: int) -> str | None:
    return (
        None
        if not us
        else datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )


def _applied(progress: Progress | None) -> dict[str, Any]:
    if progress is None:
        return {"cut_no": None, "position": None, "source_ts": None}
    return {
        "cut_no": progress.cut_no,
        "position": progress.position.to_json(),
        "source_ts": _time(progress.source_ts_us),
    }


def _table(
    schema: str,
    name: TableName,
    stored: Stored,
    quarantined: int,
    going: Going | None,
    estimate: int | None,
    shown: bool,
) -> dict[str, Any]:
    db, table = name
    state = stored.tables.get(name) or TableProgress(db, table, *target_of(schema, db, table))
    through = stored.progress.source_ts_us if stored.progress and shown and state.state in SHOWN_AS_CONSISTENT else None
    return {
        "source": f"{db}.{table}",
        "target": f"{state.target_schema}.{state.target_table}",
        "state": str(state.state),
        "rows_loaded": state.rows_loaded if going is None or state.state != TableState.COPYING else going.rows,
        "rows_estimated": estimate,
        "floor": _json(state.floor),
        "ceiling": _json(state.ceiling),
        "copying": None if going is None else _going(going, estimate),
        "consistent_through": _time(through or 0),
        "quarantined": quarantined,
        "reason": state.reason or waiting(quarantined),
        **({"renamed": state.schema["renamed"]} if state.schema.get("renamed") else {}),
    }


def _going(going: Going, estimate: int | None) -> dict[str, Any]:
    known = estimate if going.kind in (INITIAL, WHOLE) else None
    return {**going._asdict(), "remaining_seconds": _remaining(going.rows, known, going.rows_per_second)}


def _stored(target: TargetConfig, pipeline: str, complete: bool) -> tuple[Stored, dict[TableName, int]]:
    """What the target holds, and of tables under way how much;
    nothing is known when a copy was stopped because the target is away."""
    try:
        with StateStore(target, pipeline) as state:
            stored = state.read()
            return stored, {
                name: going.rows for name, going in state_copy.copied(state, stored.progress).tables.items()
            }
    except Retry:
        if complete:
            raise
        return Stored(None, {}), {}


def copied(
    target: TargetConfig, pipeline: str, complete: bool, seconds: float, reads: Mapping[str, Any]
) -> dict[str, Any]:
    """The document of `cdc snapshot`."""
    stored, found = _stored(target, pipeline, complete)
    tables = [
        {
            "source": f"{s.db}.{s.table}",
            "target": f"{s.target_schema}.{s.target_table}",
            "state": str(s.state),
            "rows": found.get(s.name, s.rows_loaded),
            "reason": s.reason,
        }
        for s in stored.tables.values()
    ]
    position = stored.progress.position.to_json() if stored.progress else None
    rows = sum(found.get(s.name, s.rows_loaded) for s in stored.tables.values())
    return {
        "pipeline": pipeline,
        "complete": complete,
        "position": position,
        "rows": rows,
        "seconds": seconds,
        "reads": dict(reads),
        "tables": tables,
    }
