"""`cdc apply`: the topics into the target, by one sink or by shards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

from cdc.checks import start as start_checks
from cdc.commands.process import Ready, at_work, limits_of, owned, start_check
from cdc.config.load import Config
from cdc.model.record import Document
from cdc.protocol.applied import Stored
from cdc.runtime import logs, timing
from cdc.runtime.counters import ApplyCounters
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import Stopped, ThreadGroup, supervise, tell
from cdc.state.store import StateStore
from cdc.transport.contract import Reader
from cdc.transport.kafka.connect import broker_of, registry_of
from cdc.transport.kafka.group import KafkaGroup
from cdc.transport.kafka.reader import KafkaReader
from sinks.apply import Apply, SinkMemory
from sinks.postgres.shard_target import ShardTarget, furthest, gathering, join
from sinks.postgres.target import PostgresTarget
from sinks.shard_apply import ShardApply
from sinks.shard_members import ShardMember, Work


def apply(config: Config, stop: threading.Event) -> Document:
    """Apply the topics to the target until told to stop."""
    start_checks.demand_kafka(config.transport, "apply")
    started, generation = time.monotonic(), [0]
    sink = PostgresTarget(config.target, config.pipeline.name)
    with at_work(config, "apply") as metrics, closing(sink) as target:

        def work(ready: Ready) -> None:
            start_check(config, capture=False).demand()
            start_checks.demand_shards(config.apply.shards, config.target, config.pipeline.name)
            ready()
            parts = ThreadGroup(stop)
            if config.apply.shards:
                parts.run(_serve, config, generation, parts, metrics)
            else:
                parts.run(apply_kafka, config, target, parts, metrics)

        supervise(owned(target, work), stop, "apply", metrics, config.pipeline.start_timeout_seconds)
        return {**apply_totals(config, metrics), "seconds": time.monotonic() - started}


def apply_totals(config: Config, metrics: Metrics) -> Document:
    last = metrics.slowest or (metrics.applied[-1] if metrics.applied else ApplyCounters())
    return {
        "pipeline": config.pipeline.name,
        "transport": config.transport.kind,
        "cut_no": last.cut_no,
        "rows": sum(sum(one.rows.values()) for one in metrics.applied),
        "commits": sum(one.commits for one in metrics.applied),
    }


def apply_kafka(config: Config, target: PostgresTarget, parts: ThreadGroup, metrics: Metrics) -> None:
    broker = broker_of(config.transport, parts.check_drain)
    broker.check()
    _await_load(config, parts)
    with closing(KafkaReader(broker, registry_of(config.transport, broker))) as reader:
        stored = target.open()
        if shards := gathering(target):
            logs.logger("apply").info("gathering_shards", shards=shards)
            while (until := furthest(target)) is not None:
                ShardMember(_shard_work(config, shards, target.fence, parts, metrics, until)).finish(shards, parts)
            stored = target.open()
        apply_until_stopped(config, reader, target, stored, parts, metrics)


def _serve(config: Config, generation: list[int], parts: ThreadGroup, metrics: Metrics) -> None:
    """Apply what falls to this member of the group; `generation` is what `join` gave last."""
    broker, shards = broker_of(config.transport, parts.check_stop), config.apply.shards
    broker.check()
    _await_load(config, parts)
    generation[0] = join(config.target, config.pipeline.name, shards, generation[0])
    member = ShardMember(_shard_work(config, shards, generation[0], parts, metrics))
    with closing(KafkaGroup(broker, shards, member.given, member.taken)) as group:
        member.serve(group.poll, parts)


def _shard_work(
    config: Config, shards: int, generation: int, parts: ThreadGroup, metrics: Metrics, until: int | None = None
) -> Work:
    def work(shard: int, told: Callable[[], bool]) -> None:
        def check_stop() -> None:
            parts.check_stop()
            if told():
                raise Stopped

        target = ShardTarget(config.target, config.pipeline.name, shard, shards, generation)
        broker = broker_of(config.transport, check_stop)
        with closing(target), closing(KafkaReader(broker, registry_of(config.transport, broker))) as reader:
            stage = ShardApply(reader, target, memory_of(config, metrics), config.policies.policies, until)
            stored = target.open()
            metrics.watch_apply(stage.counters, shard)
            metrics.state("apply", "streaming")
            logs.logger("apply").info("streaming", shard=shard)
            try:
                stage.run(stored, lambda: told() or parts.stopped(), config.apply.max_delay_seconds)
            finally:
                metrics.leave_apply(shard)

    return work


def _await_load(config: Config, parts: ThreadGroup) -> None:
    """Applying begins when the copy is complete; to open the target earlier would end the copy."""
    told = False
    with StateStore(config.target, config.pipeline.name) as state:
        while (config.apply.shards or config.snapshot.through == "target") and state.read().progress is None:
            if not told:
                logs.logger("apply").info("waiting_for_copy", hint="cdc snapshot makes it; cdc status: does it run?")
            told = True
            parts.check_stop()
            time.sleep(timing.TIMES.loaded_poll_seconds)


def memory_of(config: Config, metrics: Metrics) -> SinkMemory:
    return SinkMemory(limits_of(config.apply), lambda error: tell(error, "apply", metrics))


def apply_until_stopped(
    config: Config, reader: Reader, target: PostgresTarget, stored: Stored, parts: ThreadGroup, metrics: Metrics
) -> None:
    """Apply what is read, from what is stored on, until told to stop.

    Where capture runs in this process too, and ends, it ends when all of that is taken.
    """
    stage = Apply(reader, target, stored, memory_of(config, metrics), config.policies.policies)
    metrics.watch_apply(stage.counters)
    metrics.state("apply", "streaming")
    logs.logger("apply").info("streaming", tables=len(stored.tables))

    def taken() -> bool:
        return not metrics.captured or stage.counters.cut_no >= metrics.captured[-1].cut_no

    stage.run(lambda: not parts.drains(taken), config.apply.max_delay_seconds)
