"""What the workers of an initial load share: the tables, and which of them to turn to; and what each holds in its hands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from cdc.keyrange import Bound, KeyRange
from cdc.model import Table
from cdc.position import Position
from cdc.progress import TableState
from snapshot.pace import Signs
from snapshot.rows import Rows, Schemas
from snapshot.walk import Walk

Consume = Callable[[bytearray, int, int], int]
"""Takes a buffer with row packets in [start, end); returns how many bytes it used up."""


class Piece(Protocol):
    """A key range that was read."""

    @property
    def range(self) -> KeyRange: ...
    @property
    def seconds(self) -> float: ...


class Reader(Protocol):
    """Reads one table of the source; `cdc.chunks.TableReader` is one."""

    @property
    def locking(self) -> bool: ...
    def scout(self, after: Bound | None) -> Bound | None: ...
    def pieces(self, after: Bound | None, consume: Consume, upto: Bound | None = None) -> Iterator[Piece]: ...
    def read(self, piece: KeyRange, consume: Consume) -> None: ...
    def exact(self) -> AbstractContextManager[Position]: ...
    def close(self) -> None: ...


class Readers(Protocol):
    """Opens readers for workers; `cdc.chunks.Readers` is one."""

    def __call__(self, table: Table) -> Reader: ...
    def changed(self, table: Table) -> bool: ...
    def close(self) -> None: ...


Look = Callable[[], Signs]
"""What the source and the operator say now."""


@dataclass(slots=True)
class Work:
    """One table to load, by any number of workers."""

    table: Table
    estimate: int
    state: TableState
    schemas: Schemas
    rows: list[Rows]
    """Made for the table and taken by the first worker: a plan takes milliseconds, and there are hundreds of tables."""
    load: Any = None
    """The target's handle on the load under way."""
    walk: Walk = field(default_factory=Walk)
    changed: bool = False
    """Whether the table is not any more what was listed."""


@dataclass(slots=True)
class Hand:
    """One worker at one table."""

    work: Work
    load: Any
    """The work's load with this worker's own plan, which counts what policies change in its rows."""
    loader: Any
    rows: Rows
    reader: Reader


class Pool:
    """Which table a worker turns to: the largest that nobody has begun, else the largest where something is left."""

    def __init__(self, works: Sequence[Work]) -> None:
        self._lock = threading.Lock()
        self._fresh = deque(sorted(works, key=lambda work: -work.estimate))
        self._begun: list[Work] = []

    def next(self) -> Work | None:
        """None: every range of every table is handed out."""
        with self._lock:
            if self._fresh:
                self._begun.append(self._fresh.popleft())
                return self._begun[-1]
            return next((work for work in self._begun if work.table.key and work.load is not None and work.walk.left), None)
