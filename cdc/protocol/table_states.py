"""The states of a table and every way between them: the table below is the machine, and docs/states.md is drawn from
it.

    new            selected; nothing of it is in the target that could be relied on
    copying        its rows are being copied; its floor is known, its ceiling is not
    catching_up    copied; changes up to its ceiling are still to be applied, so it must not be shown as consistent
    consistent     as of the applied cut it equals the source
    quarantined    like consistent or catching up, except for the keys that the target refused
    refused        cannot be followed as it stands, found before it was touched; the others go on
    stopped        was followed and is no longer: its rows stay as they were

A copy is withdrawn (`withdrawn`) when what it was read for does not hold any more: a base goes back behind its end, a
change of its columns falls between floor and ceiling, or somebody asks for a new copy. Whatever was quarantined goes
with it.

A row that is refused while its table is being copied waits like any other; the table is shown as quarantined once it is
copied.

Two rules. Everything that affects a transition lives in this file; and an event that a state does not expect is an
error that changes nothing, because acting on it would show a table as something that it is not.
"""

from __future__ import annotations

import sys
from enum import StrEnum

from cdc.errors import Halt


class TableState(StrEnum):
    """Where a table stands, as `cdc status` and `cdc.tables` show it."""

    NEW = "new"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    CONSISTENT = "consistent"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    STOPPED = "stopped"


class TableEvent(StrEnum):
    """What happens to a table."""

    COPY_STARTED = "copy_started"
    CHUNK_COPIED = "chunk_copied"
    COPIED = "copied"
    CEILING_PASSED = "ceiling_passed"
    KEY_QUARANTINED = "key_quarantined"
    KEYS_RELEASED = "keys_released"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    STOPPED = "stopped"
    ALLOWED = "allowed"


MEANING = {
    TableEvent.COPY_STARTED: "its floor is taken and its target table made and empty",
    TableEvent.CHUNK_COPIED: "one more key range is committed on the target",
    TableEvent.COPIED: "the last key range is in; its ceiling is known",
    TableEvent.CEILING_PASSED: "a whole cut at or past the ceiling is applied, and no key is quarantined",
    TableEvent.KEY_QUARANTINED: "the target refused a row of it",
    TableEvent.KEYS_RELEASED: "its last quarantined key was replayed, discarded or copied again",
    TableEvent.WITHDRAWN: "floor and ceiling do not hold any more: it is to be copied again",
    TableEvent.REFUSED: "it cannot be copied or followed, for a stated reason",
    TableEvent.STOPPED: "it left the selection, was dropped, or changed in a way that is not followed",
    TableEvent.ALLOWED: "what stood in the way is mended, or it is selected again",
}

TRANSITIONS: dict[tuple[TableState, TableEvent], TableState] = {
    (TableState.NEW, TableEvent.COPY_STARTED): TableState.COPYING,
    (TableState.NEW, TableEvent.REFUSED): TableState.REFUSED,
    (TableState.NEW, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.NEW, TableEvent.WITHDRAWN): TableState.NEW,
    (TableState.COPYING, TableEvent.CHUNK_COPIED): TableState.COPYING,
    (TableState.COPYING, TableEvent.COPIED): TableState.CATCHING_UP,
    (TableState.COPYING, TableEvent.KEY_QUARANTINED): TableState.COPYING,
    (TableState.COPYING, TableEvent.WITHDRAWN): TableState.NEW,
    (TableState.COPYING, TableEvent.REFUSED): TableState.REFUSED,
    (TableState.COPYING, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.CATCHING_UP, TableEvent.CEILING_PASSED): TableState.CONSISTENT,
    (TableState.CATCHING_UP, TableEvent.KEY_QUARANTINED): TableState.QUARANTINED,
    (TableState.CATCHING_UP, TableEvent.WITHDRAWN): TableState.NEW,
    (TableState.CATCHING_UP, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.CONSISTENT, TableEvent.CEILING_PASSED): TableState.CONSISTENT,
    (TableState.CONSISTENT, TableEvent.KEY_QUARANTINED): TableState.QUARANTINED,
    (TableState.CONSISTENT, TableEvent.WITHDRAWN): TableState.NEW,
    (TableState.CONSISTENT, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.QUARANTINED, TableEvent.KEY_QUARANTINED): TableState.QUARANTINED,
    (TableState.QUARANTINED, TableEvent.KEYS_RELEASED): TableState.CATCHING_UP,
    (TableState.QUARANTINED, TableEvent.WITHDRAWN): TableState.NEW,
    (TableState.QUARANTINED, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.REFUSED, TableEvent.REFUSED): TableState.REFUSED,
    (TableState.REFUSED, TableEvent.ALLOWED): TableState.NEW,
    (TableState.REFUSED, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.STOPPED, TableEvent.STOPPED): TableState.STOPPED,
    (TableState.STOPPED, TableEvent.ALLOWED): TableState.NEW,
}

SHOWN_AS_CONSISTENT = frozenset({TableState.CONSISTENT})
FOLLOWED = frozenset({TableState.COPYING, TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED})
LOADED = FOLLOWED - {TableState.COPYING} | {TableState.REFUSED}
"""Nothing is to be copied before the table can be followed: it is copied, or cannot be."""


def follow(table: str, state: str, event: TableEvent) -> TableState:
    """The state after the event; Halt when the state does not expect it."""
    found = TRANSITIONS.get((TableState(state), event))
    if found is None:
        raise Halt(
            "illegal_transition",
            table,
            f"a table that is {state} cannot take the event {event}",
            "this is a defect: report it",
        )
    return found


def document() -> str:
    """docs/states.md, whole."""
    rows = [f"| `{state}` | `{event}` | `{after}` |" for (state, event), after in TRANSITIONS.items()]
    arrows = [f"    {state} --> {after}: {event}" for (state, event), after in TRANSITIONS.items() if state != after]
    meanings = [f"- `{event}`: {meaning}" for event, meaning in MEANING.items()]
    prose = (__doc__ or "").partition("\n\n")[2]
    return "\n".join(
        [
            "# The states of a table",
            "",
            "Made from `cdc/protocol/table_states.py` by `python -m cdc.protocol.table_states > docs/states.md`; "
            "a test holds them equal.",
            "",
            prose.strip("\n"),
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> new",
            *arrows,
            "```",
            "",
            "## Events",
            "",
            *meanings,
            "",
            "## Transitions",
            "",
            "| in | event | then |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(document())
