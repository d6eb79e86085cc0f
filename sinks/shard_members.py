"""One process of a scaled sink: for each shard that its group gives it a thread works on it,
until the group takes it back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cdc.errors import Retry
from cdc.runtime import logs, timing
from cdc.runtime.supervisor import ThreadGroup

Work = Callable[[int, Callable[[], bool]], None]
"""Work on a shard until the function given says to stop."""


class Worker:
    """A thread that works on one shard."""

    def __init__(self, shard: int, work: Work) -> None:
        self.shard, self._work = shard, work
        self.error: BaseException | None = None
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"shard {shard}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self.shard, self._told.is_set)
        except BaseException as error:  # noqa: BLE001 - handed to the member, who raises it
            if not self._told.is_set():  # what fails of a shard that was taken is no concern of ours any more
                self.error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def tell(self) -> None:
        """Say that it is to stop."""
        self._told.set()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(seconds)


class ShardMember:
    """The shards of this process."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._workers: dict[int, Worker] = {}

    def given(self, shards: frozenset[int]) -> None:
        """Begin to work on these."""
        for shard in shards - self._workers.keys():
            self._workers[shard] = Worker(shard, self._work)
        logs.logger("apply").info("shards_given", shards=sorted(shards), have=sorted(self._workers))

    def taken(self, shards: frozenset[int]) -> None:
        """Work on these no more: what is under way may be finished, for a while."""
        gone = [self._workers.pop(shard) for shard in shards if shard in self._workers]
        for worker in gone:
            worker.tell()
        until = time.monotonic() + timing.TIMES.handover_seconds
        for worker in gone:
            worker.join(max(0.0, until - time.monotonic()))
        logs.logger("apply").info("shards_taken", shards=sorted(shards), have=sorted(self._workers))

    def check(self) -> None:
        """Raise what ended a worker, the fatal ones first."""
        errors = [worker.error for worker in self._workers.values() if worker.over and worker.error is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, Retry)):
            raise error

    @property
    def done(self) -> bool:
        """Whether every worker has come to its end."""
        return all(worker.over for worker in self._workers.values())

    def close(self) -> None:
        """Stop the work on every shard, and wait for its end."""
        self.taken(frozenset(self._workers))

    def serve(self, poll: Callable[[float], None], parts: ThreadGroup) -> None:
        """Work on what the group gives, until told to stop or a worker fails."""
        try:
            while not parts.stopped():
                poll(timing.TIMES.member_poll_seconds)
                self.check()
        finally:
            self.close()

    def finish(self, shards: int, parts: ThreadGroup) -> None:
        """Work on all shards alone, until each has come to its end."""
        self.given(frozenset(range(shards)))
        try:
            while not self.done:
                parts.check_stop()
                time.sleep(timing.TIMES.member_poll_seconds)
                self.check()
            self.check()
        finally:
            self.close()
