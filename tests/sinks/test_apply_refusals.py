"""What the target refuses, and what meets another transaction: what waits, what is undone, and what is done again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cdc.errors import Halt, Retry, RowRefused
from cdc.protocol.copy_progress import DONE, WHOLE, Ended
from cdc.protocol.table_states import TableState
from cdc.runtime import timing
from sinks import apply as module
from sinks.apply import CONFLICTS, Rewound
from sinks.quarantine import QuarantineLimits
from tests.helpers.sink_by_hand import AWAY, CONFLICT, DB, DEFERRED, P, Q, Said, Story, Time, begun, position, state
from tests.simulation.target import DEFERRED_VALUE, REFUSED_VALUE


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut is a batch of its own."""
    monkeypatch.setattr(module, "BATCH_ROWS", 1)


def since_base(story: Story) -> list[str]:
    """What the target was asked behind the commit of the base."""
    return story.target.calls[story.target.calls.index("commit") + 1 :]


# -- what the target refuses


def test_a_refused_row_s_key_waits_with_all_that_follows_and_the_rest_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    story, said = begun(), Said(monkeypatch)
    story.put(P, None, (1, 2))
    story.put(P, None, (2, REFUSED_VALUE))
    story.cut()
    sink = story.applied()
    assert ["write p", "rollback", "lock", "bisect p", "commit"] == since_base(story)
    assert ([(1, 2)], ["p"], TableState.QUARANTINED) == (story.rows(P), story.waiting(), story.of(P).state)
    assert ["warning key_quarantined d.p"] == said.lines
    assert ({(DB, "p"): 1}, {(DB, "p"): 1}, {(DB, "p"): 2}) == (sink.counters.held, sink.counters.queued, sink.counters.rows)
    story.put(P, (2, REFUSED_VALUE), (2, 3))
    story.put(P, None, (3, 3))
    story.cut()
    story.target.calls.clear()
    sink = story.applied()
    assert (["lock", "write p", "commit"], ["p", "p"]) == (story.target.calls, story.waiting())
    assert [(1, 2), (3, 3)] == story.rows(P)
    assert ({(DB, "p"): 1}, {(DB, "p"): 2}) == (sink.counters.queued, sink.counters.rows)


@pytest.mark.usefixtures("one_by_one")
def test_what_waits_goes_on_waiting_through_a_later_batch_that_is_written_twice() -> None:
    story = begun()
    for value, key in ((REFUSED_VALUE, 1), (3, 1), (REFUSED_VALUE, 2)):
        story.put(P, None if key == 2 or value != 3 else (1, 2), (key, value))
        if value == 3:
            continue
        story.cut()
    sink = story.applied()
    assert (["p", "p", "p"], [], {(DB, "p"): 3}) == (story.waiting(), story.rows(P), sink.counters.queued)
    assert {(DB, "p"): 2} == sink.counters.held


def test_keys_that_another_process_has_released_are_written_again() -> None:
    story = begun()
    story.put(P, None, (1, REFUSED_VALUE))
    story.cut()
    story.applied()

    def released() -> None:
        story.content.waiting, story.content.releases = (), 1

    story.put(P, (1, REFUSED_VALUE), (1, 4))
    story.cut()
    story.log.at_poll = released
    story.applied()
    assert ([(1, 4)], []) == (story.rows(P), story.waiting())


def test_a_deferred_refusal_is_found_by_checking_at_once() -> None:
    story = begun()
    story.put(P, None, (1, DEFERRED_VALUE))
    story.put(P, None, (2, 2))
    story.cut()
    story.applied()
    first, second = ["write p", "commit", "rollback"], ["lock", "bisect p", "commit", "rollback"]
    assert [*first, *second, "lock strictly", "bisect p", "commit"] == since_base(story)
    assert ([(2, 2)], ["p"]) == (story.rows(P), story.waiting())
    assert not story.target.strictly


def test_what_is_refused_however_it_is_written_ends_the_sink() -> None:
    story = begun()
    story.applied()
    story.put(P, None, (1, 1))
    story.cut()
    story.target.fails.extend([("commit", DEFERRED)] * 3)
    with pytest.raises(RowRefused):
        story.applied()
    assert [] == list(story.target.fails)
    assert [] == story.rows(P)


