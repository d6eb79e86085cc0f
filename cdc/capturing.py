"""One epoch of capture, put together: the source's log, a transport, where to begin, and what is asked of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

import cdc
from cdc import columns, initial
from cdc.binlog import BinlogReader
from cdc.capture import Capture
from cdc.catalog import Catalog
from cdc.config import Config
from cdc.copying import Windows
from cdc.epoch import Restart
from cdc.kafka import KafkaWriter
from cdc.kafka_broker import KafkaBroker, topic_registry
from cdc.kafka_signals import KafkaSignals
from cdc.lifecycle import LOADED
from cdc.lifecycle import State as Standing
from cdc.metrics import Metrics
from cdc.model import Table
from cdc.progress import Stored
from cdc.schemas import HttpRegistry, Registry
from cdc.signals import Channel
from cdc.state import State
from cdc.state_requests import RequestTable
from cdc.supervise import Parts
from cdc.topic import Idle, Writer


def tables(config: Config, catalog: Catalog, patterns: Sequence[str] = ()) -> list[Table]:
    """The selected tables, with the policies of their columns."""
    return columns.chosen(catalog.tables(patterns or config.source.tables, config.source.exclude), config.policies.policies)


def stored_restart(stored: Stored) -> Restart | None:
    """Where an epoch goes on that has only the target to remember by; None when nothing was applied yet."""
    progress = stored.progress
    if progress is None:
        return None
    restart = Restart(progress.position, progress.source_ts_us, progress.cut_no, copies=progress.copies)
    restart.followed = frozenset(name for name, one in stored.tables.items() if one.state in LOADED)
    restart.emptied = frozenset(name for name, one in stored.tables.items() if one.state == Standing.COPYING)
    return restart


def broker_of(config: Config, breathe: Idle) -> KafkaBroker:
    """The cluster of the configuration."""
    transport = config.transport
    return KafkaBroker(
        transport.bootstrap,
        transport.prefix,
        transport.kafka,
        partitions=transport.partitions,
        partitions_of=transport.partitions_of,
        idle=breathe,
    )


def registry_of(config: Config, broker: KafkaBroker) -> Registry:
    """Where the schemas of its topics are."""
    return HttpRegistry(config.transport.registry) if config.transport.registry else topic_registry(broker)


def capture_direct(config: Config, writer: Writer, parts: Parts, metrics: Metrics, previous: Restart | None) -> None:
    """One epoch that writes to the sink of this process."""

    def channel() -> Channel:
        return RequestTable(State(config.target, config.pipeline.name), config.transport.prefix)

    capture(config, writer, channel, parts, metrics, previous)


def capture_kafka(config: Config, parts: Parts, metrics: Metrics) -> None:
    """One epoch that writes to Kafka."""
    broker = broker_of(config, parts.breathe)
    broker.check()
    with closing(KafkaWriter(broker, registry_of(config, broker))) as writer:
        capture(config, writer, lambda: KafkaSignals(broker), parts, metrics, None)


def capture(
    config: Config, writer: Writer, channel: Callable[[], Channel], parts: Parts, metrics: Metrics, previous: Restart | None
) -> None:
    """One epoch, from its start record until it is told to stop; `previous` is where it begins where the topics keep nothing."""
    with Catalog(config.source) as catalog:
        listed_at, selected = catalog.shown_position(), tables(config, catalog)
        stage = Capture(writer, config.transport.prefix, catalog.flavour, cdc.__version__, selected, config.pipeline.name, listed_at)
        selects = catalog.selection(config.source.tables, config.source.exclude)
        restart = stage.start(lambda: _first(config, catalog), previous, selects)
        metrics.watch_capture(stage.counters)
        catalog.check(restart.position)
        if restart.copying:
            stage.copied_all(initial.copy_tables(stage, config.source, catalog, restart.reached, parts.breathe))
        rate = config.snapshot.max_rows_per_second
        windows = Windows(stage, config.source, channel(), restart, catalog.server_id, parts.breathe, rate)
    stage.copying = windows
    writer.check_alone()  # before the source ends the stream of a later one for our sake
    reader = BinlogReader(
        config.source, config.source.server_id, restart.position, heartbeat_seconds=config.source.heartbeat_seconds, wants=stage.wants
    )
    with closing(windows), closing(reader):
        metrics.offset_us = reader.clock_offset_us
        metrics.state("capture", "streaming")
        stage.run(reader, parts.stopped, selects)


def _first(config: Config, catalog: Catalog) -> Restart:
    """Where the first epoch of a pipeline begins: at what the target's copy needs, or else now."""
    copying = config.snapshot.through == "topics"
    floor = followed = None
    if not copying:
        with State(config.target, config.pipeline.name) as state:
            restart = stored_restart(state.read())
            floor, followed = (restart.position, restart.followed) if restart else (state.lowest_floor(), None)
    return Restart(floor or catalog.visible_position(), time.time_ns() // 1000, copying=copying, followed=followed)
