"""`cdc reset`: tables are taken away from the target, to be copied anew; with all of them the pipeline's state and its
topics.

A mark in the target comes first and goes last. Whoever starts in between is told of it, and the same command finishes
what one that was killed has begun.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from cdc.checks.topics import TopicsCheck
from cdc.commands.copy import ask_whole
from cdc.commands.process import topics_check
from cdc.config.load import Config
from cdc.errors import Refused
from cdc.model import names
from cdc.model.record import Document
from cdc.protocol.table_states import TableState
from cdc.state import processes, resets
from cdc.state.store import StateStore
from cdc.transport.kafka.removal import Removal
from sinks.postgres import reset as target_reset
from sinks.postgres.fence import holders
from sinks.postgres.reset import Action, TakenTable
from sinks.postgres.target import PostgresTarget

Agreed = Callable[[Sequence[str]], bool]
"""Whether what these lines say may be done."""


def reset(config: Config, wanted: Sequence[str], agreed: Agreed) -> Document:
    """The document of `cdc reset`; no tables: all of them."""
    started = time.monotonic()
    topics = topics_check(config)
    with StateStore(config.target, config.pipeline.name) as state:
        demand_idle(state)
        if state.version():
            state.migrate()  # what an earlier version knows is read by this one's words
        wanted, unfinished = _with_pending(state, wanted)
        tables = target_reset.planned(state, _chosen(state, wanted)) if state.version() else []
        progress = state.read().progress is not None
    removal = _removal(topics, tables) if topics is not None and not wanted else None
    if not agreed([*_said(config, wanted, tables, removal), *unfinished]):
        raise Refused("not_agreed", "cdc reset", "nothing was taken away: it was not wanted")
    with closing(PostgresTarget(config.target, config.pipeline.name)) as target:
        target.open()
        target_reset.begin(target, wanted)
        if removal is not None:
            removal.remove()
        target_reset.take_away(target, tables)
        if wanted:
            _ask_for(config, tables if progress else [])
            target_reset.finish(target)
        else:
            target_reset.forget(target)
    return {
        "pipeline": config.pipeline.name,
        "all": not wanted,
        "tables": [_table(one) for one in tables],
        "topics": list(removal.topics) if removal is not None else [],
        "next": _next(config, bool(wanted and progress)),
        "seconds": time.monotonic() - started,
    }


def demand_idle(state: StateStore) -> None:
    """Refuse while a process works for the pipeline, of whatever version."""
    live = [one for one in processes.processes(state.connection, state.pipeline) if one.runs]
    shards = abs(state.mode()[1]) if state.check() else 0
    places = [state.pipeline, *(f"shard {shard} of {state.pipeline}" for shard in range(shards))]
    writers = sum(holders(state.connection, place) for place in places)
    if live or writers:
        who = ", ".join(f"cdc {one.command} ({one.owner})" if one.owner else f"cdc {one.command}" for one in live)
        rule = f"{who or 'another process'} runs, and would go on with what is taken away"
        raise Refused("reset_running", f"pipeline {state.pipeline}", rule, "stop it first: cdc status shows who runs")


def _with_pending(state: StateStore, wanted: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """What is to be reset with what a reset that was not finished began; and what is said of that."""
    pending = resets.pending(state)
    if pending is None:
        return tuple(wanted), []
    together = tuple(dict.fromkeys((*pending.tables, *wanted))) if pending.tables and wanted else ()
    return together, [f"this finishes the reset that was begun at {pending.at}"]


def _chosen(state: StateStore, wanted: Sequence[str]) -> list[Any]:
    known = {f"{one.db}.{one.table}": one for one in state.tables()}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "cdc status lists the tables; write it as db.table"
            raise Refused("not_selected", name, "is no table that this pipeline knows", hint)
    return [known[name] for name in wanted] if wanted else list(known.values())


def _removal(topics: TopicsCheck, tables: Sequence[TakenTable]) -> Removal:
    """The pipeline's topics; Refused where they are another one's."""
    topics.reach()
    topics.demand_prefix(())
    prefix = topics.broker.prefix
    return Removal(topics.broker, [names.topic(prefix, one.known.db, one.known.table) for one in tables])


def _said(config: Config, wanted: Sequence[str], tables: Sequence[TakenTable], removal: Removal | None) -> list[str]:
    """What would be done, line by line."""
    lines = [f"{one.place}: {_will(one)}" for one in tables]
    if not wanted:
        lines.append(f"everything that pipeline {config.pipeline.name} knows: positions, states, quarantine, requests")
    if removal is not None:
        lines += [f"topic {name}: deleted, whoever else reads it" for name in removal.topics]
    if removal is not None and config.transport.registry:
        lines.append("the schemas in the registry stay")
    return lines or ["there is nothing to take away"]


def _will(one: TakenTable) -> str:
    return {
        Action.DROPPED: "dropped with its rows",
        Action.EMPTIED: f"emptied, and stays: {one.reason}",
        Action.ABSENT: "is not there; what is known of it is forgotten",
        Action.LEFT: f"left alone: {one.reason}",
    }[one.action]


def _ask_for(config: Config, tables: Sequence[TakenTable]) -> None:
    """Where the topics tell capture that it has copied them, it is asked to do so again."""
    if config.transport.kind != "kafka":
        return
    for one in tables:
        if one.known.state != TableState.STOPPED:
            ask_whole(config, f"{one.known.db}.{one.known.table}")


def _next(config: Config, streamed: bool) -> str:
    if config.transport.kind != "kafka":
        return "cdc run copies what is missing"
    if streamed or config.snapshot.through == "topics":
        return "cdc capture and cdc apply copy what is missing"
    return "cdc snapshot, then cdc capture and cdc apply; or cdc run"


def _table(one: TakenTable) -> Document:
    return {
        "source": f"{one.known.db}.{one.known.table}",
        "target": str(one.place),
        "action": str(one.action),
        "reason": one.reason,
    }
