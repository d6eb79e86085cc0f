"""`cdc run`: copy what is missing, then capture and apply in one process."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial

from cdc.capture import run as capture_run
from cdc.capture.schema_changes import SchemaChanges
from cdc.checks import start as start_checks
from cdc.commands.apply import apply_kafka, apply_totals, apply_until_stopped
from cdc.commands.capture import capture_totals
from cdc.commands.process import Ready, at_work, owned, start_check
from cdc.commands.snapshot import Bars, shown_load, unshown
from cdc.config.load import Config
from cdc.model.record import Document
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup, supervise
from cdc.state.shards import shards_differ
from cdc.transport.direct import DirectLog
from sinks.postgres.shard_target import gathering
from sinks.postgres.target import PostgresTarget


def run(config: Config, stop: threading.Event, bars: Bars = unshown) -> Document:
    """Copy what is missing, shown by bars, then capture and apply in this process until told to stop."""
    started = time.monotonic()
    start_checks.demand_one_process(config.apply.shards)
    with at_work(config, "run") as metrics:
        target = PostgresTarget(config.target, config.pipeline.name)
        work = _run_direct if config.transport.kind == "direct" else _run_kafka
        with closing(target):
            patience, changes = config.pipeline.start_timeout_seconds, capture_run.changes_of(config)
            streams = owned(target, partial(work, config, target, stop, metrics, changes, bars=bars))
            supervise(streams, stop, "run", metrics, patience)
        return {
            **capture_totals(config, metrics),
            **apply_totals(config, metrics),
            "seconds": time.monotonic() - started,
        }


def _run_direct(
    config: Config,
    target: PostgresTarget,
    stop: threading.Event,
    metrics: Metrics,
    changes: SchemaChanges | None,
    ready: Ready,
    bars: Bars = unshown,
) -> None:
    start_check(config).demand()
    ready()
    parts = ThreadGroup(stop)
    stored = shown_load(config, target, parts.check_stop, bars, metrics)
    if shards := gathering(target):
        raise shards_differ(config.pipeline.name, shards)
    progress = stored.progress
    log = DirectLog(config.transport.prefix, first_control=progress.control_next if progress else 0,
                    partitions=config.transport.partitions, idle=parts.check_stop)  # fmt: skip
    previous = capture_run.stored_restart(stored)
    parts.start("capture", capture_run.capture, config, log, parts, metrics, previous, None, changes)
    with closing(log):
        parts.run(apply_until_stopped, config, log, target, stored, parts, metrics)


def _run_kafka(
    config: Config,
    target: PostgresTarget,
    stop: threading.Event,
    metrics: Metrics,
    changes: SchemaChanges | None,
    ready: Ready,
    bars: Bars = unshown,
) -> None:
    start_check(config).demand()
    ready()
    parts = ThreadGroup(stop)
    shown_load(config, target, parts.check_stop, bars, metrics)
    parts.start("capture", capture_run.capture_kafka, config, parts, metrics, changes)
    parts.run(apply_kafka, config, target, parts, metrics)
