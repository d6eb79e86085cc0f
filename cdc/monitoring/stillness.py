"""A target that nobody moves is said once, wherever a command waits for it."""

from __future__ import annotations

from cdc.protocol.applied import Stored
from cdc.runtime import clock, logs, timing


class Stillness:
    """Says once in the log that the target stands still while a command waits for it: nobody seems to write it."""

    def __init__(self, command: str, hint: str, max_delay_seconds: float = 0.0) -> None:
        """`max_delay_seconds`: a sink that runs commits that often at least."""
        self._command, self._hint = command, hint
        self._after = max(timing.TIMES.still_seconds, 2 * max_delay_seconds)
        self._before: object = None
        self._moved, self._said = clock.monotonic(), False

    def begin(self) -> None:
        """What came before is no sign: another wait begins."""
        self._before, self._moved = None, clock.monotonic()

    def look(self, stored: Stored) -> None:
        """One look at the target while it is waited for; an idle source moves it too."""
        now, stands = clock.monotonic(), standing(stored)
        if stands != self._before:
            self._before, self._moved = stands, now
        elif now - self._moved >= self._after and not self._said:
            self._said = True
            facts = {"seconds": round(now - self._moved), "hint": f"is the pipeline running? {self._hint}"}
            logs.logger(self._command).warning("target_stands_still", **facts)


def standing(stored: Stored) -> tuple[object, object]:
    """What moves with each cut that is applied."""
    return (stored.progress.cut_no, stored.progress.position) if stored.progress is not None else (None, None)
