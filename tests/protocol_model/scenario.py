"""What one run enumerates: the source's history, where the pipeline starts, the faults, and one wrong variant at most."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from tests.protocol_model.world import NO_FAULTS, NOWHERE, Faults, Loader, Progress, Sink, State, TableA, Target, World
from tests.protocol_model.wrong import Wrong

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


ALTER: Transaction = (Operation("alter", 0, None),)
"""A schema change of A: whatever its rows held, they hold ten more."""
MAKE = Operation("make", 0, None)
"""B is created anew, in the transaction of its rows (CREATE OR REPLACE TABLE .. SELECT)."""
COMMIT_XA: Transaction = (Operation("xa commit", 0, None),)
ROLLBACK_XA: Transaction = (Operation("xa rollback", 0, None),)
"""What becomes of the XA transaction that was prepared last."""
TEN_MORE = 10


def prepare(*operations: Operation) -> Transaction:
    """XA PREPARE: the rows are in the log, and true only when it is committed."""
    return (Operation("xa prepare", 0, None), *operations)


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
    swap: bool = False
    """The copy fills a second table, which takes the place of the first at its end."""
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
    part: str = ""
    """A model of its own: the direct transport, several domains, several sinks; else the whole protocol over a broker."""

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
        held: list[Transaction] = []
        for transaction in self.transactions:
            kind = kind_of(transaction)
            decided = held.pop() if kind in ("xa commit", "xa rollback") else ()
            states.append(after(states[-1], decided if kind == "xa commit" else transaction))
            held += [transaction[1:]] if kind == "xa prepare" else []
        return tuple(states)

    @cached_property
    def prepared(self) -> tuple[bool, ...]:
        """Whether an XA transaction is prepared and not decided, after each number of transactions."""
        found = [0]
        for transaction in self.transactions:
            kind = kind_of(transaction)
            found.append(found[-1] + (kind == "xa prepare") - (kind in ("xa commit", "xa rollback")))
        return tuple(count > 0 for count in found)

    @cached_property
    def shapes(self) -> tuple[int, ...]:
        """How often A was altered, after each number of transactions."""
        return tuple(sum(each == ALTER for each in self.transactions[:n]) for n in range(self.end + 1))

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
        if self.swap:
            return Target(0, Progress(0, ceiling=0, floor=0), *self.before)
        return Target(0, Progress(0, floor=0), (self.before[0][0] if self.repair else STALE, STALE), self.before[1])


LOADED = 99
"""The phase of a loader that is done."""


def kind_of(transaction: Transaction) -> str:
    """What the first operation says, where it is no change of a row: alter, make, xa prepare, xa commit, xa rollback; truncate; ""."""
    if transaction == TRUNCATE:
        return "truncate"
    return "" if transaction[0].table in ("A", "B") else transaction[0].table


def after(state: tuple[TableA, int], transaction: Transaction) -> tuple[TableA, int]:
    """A and B after one more transaction."""
    keys, rows = list(state[0]), state[1]
    kind = kind_of(transaction)
    if kind == "truncate":
        return (None, None), rows
    if kind == "xa prepare":
        return state
    for operation in transaction:
        if operation.table == "alter":
            keys = [None if value is None else value + TEN_MORE for value in keys]
        rows = 0 if operation == MAKE else rows
        if operation.table == "A":
            keys[operation.key] = operation.value
        elif operation.table == "B":
            rows += operation.value or 0
    return (keys[0], keys[1]), rows
