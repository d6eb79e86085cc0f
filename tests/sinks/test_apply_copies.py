"""Copies and bases in the sink, over a log made by hand: what is emptied, filled, left out, and not begun."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc.errors import Halt, Refused
from cdc.protocol.applied import MADE
from cdc.protocol.control import Anomaly
from cdc.protocol.copy_progress import DONE, REFUSED, WHOLE, Active, Copies, Ended
from cdc.protocol.table_states import TableState
from sinks import apply as module
from sinks.apply import BELOW, Rewound
from sinks.table_states import SHADOW
from tests.helpers.sink_by_hand import DB, DEFERRED, HEAP, P, Q, Said, Story, Time, begun, position, state
from tests.simulation.target import DEFERRED_VALUE


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut is a batch of its own."""
    monkeypatch.setattr(module, "BATCH_ROWS", 1)


# -- copies and bases


def test_a_copy_empties_its_table_and_fills_it_and_changes_at_its_exact_position_are_in_it() -> None:
    for exact, rows in ((True, [(2, 2), (3, 3)]), (False, [(1, 9), (2, 2), (3, 3)])):
        story = begun()
        story.server.content.stocks["d.p"].rows[b"old"] = (9, 9)
        story.copy(P, "id", exact=exact, at=1)
        story.put(P, None, (1, 9))
        story.put(P, None, (2, 2), read=True)
        story.cut()
        story.put(P, None, (3, 3))
        story.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
        story.applied()
        assert (rows, TableState.CONSISTENT) == (story.rows(P), story.of(P).state)
        assert "empty p" in story.target.calls


def test_a_copy_that_the_target_refuses_leaves_its_table_as_it_is_and_its_rows_out() -> None:
    story = begun()
    story.put(P, None, (1, 1))
    story.cut()
    story.copy(P, "id")
    story.put(P, None, (1, 9), read=True)
    story.put(P, None, (2, 2))
    story.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    story.target.refuses["empty"] = Refused("target_denied", "d.p", "is referenced", "")
    story.applied()
    assert ([(1, 1), (2, 2)], TableState.CONSISTENT) == (story.rows(P), story.of(P).state)
    assert [(REFUSED, "d.p: is referenced")] == [(one.outcome, one.reason) for one in story.content.copies.values()]


def test_a_second_table_takes_the_first_one_s_place_when_its_copy_ends() -> None:
    story = begun()
    story.put(P, None, (1, 1))
    story.cut()
    story.copy(P, "id", swap=True)
    story.put(P, None, (2, 2), read=True)
    story.put(P, None, (3, 3))
    story.cut()
    story.applied()
    assert ([(1, 1), (3, 3)], [(2, 2), (3, 3)]) == (story.rows(P), story.rows(P, shadow=True))
    story.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    story.target.calls.clear()
    story.applied()
    assert (["become equal", "drop second p", "commit"], [(2, 2), (3, 3)]) == (story.target.calls, story.rows(P))


def test_a_second_table_whose_rows_a_deferred_constraint_refuses_is_checked_at_once() -> None:
    story = begun()
    story.copy(P, "id", swap=True)
    story.cut()
    story.applied()
    story.content.stocks["d.p/shadow"].rows[b"x"] = (1, DEFERRED_VALUE)
    story.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    story.target.calls.clear()
    story.target.fails.extend([("commit", DEFERRED)] * 2)
    story.applied()
    assert ["become equal", "become equal", "become equal strictly"] == [one for one in story.target.calls if one.startswith("become")]
    assert [REFUSED] == [one.outcome for one in story.content.copies.values()]


def test_a_second_table_whose_copy_goes_on_nowhere_is_dropped_with_the_next_base() -> None:
    for active, dropped in ((None, True), (Active("id", "r", DB, "p", WHOLE, ("1",), 1, True), False)):
        story = Story(state("p", TableState.CONSISTENT, schema={MADE: True, SHADOW: "id"}), state("q"), state("heap"))
        story.content.stocks["d.p/shadow"] = story.content.stocks["d.p"].copy()
        story.begins(copies=Copies(active=active))
        story.applied()
        assert dropped == ("drop second p" in story.target.calls) == (SHADOW not in story.of(P).schema)


@pytest.mark.usefixtures("one_by_one")
def test_changes_of_a_table_that_takes_nothing_are_left_out_and_counted() -> None:
    states = state("p", TableState.REFUSED, floor=None), state("q", TableState.REFUSED, floor=None), state("heap")
    story = begun(*states)
    for table in (P, P, Q, HEAP):
        story.put(table, None, (1, 1))
    story.cut()
    for table in (P, HEAP):
        story.put(table, None, (1, 1))
        story.cut()
    sink = story.applied()
    assert ([], [], [(1, 1), (1, 1)]) == (story.rows(P), story.rows(Q), story.rows(HEAP))
    assert ({"refused": 4}, {(DB, "heap"): 2}) == (sink.counters.void, sink.counters.rows)


