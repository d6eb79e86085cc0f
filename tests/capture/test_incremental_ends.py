"""How copies beside the stream end, what stands in their way, and what a restart makes of them, over a log and a server by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cdc.errors import Halt, Refused, Retry
from cdc.protocol.control import Copy, Cut
from cdc.protocol.copy_progress import KEYS, REFUSED, STOPPED, WHERE, WHOLE, Active, Copies, Ended
from cdc.protocol.signals import CopyJob
from cdc.runtime import timing
from tests.capture.test_capture import one_row
from tests.capture.test_signals import signal
from tests.helpers.copies_by_hand import ASK, CLOSE, FIVE, OPEN, OVER, Copied, copy_of, told
from tests.helpers.logs_by_hand import T, U, heartbeat, position
from tests.helpers.sink_by_hand import Said, Time

TIMES = timing.TIMES


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


# -- what stands in the way


def test_a_table_that_nobody_follows_is_refused_and_the_next_one_goes_on() -> None:
    copies = Copies(0, 0, active=Active("id", "r", "db", "gone", WHOLE, ("1",), 3))
    copied = Copied(*FIVE, copies=copies)
    copied.restart.copies = copies  # as of a cut; capture itself has forgotten it
    copied.begin()
    found = told(copied.follow(heartbeat(0)))
    assert any("gone refused (3) not_followed" in word for word in found)
    assert "cut at 0 t done (5)" in found


def test_a_copy_that_cannot_begin_is_refused_by_its_reason_and_holds_no_connection() -> None:
    copied = Copied(*FIVE, uncopied=())
    copied.begin()
    copied.ask(copy_of(keys=[["1", "2"]]))
    copied.ask(copy_of("u"))
    found = told(copied.follow(heartbeat(0)))
    assert any("t refused (0) key_type" in word for word in found)
    assert (["ask", "open u", "check"], "cut at 0 u done (5)") == (copied.server.calls[:3], found[-1])


def test_a_server_that_is_not_the_log_s_stops_and_closes_what_it_opened() -> None:
    copied = Copied(*FIVE)
    copied.begin()
    copied.server.server = "another"
    with pytest.raises(Halt) as stop:
        copied.follow(heartbeat(0))
    assert ("other_server", [ASK]) == (stop.value.code, copied.server.calls)
    checked = Copied(*FIVE)
    checked.begin()
    checked.server.fails.append(("check", Halt("other_server", "db.t", "another", "")))
    with pytest.raises(Halt):
        checked.follow(heartbeat(0))
    assert [ASK, *OPEN, CLOSE] == checked.server.calls


def test_a_chunk_that_is_refused_ends_its_copy_with_the_reason_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said, copied = Said(monkeypatch), Copied(*FIVE, uncopied=("t", "u"))
    copied.begin()
    copied.server.fails.append(("read", Refused("denied", "db.t", "no", "")))
    found = told(copied.follow(heartbeat(0)))
    assert ["cut at 0", "copy t"] == found[:2]
    assert any("t refused (0) denied" in word for word in found)
    assert found[-1] == "cut at 0 u done (5)"
    assert "denied" == said.facts[1]["reason"]


def test_a_condition_that_fails_half_way_ends_its_copy_as_refused_with_the_rows_that_came() -> None:
    copied = Copied(*FIVE, uncopied=())
    copied.begin()
    conditions: Any = {"additional-conditions": [{"data-collection": "db.t", "filter": "1/d"}]}
    copied.ask(copy_of(**conditions))

    def fails() -> None:
        raise Halt("source_statement", "db.t", "division by zero", "")

    copied.server.at_read = fails
    assert ["t r 1", "t r 2", "cut at 0 t refused (2) condition"] == told(copied.follow(heartbeat(0)))[1:]
    assert [(TIMES.piece_seconds, "1/d")] == copied.server.wheres


def test_rows_by_their_keys_make_no_table_a_copied_one() -> None:
    """Its copy was refused before."""
    copied = Copied(*FIVE)
    copied.begin()
    copied.server.fails.append(("read", Refused("denied", "db.t", "no", "")))
    copied.ask(copy_of(keys=[["4"]]))
    assert "cut at 0 t refused (0) denied t done (1)" in told(copied.follow(heartbeat(0)))
    assert {("db", "t")} == copied.run.capture.followings.uncopied


def test_the_end_of_another_copy_is_not_that_of_the_one_under_way() -> None:
    active = Active("id", "x", "db", "t", KEYS, ("1",), 1)
    copied = Copied(*FIVE, uncopied=(), copies=Copies(0, 1, active=active))
    windows = copied.begin()
    windows.queue.jobs.append(CopyJob(7, "y", "db", "gone"))
    copied.follow(heartbeat(0))
    (cut,) = [one for one in copied.follow(one_row(1, U)) if isinstance(one, Cut)]
    assert (Ended("y", "db", "gone", WHOLE, REFUSED, 0, "not_followed", ""),) == cut.ended
    assert active == cut.copies.active


@pytest.mark.parametrize(("code", "torn", "again"), [("shape_changed", False, True), ("bad", True, True), ("bad", False, False)])
def test_a_chunk_of_another_shape_is_read_again_behind_the_statement_that_the_log_holds(code: str, torn: bool, again: bool) -> None:
    copied = Copied(*FIVE)
    copied.begin()
    copied.server.torn = [T] if torn else [U]
    copied.server.fails.append(("read", Halt(code, "db.t", "was altered", "")))
    with pytest.raises(Retry if again else Halt) as error:
        copied.follow(heartbeat(0))
    assert ("window_torn" if again else code, "db.t") == (error.value.code, error.value.place)


# -- restarts


@pytest.mark.parametrize("swap", [False, True])
def test_a_copy_goes_on_behind_what_counts_without_another_barrier(swap: bool) -> None:
    active = Active("id", "r", "db", "t", WHOLE, ("2",), 2, swap)
    copied = Copied(*FIVE, uncopied=() if swap else ("t",), copies=Copies(0, 1, active=active))
    copied.begin()
    copied.ask(copy_of(swap=swap) if swap else copy_of())
    found = copied.follow(heartbeat(0))
    assert ["t r 3", "t r 4", "cut at 0 t behind 4 (4)", "t r 5", "cut at 0 t done (5)"] == told(found)[-5:]
    assert "copy t" not in told(found)
    (ended,) = [one.ended[0] for one in found if isinstance(one, Cut) and one.ended]
    assert ("id", "r") == (ended.copy, ended.request)


def test_until_a_request_is_read_again_the_progress_of_its_copy_is_said_and_another_s_is_not_taken() -> None:
    active = Active("id", "x", "db", "t", KEYS, ("1",), 1)
    copied = Copied(*FIVE, uncopied=(), copies=Copies(0, 1, active=active))
    copied.begin()
    copies, ended = copied.windows.said()
    assert (active, (), "here") == (copies.active, ended, copies.channel)
    copied.ask(copy_of(keys=[["4"], ["5"], ["9"]]))
    found = told(copied.follow(heartbeat(0)))
    assert ["t r 5", "t d 9", "cut at 0 t done (3)"] == found[-3:]
    assert "t r 4" not in found


def test_a_copy_of_other_rows_than_those_that_were_under_way_begins_anew() -> None:
    active = Active("id", "x", "db", "t", WHERE, ("4",), 9)
    copied = Copied(*FIVE, uncopied=(), copies=Copies(0, 1, active=active))
    copied.begin()
    copied.ask(copy_of(keys=[["4"]]))
    assert "cut at 0 t done (1)" in told(copied.follow(heartbeat(0)))


def test_requests_are_read_from_the_first_one_that_is_not_done() -> None:
    copied = Copied(*FIVE, uncopied=(), copies=Copies(1, 2))
    copied.ask(signal("pause-snapshot"))
    copied.ask(copy_of("u"))
    copied.begin()
    assert 1 == copied.requests.next
    assert "cut at 0 u done (5)" in told(copied.follow(heartbeat(0)))
    none = Copied(*FIVE, uncopied=(), copies=Copies(1, 2))
    assert ((), "anew") == (none.begin(anew=True).said()[1], none.windows.said()[0].channel)


@pytest.mark.parametrize("kind", [KEYS, WHOLE])
def test_requests_of_a_log_that_was_made_anew_are_read_from_its_first_one(kind: str) -> None:
    active = Active("id", "x", "db", "t", kind, ("2",), 2)
    copied = Copied(*FIVE, uncopied=(), copies=Copies(3, 4, active=active))
    copied.begin(anew=True)
    copied.requests.next = 0
    copies, ended = copied.windows.said()
    assert "anew" == copies.channel
    assert ([("x", STOPPED, 2, "request_gone")] if kind == KEYS else []) == [(e.request, e.outcome, e.rows, e.reason) for e in ended]
    assert 0 == copied.requests.next


def test_what_a_copy_brought_of_a_table_that_changed_behind_its_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    said, active = Said(monkeypatch), Active("id", "", "db", "t", WHOLE, ("2",), 2)
    windows = Copied(*FIVE, copies=Copies(active=active)).begin()
    windows.set_back([("db", "u")])
    assert [active, active] == [windows._active, windows.queue.resume]
    windows.set_back([("db", "t")])
    assert [None, None] == [windows._active, windows.queue.resume]
    windows.set_back([("db", "t")])
    assert {"table": "db.t", "rows": 2} == said.facts[-1]


# -- what readers keep


@pytest.mark.parametrize(("uncopied", "swapped"), [((), True), (("t",), False)])
def test_a_second_table_is_asked_for_only_where_readers_have_something_to_keep(uncopied: tuple[str, ...], swapped: bool) -> None:
    """A copy that was under way begins anew; by then nothing may be left of what it kept."""
    active = Active("id", "x", "db", "t", WHOLE, ("2",), 2, True)
    copied = Copied(*FIVE, uncopied=uncopied, copies=Copies(0, 1, active=active))
    copied.begin().set_back([("db", "t")])
    (barrier,) = [one for one in copied.follow(heartbeat(0)) if isinstance(one, Copy)]
    assert (swapped, True) == (barrier.swap, barrier.id != "id")


def test_a_table_that_is_emptied_is_to_be_copied_until_its_copy_is_done_and_one_beside_it_stays() -> None:
    for swap in (False, True):
        copied = Copied(*FIVE, uncopied=())
        copied.begin()
        copied.server.written = position(1)
        copied.ask(copy_of(swap=swap))
        copied.follow(heartbeat(0))
        assert (set() if swap else {("db", "t")}) == copied.run.capture.followings.uncopied
        copied.server.written = position(0)
        copied.follow(one_row(1, U))
        assert set() == copied.run.capture.followings.uncopied


def test_connections_are_given_up_when_capture_ends() -> None:
    copied = Copied(*FIVE, rate=1)
    windows = copied.begin()
    copied.follow(heartbeat(0))
    assert OVER not in copied.server.calls
    windows.close()
    assert ([CLOSE, OVER], 1) == (copied.server.calls[-2:], copied.requests.closed)
    windows.close()
    assert [CLOSE, OVER] == copied.server.calls[-2:]
