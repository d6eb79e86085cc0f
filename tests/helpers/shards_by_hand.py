"""Several sinks over one log made by hand, and their targets, which note what they are asked."""

from __future__ import annotations

from typing import Any

from cdc.protocol.applied import Progress
from cdc.state.shards import shard_of
from sinks.quarantine import QuarantineLimits
from sinks.shard_apply import ShardApply
from tests.helpers.sink_by_hand import DB, P, Story, Target
from tests.simulation.sharded import SimShardTarget, dealt
from tests.simulation.target import SimPostgres


class Shard(Target, SimShardTarget):
    """The target of one shard, which notes what it is asked."""

    def __init__(self, server: SimPostgres, shard: int) -> None:
        super().__init__(server, shard, 2, 1)
        self.looked = 0

    def tables(self) -> Any:
        self.looked += 1
        return super().tables()

    def hold(self, names: Any) -> None:
        self._note("hold")
        super().hold(names)

    def lead(self) -> Any:
        self._note("lead")
        return super().lead()

    def lock_all(self, transaction: Any, at: int) -> Any:
        self._note("lock_all")
        return super().lock_all(transaction, at)


class Sinks(Story):
    """Two sinks; of each table the records of partition 0 are the first one's, those of partition 1 the other's."""

    def __init__(self, *states: Any, **more: Any) -> None:
        super().__init__(*states, partitions=2, **more)
        dealt(self.content, 2)
        self.shards = [Shard(self.server, number) for number in (0, 1)]
        for shard in self.shards:
            shard.open()
            shard.calls.clear()
        self.until: int | None = None

    def owner(self, table: Any, partition: int) -> int:
        """Whose records of this partition are."""
        return shard_of((f"p.{DB}.{table.name}", partition), 2)

    def of_shard(self, table: Any, shard: int) -> int:
        """The table's partition that is a shard's."""
        return next(partition for partition in (0, 1) if self.owner(table, partition) == shard)

    def shard_sink(self, number: int, limits: QuarantineLimits | None = None) -> ShardApply:
        """The sink of one shard, which has not begun."""
        target: Any = self.shards[number]
        return ShardApply(self.log, target, self.memory(limits), None, self.until)

    def alone(self, number: int, sink: ShardApply | None = None, limits: QuarantineLimits | None = None) -> ShardApply:
        """One sink works until it has nothing to do, or waits."""
        target: Any = self.shards[number]
        sink = sink or self.shard_sink(number, limits)
        rounds = 0

        def stopped() -> bool:
            nonlocal rounds
            rounds += 1
            assert rounds < 100, "it never comes to rest"
            return rounds > 6 and not self.log.unread()

        sink.run(target.read(), stopped, 0.0)
        return sink

    def together(self) -> None:
        """Each works, and again, as often as they meet."""
        for number in (0, 1, 0, 1, 0, 1):
            self.alone(number)

    def place(self, number: int) -> Progress:
        return self.content.shards[number].place

    def waits(self) -> list[int | None]:
        return [shard.waits_at for _, shard in sorted(self.content.shards.items())]


def begun(*states: Any, **more: Any) -> Sinks:
    """Both have entered the first base."""
    sinks = Sinks(*states, **more)
    sinks.begins()
    sinks.together()
    for shard in sinks.shards:
        shard.calls.clear()
        shard.commits.clear()
        shard.looked = 0
    return sinks


def filled(sinks: Sinks, first: int = 1) -> None:
    """A transaction with a row in each partition of p."""
    for partition in (0, 1):
        sinks.put(P, None, (first + partition, 1), partition=partition)
    sinks.cut()
