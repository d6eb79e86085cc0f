"""How fast a copy may read: at most so many rows a second, and slower while the source's own signs tell of load; pure.

Whoever read a piece asks how long to rest. Under load the rest grows to several times the piece's own length, so that
the people at work have the server for most of the time; as it passes, the rest shrinks to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cdc.runtime import timing

MOST_REST = 16.0
"""Of rest under load, in lengths of what was read: the copy still goes on, at about a twentieth of its speed."""


@dataclass(frozen=True, slots=True)
class LoadReading:
    """What the source and the operator say at one moment."""

    paused: bool = False
    threads_running: int = 0
    """Besides the copy's own."""
    lock_waits_per_second: float = 0.0
    replica_lag_seconds: float | None = None
    """None: the source is no replica, or the account may not ask."""


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """What a copy keeps to; 0 is none."""

    rows_per_second: int = 0
    threads_running: int = 0
    lock_waits_per_second: int = 0
    replica_lag_seconds: float = 0.0

    def exceeded(self, signs: LoadReading) -> str:
        """The first of them that is exceeded, as a reason code; empty: none."""
        found = (
            ("threads_running", signs.threads_running, self.threads_running),
            ("lock_waits", signs.lock_waits_per_second, self.lock_waits_per_second),
            ("replica_lag", signs.replica_lag_seconds or 0.0, self.replica_lag_seconds),
        )
        return next((code for code, value, limit in found if limit and value > limit), "")


class Throttle:
    """One for all workers of a copy."""

    def __init__(self, limits: ThrottleLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._free_at = clock()
        self.paused = False
        """No chunk may begin; the one at hand ends early."""
        self.reason = ""
        """Why the copy rests after each piece."""
        self.rest_factor = 0.0
        """How long it does, in lengths of the piece."""

    def heed(self, signs: LoadReading) -> None:
        """Slow down, speed up, pause or go on by what is said now; to be called about once a second."""
        exceeded = self._limits.exceeded(signs)
        if exceeded:
            self.rest_factor = min(MOST_REST, max(1.0, self.rest_factor * 2))
        else:
            self.rest_factor = self.rest_factor / 2 if self.rest_factor > 1.0 else 0.0
        self.reason = exceeded if exceeded or not self.rest_factor else self.reason
        self.paused = signs.paused

    def rest(self, rows: int, seconds: float) -> float:
        """How long to rest after a piece of so many rows that was read in so many seconds."""
        return max(self._rationed(rows), min(timing.TIMES.longest_rest_seconds, seconds * self.rest_factor))

    def _rationed(self, rows: int) -> float:
        rate = self._limits.rows_per_second
        if not rate:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + rows / rate
            return self._free_at - now