def test_what_was_odd_is_counted_by_table_column_and_reason() -> None:
    story = begun()
    story.cut(anomalies=(Anomaly(DB, "p", "b", "zero_date", 2), Anomaly(DB, "q", "b", "zero_date", 1)))
    story.cut(anomalies=(Anomaly(DB, "p", "b", "zero_date", 3),))
    what = (DB, "p", "b", "nul_text")
    story.target.changed = {what: 2}
    sink = story.applied()
    assert {(DB, "p", "b", "zero_date"): 5, (DB, "q", "b", "zero_date"): 1} == story.content.anomalies
    assert {what: 4} == sink.counters.anomalies


def test_a_base_below_pieces_that_nobody_committed_begins_at_what_is_stored() -> None:
    story = begun()
    story.applied()
    story.put(P, None, (1, 1))
    story.cut(partial=True)
    polls = iter(range(9))

    def capture_begins_again() -> None:
        if next(polls) == 2:
            story.begins(cut_no=0)

    story.log.at_poll = capture_begins_again
    with pytest.raises(Rewound, match=BELOW):
        story.applied()
    assert (["lock", "bisect p", "rollback"], []) == (story.target.calls[-3:], story.rows(P))


def test_one_base_behind_the_other_is_entered() -> None:
    story = begun()
    story.begins()
    story.put(P, None, (1, 1))
    story.cut()
    story.applied()
    assert [(1, 1)] == story.rows(P)
    assert "rollback" not in story.target.calls


def test_a_target_that_holds_no_copy_takes_the_one_through_the_topics_and_nothing_else() -> None:
    story = Story()
    story.content.progress, story.content.tables = None, {}
    story.begins()
    with pytest.raises(Halt) as stop:
        story.applied()
    assert "not_loaded" == stop.value.code
    copied = Story()
    copied.content.progress, copied.content.tables = None, {}
    copied.begins(copying=True)
    copied.put(P, None, (1, 1), read=True)
    copied.cut(partial=True)
    copied.cut()
    copied.applied()
    assert (TableState.CONSISTENT, [(1, 1)], position(1)) == (copied.of(P).state, copied.rows(P), copied.stored.position)
    assert [position(1)] == [one.position for one in copied.target.commits], "nothing says that it is there before it is"


def test_a_sink_that_starts_in_the_middle_of_a_copy_ends_it_with_no_cut_but_its_own() -> None:
    story = begun()
    story.copy(P, "id")
    for key in (1, 2):
        story.put(P, None, (key, 1), read=True)
        story.cut()
        story.applied()
    assert (TableState.COPYING, [(1, 1), (2, 1)]) == (story.of(P).state, story.rows(P))


@pytest.mark.usefixtures("one_by_one")
def test_behind_the_copy_through_the_topics_a_barrier_empties_its_table_once_and_no_cut_ends_what_it_began() -> None:
    story = Story()
    story.content.progress, story.content.tables = None, {}
    story.begins(copying=True)
    story.put(P, None, (1, 1), read=True)
    story.cut(partial=True)
    story.cut()
    story.copy(Q, "id")
    for key in (1, 2):
        story.put(Q, None, (key, 1), read=True)
        story.cut()
    story.applied()
    assert (TableState.CONSISTENT, TableState.COPYING) == (story.of(P).state, story.of(Q).state)
    assert [(1, 1), (2, 1)] == story.rows(Q)


def test_a_table_that_cannot_be_made_is_refused_and_the_others_go_on_but_not_in_the_first_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    denied, said = Refused("target_denied", "d.p", "no", ""), Said(monkeypatch)
    story = Story(state("q"), state("heap"))
    del story.content.stocks["d.p"]
    story.target.refuses["create"] = denied
    story.begins(uncopied=((DB, "p"),))
    story.put(Q, None, (1, 1))
    story.cut()
    story.applied()
    assert (TableState.REFUSED, "d.p: no", [(1, 1)]) == (story.of(P).state, story.of(P).reason, story.rows(Q))
    assert ["warning target_denied d.p"] == said.lines
    other = Story(state("q"), state("heap"))
    other.target.refuses["create"] = Halt("fenced", "pipeline sim", "another has taken over")
    other.begins(uncopied=((DB, "p"),))
    with pytest.raises(Halt, match="another has taken over"):
        other.applied()
    first = Story()
    first.content.progress, first.content.tables = None, {}
    first.target.refuses["create"] = denied
    first.begins(copying=True)
    with pytest.raises(Refused):
        first.applied()
