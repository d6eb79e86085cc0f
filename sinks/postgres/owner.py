"""Who may write: the owner of a pipeline, by a number in the target that its every transaction locks, and what that
owner stores there.

The owner of one shard is in `sinks/postgres/shard_target.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from psycopg.pq.abc import PGresult

from cdc.model.record import Partition
from cdc.postgres.connection import Connection
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.runtime.moments import SteadyClock
from cdc.state.shards import ALL, Share
from sinks.postgres.fence import ONLY, SHARED, check_held, keep_fence, raise_fence
from sinks.postgres.positions import Place, Send, say_pace, say_partitions, say_progress, say_tables
from sinks.postgres.statements import Parameters, Prepared

Lock = tuple[Prepared, Parameters]
"""The statement with which a transaction locks the owner's row, and its parameters;
its result has the releases in column 1."""


class Owner(Protocol):
    """What a writer has to be: the one of the whole pipeline, or of one shard."""

    @property
    def share(self) -> Share: ...

    fence: int
    """Our number; 0 before we took over."""

    def take_over(self, connection: Connection, pipeline: str) -> None:
        """Become the only writer, once every earlier one's transaction is gone."""

    def went_back(self, stored: Stored) -> None:
        """Going on begins at this."""

    def lock(self, pipeline: str, *, shared: bool) -> Lock: ...

    def check(self, pipeline: str, result: PGresult) -> None:
        """Raise unless the lock has found our number."""

    def store(
        self,
        say: Send,
        progress: Progress | None,
        tables: Sequence[TableProgress],
        known: Mapping[Partition, Place],
        clock: SteadyClock,
    ) -> None:
        """Say the position and the tables that changed; `known`: where partitions are known to stand."""

    def committed(self, progress: Progress) -> Prepared | None:
        """A position is committed; what is to be run behind that, about the pipeline."""


class WholePipeline:
    """The one writer of a pipeline."""

    share = ALL

    def __init__(self) -> None:
        self.fence = 0

    def take_over(self, connection: Connection, pipeline: str) -> None:
        """Raise the fence the first time; later, go on as its owner."""
        if self.fence:
            keep_fence(connection, pipeline, self.fence)
        else:
            self.fence = raise_fence(connection, pipeline)

    def went_back(self, stored: Stored) -> None:
        """Nothing of it is kept here."""

    def lock(self, pipeline: str, *, shared: bool) -> Lock:
        """The pipeline's row; `shared`: with others of the same owner."""
        return SHARED if shared else ONLY, [pipeline.encode(), b"%d" % self.fence]

    def check(self, pipeline: str, result: PGresult) -> None:
        """Halt `fenced` when another one has taken over."""
        check_held(pipeline, result)

    def store(
        self,
        say: Send,
        progress: Progress | None,
        tables: Sequence[TableProgress],
        known: Mapping[Partition, Place],
        clock: SteadyClock,
    ) -> None:
        """Say the pipeline's position, and the state of each table."""
        say_tables(say, tables)
        if progress is not None:
            say_progress(say, progress, clock)
            say_pace(say, progress.copies)
            say_partitions(say, progress.partitions, known, progress.since)

    def committed(self, progress: Progress) -> None:
        """The pipeline's position is what was committed: nothing more is to be run."""
