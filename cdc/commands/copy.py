"""`cdc copy`: ask capture to copy a table while it streams, and wait for what becomes of it.

Whatever can be known before is refused before anything is asked. The request survives this process, and every other
one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from cdc.config.load import Config, SourceConfig, TargetConfig
from cdc.errors import CdcError, Refused, Retry
from cdc.model.record import Document
from cdc.model.table import Table, TableName
from cdc.monitoring.stillness import Stillness
from cdc.mysql import key_text
from cdc.mysql.catalog import Catalog, not_selected
from cdc.mysql.connection import connect, deciding
from cdc.mysql.key_range import qualified
from cdc.protocol import signals
from cdc.protocol.copy_progress import KEYS, WHERE, WHOLE
from cdc.protocol.signals import Key
from cdc.runtime import timing
from cdc.state import requests as state_requests
from cdc.state.store import StateStore
from cdc.transport.kafka.connect import broker_of
from cdc.transport.kafka.signals import send

Report = Callable[[str, int, int], None]
"""A table, the rows of it that are copied, and how many there are by estimate;
UNKNOWN: nobody has counted those that are asked for."""
UNKNOWN = -1
ASKED, WAITING = "asked", "waiting"


def copy(
    config: Config, name: str, where: str, keys: str, swap: bool, wait: bool, timeout: float, progress: Report
) -> Document:
    """The document of `cdc copy`; `timeout` in seconds, 0 for none."""
    started = time.monotonic()
    with Catalog(config.source) as catalog:
        table, estimate = _checked(config, catalog, name, where, keys, swap)
    asked = keys_of(table, keys)
    request = ask(config, table, where=where, keys=asked, swap=swap)
    wanted = len(asked) or (UNKNOWN if where else estimate)
    found = (
        await_outcome(
            config,
            request,
            (table.db, table.name),
            timeout,
            lambda rows, over: progress(name, rows, rows if over else wanted),
        )
        if wait
        else None
    )
    outcome = found or {"outcome": WAITING if wait else ASKED, "rows": 0, "reason": ""}
    kind = KEYS if keys else WHERE if where else WHOLE
    return {
        "pipeline": config.pipeline.name, "request": request, "table": name, "kind": kind,
        "outcome": outcome["outcome"], "rows": outcome["rows"], "reason": outcome["reason"],
        "seconds": time.monotonic() - started,
    }  # fmt: skip


def stop(config: Config, name: str, wait: bool, timeout: float) -> Document:
    """The document of `cdc copy --stop`; `timeout` in seconds, 0 for none."""
    started = time.monotonic()
    with StateStore(config.target, config.pipeline.name) as state:
        known = next((one for one in state.tables() if f"{one.db}.{one.table}" == name), None)
    if known is None:
        raise Refused(
            "not_selected", name, "is no table of this pipeline", "cdc status lists them; write it as db.table"
        )
    request = _send(config, lambda id_: signals.stop(id_, name))
    found = await_outcome(config, request, known.name, timeout, lambda rows, over: None) if wait else None
    outcome = found or {"outcome": WAITING if wait else ASKED, "reason": ""}
    return {
        "pipeline": config.pipeline.name, "request": request, "table": name, "outcome": outcome["outcome"],
        "reason": outcome["reason"], "seconds": time.monotonic() - started,
    }  # fmt: skip


def read_again(
    config: Config, table: Table, keys: Sequence[Key], timeout: float, told: Callable[[int, bool], None]
) -> tuple[str, str]:
    """Have keys read again, or without any the table, whose old rows stay readable: outcome and reason."""
    request = ask(config, table, keys=keys, swap=not keys)
    found = await_outcome(config, request, (table.db, table.name), timeout, told)
    return (found["outcome"], found["reason"]) if found else (WAITING, "no process has done it in time")


def ask(config: Config, table: Table, *, where: str = "", keys: Sequence[Key] = (), swap: bool = False) -> str:
    """Put a request into the pipeline's channel; its id."""
    return _send(config, lambda id_: signals.execute(id_, table.qualified, where=where, keys=keys, swap=swap))


def ask_whole(config: Config, name: str) -> str:
    """Ask for a whole copy of a table, by its name, db.table; the request's id."""
    return _send(config, lambda id_: signals.execute(id_, name, where="", keys=(), swap=False))


def _send(config: Config, make: Callable[[str], Document]) -> str:
    request = uuid.uuid4().hex
    signal = make(request)
    if config.transport.kind == "kafka":
        send(broker_of(config.transport, lambda: None), signal)
    else:
        with StateStore(config.target, config.pipeline.name) as state:
            state_requests.ask(state, signal)
    return request


