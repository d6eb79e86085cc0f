"""The initial load as a process does it: readers of the source, the pace that the configuration asks for, what is told meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from cdc.config.load import SnapshotConfig
from cdc.model.policies import Policies
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.server_load import LoadProbe
from cdc.mysql.table_reader import Readers
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
class LoadSource:
    """What is copied, and how it is read."""

    catalog: Catalog
    tables: Sequence[Table]
    read: Readers
    signs: LoadProbe
    """Both are closed when the load ends."""
    policies: Policies
    prefix: str
    """Of the topics: it is in the names of the schemas of the rows, which those that wait in quarantine keep."""


def load(
    source: LoadSource,
    target: PostgresTarget,
    stored: Stored,
    limits: SnapshotConfig,
    quarantine: QuarantineLimits,
    check_stop: Idle,
    tally: LoadProgress,
    metrics: Metrics,
) -> None:
    """Copy what is missing of the tables into the target; the log is to be applied from the position that it stores there."""
    pace = Throttle(ThrottleLimits(limits.max_rows_per_second, limits.max_threads_running, limits.max_lock_waits_per_second,
                       limits.max_replica_lag_seconds))  # fmt: skip
    copier = Copier(source.catalog, source.read, target, check_stop, tally, pace, quarantine, source.policies)
    metrics.changed_by_copies.append(copier.changed)
    with closing(source.read), closing(source.signs), StateStore(target.target, target.pipeline) as state:
        look = _looking(state, source.signs, limits.parallel, pace, tally)
        copier.load(source.tables, source.prefix, stored, limits.parallel, look)


def metered(report: Report, metrics: Metrics) -> LoadProgress:
    """A tally that tells the metrics too."""
    seen: dict[str, int] = {}

    def told(table: str, rows: int, estimate: int) -> None:
        metrics.rows_copied.labels(table).inc(max(0, rows - seen.setdefault(table, rows)))  # what was there before us is not counted
        seen[table] = rows
        report(table, rows, estimate)

    return LoadProgress(told, lambda seconds, locking: metrics.copy_reads.labels(str(locking).lower()).observe(seconds))


def _looking(state: StateStore, signs: LoadProbe, parallel: int, pace: Throttle, tally: LoadProgress) -> Look:
    """What the source and the operator say, at each call; now and then a line says how far the copy is, and at once why it rests."""
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
