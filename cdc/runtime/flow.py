"""One log line a minute while a process streams: what flows, and how late it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cdc.runtime import clock, logs, timing
from cdc.runtime.metrics import Metrics


class Flow:
    """What has flowed since it was asked last."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._changes, self._at = self._total(), clock.monotonic()

    def facts(self) -> dict[str, float | None]:
        """Row changes since the last call, how many a second, and the lag in seconds; None while it is unknown."""
        total, now = self._total(), clock.monotonic()
        changes, seconds = total - self._changes, now - self._at
        self._changes, self._at = total, now
        return {
            "changes": changes,
            "per_second": round(changes / seconds, 1) if seconds else 0.0,
            "lag_seconds": self._lag(),
        }

    def _total(self) -> int:
        """Changes applied, or where nothing is applied here, those that were read."""
        if self._metrics.applied:
            return sum(sum(one.rows.copy().values()) for one in self._metrics.applied)
        return sum(one.rows for one in self._metrics.captured)

    def _lag(self) -> float | None:
        """Of what is done last in this process: applied, else published, else read."""
        marks = self._metrics.lag
        done = marks.applied_us or marks.published_us or marks.read_us
        return None if done is None else round(max(self._metrics.source_now_us() - done, 0) / 1e6, 1)


@contextmanager
def telling(metrics: Metrics) -> Iterator[None]:
    """Log it now and then until the block ends, once something streams."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(metrics, ended), name="flow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(metrics: Metrics, ended: threading.Event) -> None:
    flow = Flow(metrics)
    while not ended.wait(timing.TIMES.flow_seconds):
        facts = flow.facts()
        if metrics.captured or metrics.applied:
            logs.logger("pipeline").info("flow", **facts)
