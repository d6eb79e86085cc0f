"""Long-running work: tried again when a server is away, ended when it is told to, or when going on could be wrong."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from typing import ParamSpec

from cdc.errors import Halt, Refused, Retry
from cdc.runtime import clock, logs, timing
from cdc.runtime.metrics import Metrics

P = ParamSpec("P")
_COLLECTOR = (50_000, 50, 100)


class Stopped(Exception):
    """The wish to end, raised where work waits."""


class ThreadGroup:
    """Threads that end together: the first that ends has the others end."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._drained_by = 0.0

    def stopped(self) -> bool:
        """Whether every part is to end."""
        return self._stop.is_set() or self.ended.is_set()

    def check_stop(self) -> None:
        """Raise Stopped when every part is to end; for places that wait."""
        if self.stopped():
            raise Stopped

    def drains(self, taken: Callable[[], bool]) -> bool:
        """Whether the part that takes what another one made is to go on:
        after the other's end, until all of that is taken."""
        if self._stop.is_set() or not self.ended.is_set():
            return not self._stop.is_set()
        self._drained_by = self._drained_by or clock.monotonic() + timing.TIMES.linger_seconds
        return clock.monotonic() < self._drained_by and not taken()

    def check_drain(self) -> None:
        """Raise Stopped as `check_stop` does, but in the part that drains only when there is no time left for that."""
        if not self.drains(lambda: False):
            raise Stopped

    def start(self, name: str, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Run work beside the caller."""
        thread = threading.Thread(target=self._guard, args=(work, *args), kwargs=named, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        try:
            work(*args, **named)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)
        finally:
            self.ended.set()

    def run(self, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Run the caller's own part, then end the others; raises the first error of any, the fatal ones first."""
        self._guard(work, *args, **named)
        for thread in self._threads:
            thread.join()
        for error in sorted(self._errors, key=lambda e: isinstance(e, Retry)):
            raise error


def spare_collector() -> None:
    """Let the collector of cycles look rarely: rows on their way are many small values without any cycle.

    At its own pace it took half of the CPU time (2026-11, per million rows: apply 9.6 -> 4.7 s, capture 3.0 -> 1.8 s),
    because each of its full looks goes through every record held.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTOR)


def supervise(
    work: Callable[[Callable[[], None]], None],
    stop: threading.Event,
    component: str,
    metrics: Metrics,
    patience_seconds: float = timing.TIMES.start_seconds,
) -> None:
    """Do the work until it ends. It calls its argument when it has found every server fit, before it writes anything.

    Until then Retry is tried again for `patience_seconds`, and Refused is exit code 2. From then on Retry is tried
    again for as long as it takes, and Refused becomes Halt: something may have been written.
    """
    spare_collector()
    worked = threading.Event()
    first, attempt = clock.monotonic(), 0
    _state(component, "starting", metrics)
    while not stop.is_set():
        if attempt:
            # an error and the frames that it went through hold each other, and so connections, threads and files
            gc.collect()
        started = clock.monotonic()
        try:
            return work(worked.set)
        except Stopped:
            return None
        except Refused as error:
            if worked.is_set():
                raise Halt(error.code, error.place, error.rule, error.hint) from None
            raise
        except Retry as error:
            left = patience_seconds - (clock.monotonic() - first)
            if not worked.is_set() and left <= 0:
                raise
            attempt = 0 if clock.monotonic() - started > timing.TIMES.healthy_seconds else attempt + 1
            _report(error, component, metrics)
            pause = min(timing.TIMES.pause_longest_seconds, timing.TIMES.pause_first_seconds * 2**attempt)
            pause *= random.uniform(0.8, 1.0)  # not all pipelines of a server at once
            stop.wait(pause if worked.is_set() else min(pause, left))
    return None


def _state(component: str, state: str, metrics: Metrics, error: Retry | None = None) -> None:
    reason = logs.described(error) if error is not None else None
    for part in ("capture", "apply") if component == "run" else (component,):  # they stand and fall together there
        metrics.state(part, state, reason)


def tell(error: Retry, component: str, metrics: Metrics) -> None:
    """Work is undone and done again: a line with the reason, and a count by reason."""
    logs.failure(logs.logger(component), error, "warning")
    metrics.retries.labels(component, error.code).inc()


def _report(error: Retry, component: str, metrics: Metrics) -> None:
    tell(error, component, metrics)
    metrics.stands_still(error.code)
    _state(component, "degraded", metrics, error)  # until it streams again: to try once more mends nothing yet
