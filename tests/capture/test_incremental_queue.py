"""The order of copies beside the stream, what of them is told, and how far the requests count as read; pure."""

from __future__ import annotations

import pytest

from cdc.capture.incremental_queue import Queue
from cdc.protocol.copy_progress import DONE, KEYS, REFUSED, STOPPED, WHOLE, Active, Copies
from cdc.protocol.signals import CopyJob
from tests.capture.test_signals import BOTH, A, B, collections, hear, queue, signal
from tests.helpers.sink_by_hand import Said

STOP, PAUSE, RESUME = (f"{word}-snapshot" for word in ("stop", "pause", "resume"))


def jobs(work: Queue) -> list[tuple[str, int]]:
    """Table and request of each copy that waits or is under way."""
    return [(f"{job.db}.{job.table}", job.number) for job in work.jobs]


def answers(work: Queue) -> list[tuple[str, str, str, str, int]]:
    """What is told and was not before."""
    told, work.ended = [(one.request, one.table, one.outcome, one.reason, one.rows) for one in work.ended], []
    return told


def test_a_copy_that_nobody_asked_for_is_no_request_s() -> None:
    active = Active("id", "", "db", "b", WHOLE, ("1",), 3)
    work = queue(Copies(4, 4, active=active), ("db", "a"))
    assert (["db.b", "db.a"], 4, 4) == ([name for name, _ in jobs(work)], work.copies(None).next, work.copies(None).read)
    hear(work, signal(STOP, collections("db.a", "db.b"), id="s"), first=4)
    assert [("s", "a", REFUSED, "added", 0), ("s", "b", REFUSED, "added", 0)] == answers(work)
    work.end(DONE, 5)
    assert Copies(5, 5) == work.copies(None)


def test_a_request_that_is_not_understood_is_told_counted_and_passed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said, work = Said(monkeypatch), queue()
    hear(work, signal("execute-snapshot", collections("db.z"), id="bad"), b"no json", A)
    assert [("bad", "", REFUSED, "not_followed", 0)] == answers(work), "one without an id has nobody to be told"
    counted = {("execute-snapshot", "not_followed"): 1, ("other", "not_json"): 1, ("execute-snapshot", "accepted"): 1}
    assert counted == work._counts
    assert ["warning signal_refused", "warning signal_refused", "info signal_accepted"] == [line.strip() for line in said.lines]
    assert ([("db.a", 2)], 3) == (jobs(work), work.read)
    again = queue(Copies(0, 3))
    hear(again, signal("execute-snapshot", collections("db.z"), id="bad"), b"no json", A)
    assert ([], {}, [("db.a", 2)]) == (answers(again), again._counts, jobs(again)), "what was heard before is not told again"
    assert 3 == len(said.lines)


def test_a_pause_that_was_heard_before_is_not_heard_again() -> None:
    work = queue(Copies(0, 2, paused=False))
    hear(work, signal(PAUSE))
    assert not work.paused
    hear(work, signal(RESUME), signal(PAUSE), first=1)
    assert work.paused


def test_the_tables_that_are_done_are_those_of_one_request() -> None:
    work = queue(Copies(1, 2, ("db", "b")))
    hear(work, BOTH, BOTH, first=1)
    assert [("db.a", 2), ("db.b", 2)] == jobs(work)


def test_a_whole_copy_takes_the_place_of_an_addition_that_has_not_begun_and_of_nothing_else() -> None:
    work = queue(Copies(), ("db", "a"), ("db", "b"), ("other", "a"))
    added = [("db.a", -1), ("db.b", -1), ("other.a", -1)]
    for more in ({"keys": [["1"]]}, {"swap": True}):
        other = queue(Copies(), ("db", "a"), ("db", "b"), ("other", "a"))
        hear(other, signal("execute-snapshot", collections("db.b", **more)))
        assert [*added, ("db.b", 0)] == jobs(other)
    hear(work, B, B, A)
    assert [("db.a", -1), ("other.a", -1), ("db.b", 0), ("db.b", 1), ("db.a", 2)] == jobs(work)


def test_a_stop_ends_what_waits_at_once_and_what_is_under_way_when_it_can_be() -> None:
    work = queue()
    hear(work, A, B, signal("execute-snapshot", collections("other.a")))
    hear(work, signal(STOP, collections("db.a"), id="s"), first=3)
    assert (True, []) == (work.stopping, answers(work))
    hear(work, signal(STOP, collections("db.b", "other.a"), id="t"), first=4)
    told = [("x", "b", STOPPED, "", 0), ("x", "a", STOPPED, "", 0), ("t", "b", STOPPED, "", 0), ("t", "a", STOPPED, "", 0)]
    assert (told, True, [("db.a", 0)]) == (answers(work), work.stopping, jobs(work))
    assert ("db", "a") == work.end(STOPPED, 7, "", "id").name
    assert ([("x", "a", STOPPED, "", 7), ("s", "a", STOPPED, "", 0)], False) == (answers(work), work.stopping)
    hear(work, A, first=5)
    work.end(DONE, 1)
    assert [("x", "a", DONE, "", 1)] == answers(work), "whoever wanted a stop hears of it once"


