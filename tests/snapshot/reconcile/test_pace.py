"""A good guest reads in short pieces and rests between them."""

from __future__ import annotations

import pytest

from snapshot.reconcile.checksums import PieceSizer


class FakeTime:
    """A clock that only the test moves, and a sleep that it records."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def paced(seconds: float, rate: float, rows_a_second: float, pieces: int) -> tuple[PieceSizer, FakeTime]:
    time = FakeTime()
    pace = PieceSizer(seconds, rate, clock=time.clock, sleep=time.sleep)
    for _ in range(pieces):
        pace.start()
        time.now += pace.rows / rows_a_second
        pace.done(pace.rows)
    return pace, time


def test_pieces_grow_until_they_take_the_time_they_may():
    pace, _ = paced(0.015, 0, 100_000, 20)
    assert 1500 == pytest.approx(pace.rows, rel=0.01)


def test_pieces_shrink_when_the_server_slows_down():
    pace, _ = paced(0.015, 0, 10_000, 20)
    assert 150 == pytest.approx(pace.rows, rel=0.01)


def test_a_rate_makes_the_reader_rest():
    _, time = paced(0.015, 10_000, 100_000, 50)
    assert 10_000 == pytest.approx(1500 * 50 / (time.now + time.slept), rel=0.1)
