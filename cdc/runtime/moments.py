"""What may be believed of a moment of the source: the one rule for each time that its log, or a record of ours, states.

A commit's time is a claim. On MariaDB it is its session's clock, which anybody may set (`SET timestamp`); everywhere
the server's clock may jump. So a claim is believed up to what the source's clock shows now, as it was measured, and
never remembered against a later one: what it got wrong is right again with the next commit or heartbeat. What a
heartbeat proves is kept by the clock that never jumps. In SQL the rule is `cdc.believed`. Docs:
docs/decisions/033-what-a-time-proves.md.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.errors import CdcError
from cdc.runtime import clock, timing

MICROS = 1_000_000
"""Claims are exact to a second: MariaDB's are whole seconds, and the clocks' difference is measured over a network."""


def believed(claim_us: int, now_us: int, known_us: int) -> int:
    """A claimed moment where it can be true, else what was known before;
    never beyond `now_us`, the source's clock. 0 is unknown."""
    return min(claim_us if 0 < claim_us <= now_us + MICROS else known_us, now_us)


class Through:
    """Up to which moment of the source everything is read: what capture says in its cuts."""

    def __init__(self, us: int = 0) -> None:
        self.us = us
        """Microseconds since 1970 by the source's clock; 0: unknown."""
        self._proved: float | None = None

    def proved(self, at_us: int, now_us: int) -> int:
        """A heartbeat proves that the log had nothing more when the source's clock showed this;
        how far everything is read."""
        if 0 < at_us <= now_us:
            self._proved = clock.monotonic() - (now_us - at_us) / 1e6
        self.us = max(min(self.us, now_us), min(at_us, now_us))
        return self.us

    def committed(self, claim_us: int, now_us: int, *, last: bool) -> int:
        """A commit was read that claims this moment, `last` if nothing waits behind it; how far everything is read.

        A claim of whole seconds stands for any moment of its second, so it takes nothing back of what is known of that.
        In the second that runs, the last commit is now; an older one is not: that no bytes have come does not prove
        that the server has none.
        """
        us = believed(claim_us, now_us, self.us)
        if last and claim_us % MICROS == 0 and us <= now_us < us + MICROS:
            us = now_us
        elif us <= self.us < us + MICROS:
            us = min(self.us, now_us)
        if self._proved is not None:
            us = max(us, now_us - int((clock.monotonic() - self._proved) * 1e6))
        self.us = us
        return us


class SteadyClock:
    """A clock that shows what it was set to, and how long ago that was; no jump of this machine's clock moves it."""

    def __init__(self, now_us: int | None = None) -> None:
        self.set(clock.now_us() if now_us is None else now_us)

    def set(self, now_us: int) -> None:
        """Show this now, microseconds since 1970."""
        self._set = now_us, clock.monotonic()

    def now_us(self) -> int:
        """Microseconds since 1970."""
        us, at = self._set
        return us + int((clock.monotonic() - at) * 1e6)

    def offset_us(self) -> int:
        """How far it is ahead of this machine's clock."""
        return self.now_us() - clock.now_us()


class SourceClock(SteadyClock):
    """The source's clock, measured over a connection, and again when the log tells another time than it."""

    def __init__(self, offset_us: int, measure: Callable[[], int]) -> None:
        """`measure` gives microseconds that the source's clock is ahead of this machine's;
        its errors leave the clock as it is."""
        super().__init__(clock.now_us() + offset_us)
        self._measure, self._measured = measure, clock.monotonic()
        self._proved_us = 0

    def proved(self, at: float) -> int:
        """Commits that are read from now on are younger than this moment of the clock that never jumps;
        what the source's showed."""
        self._proved_us = self.now_us() - int((clock.monotonic() - at) * 1e6)
        return self._proved_us

    def doubt(self, claim_us: int) -> None:
        """A commit claims this moment: where that is impossible, the source's clock may have been set."""
        if self._proved_us - MICROS <= claim_us <= self.now_us() + MICROS:
            return
        if clock.monotonic() - self._measured < timing.TIMES.clock_again_seconds:
            return
        self._measured = clock.monotonic()
        try:
            offset_us = self._measure()
        except CdcError:
            return
        self.set(clock.now_us() + offset_us)
        self._proved_us = 0
