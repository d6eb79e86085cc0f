"""A connection to PostgreSQL that notices when no answer will come: after a silence the server is asked about it.

TCP tells only of a peer that acknowledges nothing. What stands between may acknowledge and pass nothing on, and a
statement may lawfully be long. So the server says over a second connection whether it still works on it, or waits for
us while we wait for it. Docs: docs/decisions/050-silence.md.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from cdc.runtime import clock, timing

T = TypeVar("T")


class Silent(psycopg.OperationalError):
    """No answer came and none will; the connection is closed."""


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that raises Silent once nothing was heard for `patience_seconds`, unless `why_silent` says "":
    at work; it says else why no answer will come."""

    patience_seconds = math.inf
    why_silent: Callable[[], str] | None = None
    _silent: Silent | None = None

    def wait(self, gen: PQGen[T], *args: Any, **named: Any) -> T:
        """Go through a conversation as psycopg does: `gen` says what it waits for, and is told what is ready, or, each
        tenth of a second, that nothing is."""
        if self._silent is not None:
            raise self._silent
        return super().wait(self._heeding(gen), *args, **named)

    def _heeding(self, gen: PQGen[T]) -> PQGen[T]:
        silent_since = 0.0
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready:
                    silent_since = 0.0
                elif not silent_since:
                    silent_since = clock.monotonic()
                elif clock.monotonic() - silent_since > self.patience_seconds:
                    self._demand_work()
                    silent_since = 0.0
                state = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _demand_work(self) -> None:
        why = self.why_silent() if self.why_silent is not None else "although it had let us in"
        if not why or readable(self.fileno(), timing.TIMES.answer_grace_seconds):
            return
        self._silent = Silent(f"PostgreSQL sent nothing for {self.patience_seconds:g} s, {why}")
        self.close()
        raise self._silent


def readable(fileno: int, seconds: float) -> bool:
    """Whether bytes have come, or do within so long: what was sent before the other side was asked may be on its
    way."""
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
