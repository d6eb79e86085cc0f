"""What is believed of the source's time: claims of the past and of the future, clocks that jump, marks from before; without a server."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from cdc.binlog.events import Begin, Commit, Event, Heartbeat
from cdc.binlog.packets import PacketStream
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.errors import Retry
from cdc.model.position import Position
from cdc.model.table import Column, Table
from cdc.protocol.control import Base, Cut, from_document
from cdc.runtime import clock, timing
from cdc.runtime.counters import ApplyCounters
from cdc.runtime.metrics import Metrics
from cdc.runtime.moments import SourceClock, SteadyClock, Through, believed
from cdc.transport.direct import DirectLog

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
YEAR_2033 = 2_000_000_000 * SECOND


@dataclass
class Time:
    """Two clocks of this machine; `pass_` moves both, `set` the one that may be set."""

    wall: float = NOW / SECOND
    steady: float = 1000.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def time() -> Iterator[Time]:
    one = Time()
    with clock.lend(now=lambda: one.wall, monotonic=lambda: one.steady):
        yield one


def at(number: int) -> Position:
    return Position("mariadb", "s", f"0-1-{number}", "b.000001", number * 100)


@dataclass
class Log:
    """A log that is read from memory, of a source whose clock is ahead of ours."""

    events: list[Event]
    ahead_us: int = 0
    waiting: list[bool] = field(default_factory=list)

    def __iter__(self) -> Iterable[Event]:
        return iter(self.events)

    def pending(self) -> bool:
        return self.waiting.pop(0) if self.waiting else False

    def clock_us(self) -> int:
        return clock.now_us() + self.ahead_us

    def close(self) -> None:
        """Nothing is open."""


def said(log: Log, restart: Restart | None = None) -> list[Cut]:
    """The cuts that capture writes of a log, the one with which its epoch begins first."""
    direct = DirectLog("p")
    capture = Capture(direct, "p", "mariadb", "1", [Table("d", "t", (Column("id", "int", False),), (0,))])
    capture.start(lambda: Restart(at(0)), restart)
    capture.run(log, lambda: False, lambda db, table: False)
    return [entry for offset, document in direct.control() if isinstance(entry := from_document(document, offset), Cut)]


def commit(number: int, claim_us: int) -> list[Event]:
    return [Begin(f"0-1-{number}", claim_us), Commit(at(number), f"0-1-{number}", claim_us)]


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_a_claim_beyond_the_source_s_clock_says_nothing() -> None:
    assert NOW - 7 == believed(YEAR_2033, NOW, NOW - 7)
    assert 0 == believed(YEAR_2033, NOW, 0)
    assert NOW == believed(YEAR_2033, NOW, YEAR_2033 + 1)


def test_a_claim_within_the_second_that_clocks_are_measured_to_is_now() -> None:
    assert [NOW, NOW - 7 + SECOND] == [believed(NOW + SECOND - 7, now, 0) for now in (NOW, NOW - 7 + SECOND)]


def test_an_older_claim_takes_back_what_a_younger_one_said(time: Time) -> None:
    """Of a backlog: the younger one was wrong, or the source's clock was set back."""
    through = Through()
    claims = [NOW - 9000 * SECOND, NOW - 100 * SECOND, NOW - 8999 * SECOND]
    assert claims == [through.committed(claim, NOW, last=False) for claim in claims]


def test_whole_seconds_take_nothing_back_within_their_second(time: Time) -> None:
    through = Through(NOW - 100 * SECOND + 700_000)
    assert NOW - 100 * SECOND + 700_000 == through.committed(NOW - 100 * SECOND, NOW, last=False)
    assert NOW - 101 * SECOND == through.committed(NOW - 101 * SECOND, NOW, last=False)


def test_the_last_commit_of_the_running_second_is_now_and_an_older_one_is_not(time: Time) -> None:
    assert NOW + 400_000 == Through().committed(NOW, NOW + 400_000, last=True)
    assert NOW == Through().committed(NOW, NOW + 400_000, last=False)
    assert NOW - SECOND == Through().committed(NOW - SECOND, NOW + 400_000, last=True)


