"""What the workers of an initial load share: the tables, and which of them to turn to; and what each holds in its hands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from cdc.model.position import Position
from cdc.model.table import Table
from cdc.mysql.key_range import Bound, KeyRange
from cdc.protocol.applied import TableProgress
from snapshot.load.rows import RowBuffer, Schemas
from snapshot.load.spans import SpanAllocator
from snapshot.load.throttle import LoadReading

Consume = Callable[[bytearray, int, int], int]
"""Takes a buffer with row packets in [start, end); returns how many bytes it used up."""


class TablePiece(Protocol):
    """A key range that was read."""

    @property
    def range(self) -> KeyRange: ...
    @property
    def seconds(self) -> float: ...


class PieceReader(Protocol):
    """Reads one table of the source; `cdc.mysql.table_reader.TableReader` is one."""

    @property
    def locking(self) -> bool: ...
    def scout(self, after: Bound | None) -> Bound | None: ...
    def pieces(self, after: Bound | None, consume: Consume, upto: Bound | None = None) -> Iterator[TablePiece]: ...
    def read(self, piece: KeyRange, consume: Consume) -> None: ...
    def exact(self) -> AbstractContextManager[Position]: ...
    def close(self) -> None: ...


class PieceReaders(Protocol):
    """Opens readers for workers; `cdc.mysql.table_reader.Readers` is one."""

    def __call__(self, table: Table) -> PieceReader: ...
    def changed(self, table: Table) -> bool: ...
    def close(self) -> None: ...


Look = Callable[[], LoadReading]
"""What the source and the operator say now."""


@dataclass(slots=True)
class TableWork:
    """One table to load, by any number of workers."""

    table: Table
    estimate: int
    state: TableProgress
    schemas: Schemas
    rows: list[RowBuffer]
    """Made for the table and taken by the first worker: a plan takes milliseconds, and there are hundreds of tables."""
    load: Any = None
    """The target's handle on the load under way."""
    walk: SpanAllocator = field(default_factory=SpanAllocator)
    changed: bool = False
    """Whether the table is not any more what was listed."""


@dataclass(slots=True)
class TableWorker:
    """One worker at one table."""

    work: TableWork
    load: Any
    """The work's load with this worker's own plan, which counts what policies change in its rows."""
    loader: Any
    rows: RowBuffer
    reader: PieceReader


class Pool:
    """Which table a worker turns to: the largest that nobody has begun, else the largest where something is left."""

    def __init__(self, works: Sequence[TableWork]) -> None:
        self._lock = threading.Lock()
        self._fresh = deque(sorted(works, key=lambda work: -work.estimate))
        self._begun: list[TableWork] = []

    def next(self) -> TableWork | None:
        """None: every range of every table is handed out."""
        with self._lock:
            if self._fresh:
                self._begun.append(self._fresh.popleft())
                return self._begun[-1]
            return next((work for work in self._begun if work.table.key and work.load is not None and work.walk.left), None)
