"""Which key ranges of a table are still to be copied: each is handed out once, to any of several workers; pure.

Nobody compares keys here. Spans are cut one after another along the key's index, so that their numbers tell their
order, and a chunk that is in the ledger ends where the one after it begins, or else what lies between them is missing.
A span has numbers to spare: it may be committed as several chunks, and what a crash left of it finds numbers of its
own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdc.mysql.key_range import Bound
from cdc.protocol.applied import LedgerChunk

NUMBERS = 1000
"""Of a span. The chunk with its last number takes all that is left of it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Keys above `after` and up to `upto`, to be committed as chunks with these numbers."""

    number: int
    last: int
    after: Bound | None
    upto: Bound | None

    @property
    def divisible(self) -> bool:
        """Whether a chunk may end before the span does."""
        return self.number < self.last

    def rest(self, reached: Bound | None) -> Span | None:
        """What is left after a chunk that ends at `reached`; None: nothing."""
        return None if reached == self.upto else Span(self.number + 1, self.last, reached, self.upto)


class SpanAllocator:
    """The way through one table: first what an earlier attempt left out, then on from where it came to."""

    def __init__(self, done: Sequence[LedgerChunk] = ()) -> None:
        """`done`: the chunks that are in the target, in the order of their numbers."""
        self._lock = threading.Lock()
        self._gaps: list[Span] = []
        self._after: Bound | None = None
        self._number, self._ended, self._out = 0, False, 0
        for chunk in done:
            low, high = as_bound(chunk.low), as_bound(chunk.high)
            if low != self._after:
                self._gaps.append(Span(self._number, chunk.number - 1, self._after, low))
            self._number, self._after, self._ended = chunk.number + 1, high, high is None
        self._number = -(-self._number // NUMBERS) * NUMBERS

    @property
    def left(self) -> bool:
        """Whether there may be something to claim."""
        return bool(self._gaps) or not self._ended

    def claim(self, scout: Callable[[Bound | None], Bound | None]) -> Span | None:
        """The next span, for the caller alone; `scout` says how far one that begins at a bound goes. None:
        all are handed out."""
        with self._lock:
            if not self.left:
                return None
            span = self._gaps.pop(0) if self._gaps else self._next(scout)
            self._out += 1
            return span

    def _next(self, scout: Callable[[Bound | None], Bound | None]) -> Span:
        span = Span(self._number, self._number + NUMBERS - 1, self._after, scout(self._after))
        self._number, self._after, self._ended = span.last + 1, span.upto, span.upto is None
        return span

    def settled(self) -> bool:
        """A span that was claimed is in the target; whether the whole table is."""
        with self._lock:
            self._out -= 1
            return not self._out and not self.left


def as_bound(stored: object) -> Bound | None:
    """A bound as the ledger keeps it."""
    return tuple(map(str, stored)) if isinstance(stored, list) else None


def as_stored(bound: Bound | None) -> list[str] | None:
    """A bound as the ledger is to keep it."""
    return None if bound is None else list(bound)
