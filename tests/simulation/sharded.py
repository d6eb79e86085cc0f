"""The target of one shard of several sinks: what `sinks.postgres.shard_target.ShardTarget` is, over the simulated server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cdc.commands import apply
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Copies
from cdc.protocol.table_states import TableState
from cdc.state.shards import Share
from sinks.postgres.shard_target import Moved, taken
from tests.simulation.target import Content, Shard, SimPostgres, SimTarget
from tests.simulation.world import Metrics, Process, SimParts


class SimShardTarget(SimTarget):
    """The one writer of one shard."""

    def __init__(self, server: SimPostgres, process: Any, shard: int, shards: int, generation: int) -> None:
        super().__init__(server, process)
        self.shard, self.shards, self._generation = shard, shards, generation
        self.share = Share(shard, shards)
        self.waits_at: int | None = None
        self._stands: int | None = None
        self._meeting = False

    def open(self) -> Stored:
        """Take the shard over; who works on it is ended."""
        self.close()
        self._ask(connected=False)
        self._open = True
        for other in self._server.connections:
            if other is not self and isinstance(other, SimShardTarget) and other.shard == self.shard:
                other.cut()
        content = self._server.content.copy()
        if content.fence != self._generation:
            raise Halt("fenced", "pipeline sim", "another process has taken over")
        known = content.shards[self.shard]
        content.shards[self.shard] = replace(known, fence=known.fence + 1)
        self._server.commit(content)
        self.fence = known.fence + 1
        self._server.scheduler.step()
        return self.read()

    def read(self) -> Stored:
        """What is stored of the shard, as of now."""
        self._ask()
        content = self._server.content
        place = content.shards[self.shard].place
        assert content.progress is not None
        mine = {p: at for p, at in content.progress.partitions.items() if self.share.has(p)}
        self._stands, self.waits_at, self._meeting = place.control_next, None, False
        return Stored(replace(place, partitions=mine), dict(content.tables))

    def tables(self) -> Mapping[TableName, TableProgress]:
        """Where the tables stand, as of now."""
        self._ask()
        return dict(self._server.content.tables)

    def _check_owner(self, content: Content) -> None:
        if content.shards[self.shard].fence != self.fence:
            raise taken("sim", self.shard)
        if content.shards[self.shard].place.control_next != self._stands:
            raise Moved

    def hold(self, names: Iterable[TableName]) -> None:
        """Keys of these tables wait from now on."""

        def work(content: Content) -> None:
            for name in names:
                if content.tables[name].state in (TableState.CATCHING_UP, TableState.CONSISTENT):
                    content.tables[name] = replace(content.tables[name], state=TableState.QUARANTINED)

        self._do(work)

    def _store(self, content: Content, progress: Progress | None, tables: Sequence[TableProgress]) -> None:
        if self._meeting:
            content.tables.update({state.name: state for state in tables})
        if progress is not None:
            assert content.progress is not None
            content.progress = replace(content.progress, partitions=self._moved(content, progress))
            known = content.shards[self.shard]
            content.shards[self.shard] = replace(known, place=replace(progress, partitions={}, since={}), waits_at=self.waits_at)
        self._check_deferred(content)

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Mapping[tuple[str, str, str, str], int]:
        """Store the shard's place, commit, and let the pipeline's position follow."""
        changed = super().commit(progress, tables)
        if progress is not None:
            self._stands = progress.control_next
            self._publish()
        return changed

    def _publish(self) -> None:
        """`cdc.publish`, in a transaction of its own."""
        self._ask()
        content = self._server.content.copy()
        publish(content)
        self._server.commit(content)

    # -- meetings ----------------------------------------------------------------------------------------------------

    def wait_at(self, offset: int | None) -> None:
        """Store with the next commit that the shard waits before this control record."""
        self.waits_at = offset

    def waiting(self, at: int) -> tuple[bool, bool]:
        """Whether this shard waits before a control record, and whether all do."""
        self._ask()
        waits = [shard.waits_at == at for shard in self._server.content.shards.values()]
        return self._server.content.shards[self.shard].waits_at == at, all(waits)

    def lead(self) -> Mapping[TableName, TableProgress]:
        """From here on states of tables are said for all shards."""
        tables = self.read().tables
        self._meeting = True
        return tables

    def widths(self) -> dict[str, int]:
        """How many partitions of each topic are known."""
        self._ask()
        assert self._server.content.progress is not None
        topics = [topic for topic, _ in self._server.content.progress.partitions]
        return {topic: topics.count(topic) for topic in topics}

    def lock_all(self, transaction: SimTarget, at: int) -> list[Position]:
        """Hold every shard where it waits; their positions."""

        def work(content: Content) -> list[Position]:
            if any(shard.waits_at != at for shard in content.shards.values()):
                raise Moved
            return [shard.place.position for _, shard in sorted(content.shards.items())]

        return transaction._do(work)

    def move_all(
        self,
        transaction: SimTarget,
        beyond: tuple[int, str],
        copies: Copies,
        partitions: Mapping[Partition, tuple[int, int]],
        tables: Sequence[TableProgress],
    ) -> None:
        """Move all shards beyond the record, and commit."""

        def work(content: Content) -> None:
            content.tables.update({state.name: state for state in tables})
            for number, shard in content.shards.items():
                place = replace(shard.place, control_next=beyond[0], mark=beyond[1], copies=copies)
                content.shards[number] = replace(shard, place=place, waits_at=None)
            assert content.progress is not None
            content.progress = replace(content.progress, partitions={**content.progress.partitions, **partitions})
            self._check_deferred(content)

        transaction._do(work)
        transaction._durable()
        self._publish()


def publish(content: Content) -> None:
    """Bring the pipeline's position and its tables up to what every shard has applied, as the SQL function does."""
    places = [shard.place for shard in content.shards.values()]
    assert content.progress is not None
    reached = [one for one in places if all(other.position.covers(one.position) for other in places)]
    least = min(reached, key=lambda place: place.control_next, default=None)
    if least is not None and content.progress.control_next <= least.control_next:
        content.progress = replace(least, partitions=content.progress.partitions)
    held = {name for name, _ in content.waiting}
    for name, table in list(content.tables.items()):
        if table.state in (TableState.CATCHING_UP, TableState.QUARANTINED):
            passed = table.ceiling is not None and all(place.position.covers(table.ceiling) for place in places)
            state = TableState.QUARANTINED if name in held else TableState.CONSISTENT if passed else TableState.CATCHING_UP
            content.tables[name] = replace(table, state=state)


def dealt(content: Content, shards: int) -> None:
    """Deal a pipeline's partitions out."""
    assert content.progress is not None
    content.shards = {number: Shard(0, replace(content.progress, partitions={})) for number in range(shards)}


def member(shard: int) -> Callable[[Process], None]:
    """`cdc apply` as a member of a group that was given one shard."""

    def work(process: Process) -> None:
        parts: Any = SimParts(process)
        metrics: Any = Metrics()
        world = process.world
        shards, generation = len(world.postgres.content.shards), world.postgres.content.fence
        parts.run(lambda: apply._shard_work(world.config(), shards, generation, parts, metrics)(shard, lambda: False))

    return work
