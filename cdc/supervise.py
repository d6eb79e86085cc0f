"""Long-running work: tried again when a server is away, ended when it is told to, or when going on could be wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cdc import logs
from cdc.errors import Retry
from cdc.metrics import Metrics

FIRST_CONNECTION_SECONDS = 30.0
_LONGEST_WAIT_SECONDS = 15.0
_HEALTHY_SECONDS = 60.0


class Stopped(Exception):
    """The wish to end, raised where work waits."""


class Parts:
    """Threads that stand and fall together: the first that ends tells the others to."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def stopped(self) -> bool:
        """Whether every part is to end."""
        return self._stop.is_set() or self.ended.is_set()

    def breathe(self) -> None:
        """Raise Stopped when every part is to end; for places that wait."""
        if self.stopped():
            raise Stopped

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run work beside the caller."""
        thread = threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)
        finally:
            self.ended.set()

    def run(self, work: Callable[[], None]) -> None:
        """Run the caller's own part, then end the others; raises the first error of any, the fatal ones first."""
        self._guard(work)
        for thread in self._threads:
            thread.join()
        for error in sorted(self._errors, key=lambda e: isinstance(e, Retry)):
            raise error


def supervise(work: Callable[[Callable[[], None]], None], stop: threading.Event, component: str, metrics: Metrics) -> None:
    """Do the work until it ends; Retry means again: for as long as it takes once `work` has called its argument, else for 30 s."""
    worked = threading.Event()
    first, attempt = time.monotonic(), 0
    while not stop.is_set():
        started = time.monotonic()
        metrics.state(component, "starting")
        try:
            return work(worked.set)
        except Stopped:
            return None
        except Retry as error:
            if not worked.is_set() and time.monotonic() - first > FIRST_CONNECTION_SECONDS:
                raise
            attempt = 0 if time.monotonic() - started > _HEALTHY_SECONDS else attempt + 1
            _report(error, component, metrics)
            stop.wait(min(_LONGEST_WAIT_SECONDS, 0.125 * 2**attempt))
    return None


def _report(error: Retry, component: str, metrics: Metrics) -> None:
    logs.failure(logs.logger(component), error, "warning")
    metrics.state(component, "degraded")
    metrics.retries.labels(component, error.code).inc()
