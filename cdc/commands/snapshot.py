"""`cdc snapshot`, and the load with which `cdc run` begins."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from cdc.commands.process import Ready, check_fit, limits_of, serving_metrics
from cdc.config.load import Config
from cdc.errors import Refused
from cdc.model.record import Document
from cdc.monitoring.status import copied
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.server_load import LoadProbe
from cdc.mysql.table_reader import Readers
from cdc.protocol.applied import Stored
from cdc.runtime import logs
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup, supervise
from cdc.state.store import StateStore
from cdc.transport.contract import Idle
from sinks.postgres.load import careful
from sinks.postgres.target import PostgresTarget
from snapshot.load.progress import LoadProgress, Report
from snapshot.load.run import LoadSource, load, metered


def snapshot(config: Config, stop: threading.Event, progress: Report) -> Document:
    """Copy the tables into the target, once."""
    if config.snapshot.through == "topics":
        raise Refused(
            "snapshot_through",
            "snapshot.through",
            'is "topics": capture makes the copy, there is nothing to do here',
            "start cdc capture and cdc apply",
        )
    started, complete = time.monotonic(), [False]
    with serving_metrics(config) as metrics, closing(PostgresTarget(config.target, config.pipeline.name)) as target:
        tally = metered(progress, metrics)

        def work(ready: Ready) -> None:
            check_fit(config, topics=False)
            ready()
            with StateStore(config.target, config.pipeline.name) as state:
                loaded = state.read().progress is not None
            if not loaded:  # to open a loaded target would end the process that streams into it
                initial_load(config, target, target.open(), ThreadGroup(stop).check_stop, tally, metrics)
            complete[0] = True

        supervise(work, stop, "snapshot", metrics, config.pipeline.start_timeout_seconds)
        return copied(config, complete[0], time.monotonic() - started, tally.reads())


def initial_load(config: Config, target: PostgresTarget, stored: Stored, check_stop: Idle, tally: LoadProgress, metrics: Metrics) -> Stored:
    """What the target holds, copied first if it holds nothing yet."""
    if stored.progress is not None or config.snapshot.through == "topics":
        return stored
    metrics.state("snapshot", "copying")
    logs.logger("snapshot").info("copy_started")
    with Catalog(config.source) as catalog:
        tables = selected_tables(config, catalog)
        source = LoadSource(catalog, tables, Readers(config.source, catalog, config.snapshot), LoadProbe(config.source))
        load(config, source, target.loads, stored, check_stop, tally, metrics, careful(limits_of(config)))
    metrics.state("snapshot", "stopped")
    logs.logger("snapshot").info("copy_done", tables=len(tables))
    return target.open()


def quiet(table: str, rows: int, estimate: int) -> None:
    """Report progress to nobody."""
