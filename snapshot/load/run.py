"""The initial load as a process does it: readers of the source, the pace that the configuration asks for,
what is told meanwhile."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

from cdc.config.load import SnapshotConfig
from cdc.model.policies import Policies
from cdc.mysql.server_load import LoadProbe
from cdc.mysql.source_server import SourceServer
from cdc.protocol.applied import Stored
from cdc.runtime import logs, timing
from cdc.runtime.metrics import Metrics
from cdc.state import copies as state_copy
from cdc.state.store import StateStore
from cdc.transport.contract import Idle
from sinks.postgres.target import PostgresTarget
from sinks.quarantine import QuarantineLimits
from snapshot.load.copier import Copier
from snapshot.load.progress import LoadProgress, Report
from snapshot.load.throttle import LoadReading, Throttle, ThrottleLimits
from snapshot.load.workers import Look

_OWN_THREADS = 1
"""That of the question itself; the workers' come on top."""


@dataclass(frozen=True, slots=True)
class LoadRules:
    """What a load keeps to, and what it makes of rows."""

    limits: SnapshotConfig
    quarantine: QuarantineLimits
    policies: Policies
    prefix: str
    """Of the topics: it is in the names of the rows' schemas, which those that wait in quarantine keep."""


def load(
    server: SourceServer,
    rules: LoadRules,
    target: PostgresTarget,
    stored: Stored,
    check_stop: Idle,
    tally: LoadProgress,
    metrics: Metrics,
) -> None:
    """Copy what is missing of the tables into the target; the log is to be applied from the position that it stores
    there."""
    metrics.state("snapshot", "copying")
    logs.logger("snapshot").info("copy_started")
    limits = rules.limits
    with server.catalog() as catalog:
        tables = server.selected(catalog, rules.policies)
        with (
            closing(server.readers(catalog, limits)) as read,
            closing(server.load_probe()) as probe,
            StateStore(target.target, target.pipeline) as state,
        ):
            pace = Throttle(ThrottleLimits(limits.max_rows_per_second, limits.max_threads_running,
            limits.max_lock_waits_per_second,
                               limits.max_replica_lag_seconds))  # fmt: skip
            copier = Copier(catalog, read, target.loads, check_stop, tally, pace, rules.quarantine, rules.policies)
            metrics.changed_by_copies.append(copier.changed)
            look = _looking(state, probe, limits.parallel, pace, tally)
            copier.load(tables, rules.prefix, stored, limits.parallel, look)
    metrics.state("snapshot", "stopped")
    logs.logger("snapshot").info("copy_done", tables=len(tables))


def metered(report: Report, metrics: Metrics) -> LoadProgress:
    """A tally that tells the metrics too."""
    seen: dict[str, int] = {}

    def told(table: str, rows: int, estimate: int) -> None:
        metrics.rows_copied.labels(table).inc(
            max(0, rows - seen.setdefault(table, rows))
        )  # what was there before us is not counted
        seen[table] = rows
        report(table, rows, estimate)

    return LoadProgress(told, lambda seconds, locking: metrics.copy_reads.labels(str(locking).lower()).observe(seconds))


def _looking(state: StateStore, signs: LoadProbe, parallel: int, pace: Throttle, tally: LoadProgress) -> Look:
    """What the source and the operator say, at each call; now and then a line says how far the copy is,
    and at once why it rests."""
    log, told, was = logs.logger("snapshot"), [time.monotonic()], [""]

    def look() -> LoadReading:
        standing = "paused" if pace.paused else pace.reason
        if standing != was[0]:
            log.info("copy_pace", reason=standing or "none", rest_factor=pace.rest_factor)
            was[0] = standing
        if time.monotonic() - told[0] > timing.TIMES.tell_seconds:
            told[0] = time.monotonic()
            log.info("copy_progress", **tally.standing()._asdict())
        found = signs.read()
        others = max(0, found.threads_running - _OWN_THREADS - parallel)
        return LoadReading(state_copy.paused(state), others, found.lock_waits_per_second, found.replica_lag_seconds)

    return look
