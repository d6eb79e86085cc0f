"""`cdc snapshot`, and the load with which `cdc run` begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from cdc.commands.process import Ready, at_work, limits_of, owned, start_check
from cdc.config.load import Config
from cdc.errors import CdcError, Refused
from cdc.model.record import Document
from cdc.monitoring.status import copied
from cdc.mysql.source_server import SourceServer
from cdc.protocol.applied import Stored
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup, supervise
from cdc.state.store import StateStore
from cdc.transport.contract import Idle
from sinks.postgres.target import PostgresTarget
from snapshot.load.progress import LoadProgress, Report
from snapshot.load.run import LoadRules, load, metered

Bars = Callable[[], AbstractContextManager[Report]]
"""What shows a copy, as long as it is made."""


@contextmanager
def unshown() -> Iterator[Report]:
    """A copy that nobody is shown."""
    yield lambda table, rows, estimate: None


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
    sink = PostgresTarget(config.target, config.pipeline.name)
    with at_work(config, "snapshot") as metrics, closing(sink) as target:
        tally = metered(progress, metrics)

        def work(ready: Ready) -> None:
            start_check(config, topics=False).demand()
            ready()
            if not _is_loaded(config):  # to open a loaded target would end the process that streams into it
                initial_load(config, target, target.open(), ThreadGroup(stop).check_stop, tally, metrics)
            complete[0] = True

        def owner(ready: Ready) -> None:
            try:
                owned(target, work)(ready)
            except CdcError as error:
                if error.code != "fenced" or not _is_loaded(config):
                    raise
                complete[0] = True  # who streams has taken over what is copied

        supervise(owner, stop, "snapshot", metrics, config.pipeline.start_timeout_seconds)
        return copied(config.target, config.pipeline.name, complete[0], time.monotonic() - started, tally.reads())


def _is_loaded(config: Config) -> bool:
    with StateStore(config.target, config.pipeline.name) as state:
        return state.read().progress is not None


def initial_load(
    config: Config, target: PostgresTarget, stored: Stored, check_stop: Idle, tally: LoadProgress, metrics: Metrics
) -> Stored:
    """What the target holds, copied first if it holds nothing yet."""
    if not is_to_load(config, stored):
        return stored
    server = SourceServer(config.source)
    rules = LoadRules(config.snapshot, limits_of(config.apply), config.policies.policies, config.transport.prefix)
    load(server, rules, target, stored, check_stop, tally, metrics)
    return target.open()


def shown_load(config: Config, target: PostgresTarget, check_stop: Idle, bars: Bars, metrics: Metrics) -> Stored:
    """The same, with bars as long as it is copied."""
    stored = target.open()
    if not is_to_load(config, stored):
        return stored
    with bars() as progress:
        return initial_load(config, target, stored, check_stop, metered(progress, metrics), metrics)


def is_to_load(config: Config, stored: Stored) -> bool:
    """Whether the copy that does not go through the topics is still to be made, or to be ended."""
    return stored.progress is None and config.snapshot.through != "topics"