def test_where_nothing_may_wait_the_first_refusal_ends_the_sink_and_its_row_is_looked_for() -> None:
    story = begun()
    story.put(P, None, (1, REFUSED_VALUE))
    story.cut()
    with pytest.raises(RowRefused):
        story.applied(story.memory(QuarantineLimits(keys=0)))
    assert "write p and locate" == since_base(story)[0]
    assert not any(call.startswith(("bisect", "lock")) for call in story.target.calls)


@pytest.mark.usefixtures("one_by_one")
def test_keys_that_were_written_count_in_the_share_that_was_refused() -> None:
    story = begun()
    for key in range(40):
        story.put(P, None, (key, 1))
    story.cut()
    for first in (100, 200):
        for key in range(first, first + 12):
            story.put(P, None, (key, REFUSED_VALUE))
        story.cut()
    story.applied(memory := story.memory(QuarantineLimits(1000, 0.5)))
    assert {(DB, "p"): 24} == memory.counters.held


# -- second tables


@pytest.mark.usefixtures("one_by_one")
def test_a_row_that_a_table_refuses_waits_once_and_goes_not_into_the_second_table() -> None:
    story = begun()
    story.copy(P, "id", swap=True)
    story.put(P, None, (1, 1), read=True)
    story.cut()
    story.put(P, None, (2, REFUSED_VALUE))
    story.put(P, None, (3, 3))
    story.cut()
    story.applied()
    assert (["p"], [(3, 3)], [(1, 1), (3, 3)]) == (story.waiting(), story.rows(P), story.rows(P, shadow=True))


@pytest.mark.usefixtures("one_by_one")
def test_a_row_that_a_copy_brings_of_a_key_that_waits_frees_it_and_goes_into_both_tables() -> None:
    story = begun()
    for key in (1, 2):
        story.put(P, None, (key, REFUSED_VALUE))
        story.cut()
    story.copy(P, "id", swap=True)
    story.put(P, None, (1, 1), read=True)
    story.put(P, None, (3, 3), read=True)
    story.cut()
    sink = story.applied()
    assert (["p"], [(1, 1)], [(1, 1), (3, 3)]) == (story.waiting(), story.rows(P), story.rows(P, shadow=True))
    story.put(P, (1, 1), (1, 2))
    story.cut()
    story.applied()
    assert (["p"], [(1, 2)], {(DB, "p"): 1}) == (story.waiting(), story.rows(P), sink.counters.held)


# -- transactions in pieces


def pieces(story: Story, *rows: Any) -> None:
    """One transaction, a piece for each row; its last cut is whole."""
    for before, after in rows:
        story.put(P, before, after)
        story.cut(partial=True)
    story.cut()


@pytest.mark.usefixtures("one_by_one")
def test_pieces_are_written_with_care_and_committed_with_the_whole_cut() -> None:
    story = begun()
    pieces(story, (None, (1, 1)), (None, (2, REFUSED_VALUE)), ((2, 1), (2, 2)), (None, (3, 3)))
    for key in (4, 5):
        story.put(P, None, (key, key))
        story.cut()
    sink = story.applied()
    assert [*["lock", "bisect p"] * 3, "lock", "bisect p", "lock", "bisect p", "commit", "lock", "write p", "commit"] == since_base(story)
    assert ([(1, 1), (3, 3), (4, 4), (5, 5)], ["p", "p"]) == (story.rows(P), story.waiting())
    assert ({(DB, "p"): 6}, {(DB, "p"): 2}) == (sink.counters.rows, sink.counters.queued)


@pytest.mark.usefixtures("one_by_one")
def test_a_key_that_is_refused_late_in_a_transaction_is_undone_with_all_and_waits_from_its_first_change_on() -> None:
    story = begun()
    pieces(story, (None, (1, 1)), ((1, 1), (1, REFUSED_VALUE)))
    with pytest.raises(Rewound):
        story.applied(memory := story.memory())
    assert ("rollback", []) == (story.target.calls[-1], story.rows(P))
    story.applied(memory)
    assert ([], ["p", "p"], position(1)) == (story.rows(P), story.waiting(), story.stored.position)
    assert not any(story.target.foreseen.values()), "what was foreseen has come"


