"""A copy reads no more than it may, rests while the source is busy, and tells truly how far it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cdc.runtime import timing
from snapshot.load.progress import LoadProgress
from snapshot.load.throttle import MOST_REST, LoadReading, Throttle, ThrottleLimits


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_limits_nobody_rests():
    assert 0.0 == Throttle(ThrottleLimits()).rest(1_000_000, 0.015)


def test_rows_a_second_are_those_of_all_workers_together():
    clock = Clock()
    pace = Throttle(ThrottleLimits(rows_per_second=1000), clock=clock)
    assert [0.5, 1.0, 1.25] == [pace.rest(rows, 0.0) for rows in (500, 500, 250)]
    clock.now += 10
    assert 0.1 == pytest.approx(pace.rest(100, 0.0))


@pytest.mark.parametrize(
    ("reason", "busy"),
    [
        ("threads_running", LoadReading(threads_running=26)),
        ("lock_waits", LoadReading(lock_waits_per_second=301.0)),
        ("replica_lag", LoadReading(replica_lag_seconds=31.0)),
    ],
)
def test_each_sign_of_load_makes_the_copy_rest_longer_and_longer_until_it_passes(reason: str, busy: LoadReading) -> None:
    pace = Throttle(ThrottleLimits(threads_running=25, lock_waits_per_second=300, replica_lag_seconds=30.0))
    pace.heed(LoadReading(False, 25, 300.0, 30.0))
    assert (0.0, "") == (pace.rest_factor, pace.reason)
    factors = []
    for _ in range(6):
        pace.heed(busy)
        factors.append(pace.rest_factor)
    assert ([1.0, 2.0, 4.0, 8.0, MOST_REST, MOST_REST], reason) == (factors, pace.reason)
    assert 0.01 * MOST_REST == pytest.approx(pace.rest(5, 0.01))
    assert timing.TIMES.longest_rest_seconds == pace.rest(5, 3.0)
    for _ in range(5):
        pace.heed(LoadReading())
    assert (0.0, "") == (pace.rest_factor, pace.reason)


def test_the_reason_is_told_for_as_long_as_the_copy_rests_and_the_rest_halves() -> None:
    pace = Throttle(ThrottleLimits(threads_running=1, lock_waits_per_second=1))
    assert ("", 0.0, False) == (pace.reason, pace.rest_factor, pace.paused)
    for _ in range(4):
        pace.heed(LoadReading(threads_running=2))
    seen = []
    for _ in range(4):
        pace.heed(LoadReading())
        seen.append((pace.rest_factor, pace.reason))
    assert [(4.0, "threads_running"), (2.0, "threads_running"), (1.0, "threads_running"), (0.0, "")] == seen
    pace.heed(LoadReading(threads_running=2, lock_waits_per_second=2.0))
    pace.heed(LoadReading(lock_waits_per_second=2.0))
    assert (2.0, "lock_waits") == (pace.rest_factor, pace.reason), "the reason of now"


def test_signs_that_nobody_gave_are_none() -> None:
    assert LoadReading(False, 0, 0.0, None) == LoadReading()
    assert ThrottleLimits(0, 0, 0, 0.0) == ThrottleLimits()
    assert "" == ThrottleLimits(replica_lag_seconds=0.5).exceeded(LoadReading()), "a server that is no replica is behind nobody"


def test_of_two_rests_the_longer_one_counts() -> None:
    clock = Clock()
    pace = Throttle(ThrottleLimits(rows_per_second=1000, threads_running=1), clock=clock)
    pace.heed(LoadReading(threads_running=2))
    assert 2.0 == pace.rest(10, 2.0)
    assert 5.01 == pytest.approx(pace.rest(5000, 2.0))


def test_a_limit_of_zero_is_none():
    pace = Throttle(ThrottleLimits())
    pace.heed(LoadReading(threads_running=10_000, lock_waits_per_second=1e6, replica_lag_seconds=1e6))
    assert 0.0 == pace.rest_factor


def test_a_pause_holds_until_it_is_taken_back():
    pace = Throttle(ThrottleLimits())
    pace.heed(LoadReading(paused=True))
    assert pace.paused
    pace.heed(LoadReading())
    assert not pace.paused


def test_what_an_earlier_process_copied_is_no_speed_of_this_one():
    clock, told = Clock(), list[tuple[str, int, int]]()
    tally = LoadProgress(lambda *told_now: told.append(told_now), clock=clock)
    tally.begin("a", 700, 1000)
    tally.begin("b", 50, 20)
    clock.now += 10
    tally.copied("a", 100)
    assert (850, 1050, 10.0, 20.0) == tally.standing()
    tally.finished("a")
    assert (850, 850, 10.0, 0.0) == tally.standing()
    assert [("a", 700, 1000), ("b", 50, 50), ("a", 800, 1000), ("a", 800, 800)] == told


def test_the_rate_is_that_of_the_last_half_minute():
    clock = Clock()
    tally = LoadProgress(lambda *_: None, clock=clock)
    tally.begin("a", 0, 10_000)
    for _ in range(100):
        clock.now += 1
        tally.copied("a", 5)
    assert 5.0 == pytest.approx(tally.standing().rows_per_second)
    clock.now += 1000
    tally.copied("a", 5)
    assert tally.standing().rows_per_second < 0.02


def test_reads_are_told_by_whether_writers_waited():
    tally = LoadProgress(lambda *_: None)
    for milliseconds in range(1, 101):
        tally.took(milliseconds / 1000, locking=True)
    assert {"locking": {"pieces": 100, "p50_seconds": 0.051, "p99_seconds": 0.1, "max_seconds": 0.1}, "other": None} == tally.reads()
