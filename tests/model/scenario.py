"""What one run enumerates: the source's history, where the pipeline starts, the faults, and one wrong variant at most."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from tests.model.world import NO_FAULTS, NOWHERE, Faults, Loader, Progress, Sink, State, TableA, Target, World
from tests.model.wrong import Wrong

STALE = 7
"""What a table to be copied holds before: a wrong value, a wrong number of rows."""


class Operation(NamedTuple):
    """A of `table`: key set to value (None deletes). B: `value` rows added."""

    table: str
    key: int
    value: int | None


Transaction = tuple[Operation, ...]
TRUNCATE: Transaction = ()
"""TRUNCATE A: a barrier."""


def a(key: int, value: int | None) -> Operation:
    return Operation("A", key, value)


def b(rows: int = 1) -> Operation:
    return Operation("B", 0, rows)


class Start(Enum):
    """How the pipeline begins."""

    STREAMING = "the target equals the source already"
    LOAD = "an initial load straight into the target"
    TOPICS = "an initial snapshot through the topics"
    COPY = "B is followed, A is copied while streaming (or B, if the windows say so)"


class Kind(Enum):
    """How a run ends badly."""

    INCONSISTENT = "a commit is not a consistent cut"
    DIFFERENT = "the final target is not the source"
    STUCK = "nothing moves any more"
    REFUSED = "the sink refuses a base"
    HOLE = "the sink finds a hole in the numbers"
    LOST = "the control topic lost a record that the sink has applied"


class Violation(NamedTuple):
    """A broken promise."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Scenario:
    """One run; `expected` is how a wrong variant is caught, None when every interleaving keeps the promises."""

    name: str
    transactions: tuple[Transaction, ...]
    start: Start = Start.STREAMING
    faults: Faults = NO_FAULTS
    late: bool = True
    """Messages of a dead capture may still arrive."""
    windows: tuple[tuple[str, ...], ...] = ()
    """The chunks to copy: "A" or "A0" and "A1" (a key each), "B"; one tuple per copy window."""
    repair: bool = False
    """The chunks are a list of keys: upserted in place, no barrier."""
    pieces: bool = False
    """Cuts may fall inside a transaction."""
    before: tuple[TableA, int] = ((0, 0), 1)
    """The source's tables at position 0."""
    unacknowledged: int = 2
    """Data records that may be in flight before capture reads on."""
    in_flight: int = 1
    """Control records that may be unacknowledged before capture writes another."""
    unfollow: bool = False
    """The selection loses table B at the first restart."""
    wrong: Wrong | None = None
    expected: Kind | None = None
    slow: bool = False
    may_stop: bool = False
    """A fault beyond repair: the sink may stop, as long as it shows nothing wrong."""
    direct: bool = False
    """Over the direct transport."""

    @property
    def selects(self) -> bool:
        """Somebody reads rows, so it matters what is written, visible and executed."""
        return self.start is not Start.STREAMING

    @property
    def end(self) -> int:
        return len(self.transactions)

    @cached_property
    def tables(self) -> tuple[tuple[TableA, int], ...]:
        """A and B of the source after each number of transactions."""
        states: list[tuple[TableA, int]] = [self.before]
        for transaction in self.transactions:
            states.append(after(states[-1], transaction))
        return tuple(states)

    @cached_property
    def copies_b(self) -> bool:
        return any("B" in window for window in self.windows)

    @cached_property
    def windows_of_a(self) -> int:
        """How many windows must be closed before a copied table A is consistent."""
        return max((i + 1 for i, window in enumerate(self.windows) if window != ("B",)), default=0)

    def initial(self) -> World:
        """The world before anything has happened."""
        known = 0 if self.selects else self.end
        loader = Loader(0 if self.start is Start.LOAD else LOADED)
        sinks = () if self.start is Start.LOAD else (Sink(State.LIVE, 0),)
        return World(known, known, known, ((), ()), (), (), self._target(), None, sinks, loader, self.faults)

    def _target(self) -> Target:
        if self.start is Start.STREAMING:
            return Target(0, Progress(0, ceiling=0, floor=0), *self.before)
        if self.start is not Start.COPY:
            return Target(0, Progress(NOWHERE), (None, None), 0)
        if self.copies_b:
            return Target(0, Progress(0, ceiling=0), self.before[0], STALE)
        return Target(0, Progress(0, floor=0), (self.before[0][0] if self.repair else STALE, STALE), self.before[1])


LOADED = 99
"""The phase of a loader that is done."""


def after(state: tuple[TableA, int], transaction: Transaction) -> tuple[TableA, int]:
    """A and B after one more transaction."""
    keys, rows = list(state[0]), state[1]
    if transaction == TRUNCATE:
        return (None, None), rows
    for operation in transaction:
        if operation.table == "A":
            keys[operation.key] = operation.value
        else:
            rows += operation.value or 0
    return (keys[0], keys[1]), rows
