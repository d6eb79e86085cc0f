"""One epoch of capture, put together: the source's log, a transport, where to begin,
and what is asked of it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

import cdc
from cdc.binlog.reader import BinlogReader
from cdc.capture import initial_snapshot
from cdc.capture.capture import Capture
from cdc.capture.incremental_snapshot import IncrementalSnapshot
from cdc.capture.restart import Restart
from cdc.capture.schema_changes import SchemaChanges
from cdc.capture.statements import Listing
from cdc.config.load import Config, TargetConfig
from cdc.errors import Retry
from cdc.model.position import Position
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.foreign_keys import followed_keys
from cdc.mysql.source_server import SourceServer
from cdc.protocol.applied import REMAKE, Stored
from cdc.protocol.signals import Channel
from cdc.protocol.table_states import LOADED, TableState
from cdc.runtime import clock, logs, timing
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup
from cdc.state.requests import RequestTable
from cdc.state.store import StateStore
from cdc.transport.contract import Idle, Writer
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.connect import broker_of, registry_of
from cdc.transport.kafka.signals import KafkaSignals
from cdc.transport.kafka.writer import KafkaWriter


def stored_restart(stored: Stored) -> Restart | None:
    """Where an epoch goes on that has only the target to remember by; None when nothing was applied yet."""
    progress = stored.progress
    if progress is None:
        return None
    restart = Restart(progress.position, progress.source_ts_us, progress.cut_no, copies=progress.copies)
    restart.clock_offset_us = progress.clock_offset_us
    restart.followed = frozenset(name for name, one in stored.tables.items() if one.state in LOADED)
    restart.refused = frozenset(name for name, one in stored.tables.items() if one.state == TableState.REFUSED)
    active = progress.copies.active
    begun = frozenset({(active.db, active.table)} if active is not None else ())
    restart.foreign_keys = stored.foreign_keys
    restart.emptied = begun & {name for name, one in stored.tables.items() if one.state == TableState.COPYING}
    return restart


def changes_of(config: Config) -> SchemaChanges | None:
    """What a process remembers of changed tables from epoch to epoch; None where they stop it."""
    return SchemaChanges() if config.source.schema_changes == "copy" else None


def capture_kafka(config: Config, parts: ThreadGroup, metrics: Metrics, changes: SchemaChanges | None = None) -> None:
    """One epoch that writes to Kafka."""
    broker = broker_of(config.transport, parts.check_stop)
    broker.check()
    with closing(KafkaWriter(broker, registry_of(config.transport, broker))) as writer:
        capture(config, writer, parts, metrics, broker=broker, changes=changes)


def capture(
    config: Config,
    writer: Writer,
    parts: ThreadGroup,
    metrics: Metrics,
    previous: Restart | None = None,
    broker: KafkaBroker | None = None,
    changes: SchemaChanges | None = None,
) -> None:
    """One epoch, from its start record until it is told to stop.

    `previous` is where it begins where the topics keep nothing. Requests for copies come over `broker`, or without one
    through the target. Without `changes` a table that changes stops it.
    """
    with Catalog(config.source) as catalog:
        listed_at = catalog.log.shown_position()
        selected = selected_tables(catalog, config.source, config.policies.policies)
        keys = followed_keys(catalog, selected, config.apply.shards)
        names = config.transport.prefix, catalog.flavour, cdc.__version__
        stage = Capture(writer, *names, selected, config.pipeline.name, listed_at, changes, keys)
        selects = catalog.selection(config.source.tables, config.source.exclude)
        first = partial(first_restart, config, catalog, selected, listed_at, parts.check_stop)
        restart = stage.start(first, previous, selects, catalog.session.lacks)
        metrics.watch_capture(stage.counters)
        catalog.identity.check(restart.position)
        if restart.copying:
            stage.copied_all(
                initial_snapshot.copy_tables(stage, config.source, catalog, restart.reached, parts.check_stop)
            )
        channel = KafkaSignals(broker) if broker is not None else _request_table(config)
        server, rate = SourceServer(config.source), config.snapshot.max_rows_per_second
        windows = IncrementalSnapshot(stage, server, channel, restart, catalog.server_id, parts.check_stop, rate)
    stage.copying, stage.lists = windows, partial(_listing, config, server)
    writer.check_alone()  # before the source ends the stream of a later one for our sake
    reader = BinlogReader(
        config.source,
        config.source.server_id,
        restart.position,
        heartbeat_seconds=config.source.heartbeat_seconds,
        wants=stage.wants,
    )
    windows.undecided = reader.undecided
    with closing(windows), closing(reader):
        metrics.source_clock = reader.source_clock
        metrics.state("capture", "streaming")
        begins = restart.position
        logs.logger("capture").info("streaming", tables=len(selected), position=f"{begins.file}:{begins.offset}")
        stage.run(reader, parts.stopped, selects)


def _listing(config: Config, server: SourceServer) -> Listing:
    with server.catalog() as catalog:
        at = catalog.log.shown_position()
        tables = server.selected(catalog, config.policies.policies)
        return Listing(at, tables, catalog.computed(tables))


def _request_table(config: Config) -> Channel:
    return RequestTable(StateStore(config.target, config.pipeline.name), config.transport.prefix)


def first_restart(
    config: Config, catalog: Catalog, selected: Sequence[Table], listed_at: Position, check_stop: Idle
) -> Restart:
    """Where the first epoch of a pipeline begins: at what the target's copy needs, or else now, if `selected` are the
    tables of now.

    Where the target knows of no copy it is asked again after the position was taken: a copy of which it still knows
    nothing takes its own position later. The tables must have been listed (`listed_at`) behind where it begins: what
    changed them before that is read by nobody.
    """
    copying = config.snapshot.through == "topics"
    if not copying and (copied := _copied(config.target, config.pipeline.name, check_stop)) is not None:
        return _proven(copied, catalog, listed_at)
    now_us = clock.now_us()
    restart = Restart(catalog.log.visible_position(), now_us, copying=copying)
    if not copying and (copied := _copied(config.target, config.pipeline.name, check_stop)) is not None:
        return _proven(copied, catalog, listed_at)
    now = selected_tables(catalog, config.source, config.policies.policies)
    if {(table.db, table.name) for table in now} != {(table.db, table.name) for table in selected}:
        raise Retry(
            "shape_changed",
            "source.tables",
            "a table was created or dropped while the first position was taken",
            "tried again",
        )
    return restart


def _proven(copied: Restart, catalog: Catalog, listed_at: Position) -> Restart:
    """What a copy says, if this server's log goes on from there and the tables were listed behind it."""
    catalog.identity.check(copied.position)
    if not listed_at.covers(copied.position):
        raise Retry("shape_changed", "source.tables", "a copy began after the tables were listed", "tried again")
    return copied


def _copied(target: TargetConfig, pipeline: str, check_stop: Idle) -> Restart | None:
    """Where the log has to be read from for the target's initial load; None: none has begun. One that has may not yet
    say where: wait.

    Of a load under way, what it does not know came later, or has left it: that is still to be copied.
    """
    with StateStore(target, pipeline) as state:
        told = False
        while True:
            found = state.read()
            stored, floor = stored_restart(found), found.lowest_floor
            if stored is not None:
                return Restart(
                    stored.position,
                    stored.source_ts_us,
                    followed=stored.followed,
                    clock_offset_us=stored.clock_offset_us,
                )
            if floor is not None:
                return Restart(
                    floor, followed=frozenset(name for name, one in found.tables.items() if REMAKE not in one.schema)
                )
            if not found.tables:
                return None
            if not told:
                logs.logger("capture").info(
                    "waiting_for_copy",
                    hint="cdc snapshot has prepared it and says soon where it begins; cdc status: does it run?",
                )
            told = True
            check_stop()
            clock.sleep(timing.TIMES.loaded_poll_seconds)
