"""The states of a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdc import lifecycle
from cdc.errors import Halt
from cdc.lifecycle import MEANING, TRANSITIONS, Event, State, follow
from cdc.state_schema import MIGRATIONS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "states.md"


def after(*events: Event, state: State = State.NEW) -> State:
    for event in events:
        state = follow("a.b", state, event)
    return state


def test_the_document_is_made_from_the_table():
    assert lifecycle.document() == DOCUMENT.read_text()


def test_the_states_are_those_that_the_target_s_schema_allows():
    check = re.search(r"state text NOT NULL CHECK \(state IN \(([^)]*)\)\)", MIGRATIONS[0])
    assert check
    assert {str(state) for state in State} == set(re.findall(r"'(\w+)'", check[1]))


def test_a_table_is_copied_and_becomes_consistent_at_its_ceiling():
    assert State.CONSISTENT == after(Event.COPY_STARTED, Event.CHUNK_COPIED, Event.CHUNK_COPIED, Event.COPIED, Event.CEILING_PASSED)


def test_a_table_is_not_consistent_before_its_ceiling():
    assert State.CATCHING_UP == after(Event.COPY_STARTED, Event.COPIED)


def test_a_table_whose_keys_were_released_is_consistent_only_at_the_next_cut():
    quarantined = after(Event.COPY_STARTED, Event.COPIED, Event.CEILING_PASSED, Event.KEY_QUARANTINED)
    assert State.QUARANTINED == quarantined
    assert State.CATCHING_UP == after(Event.KEYS_RELEASED, state=quarantined)


@pytest.mark.parametrize("state", [State.COPYING, State.CATCHING_UP, State.CONSISTENT, State.QUARANTINED])
def test_a_withdrawn_copy_starts_anew(state):
    assert State.COPYING == after(Event.WITHDRAWN, Event.COPY_STARTED, state=state)


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in State for e in Event if (s, e) not in TRANSITIONS])
def test_an_event_that_a_state_does_not_expect_is_an_error(state, event):
    with pytest.raises(Halt) as caught:
        follow("a.b", state, event)
    assert ("illegal_transition", "a.b") == (caught.value.code, caught.value.place)


def test_no_way_leads_to_consistent_but_by_a_ceiling():
    assert {Event.CEILING_PASSED} == {event for (_, event), after in TRANSITIONS.items() if after is State.CONSISTENT}


def test_every_state_is_reached_from_new_and_every_event_is_used_and_explained():
    reached = {State.NEW}
    while more := {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert set(State) == reached
    assert set(Event) == {event for _, event in TRANSITIONS} == set(MEANING)
