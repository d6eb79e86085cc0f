"""What the workers of an initial load share: the tables, and which of them to turn to;
and what each holds in its hands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdc.model.table import Table
from cdc.mysql.table_reader import TableReader
from cdc.protocol.applied import TableProgress
from sinks.postgres.load import ChunkLoader, TableLoad
from snapshot.load.rows import RowBuffer, Schemas
from snapshot.load.spans import SpanAllocator
from snapshot.load.throttle import LoadReading

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
    load: TableLoad | None = None
    """The load under way; None before it begins, and once the table is refused or has left."""
    walk: SpanAllocator = field(default_factory=SpanAllocator)
    changed: bool = False
    """Whether the table is not any more what was listed."""


@dataclass(slots=True)
class TableWorker:
    """One worker at one table."""

    work: TableWork
    load: TableLoad
    """The work's load with this worker's own plan, which counts what policies change in its rows."""
    loader: ChunkLoader
    rows: RowBuffer
    reader: TableReader


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
            return next(
                (work for work in self._begun if work.table.key and work.load is not None and work.walk.left), None
            )