def test_what_a_heartbeat_proved_no_claim_of_the_past_takes_back(time: Time) -> None:
    through = Through()
    assert NOW == through.proved(NOW, NOW)
    time.pass_(3)
    assert NOW == through.committed(SECOND, NOW + 3 * SECOND, last=False)
    assert NOW + 2 * SECOND == through.committed(NOW + 2 * SECOND, NOW + 3 * SECOND, last=False)


def test_a_proof_gets_older_by_the_clock_that_never_jumps(time: Time) -> None:
    """The source's clock is set back by an hour, and so is ours: what was proved five seconds ago was so five seconds ago."""
    through = Through()
    through.proved(NOW, NOW)
    time.pass_(5)
    time.wall -= 3600
    assert NOW - 3600 * SECOND == through.committed(SECOND, NOW + 5 * SECOND - 3600 * SECOND, last=False)


def test_a_heartbeat_mends_a_wrong_mark_and_one_that_waited_long_proves_no_more_than_it_can(time: Time) -> None:
    assert NOW == Through(YEAR_2033).proved(NOW, NOW)
    through = Through(NOW - 60 * SECOND)
    assert NOW - 60 * SECOND == through.proved(NOW - 600 * SECOND, NOW)
    assert NOW - 60 * SECOND == through.proved(0, NOW)
    assert NOW - 600 * SECOND == through.committed(SECOND, NOW, last=False)


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_the_source_s_clock_is_not_moved_by_jumps_of_ours(time: Time) -> None:
    source = SteadyClock(NOW + 60 * SECOND)
    time.pass_(2)
    time.wall -= 3600
    assert NOW + 62 * SECOND == source.now_us()
    assert 3660 * SECOND == source.offset_us()


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_was_set_is_measured_again_when_the_log_tells_another_time(time: Time, jump: int) -> None:
    offset = [0]
    source = SourceClock(0, lambda: offset[0])
    time.pass_(timing.TIMES.clock_again_seconds + 1)
    source.proved(time.steady)
    offset[0] = jump * SECOND
    source.doubt(clock.now_us())
    assert clock.now_us() == source.now_us()
    source.doubt(clock.now_us() + jump * SECOND)
    assert clock.now_us() + jump * SECOND == source.now_us()


def test_a_clock_is_measured_again_seldom_and_a_measure_that_fails_changes_nothing(time: Time) -> None:
    asked = []

    def measure() -> int:
        asked.append(time.steady)
        raise Retry("source_lost", "here", "away")

    source = SourceClock(0, measure)
    for _ in range(50):
        time.pass_(1)
        source.doubt(YEAR_2033)
    assert 4 <= len(asked) <= 5
    assert clock.now_us() == source.now_us()


def test_what_waited_while_nobody_read_proves_no_more_than_the_line_s_last_silence(time: Time) -> None:
    """Heartbeats that piled up while capture was held up say nothing of the time at which they are read at last."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = PacketStream(ours, "here", 5.0, 0.1, 1.0)
        seen = []
        for seconds in (0.0, 0.05, 0.06):
            time.pass_(seconds)
            assert not reader.pending()
            seen.append(reader.quiet_at)
        assert [None, None, time.steady] == seen
        theirs.sendall(b"\x04\0\0\0beat" * 2)
        time.pass_(600)
        assert [b"beat", b"beat"] == [reader.next(), reader.next()]
        assert seen[-1] == reader.quiet_at


def test_a_heartbeat_that_comes_late_proves_no_more_than_the_silence_after_which_it_was_due(time: Time) -> None:
    """The server, or the line, stood still for six seconds: what was committed meanwhile comes right behind it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = PacketStream(ours, "here", 5.0, 0.1, 1.0)
        theirs.sendall(b"\x04\0\0\0beat")
        assert b"beat" == reader.next()
        came = time.steady
        assert not reader.pending()
        for passed, proved in ((0.5, 0.5), (0.5, 1.0), (5.0, 1.0)):
            time.pass_(passed)
            assert not reader.pending()
            assert pytest.approx(came + proved) == reader.quiet_at
        theirs.sendall(b"\x04\0\0\0beat")
        assert b"beat" == reader.next()
        assert pytest.approx(came + 1.0) == reader.quiet_at
        assert not reader.pending()
        time.pass_(0.5)
        assert not reader.pending()
        assert pytest.approx(came + 6.5) == reader.quiet_at


