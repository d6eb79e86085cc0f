"""How fast, and how long it took: a token bucket and a latency summary that stay small for months. No clock in here."""

from __future__ import annotations

import math
from collections import Counter


class TokenBucket:
    """Lets through `rate` units per second: a big unit of work is done at once and paid for by the pause after it.

    Credit for at most `burst_seconds` is saved up, so that after a stall the rate is not overshot to make up for it.
    A rate of 0 or less does not hold anything back.
    """

    def __init__(self, rate: float, now: float, burst_seconds: float = 0.25) -> None:
        self.rate = rate
        self.most = rate * burst_seconds
        self.credit = 0.0
        self.then = now

    def take(self, units: int) -> None:
        self.credit -= units

    def wait(self, now: float) -> float:
        """Seconds until the next unit of work may start; 0 when it may start now."""
        if self.rate <= 0:
            return 0.0
        self.credit = min(self.most, self.credit + (now - self.then) * self.rate)
        self.then = now
        return -self.credit / self.rate if self.credit < -1e-6 else 0.0  # less than that may not move a float clock


class Latency:
    """Counts of durations in steps of 5 %: quantiles of any number of them in a few hundred integers."""

    STEP = math.log(1.05)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self.counts[math.ceil(math.log(max(seconds, 1e-7)) / self.STEP)] += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """A duration that `share` of all did not exceed, at most 5 % too high; 0 when there are none."""
        rank, seen = share * self.counts.total(), 0
        for step, count in sorted(self.counts.items()):
            seen += count
            if seen >= rank:
                return min(math.exp(step * self.STEP), self.longest)
        return 0.0