@pytest.mark.usefixtures("one_by_one")
def test_a_deferred_refusal_of_pieces_does_them_again_checked_row_by_row_until_the_whole_cut() -> None:
    story = begun()
    pieces(story, (None, (1, DEFERRED_VALUE)), (None, (2, 2)))
    for key in (3, 4):
        story.put(P, None, (key, key))
        story.cut()
    with pytest.raises(Rewound):
        story.applied(memory := story.memory())
    assert story.target.strictly
    story.target.calls.clear()
    story.applied(memory)
    assert ["lock strictly", "bisect p"] * 3 + ["commit", "lock", "write p", "commit"] == story.target.calls
    assert ([(2, 2), (3, 3), (4, 4)], False) == (story.rows(P), story.target.strictly)


@pytest.mark.usefixtures("one_by_one")
def test_what_pieces_counted_before_they_were_rolled_back_does_not_count_again() -> None:
    """Else keys that are refused once would stop the pipeline at its limit."""
    story = begun()
    story.applied()
    for key in range(17):
        story.put(P, None, (key, REFUSED_VALUE if key < 12 else 1))
    story.cut(partial=True)
    story.cut()
    memory = story.memory(QuarantineLimits(1000, 0.5))
    story.target.fails.extend([("commit", AWAY)] * 2)
    for _ in range(2):
        with pytest.raises(Retry):
            story.applied(memory)
    story.applied(memory)
    assert {(DB, "p"): 12} == memory.counters.held


def test_what_is_to_be_checked_row_by_row_stays_so_through_whole_cuts_and_not_behind_its_pieces() -> None:
    story = begun()
    story.target.strictly = True
    story.put(P, None, (1, 1))
    story.cut()
    story.applied()
    assert ("write p", True) == (story.target.calls[-2], story.target.strictly)
    pieces(story, (None, (2, DEFERRED_VALUE)))
    story.applied()
    assert (["p"], False) == (story.waiting(), story.target.strictly)


# -- conflicts


def test_a_batch_that_met_another_transaction_is_done_again_and_leaves_nothing_twice(time: Time) -> None:
    story = begun(state("p", TableState.NEW, floor=None, ceiling=None, reason="copy it"), state("q"), state("heap"))
    story.applied()
    story.copy(P, "id")
    story.put(P, None, (1, 2), read=True)
    story.put(Q, None, (1, 2))
    story.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    story.target.fails.extend([("write", CONFLICT), ("commit", CONFLICT)])
    sink = story.applied()
    assert (2, 2) == (len(story.told), len(time.slept))
    assert all(0 <= seconds <= timing.TIMES.retry_longest_seconds for seconds in time.slept)
    assert ([(1, 2)], {(DB, "p"): 1, (DB, "q"): 1}) == (story.rows(P), sink.counters.rows)
    assert [DONE] == [one.outcome for one in story.content.copies.values()]
    assert TableState.CONSISTENT == story.of(P).state


def test_so_many_conflicts_are_as_if_the_server_were_away() -> None:
    story = begun()
    story.applied()
    story.put(P, None, (1, 2))
    story.cut()
    story.target.fails.extend([("write", CONFLICT)] * (CONFLICTS + 1))
    with pytest.raises(Retry) as error:
        story.applied()
    assert (CONFLICT, 1, CONFLICTS - 1) == (error.value, len(story.target.fails), len(story.told))


def test_nothing_but_a_conflict_is_tried_again_at_once() -> None:
    for error in (AWAY, Halt("row_missing", "d.p", "", ""), RuntimeError("a defect")):
        story = begun()
        story.applied()
        story.put(P, None, (1, 2))
        story.cut()
        story.target.fails.extend([("write", error)] * 2)
        with pytest.raises(type(error)):
            story.applied()
        assert 1 == len(story.target.fails)


@pytest.mark.usefixtures("one_by_one")
def test_a_conflict_in_the_midst_of_pieces_begins_at_what_is_stored() -> None:
    story = begun()
    story.applied()
    pieces(story, (None, (1, 1)), (None, (2, 2)))
    story.target.fails.extend([("bisect", CONFLICT)])
    with pytest.raises(Retry):
        story.applied()
    assert [] == story.told
