"""The state of the modelled world: immutable, hashable values with named fields; nothing here knows the protocol.

Named tuples, not frozen dataclasses: a state is hashed once for every step that leads to it, and a tuple's hash runs in C.
Positions are the number of source transactions included, so GTID containment is `<=`. Table A has two keys, the first in
partition 0 and the second in partition 1; table B has no key, lies in partition 0, and its rows are all equal: it is a count.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeVar

Pair = tuple[int, int]
Item = TypeVar("Item")
TableA = tuple[int | None, int | None]
"""The value of each key of A, None where the row is absent."""
PARTITIONS = (0, 1)
NOWHERE = -1
"""A position that is not known yet."""


class Record(NamedTuple):
    """One numbered record of a data topic; `position` is the end of its transaction (0 for a row that was read: op r)."""

    epoch: int
    seq: int
    position: int
    op: str
    table: str
    key: int
    value: int | None


class Named(NamedTuple):
    """The last record of a partition, as a cut names it."""

    offset: int
    epoch: int
    seq: int


NOTHING = Named(-1, 0, 0)


class Control(NamedTuple):
    """One record of the control topic. The epoch of a start is its own offset; cut, ddl and copy each take the next `number`."""

    kind: str
    epoch: int
    number: int = 0
    position: int = 0
    partial: bool = False
    numbers: Pair = (0, 0)
    named: tuple[Named, Named] = (NOTHING, NOTHING)
    windows: int = 0
    """How many copy windows are closed."""
    ends: Pair = (0, 0)
    """Of a base: the partitions' end offsets when it was made."""
    table: str = ""
    """Of a copy: the table whose rows follow; of a ddl: what it does."""
    floor: int = 0
    """Where reading has to begin to know what XA prepared before `position`."""


class State(StrEnum):
    """What a process is: dead ones still have messages in flight, zombies go on without knowing that they were replaced."""

    STARTING = "starting"
    LIVE = "live"
    ZOMBIE = "zombie"
    DEAD = "dead"


class Place(NamedTuple):
    """Where a capture stands; two cuts at one place would be the same cut."""

    position: int
    piece: int
    windows: int
    chunk: int
    again: int = 0


class Capture(NamedTuple):
    """One incarnation of capture: what it has read, what is in flight, and where its last cut stands."""

    state: State
    epoch: int
    position: int = 0
    piece: int = 0
    """Operations already read of the transaction after `position`."""
    numbers: Pair = (0, 0)
    number: int = 0
    queues: tuple[tuple[Record, ...], tuple[Record, ...]] = ((), ())
    control: tuple[Control, ...] = ()
    named: tuple[Named, Named] = (NOTHING, NOTHING)
    ends: Pair = (0, 0)
    windows: int = 0
    chunk: int = 0
    """Chunks read of the open copy window."""
    q: int = NOWHERE
    cut_at: Place | None = None
    control_end: int = 0
    """The offset after its own last acknowledged control record."""
    again: int = 0
    """How far the log was read from the floor on; at `position` all that is prepared there is known."""
    held: tuple[int, ...] = ()
    """The XA transactions that are prepared and not decided, by the position of their PREPARE."""
    floor: int = 0


NO_MARK = (-1, -1)


class Progress(NamedTuple):
    """What the target stores beside the rows, in the same transaction."""

    position: int
    epoch: int = 0
    numbers: Pair = (0, 0)
    offsets: Pair = (0, 0)
    control_next: int = 0
    mark: Pair = NO_MARK
    """Epoch and number of the control record before `control_next`."""
    ceiling: int | None = None
    """Of table A: from here on it is consistent; None while it is not."""
    floor: int | None = None
    """Of table B: changes at or below are in the copy already; None while there is no copy."""
    swapping: bool = False
    """A second table A is being filled, which takes the place of the first."""


class Change(NamedTuple):
    """One effect on the target: a row of A set, a number of rows of B added, a table emptied, altered or swapped."""

    what: str
    key: int = 0
    value: int | None = None


class Batch(NamedTuple):
    """One target transaction."""

    progress: Progress
    changes: tuple[Change, ...]


class Target(NamedTuple):
    """PostgreSQL: rows, progress and fence."""

    fence: int
    progress: Progress
    a: TableA
    b: int
    second: TableA = (None, None)
    stop: str = ""
    """Why the sink refuses to go on; a human has to look."""


class Sink(NamedTuple):
    """One incarnation of the sink; `open` is an uncommitted transaction and `memory` unsaved positions (wrong variants only)."""

    state: State
    fence: int
    open: Batch | None = None
    memory: Progress | None = None
    entered: bool = False
    """It has met a base (a wrong variant only)."""


class Loader(NamedTuple):
    """The initial load into the target: the chunk it is at, the row it holds, and a stale row in a replaced loader's hands."""

    phase: int
    holds: bool = False
    held: int | None = None
    exact: int = NOWHERE
    zombie: tuple[int, int | None] | None = None


class Faults(NamedTuple):
    """How many of each fault may still happen."""

    crash: int = 0
    zombie: int = 0
    sink_crash: int = 0
    sink_zombie: int = 0
    loss: int = 0
    control_loss: int = 0
    rewind: int = 0
    lost_reply: int = 0
    loader_zombie: int = 0
    disconnect: int = 0


NO_FAULTS = Faults()


class World(NamedTuple):
    """Everything. `executed <= visible <= written`: what the server says is done, what a SELECT sees, what the log holds."""

    written: int
    visible: int
    executed: int
    partitions: tuple[tuple[Record, ...], tuple[Record, ...]]
    control: tuple[Control, ...]
    captures: tuple[Capture, ...]
    target: Target
    before: Target | None
    """The target before its last commit, kept while PostgreSQL may still lose that commit."""
    sinks: tuple[Sink, ...]
    loader: Loader
    faults: Faults
    checkpoint: tuple[int, ...] = ()
    """A position kept apart from the cuts (wrong variants only)."""


class Step(NamedTuple):
    """One possible next state. A step that is not `live` need never happen: faults, zombies, late messages."""

    what: tuple[object, ...]
    live: bool
    world: World


def put(pair: tuple[Item, Item], index: int, value: Item) -> tuple[Item, Item]:
    return (value, pair[1]) if index == 0 else (pair[0], value)
