"""What is to be copied while the log is followed, in order, and how far the requests are read;
pure but for its log lines."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.capture.restart import Restart
from cdc.model.table import TableName
from cdc.protocol.copy_progress import REFUSED, STOPPED, WHOLE, Active, Copies, Ended
from cdc.protocol.signals import EXECUTE, PAUSE, RESUME, STOP, BadSignal, CopyJob, Signal, understood
from cdc.runtime import logs


class Queue:
    """What is to be copied, in order, and how far the requests are read."""

    def __init__(
        self, restart: Restart, uncopied: Sequence[TableName], prefix: str, counts: dict[tuple[str, str], int]
    ) -> None:
        copies = restart.copies
        self.jobs: list[CopyJob] = []
        self.ended: list[Ended] = []
        self.resume = copies.active
        self.stopping = False
        """Whether the first copy is to end."""
        self._owed: list[Ended] = []
        """What is said to those who asked for that, once it has."""
        self.read, self.last, self.paused = copies.next, copies.last, copies.paused
        self._known, self._first, self._prefix, self._counts = copies.read, copies.next, prefix, counts
        active = copies.active
        if active is not None and active.kind == WHOLE:
            number = copies.next if active.request else -1
            self.jobs.append(CopyJob(number, active.request, active.db, active.table, swap=active.swap))
        begun = {job.name for job in self.jobs}
        self._added = set(uncopied) - begun
        """Tables that a copy is owed to which nobody can take back; a request may have taken its place."""
        self.jobs += [CopyJob(-1, "", *name) for name in sorted(uncopied) if name not in begun]

    def hear(self, number: int, key: bytes | None, value: bytes, followed: Sequence[TableName]) -> None:
        """Take the next request; what was read before this epoch is counted and obeyed only as far as it asks for
        tables."""
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
            self._stop(signal, again)
        elif signal.type == EXECUTE:
            self._add(signal)

    def _refuse(self, number: int, bad: BadSignal) -> None:
        self._count(bad.type, bad.reason)
        logs.logger("capture").warning("signal_refused", number=number, type=bad.type, reason=bad.reason)
        if bad.id:
            self.ended.append(Ended(bad.id, "", "", "", REFUSED, 0, bad.reason, ""))

    def _count(self, type_: str, outcome: str) -> None:
        self._counts[type_, outcome] = self._counts.get((type_, outcome), 0) + 1

    def _add(self, signal: Signal) -> None:
        there = {job.name for job in self.jobs if job.number == signal.number}
        done = self.last if signal.number == self._first else None
        for job in signal.jobs():
            if job.name in there or (done is not None and job.name <= done):
                continue
            if job.kind == WHOLE and not job.swap:  # it does what an addition to the selection waits for
                self.jobs = [
                    old for at, old in enumerate(self.jobs) if at == 0 or old.number >= 0 or old.name != job.name
                ]
            self.jobs.append(job)

    def _stop(self, signal: Signal, again: bool) -> None:
        """Forget the copies of these tables; the one under way ends at the next window."""
        before, asked = self.jobs, [job.name in signal.tables and not self._is_addition(job) for job in self.jobs]
        self.jobs = [job for at, job in enumerate(before) if at == 0 or not asked[at]]
        for job, ends in zip(before[1:], asked[1:], strict=True):
            self.ended += [Ended(job.request, *job.name, job.kind, STOPPED, 0, "", "")] if ends else []
        self.stopping = self.stopping or asked[:1] == [True]
        stopped = {job.name for job, ends in zip(before, asked, strict=True) if ends}
        for name in signal.tables if "data-collections" in signal.data else ():
            if name in stopped or not again:
                self._answer(signal, name, name in stopped)

    def _is_addition(self, job: CopyJob) -> bool:
        """Whether a table that was added is copied by this: by itself, or by a request in the place of that."""
        alone = not any(other.name == job.name for other in self.jobs if other.number < 0)
        return job.number < 0 or (job.name in self._added and job.kind == WHOLE and not job.swap and alone)

    def _answer(self, signal: Signal, name: TableName, stopped: bool) -> None:
        """Say to whoever wanted the copies of one table stopped what became of that."""
        added = any(job.name == name and self._is_addition(job) for job in self.jobs)
        reason = "" if stopped else "added" if added else "nothing_to_stop"
        said = Ended(signal.id, *name, "", REFUSED if reason == "added" else STOPPED, 0, reason, "")
        (self._owed if self.stopping and self.jobs[0].name == name else self.ended).append(said)

    def end(self, outcome: str, rows: int, reason: str = "", copy: str = "") -> CopyJob:
        """The first copy is over; `copy` is the id of its attempt, if it has begun."""
        job = self.jobs.pop(0)
        self._added -= {job.name} if job.kind == WHOLE else set()
        self.ended += [Ended(job.request, *job.name, job.kind, outcome, rows, reason, copy), *self._owed]
        self._owed = []
        if self.resume is not None and (self.resume.request, self.resume.db, self.resume.table) == (
            job.request,
            *job.name,
        ):
            self.resume = None  # else what has ended would be the copy under way again after the next start
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
        return Copies(
            first, max(self.read, self._known), self.last if first == self._first else None, self.paused, active
        )