def test_a_stop_does_not_take_an_addition_back_whose_place_a_request_has_taken() -> None:
    """Found by seed 22009 of the simulation: the table stayed without rows, and nobody was told."""
    work = queue(Copies(), ("db", "a"), ("db", "b"))
    hear(work, B, signal("execute-snapshot", collections("db.b", keys=[["1"]])))
    hear(work, signal(STOP, collections("db.b"), id="s"), first=2)
    assert [("db.a", -1), ("db.b", 0)] == jobs(work), "what else was asked for the table is stopped"
    assert [("x", "b", STOPPED, "", 0), ("s", "b", STOPPED, "", 0)] == answers(work)
    hear(work, signal(STOP, collections("db.b"), id="t"), first=3)
    assert [("t", "b", REFUSED, "added", 0)] == answers(work)
    work.end(DONE, 0)
    assert [("", "a", DONE, "", 0)] == answers(work)
    hear(work, signal(STOP, collections("db.b"), id="u"), first=4)
    assert ([("u", "b", REFUSED, "added", 0)], False) == (answers(work), work.stopping), "under way neither"
    work.end(DONE, 5)
    hear(work, B, signal(STOP, collections("db.b"), id="v"), first=5)
    assert work.stopping, "it is copied: another copy is a request like any other"


def test_only_a_whole_copy_in_its_place_stands_for_an_addition() -> None:
    work = queue(Copies(), ("db", "a"), ("db", "b"))
    for _ in range(len(work.jobs)):
        work.end(DONE, 1)
    hear(work, signal("execute-snapshot", collections("db.b", keys=[["1"]])), B, signal(STOP, collections("db.b"), id="s"))
    assert work.stopping, "what was added is copied"
    other = queue(Copies(), ("db", "a"), ("db", "b"))
    hear(other, signal("execute-snapshot", collections("db.b", keys=[["1"]])), B)
    other.jobs.sort(key=lambda job: job.kind)
    assert [KEYS, WHOLE, WHOLE] == [job.kind for job in other.jobs]
    other.end(DONE, 1)
    hear(other, signal(STOP, collections("db.b"), id="s"), first=2)
    assert ("s", "b", REFUSED, "added", 0) == answers(other)[-1], "keys alone do not bring what was added"
    swapped = queue(Copies(), ("db", "b"))
    swapped.jobs.clear()
    hear(swapped, A, signal("execute-snapshot", collections("db.b", swap=True)), signal(STOP, collections("db.b"), id="s"))
    assert [("db.a", 0)] == jobs(swapped)


def test_a_request_for_a_table_under_way_is_stopped_although_capture_counts_it_as_uncopied() -> None:
    active = Active("attempt", "x", "db", "b", WHOLE, ("17",), 17)
    work = queue(Copies(0, 0, None, False, active), ("db", "b"))
    hear(work, signal(STOP, collections("db.b"), id="s"), first=1)
    assert (True, []) == (work.stopping, answers(work))


def test_a_request_beside_an_addition_is_stopped_alone() -> None:
    work = queue(Copies(), ("db", "a"))
    hear(work, A, signal(STOP, collections("db.a"), id="s"))
    assert ([("db.a", -1)], False) == (jobs(work), work.stopping)
    assert [("x", "a", STOPPED, "", 0), ("s", "a", STOPPED, "", 0)] == answers(work)


def test_a_stop_of_what_is_not_there_says_so_once_whatever_else_waits() -> None:
    work = queue(Copies(), ("other", "a"))
    hear(work, signal(STOP, collections("db.b"), id="s"))
    assert [("s", "b", STOPPED, "nothing_to_stop", 0)] == answers(work)
    again = queue(Copies(0, 1), ("other", "a"))
    hear(again, signal(STOP, collections("db.b"), id="s"))
    assert [] == answers(again)


def test_a_request_counts_as_done_with_its_last_table_and_its_tables_only_until_then() -> None:
    work = queue()
    hear(work, BOTH, A)
    work.end(DONE, 1)
    assert Copies(0, 2, ("db", "a")) == work.copies(None)
    work.end(DONE, 1)
    assert Copies(1, 2) == work.copies(None)
    work.end(DONE, 1)
    assert Copies(2, 2) == work.copies(None)


def test_an_addition_that_ends_changes_nothing_of_the_requests() -> None:
    work = queue(Copies(3, 4, ("db", "a")), ("other", "a"))
    work.end(DONE, 1)
    hear(work, BOTH, first=3)
    assert (Copies(3, 4, ("db", "a")), [("db.b", 3)]) == (work.copies(None), jobs(work))


def test_the_tables_that_are_done_of_a_request_say_nothing_of_the_next_one() -> None:
    """The rest of it was stopped."""
    work = queue(Copies(3, 4, ("db", "a")))
    hear(work, BOTH, A, signal(STOP, collections("db.a")), first=3)
    work.jobs = []
    assert Copies(6, 6) == work.copies(None)


def test_progress_of_rows_by_keys_waits_until_its_request_is_read_again_and_another_copy_s_end_leaves_it() -> None:
    active = Active("id", "x", "db", "b", KEYS, ("1",), 1)
    work = queue(Copies(0, 1, active=active), ("db", "a"))
    assert [("db.a", -1)] == jobs(work)
    work.end(DONE, 5)
    assert active == work.resume
    work.jobs.append(CopyJob(0, "x", "db", "b", KEYS))
    work.end(DONE, 3)
    assert None is work.resume
    assert [("", "a", DONE, "", 5), ("x", "b", DONE, "", 3)] == answers(work), "all that has ended since the last cut is told with the next"


def test_a_stop_of_everything_is_answered_by_what_it_ends_alone() -> None:
    work = queue()
    hear(work, A, B, signal(STOP))
    assert [("x", "b", STOPPED, "", 0)] == answers(work)
