"""The initial load as a process does it: readers of the source, the pace that the configuration asks for, what is told meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from cdc.config.load import Config
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.protocol.applied import Stored
from cdc.runtime import logs, timing
from cdc.runtime.metrics import Metrics
from cdc.state import copies as state_copy
from cdc.state.store import StateStore
from cdc.transport.contract import Idle
from snapshot.load.copier import Copier
from snapshot.load.progress import LoadProgress, Report
from snapshot.load.throttle import LoadReading, Throttle, ThrottleLimits
from snapshot.load.workers import Look, PieceReaders


class Busy(Protocol):
    """How busy the source is."""

    @property
    def threads_running(self) -> int: ...
    @property
    def lock_waits_per_second(self) -> float: ...
    @property
    def replica_lag_seconds(self) -> float | None: ...


class SourceLoad(Protocol):
    """Asks the source; `cdc.mysql.server_load.LoadProbe` is one."""

    def read(self) -> Busy: ...
    def close(self) -> None: ...


_OWN_THREADS = 1
"""That of the question itself; the workers' come on top."""


@dataclass(frozen=True, slots=True)
class LoadSource:
    """What is copied, and how it is read."""

    catalog: Catalog
    tables: Sequence[Table]
    read: PieceReaders
    signs: SourceLoad
    """Both are closed when the load ends."""


def load(
    config: Config,
    source: LoadSource,
    target: Any,
    stored: Stored,
    check_stop: Idle,
    tally: LoadProgress,
    metrics: Metrics,
    careful: Any = None,
) -> None:
    """Copy what is missing of the tables into the target; the log is to be applied from the position that it stores there."""
    limits = config.snapshot
    pace = Throttle(ThrottleLimits(limits.max_rows_per_second, limits.max_threads_running, limits.max_lock_waits_per_second,
                       limits.max_replica_lag_seconds))  # fmt: skip
    copier = Copier(source.catalog, source.read, target, check_stop, tally, pace, careful, config.policies.policies)
    metrics.changed_by_copies.append(copier.changed)
    with closing(source.read), closing(source.signs), _looking(config, source.signs, pace, tally) as look:
        copier.load(source.tables, config.transport.prefix, stored, limits.parallel, look)


def metered(report: Report, metrics: Metrics) -> LoadProgress:
    """A tally that tells the metrics too."""
    seen: dict[str, int] = {}

    def told(table: str, rows: int, estimate: int) -> None:
        metrics.rows_copied.labels(table).inc(max(0, rows - seen.setdefault(table, rows)))  # what was there before us is not counted
        seen[table] = rows
        report(table, rows, estimate)

    return LoadProgress(told, lambda seconds, locking: metrics.copy_reads.labels(str(locking).lower()).observe(seconds))


@contextmanager
def _looking(config: Config, signs: SourceLoad, pace: Throttle, tally: LoadProgress) -> Iterator[Look]:
    """What the source and the operator say, at each call; now and then a line says how far the copy is, and at once why it rests."""
    with StateStore(config.target, config.pipeline.name) as state:
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
            others = max(0, found.threads_running - _OWN_THREADS - config.snapshot.parallel)
            return LoadReading(state_copy.paused(state), others, found.lock_waits_per_second, found.replica_lag_seconds)

        yield look
