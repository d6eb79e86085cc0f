"""What is to be copied while the log is followed, in order, and how far the requests are read; pure but for its log lines."""

from __future__ import annotations

from collections.abc import Sequence

from cdc import logs
from cdc.copies import REFUSED, STOPPED, WHOLE, Active, Copies, Ended
from cdc.epoch import Restart
from cdc.signals import EXECUTE, PAUSE, RESUME, STOP, BadSignal, Job, Signal, understood


class Queue:
    """What is to be copied, in order, and how far the requests are read."""

    def __init__(self, restart: Restart, uncopied: Sequence[tuple[str, str]], prefix: str, counts: dict[tuple[str, str], int]) -> None:
        copies = restart.copies
        self.jobs: list[Job] = []
        self.ended: list[Ended] = []
        self.resume = copies.active
        self.stopping = False
        """Whether the first copy is to end."""
        self.read, self.last, self.paused = copies.next, copies.last, copies.paused
        self._known, self._first, self._prefix, self._counts = copies.read, copies.next, prefix, counts
        active = copies.active
        if active is not None and active.kind == WHOLE:
            number = copies.next if active.request else -1
            self.jobs.append(Job(number, active.request, active.db, active.table, swap=active.swap))
        begun = {job.name for job in self.jobs}
        self.jobs += [Job(-1, "", *name) for name in sorted(uncopied) if name not in begun]

    def hear(self, number: int, key: bytes | None, value: bytes, followed: Sequence[tuple[str, str]]) -> None:
        """Take the next request; what was read before this epoch is counted and obeyed only as far as it asks for tables."""
        again, self.read = number < self._known, number + 1
        try:
            signal = understood(number, key, value, self._prefix, followed)
        except BadSignal as bad:
            if not again:
                self._refuse(number, bad)
            return
        if not again:
            self._count(signal.type, "accepted")
            logs.logger("capture").info("signal_accepted", number=number, type=signal.type, tables=len(signal.tables))
        if signal.type in (PAUSE, RESUME):
            self.paused = self.paused if again else signal.type == PAUSE
        elif signal.type == STOP:
            self._stop(signal)
        elif signal.type == EXECUTE:
            self._add(signal)

    def _refuse(self, number: int, bad: BadSignal) -> None:
        self._count(bad.type, bad.reason)
        logs.logger("capture").warning("signal_refused", number=number, type=bad.type, reason=bad.reason)
        if bad.id:
            self.ended.append(Ended(bad.id, "", "", "", REFUSED, 0, bad.reason))

    def _count(self, type_: str, outcome: str) -> None:
        self._counts[type_, outcome] = self._counts.get((type_, outcome), 0) + 1

    def _add(self, signal: Signal) -> None:
        there = {job.name for job in self.jobs if job.number == signal.number}
        done = self.last if signal.number == self._first else None
        for job in signal.jobs():
            if job.name in there or (done is not None and job.name <= done):
                continue
            if job.kind == WHOLE and not job.swap:  # it does what an addition to the selection waits for
                self.jobs = [old for at, old in enumerate(self.jobs) if at == 0 or old.number >= 0 or old.name != job.name]
            self.jobs.append(job)

    def _stop(self, signal: Signal) -> None:
        """Forget the copies of these tables; the one under way ends at the next window."""
        for job in self.jobs[1:]:
            if job.name in signal.tables and job.number >= 0:
                self.ended.append(Ended(job.request, *job.name, job.kind, STOPPED, 0))
        self.stopping = self.stopping or bool(self.jobs and self.jobs[0].name in signal.tables and self.jobs[0].number >= 0)
        self.jobs = [job for at, job in enumerate(self.jobs) if at == 0 or job.number < 0 or job.name not in signal.tables]

    def end(self, outcome: str, rows: int, reason: str = "") -> Job:
        """The first copy is over."""
        job = self.jobs.pop(0)
        self.ended.append(Ended(job.request, *job.name, job.kind, outcome, rows, reason))
        if job.number >= 0:
            self.last, self._first = (
                (job.name, job.number) if any(one.number == job.number for one in self.jobs) else (None, job.number + 1)
            )
        self.stopping = False
        return job

    def copies(self, active: Active | None) -> Copies:
        """What a cut says now."""
        waiting = [job.number for job in self.jobs if job.number >= 0]
        first = min(waiting, default=self.read)
        return Copies(first, max(self.read, self._known), self.last if first == self._first else None, self.paused, active)
