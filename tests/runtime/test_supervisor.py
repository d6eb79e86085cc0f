"""What is tried again, and what a failed try may leave behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from cdc.errors import Retry
from cdc.runtime.metrics import Metrics
from cdc.runtime.supervisor import ThreadGroup, supervise

TRIES = 3


class Connection:
    """Whatever holds a file for as long as it lives."""


def test_a_failed_try_leaves_nothing_that_holds_a_file() -> None:
    """An error knows the frames that it went through, and one of them knows the error: only the collector of cycles frees them."""
    alive: weakref.WeakSet[Connection] = weakref.WeakSet()
    seen: list[int] = []
    stop = threading.Event()

    def work(_worked: Callable[[], None]) -> None:
        seen.append(len(alive))
        connection = Connection()
        alive.add(connection)

        def fail() -> None:
            assert connection in alive
            raise Retry("source_lost", "there", "is gone")

        if len(seen) < TRIES:
            ThreadGroup(stop).run(fail)

    supervise(work, stop, "run", Metrics(""))
    assert [0] * TRIES == seen
