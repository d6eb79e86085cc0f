"""`cdc wait`, and waiting until both sides can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cdc.config.load import Config, SourceConfig
from cdc.model.position import Position
from cdc.model.table import TableName
from cdc.monitoring.stillness import Stillness, standing
from cdc.mysql.catalog import Catalog
from cdc.protocol.applied import Stored
from cdc.protocol.table_states import SHOWN_AS_CONSISTENT, TableState
from cdc.runtime import clock, timing
from cdc.state.store import StateStore


def waiting(keys: int) -> str:
    """What is said of a table of which so many keys wait; nothing of none."""
    return f"{keys} keys wait in quarantine: cdc quarantine list" if keys else ""


class Settling:
    """Waits until the target has what the source had at the call, and learns where that is in vain.

    A wait in vain halves the next one, down to a second; while the target stands where such a wait left it, there is
    none. The first that is not in vain restores the whole timeout.
    """

    def __init__(
        self,
        catalog: Catalog,
        target: StateStore,
        timeout: float = timing.TIMES.position_seconds,
        told: Callable[[float], None] = lambda waited: None,
        max_delay_seconds: float = 0.0,
    ) -> None:
        """`told` hears how long is waited so far; `max_delay_seconds` as the sink has it."""
        self._catalog, self._target, self._timeout, self._told = catalog, target, timeout, told
        self._patience = timeout
        self._left_at: object = None
        hint = (
            f"After {timeout:g} s (--timeout) tables are compared as they are: those that agree are equal, "
            "of the others nothing can be said"
        )
        self._stillness = Stillness("reconcile", hint, max_delay_seconds)

    def __call__(self) -> None:
        """Return once the target has applied all that the source had written at the call; else TimeoutError."""
        wanted, checked = self._catalog.log.written_position(), False
        started = clock.monotonic()
        self._stillness.begin()
        while True:
            stored = self._target.read()
            progress = stored.progress
            reached = progress is not None and progress.position.covers(wanted)
            if progress is not None and (reached or not checked):
                self._catalog.identity.check(progress.position)
                checked = True
            if reached:
                self._patience, self._left_at = self._timeout, None
                return
            waited, stands = clock.monotonic() - started, standing(stored)
            self._stillness.look(stored)
            self._told(waited)
            if stands == self._left_at or waited >= self._patience:
                self._patience, self._left_at = max(self._patience / 2, min(1.0, self._timeout)), stands
                raise TimeoutError
            clock.sleep(timing.TIMES.position_poll_seconds)


def wait(config: Config, timeout: float) -> dict[str, Any]:
    """Wait until the target holds everything that the source had written at the call; the document of `cdc wait`.

    Stops when the source is not, provably, the one that the target's position was read from.
    """
    with Catalog(config.source) as catalog, StateStore(config.target, config.pipeline.name) as target:
        stillness = Stillness("wait", f"It is waited for up to {timeout:g} s", config.apply.max_delay_seconds)
        return _waited(config.source, catalog, target, timeout, stillness)


def _waited(
    source: SourceConfig, catalog: Catalog, target: StateStore, timeout: float, stillness: Stillness
) -> dict[str, Any]:
    started, wanted = clock.monotonic(), catalog.log.written_position()
    selected = {(t.db, t.name) for t in catalog.tables(source.tables, source.exclude)}
    checked = False
    while True:
        stored = target.read()
        stillness.look(stored)
        held = any(table.state == TableState.QUARANTINED for table in stored.tables.values())
        behind = _behind(stored, selected, wanted, target.quarantined() if held else {})
        if stored.progress is not None and not (
            checked and behind
        ):  # numbers are compared: of one log, at first and at last
            catalog.identity.check(stored.progress.position)
            checked = True
        seconds = clock.monotonic() - started
        if not behind or seconds >= timeout:
            applied = stored.progress.position.to_json() if stored.progress else None
            return {
                "reached": not behind,
                "position": wanted.to_json(),
                "applied": applied,
                "seconds": seconds,
                "behind": behind,
            }
        clock.sleep(timing.TIMES.position_poll_seconds)


def _behind(
    stored: Stored, selected: set[TableName], wanted: Position, quarantined: Mapping[TableName, int]
) -> list[dict[str, str]]:
    covered = stored.progress is not None and stored.progress.position.covers(wanted)
    found = (
        []
        if covered
        else [
            {"table": "*", "state": str(TableState.CATCHING_UP), "reason": "changes of the source are not applied yet"}
        ]
    )
    for db, table in sorted(selected):
        state = stored.tables.get((db, table))
        kind = state.state if state else TableState.NEW
        if kind not in SHOWN_AS_CONSISTENT:
            reason = (state.reason if state else "") or waiting(quarantined.get((db, table), 0)) or "is not consistent"
            found.append({"table": f"{db}.{table}", "state": str(kind), "reason": reason})
    return found
