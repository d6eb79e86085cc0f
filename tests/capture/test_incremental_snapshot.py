"""Windows of copies beside the stream, over a log and a server by hand: when one opens, waits, closes and ends, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cdc.errors import Retry
from cdc.model.table import Table
from cdc.mysql.log_heads import Xid
from cdc.protocol.control import Copy, Cut
from cdc.protocol.copy_progress import DONE, STOPPED, WHOLE, Active, Ended
from cdc.runtime import timing
from tests.capture.test_capture import SELECTED, one_row
from tests.capture.test_signals import signal
from tests.helpers.copies_by_hand import ASK, CLOSE, DATE, FIVE, OPEN, OVER, Copied, copy_of, told
from tests.helpers.logs_by_hand import HandLog, T, U, heartbeat, position
from tests.helpers.sink_by_hand import Said, Time

WHOLE_COPY = ["copy t", "t r 1", "t r 2", "cut at 0 t behind 2 (2)", "t r 3", "t r 4", "cut at 0 t behind 4 (4)", "t r 5"]
TIMES = timing.TIMES


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


# -- a whole copy


def test_a_table_that_was_added_is_copied_window_by_window_each_closed_by_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    said, copied = Said(monkeypatch), Copied(*FIVE)
    copied.begin()
    assert ["cut at 0", *WHOLE_COPY, "cut at 0 t done (5)"] == told(copied.follow(heartbeat(0)))
    assert [ASK, *OPEN, "read", "read behind 2", "read behind 4", CLOSE, OVER] == copied.server.calls
    assert [(TIMES.piece_seconds, "")] == copied.server.wheres
    assert (3, ["info copy_begun db.t", "info copy_ended db.t"]) == (copied.breaths, said.lines)
    assert "reason" not in said.facts[-1]
    counters = copied.run.capture.counters
    assert ({("db", "t"): 5}, 0) == (counters.copied, counters.copies)
    assert set() == copied.run.capture.followings.uncopied
    read = [message for run in copied.run.log._held for message in run.messages if message.topic == "p.db.t"]
    assert sum(len(message.value or b"") for message in read) == counters.bytes, "so that pieces end where they are large"


def test_the_barrier_says_whose_copy_begins_where_and_the_cuts_name_the_copy() -> None:
    copied = Copied(*FIVE)
    copied.begin()
    found = copied.follow(heartbeat(0))
    (barrier,) = [one for one in found if isinstance(one, Copy)]
    (first, *_) = [one.copies.active for one in found if isinstance(one, Cut) and one.copies.active]
    assert first is not None
    capture = copied.run.capture
    assert Copy(capture.epoch, 4, "db", "t", position(0), first.id, exact=False, swap=False) == barrier
    assert Active(first.id, "", "db", "t", WHOLE, ("2",), 2, False) == first
    (ended,) = [one.ended[0] for one in found if isinstance(one, Cut) and one.ended]
    assert Ended("", "db", "t", WHOLE, DONE, 5, "", first.id) == ended


def test_a_chunk_counts_only_when_the_log_is_followed_to_where_the_server_wrote_when_it_was_read() -> None:
    copied = Copied(*FIVE)
    copied.begin()
    copied.server.written = position(2)
    assert ["cut at 0", "copy t"] == told(copied.follow(heartbeat(0)))
    assert copied.server.calls[-1] == "read"
    copied.follow(one_row(1))
    assert ([], 1) == (told(copied.follow(heartbeat(1))), len(copied.server.asked))
    copied.server.written = position(9)
    found = told(copied.follow(one_row(2)))
    assert ["t r 1", "t r 2", "t c 1", "t c 2", "cut at 2 t behind 2 (2)"] == found


def test_one_table_is_copied_behind_the_other_each_by_its_own_connection() -> None:
    copied = Copied(*FIVE, uncopied=("t", "u"))
    copied.begin()
    found = told(copied.follow(heartbeat(0)))
    assert ["t r 5", "u r 5"] == [word for word in found if word.endswith("r 5")]
    assert ["open t", CLOSE, "open u", CLOSE] == [call for call in copied.server.calls if call.split()[0] in ("open", CLOSE)]


def test_a_table_without_a_key_is_read_at_one_position_and_its_barrier_says_it_exactly() -> None:
    copied = Copied((1, DATE), (2, None), tables=(Table("db", "t", T.columns), U))
    copied.begin()
    copied.server.exactly = position(3)
    found = copied.run.capture.writer.control  # what was written is read from the log: rows without a key are not told apart
    copied.run.capture.run(HandLog([heartbeat(0)]), lambda: False, SELECTED)
    (barrier,) = [one for _, one in found() if one["type"] == "copy"]
    assert (position(3).offset, True) == (barrier["position"]["offset"], barrier["exact"])


def test_a_copy_that_waits_is_counted_and_one_under_way_holds_no_more_than_its_windows() -> None:
    copied = Copied(*FIVE, uncopied=("t", "u"))
    copied.begin()
    copied.server.written = position(1)
    copied.follow(heartbeat(0))
    copied.server.written = position(9)
    copied.follow(one_row(1, U))
    assert "open u" not in copied.server.calls
    assert 2 == copied.run.capture.counters.copies


# -- when


def test_one_window_opens_at_a_time_while_more_of_the_log_has_come_and_else_all_follow_one_another() -> None:
    for pending, reads, breaths in ((True, [1, 2, 3], 0), (False, [3, 3, 3], 3)):
        copied = Copied(*FIVE)
        windows = copied.begin()
        log: Any = SimpleNamespace(pending=lambda pending=pending: pending)
        for expected in reads:
            windows.turn(log)
            assert expected == sum(call.startswith("read") for call in copied.server.calls)
        assert (breaths, []) == (copied.breaths, windows.queue.jobs)


def test_a_copy_keeps_to_its_rate(time: Time) -> None:
    copied = Copied(*FIVE, rate=4)
    copied.begin()
    copied.follow(heartbeat(0))
    for moved, behind in ((0.0, "2"), (0.49, "2"), (0.01, "4"), (0.49, "4"), (0.01, "done")):
        time.now += moved
        copied.follow(heartbeat(0))
        active = copied.windows._active
        assert behind == (active.after[0] if active is not None else "done")


def test_requests_are_looked_for_now_and_then_however_young_the_machine_is(time: Time) -> None:
    time.now = 0.5
    copied = Copied(*FIVE, uncopied=())
    copied.begin()
    copied.ask(copy_of())
    assert "t r 1" in told(copied.follow(heartbeat(0)))
    copied.ask(copy_of("u"))
    time.now = 0.5 + TIMES.hear_seconds - 0.01
    copied.follow(heartbeat(0))
    assert 1 == copied.windows.queue.read
    time.now = 0.5 + TIMES.hear_seconds
    copied.follow(heartbeat(0))
    assert (2, {("execute-snapshot", "accepted"): 2}) == (copied.windows.queue.read, copied.run.capture.counters.signals)


def test_a_request_that_comes_while_windows_follow_one_another_is_heard(time: Time) -> None:
    copied = Copied(*FIVE)
    copied.begin()

    def asked() -> None:
        time.now += 1
        copied.requests.asked[:] = [(b"p", signal("pause-snapshot"))]

    copied.server.at_read = asked
    assert ["cut at 0", *WHOLE_COPY[:4]] == told(copied.follow(heartbeat(0)))
    assert OVER not in copied.server.calls, "it rests, and goes on where it is"
    copied.requests.asked.append((b"p", signal("resume-snapshot")))
    copied.server.at_read = lambda: None
    time.now += 1
    assert [*WHOLE_COPY[4:], "cut at 0 t done (5)"] == told(copied.follow(heartbeat(0)))[1:]


def test_a_copy_that_is_stopped_before_it_began_has_no_rows_and_no_attempt(time: Time) -> None:
    copied = Copied(*FIVE, uncopied=())
    copied.begin()
    copied.ask(signal("pause-snapshot"))
    copied.ask(copy_of())
    copied.follow(heartbeat(0))
    time.now += 1
    copied.ask(signal("stop-snapshot"))
    found = copied.follow(heartbeat(0), heartbeat(0))
    (ended,) = [one.ended[0] for one in found if isinstance(one, Cut) and one.ended]
    assert Ended("x", "db", "t", WHOLE, STOPPED, 0, "", "") == ended


def test_a_copy_that_is_stopped_ends_where_it_is(time: Time) -> None:
    copied = Copied(*FIVE, uncopied=())
    copied.begin()
    copied.ask(copy_of())

    def stop() -> None:
        time.now += 1
        copied.requests.asked[1:] = [(b"p", signal("stop-snapshot", id="s"))]

    copied.server.at_read = stop
    found = told(copied.follow(heartbeat(0), heartbeat(0)))
    assert [*WHOLE_COPY[:4], "cut at 0 t stopped (2)"] == found[1:]
    assert [CLOSE, OVER] == copied.server.calls[-2:]
    assert {("db", "t")} == copied.run.capture.followings.uncopied, "half of it is there"


# -- what is shown


def test_a_window_waits_until_the_server_shows_what_was_followed_and_what_a_sink_may_have_seen(time: Time) -> None:
    other = position(7)
    copied = Copied(*FIVE, reached=(position(0), other))
    copied.begin()
    xid = frozenset({Xid(1, b"a", b"")})
    copied.windows.undecided = lambda: xid
    answers = iter((False, False, True, True))
    copied.server.shown = lambda at: next(answers, True)
    copied.follow(heartbeat(0))
    here = copied.run.capture.position
    assert [(here, xid), (other, frozenset()), (here, xid), (other, frozenset())] == copied.server.asked[:4]
    assert [(here, xid)] * 2 == copied.server.asked[4:], "what was reached is shown for good"
    assert [TIMES.shown_poll_seconds] == time.slept
    assert xid == copied.server.known().undecided
    assert here == copied.server.known().position


def test_where_the_server_shows_too_little_the_log_is_followed_on_for_a_while(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TIMES", replace(TIMES, shown_seconds=1.0, shown_poll_seconds=0.25))
    copied = Copied(*FIVE)
    copied.begin()
    copied.server.shown = lambda at: False
    copied.follow(heartbeat(0))
    assert ([0.25] * 5, 6, 6) == (time.slept, copied.breaths, len(copied.server.asked))
    found = copied.follow(one_row(1, U))
    assert [None] == [one.copies.active for one in found if isinstance(one, Cut)], "nothing of it counts yet"
    asked = len(copied.server.asked)
    for moved, more in ((0.0, False), (TIMES.shown_seconds / 2 - 0.01, False), (0.02, True)):
        time.now += moved
        copied.follow(heartbeat(0))
        assert more == (len(copied.server.asked) > asked)
    assert "read" not in copied.server.calls


def test_a_snapshot_that_cannot_be_had_now_is_tried_later_and_a_server_that_is_away_is_not(time: Time) -> None:
    heap = Table("db", "t", T.columns)
    copied = Copied((1, DATE), tables=(heap, U))
    copied.begin()
    for code in ("busy", "xa_prepared"):
        copied.server.fails.append(("snapshot", Retry(code, "db.t", "not now", "")))
        copied.server.calls.clear()
        assert "copy t" not in told(copied.follow(heartbeat(0), heartbeat(0)))
        assert 1 == copied.server.calls.count("snapshot")
        time.now += TIMES.shown_seconds
    copied.server.fails.append(("snapshot", Retry("source_lost", "db.t", "away", "")))
    with pytest.raises(Retry, match="away"):
        copied.follow(heartbeat(0))
