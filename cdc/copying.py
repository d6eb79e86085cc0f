"""Copying tables while the log is followed: window after window, each one chunk, between two transactions of the log.

A window opens with a whole cut at s, waits until the server shows s, reads one chunk, and is closed by the first whole cut at or past Q,
a position of the writing side taken after the read. What a chunk brought counts with that cut, not before.
Docs: docs/decisions/017-copy-while-streaming.md.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from functools import partial

from cdc import crash, logs
from cdc.capture import Capture
from cdc.capture_stream import Log
from cdc.catalog import Catalog
from cdc.chunks import TableReader
from cdc.config import SourceConfig
from cdc.control import Copy
from cdc.copies import DONE, REFUSED, STOPPED, WHOLE, Active, Copies, Ended
from cdc.copying_queue import Queue
from cdc.copying_rows import Chunk, Rows, rows_of
from cdc.epoch import Restart
from cdc.errors import CdcError, Halt, Refused, Retry
from cdc.model import Table
from cdc.position import Position
from cdc.signals import Channel, Job
from cdc.topic import Idle

PIECE_SECONDS = 0.05
"""The log waits while a chunk is read."""
_HEAR_SECONDS = 0.25
_SHOWN_SECONDS = 1.0
"""So long a window waits for the server to show what its log holds; then the log is followed on for a while."""
_POLL_SECONDS = 0.001


class Windows:
    """The copies of one epoch of capture."""

    def __init__(
        self,
        capture: Capture,
        source: SourceConfig,
        channel: Channel,
        restart: Restart,
        server_id: int,
        breathe: Idle,
        rows_per_second: int = 0,
    ) -> None:
        """`server_id`: of the source, for the records; `rows_per_second`: 0 is as fast as it goes."""
        self.capture, self._source, self._channel = capture, source, channel
        self._server_id, self._breathe, self._rate = server_id, breathe, rows_per_second
        self.queue = Queue(restart, list(capture.followings.uncopied), capture.prefix, capture.counters.signals)
        self._reached = list(restart.reached)
        self._active = restart.copies.active
        self._catalog: Catalog | None = None
        self._rows: Rows | None = None
        self._chunk: Chunk | None = None
        self._not_before = self._heard = 0.0
        channel.seek(restart.copies.next)

    def close(self) -> None:
        """End the connections."""
        self._rest()
        self._channel.close()

    # -- what capture asks --------------------------------------------------------------------------------------------

    def turn(self, log: Log) -> None:
        """Open a window if there is work, and the next one as long as each is closed at once and the log has nothing new."""
        self._hear()
        while self.queue.jobs and self._chunk is None and time.monotonic() >= self._not_before:
            if self.queue.stopping:
                self._end(STOPPED)
            elif self.queue.paused or not self._window():
                return
            if log.pending():
                return
            self._breathe()
            self._hear()
        if not self.queue.jobs:
            self._rest()

    def closed(self) -> None:
        """The log is followed to Q: what the chunk brought counts with the cut that comes next."""
        chunk, job = self._chunk, self.queue.jobs[0]
        assert chunk is not None
        assert self._active is not None
        self._chunk = None
        self._active = replace(self._active, after=chunk.after, rows=self._active.rows + chunk.rows)
        self.capture.counters.copied[job.name] += chunk.rows
        if self._rate:
            self._not_before = time.monotonic() + chunk.rows / self._rate
        if chunk.last:
            self._end(REFUSED if chunk.reason else DONE, chunk.reason)

    def said(self) -> tuple[Copies, tuple[Ended, ...]]:
        """How far copies are, and those that end here."""
        ended, self.queue.ended = tuple(self.queue.ended), []
        active = self._active if self._active is not None and self._active.after else None
        self.capture.counters.copies = len(self.queue.jobs)
        return self.queue.copies(active or self._waiting()), ended

    def _waiting(self) -> Active | None:
        """Progress of an earlier epoch whose request is not read again yet."""
        return self.queue.resume if self._active is None else None

    # -- requests -----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        if time.monotonic() - self._heard < _HEAR_SECONDS:
            return
        self._heard = time.monotonic()
        followed = [stream.table for stream in self.capture.streams()]
        for number, key, value in self._channel.take():
            self.queue.hear(number, key, value, [(table.db, table.name) for table in followed])

    # -- one window ---------------------------------------------------------------------------------------------------

    def _window(self) -> bool:
        """Read the next chunk of the first copy; False when the server does not show its own log's end yet."""
        job = self.queue.jobs[0]
        stream = self.capture.stream(*job.name)
        if stream is None:
            self._end(REFUSED, "not_followed")
            return True
        try:
            rows = self._rows or self._begin(job)
        except Refused as error:
            self._end(REFUSED, error.code)
            return True
        at = self.capture.cut_at_rest()
        if not self._is_shown(at):
            return False
        crash.point("copying.opened")
        try:
            chunk = rows.read(lambda position: self._announce(job, at if position is None else position, position is not None))
        except Refused as error:
            self._end(REFUSED, error.code)
            return True
        except Halt as error:
            raise torn(error) if error.code == "shape_changed" or self._asked().changed([stream.table]) else error from None
        self._chunk = chunk
        until = self._asked().written_position()
        crash.point("copying.read")
        self.capture.copied(chunk.bytes)
        self.capture.read_until(until)
        return True

    def _begin(self, job: Job) -> Rows:
        stream, catalog = self.capture.stream(*job.name), self._asked()
        position = self.capture.position
        assert stream is not None
        assert position is not None
        if catalog.server != position.server:
            raise Halt("other_server", stream.table.qualified, "the copy would be read on another server than the log",
                       "give source.url the address of one server")  # fmt: skip
        resume, self.queue.resume = self.queue.resume, None
        if resume is None or (resume.db, resume.table, resume.request, resume.kind) != (job.db, job.table, job.request, job.kind):
            resume = None
        swap = job.swap and job.name not in self.capture.followings.uncopied  # else there is nothing that readers could keep
        self._active = resume or Active(uuid.uuid4().hex, job.request, job.db, job.table, job.kind, (), 0, swap)
        self._rows = rows_of(self.capture, stream, job, self._active.after, partial(self._open, stream.table, job.where), self._server_id)
        logs.logger("capture").info("copy_begun", table=stream.table.qualified, kind=job.kind, again=bool(self._active.after))
        return self._rows

    def _open(self, table: Table, where: str) -> TableReader:
        reader = TableReader(self._source, self._asked(), table).narrowed(PIECE_SECONDS, where)
        try:
            reader.check_server()
        except CdcError:
            reader.close()
            raise
        return reader

    def _announce(self, job: Job, position: Position, exact: bool) -> None:
        """The barrier of a table that is copied whole, before its first chunk's rows."""
        active, capture = self._active, self.capture
        assert active is not None
        if not active.swap:
            capture.followings.uncopied.add(job.name)
        capture.announce(Copy(capture.epoch, capture.next_cut, job.db, job.table, position, active.id, exact, active.swap))

    def _is_shown(self, at: Position) -> bool:
        """Wait until a SELECT sees everything up to here, and up to wherever a sink may have been."""
        until = time.monotonic() + _SHOWN_SECONDS
        waiting = [at, *self._reached]
        while waiting := [position for position in waiting if not self._asked().shows(position)]:
            self._breathe()
            if time.monotonic() > until:
                self._not_before = time.monotonic() + _SHOWN_SECONDS / 2
                return False
            time.sleep(_POLL_SECONDS)
        self._reached = []
        return True

    def _end(self, outcome: str, reason: str = "") -> None:
        job, active = self.queue.jobs[0], self._active
        rows = active.rows if active is not None and (active.request, active.db, active.table) == (job.request, *job.name) else 0
        self.queue.end(outcome, rows, reason)
        if job.kind == WHOLE and outcome == DONE:
            self.capture.followings.uncopied.discard(job.name)
        self._active = None
        self._leave()
        facts = {"reason": reason} if reason else {}
        logs.logger("capture").info("copy_ended", table=".".join(job.name), kind=job.kind, outcome=outcome, rows=rows, **facts)

    def _rest(self) -> None:
        self._leave()
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def _leave(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _asked(self) -> Catalog:
        if self._catalog is None:
            self._catalog = Catalog(self._source)
        return self._catalog


def torn(error: Halt) -> Retry:
    """A chunk of another shape than the table's: the log holds the statement that changed it, and is read to there without a copy."""
    return Retry("window_torn", error.place, error.rule, "the log says what changed")