# -- what capture says --------------------------------------------------------------------------------------------------


def test_one_session_s_future_does_not_make_the_pipeline_fresh(time: Time) -> None:
    """Of a backlog three hours long, then at its end."""
    old = NOW - 3 * 3600 * SECOND
    events = [*commit(1, old), *commit(2, YEAR_2033), *commit(3, old + SECOND), Heartbeat(at(3), NOW)]
    assert [old, old, old + SECOND, NOW] == [cut.source_ts_us for cut in said(Log(events))[1:]]


def test_a_jump_of_the_source_s_clock_is_over_with_the_next_word_of_it(time: Time) -> None:
    """It was an hour ahead for a while, and what was said then is taken back."""
    hour = 3600 * SECOND
    log = Log([*commit(1, NOW + hour), *commit(2, NOW - 5 * SECOND)], ahead_us=hour)
    through = Through()
    assert NOW + hour == through.committed(NOW + hour, log.clock_us(), last=False)
    log.ahead_us = 0
    assert NOW - 5 * SECOND == through.committed(NOW - 5 * SECOND, log.clock_us(), last=False)


def test_a_mark_from_before_that_cannot_be_true_is_unknown_until_the_log_tells(time: Time) -> None:
    cuts = said(Log([Heartbeat(at(1), NOW)]), Restart(at(1), YEAR_2033))
    assert [0, NOW] == [cut.source_ts_us for cut in cuts]
    ahead = said(Log([]), Restart(at(1), NOW + 60 * SECOND, clock_offset_us=61 * SECOND))
    assert [NOW + 60 * SECOND] == [cut.source_ts_us for cut in ahead]


def test_cuts_say_how_far_the_source_s_clock_is_ahead(time: Time) -> None:
    first, last = said(Log([Heartbeat(at(1), NOW + 90 * SECOND)], ahead_us=90 * SECOND))
    assert [(0, 0), (NOW + 90 * SECOND, 90 * SECOND)] == [(cut.source_ts_us, cut.clock_offset_us) for cut in (first, last)]


def test_a_base_says_no_more_than_a_cut(time: Time) -> None:
    direct = DirectLog("p")
    Capture(direct, "p", "mariadb", "1", []).start(lambda: Restart(at(0)), Restart(at(1), YEAR_2033))
    bases = [entry for offset, document in direct.control() if isinstance(entry := from_document(document, offset), Base)]
    assert [0] == [base.source_ts_us for base in bases]


# -- what the sink's process shows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-3600, 0, 3600])
def test_the_lag_of_a_sink_grows_while_it_is_stuck_whatever_its_clock_is_set_to(time: Time, jump: int) -> None:
    metrics, counters = Metrics("od"), ApplyCounters()
    metrics.watch_apply(counters)
    counters.hear(NOW + 57 * SECOND, 60 * SECOND)
    time.pass_(10)
    time.wall += jump
    assert 13.0 == metrics.lag.seconds(metrics.source_now_us())["total"]


def test_a_mark_in_the_future_is_as_old_as_the_moment_at_which_it_was_heard(time: Time) -> None:
    metrics, counters = Metrics("od"), ApplyCounters()
    metrics.watch_apply(counters)
    counters.hear(YEAR_2033, 0)
    time.pass_(10)
    assert 10.0 == metrics.lag.seconds(metrics.source_now_us())["total"]
    counters.hear(0, 0)
    assert None is metrics.lag.seconds(metrics.source_now_us())["total"]
