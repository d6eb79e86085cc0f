"""The states of a table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.errors import Halt
from cdc.protocol import table_states
from cdc.protocol.table_states import MEANING, TRANSITIONS, TableEvent, TableState, follow
from cdc.state.migrations import MIGRATIONS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "states.md"


def after(*events: TableEvent, state: TableState = TableState.NEW) -> TableState:
    for event in events:
        state = follow("a.b", state, event)
    return state


def test_the_document_is_made_from_the_table():
    assert table_states.document() == DOCUMENT.read_text()


def test_the_states_are_those_that_the_target_s_schema_allows():
    check = re.search(r"state text NOT NULL CHECK \(state IN \(([^)]*)\)\)", MIGRATIONS[0])
    assert check
    assert {str(state) for state in TableState} == set(re.findall(r"'(\w+)'", check[1]))


def test_a_table_is_copied_and_becomes_consistent_at_its_ceiling():
    copied = (TableEvent.COPY_STARTED, TableEvent.CHUNK_COPIED, TableEvent.CHUNK_COPIED, TableEvent.COPIED)
    assert TableState.CONSISTENT == after(*copied, TableEvent.CEILING_PASSED)


def test_a_table_is_not_consistent_before_its_ceiling():
    assert TableState.CATCHING_UP == after(TableEvent.COPY_STARTED, TableEvent.COPIED)


def test_a_table_whose_keys_were_released_is_consistent_only_at_the_next_cut():
    quarantined = after(TableEvent.COPY_STARTED, TableEvent.COPIED, TableEvent.CEILING_PASSED, TableEvent.KEY_QUARANTINED)
    assert TableState.QUARANTINED == quarantined
    assert TableState.CATCHING_UP == after(TableEvent.KEYS_RELEASED, state=quarantined)


@pytest.mark.parametrize("state", [TableState.COPYING, TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED])
def test_a_withdrawn_copy_starts_anew(state):
    assert TableState.COPYING == after(TableEvent.WITHDRAWN, TableEvent.COPY_STARTED, state=state)


@pytest.mark.parametrize(("state", "event"), [(s, e) for s in TableState for e in TableEvent if (s, e) not in TRANSITIONS])
def test_an_event_that_a_state_does_not_expect_is_an_error(state, event):
    with pytest.raises(Halt) as caught:
        follow("a.b", state, event)
    assert ("illegal_transition", "a.b") == (caught.value.code, caught.value.place)


def test_no_way_leads_to_consistent_but_by_a_ceiling():
    assert {TableEvent.CEILING_PASSED} == {event for (_, event), after in TRANSITIONS.items() if after is TableState.CONSISTENT}


def test_every_state_is_reached_from_new_and_every_event_is_used_and_explained():
    reached = {TableState.NEW}
    while more := {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert set(TableState) == reached
    assert set(TableEvent) == {event for _, event in TRANSITIONS} == set(MEANING)


def test_changes_are_taken_for_tables_that_are_copied_or_being_copied_and_nothing_keeps_the_log_from_being_followed_but_a_copy():
    assert {TableState.COPYING, TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED} == table_states.FOLLOWED
    assert {TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED, TableState.REFUSED} == table_states.LOADED
    assert {TableState.CONSISTENT} == table_states.SHOWN_AS_CONSISTENT


def test_the_document_is_what_the_module_prints():
    command = [sys.executable, "-m", "cdc.protocol.table_states"]
    done = subprocess.run(command, cwd=DOCUMENT.parent.parent, check=True, capture_output=True, text=True)
    assert DOCUMENT.read_text() == done.stdout