def await_outcome(
    config: Config, request: str, table: TableName, timeout: float, told: Callable[[int, bool], None]
) -> Mapping[str, Any] | None:
    """What became of a request, once it is over; None when the time is up before.
    `told` hears of rows, and whether these are all."""
    until = time.monotonic() + timeout if timeout else None
    hint = "The request stays until it is: cdc copy --stop takes it back"
    stillness = Stillness("copy", hint, config.apply.max_delay_seconds)
    with StateStore(config.target, config.pipeline.name) as state:
        while True:
            found = state_requests.outcomes(state, request)
            over = next((one for one in found if (one["db"], one["table"]) in (table, ("", ""))), None)
            stored = state.read()
            stillness.look(stored)
            active = stored.progress.copies.active if stored.progress else None
            if over is not None or (active is not None and active.request == request):
                told(over["rows"] if over is not None else active.rows if active is not None else 0, over is not None)
            if over is not None or (until is not None and time.monotonic() > until):
                return over
            time.sleep(timing.TIMES.command_poll_seconds)


def _checked(config: Config, catalog: Catalog, name: str, where: str, keys: str, swap: bool) -> tuple[Table, int]:
    followed = catalog.tables(config.source.tables, config.source.exclude)
    table = next((one for one in followed if one.qualified == name), None)
    if table is None:
        raise not_selected(name, followed)
    if (where and keys) or (swap and (where or keys)):
        raise Refused("usage", "cdc copy", "--where, --keys and --swap exclude one another", "choose one")
    if (where or keys) and not table.key:
        raise Refused("no_key", name, "has no primary key: it can only be copied whole", "leave out --where and --keys")
    if keys:
        keys_of(table, keys)
    if where:
        _try(config.source, table, where)
    _check_loaded(config.target, config.pipeline.name, table, whole=not (where or keys or swap))
    return table, catalog.row_estimate(table)


def _check_loaded(target: TargetConfig, pipeline: str, table: Table, *, whole: bool) -> None:
    with StateStore(target, pipeline) as state:
        if state.version() and not state.check():
            raise Refused(
                "state_older",
                "schema cdc",
                "was made by an earlier version",
                "start the pipeline with this version first",
            )
        if not state.version() or state.read().progress is None:
            raise Refused(
                "not_loaded", table.qualified, "the pipeline has not copied anything yet", "cdc run, or cdc snapshot"
            )
        known = state.table(table.db, table.name)
        if whole and known is not None:
            state_requests.check_can_be_emptied(state, known.target_schema, known.target_table)


def _try(source: SourceConfig, table: Table, where: str) -> None:
    """Refuse a condition that the source does not understand."""
    with closing(connect(source)) as line:
        try:
            _ask_for_nothing(line, table, where)
        except Retry:
            raise
        except CdcError as error:
            raise Refused(
                "condition",
                table.qualified,
                f"the server does not accept the condition: {error.rule}",
                "try it in a SELECT",
            ) from None


def _ask_for_nothing(line: Any, table: Table, where: str) -> None:
    with deciding(table.qualified), line.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {qualified(table)} WHERE FALSE AND ({where})")


def keys_of(table: Table, text: str) -> list[Key]:
    """The keys of `--keys`: JSON, or texts with commas between for a key of one column."""
    if not text:
        return []
    keys = _parsed(text)
    if not key_text.can_be_said(table):
        raise Refused("key_type", table.qualified, "its rows cannot be named by texts of their keys", "use --where")
    if not keys or any(len(key) != len(table.key) for key in keys):
        raise Refused(
            "keys", "--keys", f"each key of {table.qualified} has {len(table.key)} parts", 'write [["a","1"],["b","2"]]'
        )
    for key in keys:
        _check_key(table, key)
    return keys


def _check_key(table: Table, key: Key) -> None:
    try:
        for at, text in zip(table.key, key, strict=True):
            key_text.expression(table.columns[at], text)
    except ValueError:
        raise Refused(
            "keys",
            "--keys",
            "a key is no text of its column's type",
            "numbers, dates and times as the server prints them, bytes as 0x00ff",
        ) from None


def _parsed(text: str) -> list[Key]:
    if not text.lstrip().startswith("["):
        return [(part.strip(),) for part in text.split(",") if part.strip()]
    try:
        found = json.loads(text)
        text.encode()
    except (ValueError, RecursionError):
        raise Refused("keys", "--keys", "is no JSON", 'write [["a","1"],["b","2"]]') from None
    return [tuple(map(str, key)) if isinstance(key, list) else (str(key),) for key in found]
