"""`cdc capture`: the log into the topics."""

from __future__ import annotations

import threading
import time

from cdc.capture import run as capture_run
from cdc.checks import start as start_checks
from cdc.commands.process import Ready, at_work, start_check
from cdc.config.load import Config
from cdc.model.record import Document
from cdc.runtime.counters import CaptureCounters
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup, supervise


def capture(config: Config, stop: threading.Event) -> Document:
    """Read the log into the topics until told to stop."""
    start_checks.demand_kafka(config.transport, "capture")
    started, changes = time.monotonic(), capture_run.changes_of(config)
    with at_work(config, "capture") as metrics:

        def work(ready: Ready) -> None:
            start_check(config, target=False).demand()
            ready()
            parts = ThreadGroup(stop)
            parts.run(capture_run.capture_kafka, config, parts, metrics, changes)

        supervise(work, stop, "capture", metrics, config.pipeline.start_timeout_seconds)
        return {**capture_totals(config, metrics), "seconds": time.monotonic() - started}


def capture_totals(config: Config, metrics: Metrics) -> Document:
    last = metrics.captured[-1] if metrics.captured else CaptureCounters()
    return {
        "pipeline": config.pipeline.name,
        "transport": config.transport.kind,
        "position": last.position.to_json() if last.position else None,
        "transactions": sum(one.transactions for one in metrics.captured),
        "records": sum(one.rows for one in metrics.captured),
        "cut_no": last.cut_no,
    }
