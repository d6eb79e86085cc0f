"""The states of a table and every way between them: the table below is the machine, and docs/states.md is drawn from it.

    new            selected; nothing of it is in the target that could be relied on
    copying        its rows are being copied; its floor is known, its ceiling is not
    catching_up    copied; changes up to its ceiling are still to be applied, so it must not be shown as consistent
    consistent     as of the applied cut it equals the source
    quarantined    like consistent or catching up, except for the keys that the target refused
    refused        cannot be followed as it stands, found before it was touched; the others go on
    stopped        was followed and is no longer: its rows stay as they were

A copy is withdrawn (`withdrawn`) when what it was read for does not hold any more: a base goes back behind its end, a change of
its columns falls between floor and ceiling, or somebody asks for a new copy. Whatever was quarantined goes with it.

A row that is refused while its table is being copied waits like any other; the table is shown as quarantined once it is copied.

Two rules. Everything that affects a transition lives in this file; and an event that a state does not expect is an error that
changes nothing, because acting on it would show a table as something that it is not.
"""

from __future__ import annotations

import sys
from enum import StrEnum

from cdc.errors import Halt


class State(StrEnum):
    """Where a table stands, as `cdc status` and `cdc.tables` show it."""

    NEW = "new"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    CONSISTENT = "consistent"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    STOPPED = "stopped"


class Event(StrEnum):
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
    Event.COPY_STARTED: "its floor is taken and its target table made and empty",
    Event.CHUNK_COPIED: "one more key range is committed on the target",
    Event.COPIED: "the last key range is in; its ceiling is known",
    Event.CEILING_PASSED: "a whole cut at or past the ceiling is applied, and no key is quarantined",
    Event.KEY_QUARANTINED: "the target refused a row of it",
    Event.KEYS_RELEASED: "its last quarantined key was replayed, discarded or copied again",
    Event.WITHDRAWN: "floor and ceiling do not hold any more: it is to be copied again",
    Event.REFUSED: "it cannot be copied or followed, for a stated reason",
    Event.STOPPED: "it left the selection, was dropped, or changed in a way that is not followed",
    Event.ALLOWED: "what stood in the way is mended, or it is selected again",
}

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NEW, Event.COPY_STARTED): State.COPYING,
    (State.NEW, Event.REFUSED): State.REFUSED,
    (State.NEW, Event.STOPPED): State.STOPPED,
    (State.NEW, Event.WITHDRAWN): State.NEW,
    (State.COPYING, Event.CHUNK_COPIED): State.COPYING,
    (State.COPYING, Event.COPIED): State.CATCHING_UP,
    (State.COPYING, Event.KEY_QUARANTINED): State.COPYING,
    (State.COPYING, Event.WITHDRAWN): State.NEW,
    (State.COPYING, Event.REFUSED): State.REFUSED,
    (State.COPYING, Event.STOPPED): State.STOPPED,
    (State.CATCHING_UP, Event.CEILING_PASSED): State.CONSISTENT,
    (State.CATCHING_UP, Event.KEY_QUARANTINED): State.QUARANTINED,
    (State.CATCHING_UP, Event.WITHDRAWN): State.NEW,
    (State.CATCHING_UP, Event.STOPPED): State.STOPPED,
    (State.CONSISTENT, Event.CEILING_PASSED): State.CONSISTENT,
    (State.CONSISTENT, Event.KEY_QUARANTINED): State.QUARANTINED,
    (State.CONSISTENT, Event.WITHDRAWN): State.NEW,
    (State.CONSISTENT, Event.STOPPED): State.STOPPED,
    (State.QUARANTINED, Event.KEY_QUARANTINED): State.QUARANTINED,
    (State.QUARANTINED, Event.KEYS_RELEASED): State.CATCHING_UP,
    (State.QUARANTINED, Event.WITHDRAWN): State.NEW,
    (State.QUARANTINED, Event.STOPPED): State.STOPPED,
    (State.REFUSED, Event.REFUSED): State.REFUSED,
    (State.REFUSED, Event.ALLOWED): State.NEW,
    (State.REFUSED, Event.STOPPED): State.STOPPED,
    (State.STOPPED, Event.STOPPED): State.STOPPED,
    (State.STOPPED, Event.ALLOWED): State.NEW,
}

SHOWN_AS_CONSISTENT = frozenset({State.CONSISTENT})
FOLLOWED = frozenset({State.COPYING, State.CATCHING_UP, State.CONSISTENT, State.QUARANTINED})
LOADED = FOLLOWED - {State.COPYING} | {State.REFUSED}
"""Nothing is to be copied before the table can be followed: it is copied, or cannot be."""


def follow(table: str, state: str, event: Event) -> State:
    """The state after the event; Halt when the state does not expect it."""
    found = TRANSITIONS.get((State(state), event))
    if found is None:
        raise Halt("illegal_transition", table, f"a table that is {state} cannot take the event {event}", "this is a defect: report it")
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
            "Made from `cdc/lifecycle.py` by `python -m cdc.lifecycle > docs/states.md`; a test holds them equal.",
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
