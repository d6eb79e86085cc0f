"""Deadlines that a busy machine cannot bring about: time counts only as far as nobody who is waited for had to wait for a processor.

A pipeline that stands still sleeps; one that is starved is ready to run and is not let. Linux tells the two apart: for each thread it
counts the time spent ready and not running (/proc/PID/task/TID/schedstat, Documentation/scheduler/sched-stats.rst). Of each second
that passes, the longest such wait of any thread concerned is taken off: what is late goes from thread to thread, each of which
waits for its turn. Where the kernel does not count, every second does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_LOOK_SECONDS = 0.5


class Patience:
    """So many seconds in which the processes could have gone on; `renew` begins them anew."""

    def __init__(self, seconds: float, processes: Callable[[], Iterable[int]]) -> None:
        """`processes`: the ids of those who are waited for; their children count too."""
        self.seconds, self._processes = seconds, processes
        self.starved_seconds = 0.0
        """So much was not counted, since the start."""
        self._left, self._looked = seconds, time.monotonic()
        self._waited: dict[str, int] = {}
        self._look()

    def renew(self) -> None:
        """Something has moved."""
        self._left = self.seconds

    def over(self) -> bool:
        """Whether it is at its end; to be asked again and again."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            passed, self._looked = now - self._looked, now
            starved = min(self._look(), passed)
            self.starved_seconds += starved
            self._left -= passed - starved
        return self._left <= 0

    def __str__(self) -> str:
        starved = f" (and {self.starved_seconds:.0f} s of waiting for a processor)" if self.starved_seconds >= 1 else ""
        return f"{self.seconds:g} s{starved}"

    def _look(self) -> float:
        """The longest wait of any thread for a processor since the last look, in seconds."""
        before, self._waited = self._waited, dict(_waits(self._processes()))
        new = (waited - before.get(thread, 0 if before else waited) for thread, waited in self._waited.items())
        return max(0, *new, 0) / 1e9


def _waits(processes: Iterable[int]) -> Iterable[tuple[str, int]]:
    """Thread by thread, how long it was ready and did not run, in nanoseconds."""
    todo, seen = list(processes), set()
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        with suppress(OSError):  # it may be gone by now
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    fields = (thread / "schedstat").read_text().split()
                    yield thread.name, int(fields[1])
                    todo += [int(child) for child in (thread / "children").read_text().split()]
