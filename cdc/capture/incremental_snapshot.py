"""Copying tables while the log is followed: window after window, each one chunk, between two transactions of the log.

A window opens with a whole cut at s, waits until the server shows s, reads one chunk, and is closed by the first whole
cut at or past Q, a position of the writing side taken after the read. What a chunk brought counts with that cut, not
before. Docs: docs/decisions/017-copy-while-streaming.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from cdc.capture.capture import Capture
from cdc.capture.incremental_queue import Queue
from cdc.capture.incremental_rows import ChunkSource, ReadChunk, rows_of
from cdc.capture.restart import Restart
from cdc.capture.table_stream import Log
from cdc.errors import CdcError, Halt, Refused, Retry
from cdc.model.position import Position
from cdc.model.table import Table, TableName
from cdc.mysql.catalog import Catalog
from cdc.mysql.exact_snapshot import NO_SNAPSHOT, Known
from cdc.mysql.log_heads import Xid
from cdc.mysql.source_server import SourceServer
from cdc.mysql.table_reader import TableReader
from cdc.protocol.control import Copy
from cdc.protocol.copy_progress import DONE, REFUSED, STOPPED, WHOLE, Active, Copies, Ended
from cdc.protocol.signals import Channel, CopyJob
from cdc.runtime import clock, crash_points as crash, logs, timing
from cdc.transport.contract import Idle


class IncrementalSnapshot:
    """The copies of one epoch of capture."""

    def __init__(
        self,
        capture: Capture,
        source: SourceServer,
        channel: Channel,
        restart: Restart,
        server_id: int,
        check_stop: Idle,
        rows_per_second: int = 0,
    ) -> None:
        """`server_id`: of the source, for the records; `rows_per_second`: 0 is as fast as it goes."""
        self.capture, self._source, self._channel = capture, source, channel
        self._server_id, self._breathe, self._rate = server_id, check_stop, rows_per_second
        known, restart = restart.copies, replace(restart, copies=channel.resume(restart.copies))
        self.queue = Queue(restart, list(capture.followings.uncopied), capture.prefix, capture.counters.signals)
        self._reached = list(restart.reached)
        self._active = restart.copies.active
        self._catalog: Catalog | None = None
        self._rows: ChunkSource | None = None
        self._chunk: ReadChunk | None = None
        self._not_before = self._heard = 0.0
        self.undecided: Callable[[], frozenset[Xid]] = frozenset
        """The XA transactions that are prepared, and not decided, where capture stands: its reader knows them."""
        channel.seek(restart.copies.next)
        self._channel_id = restart.copies.channel
        if known.next > restart.copies.next and self._active is not None and self._active.kind != WHOLE:
            self._forget(self._active)

    def _forget(self, active: Active) -> None:
        """What it was to copy stood in its request, which is gone."""
        self.queue.ended.append(
            Ended(active.request, active.db, active.table, active.kind, STOPPED, active.rows, "request_gone")
        )
        self.queue.resume = self._active = None

    def close(self) -> None:
        """End the connections."""
        self._rest()
        self._channel.close()

    # -- what capture asks --------------------------------------------------------------------------------------------

    def turn(self, log: Log) -> None:
        """Open a window if there is work, and the next one as long as each is closed at once and the log has nothing
        new."""
        self._hear()
        while self.queue.jobs and self._chunk is None and clock.monotonic() >= self._not_before:
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
            self._not_before = clock.monotonic() + chunk.rows / self._rate
        if chunk.last:
            self._end(REFUSED if chunk.reason else DONE, chunk.reason)

    def set_back(self, names: Collection[TableName]) -> None:
        """Forget what an earlier epoch's copy of one of these tables has brought:
        it begins again, with a new barrier."""
        for old in (self._active, self.queue.resume):
            if old is not None and (old.db, old.table) in names:
                logs.logger("capture").info("copy_set_back", table=f"{old.db}.{old.table}", rows=old.rows)
                self._active = self.queue.resume = None

    def said(self) -> tuple[Copies, tuple[Ended, ...]]:
        """How far copies are, and those that end here."""
        ended, self.queue.ended = tuple(self.queue.ended), []
        active = self._active if self._active is not None and self._active.after else None
        self.capture.counters.copies = len(self.queue.jobs)
        return replace(self.queue.copies(active or self._waiting()), channel=self._channel_id), ended

    def _waiting(self) -> Active | None:
        """Progress of an earlier epoch whose request is not read again yet."""
        return self.queue.resume if self._active is None else None

    # -- requests -----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        if clock.monotonic() - self._heard < timing.TIMES.hear_seconds:
            return
        self._heard = clock.monotonic()
        followed = [stream.table for stream in self.capture.streams()]
        with self.capture.counters.waits.on(self._channel.stage):
            heard = self._channel.take()
        for number, key, value in heard:
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
            chunk = rows.read(
                lambda position: self._announce(job, at if position is None else position, position is not None)
            )
        except Refused as error:
            self._end(REFUSED, error.code)
            return True
        except Retry as error:
            if error.code not in NO_SNAPSHOT:
                raise
            return self._later()  # nothing is announced yet
        except Halt as error:
            raise (
                torn(error) if error.code == "shape_changed" or self._asked().changed([stream.table]) else error
            ) from None
        self._chunk = chunk
        until = self._asked().log.written_position()
        crash.point("copying.read")
        self.capture.copied(chunk.bytes)
        self.capture.read_until(until)
        return True

    def _begin(self, job: CopyJob) -> ChunkSource:
        stream, catalog = self.capture.stream(*job.name), self._asked()
        position = self.capture.position
        assert stream is not None
        assert position is not None
        if catalog.server != position.server:
            raise Halt("other_server", stream.table.qualified, "the copy would be read on another server than the log",
                       "give source.url the address of one server")  # fmt: skip
        resume, self.queue.resume = self.queue.resume, None
        if resume is None or (resume.db, resume.table, resume.request, resume.kind) != (
            job.db,
            job.table,
            job.request,
            job.kind,
        ):
            resume = None
        swap = (
            job.swap and job.name not in self.capture.followings.uncopied
        )  # else there is nothing that readers could keep
        self._active = resume or Active(clock.fresh_id(), job.request, job.db, job.table, job.kind, (), 0, swap)
        self._rows = rows_of(
            self.capture, stream, job, self._active.after, partial(self._open, stream.table, job.where), self._server_id
        )
        logs.logger("capture").info(
            "copy_begun", table=stream.table.qualified, kind=job.kind, again=bool(self._active.after)
        )
        return self._rows

    def _open(self, table: Table, where: str) -> TableReader:
        reader = self._source.reader(self._asked(), table).narrowed(timing.TIMES.piece_seconds, where)
        reader.known = self._known
        try:
            reader.check_server()
        except CdcError:
            reader.close()
            raise
        return reader

    def _known(self) -> Known:
        position = self.capture.position
        assert position is not None
        return Known(position, self.undecided())

    def _announce(self, job: CopyJob, position: Position, exact: bool) -> None:
        """The barrier of a table that is copied whole, before its first chunk's rows."""
        active, capture = self._active, self.capture
        assert active is not None
        if not active.swap:
            capture.followings.uncopied.add(job.name)
        capture.announce(
            Copy(capture.epoch, capture.next_cut, job.db, job.table, position, active.id, exact, active.swap)
        )

    def _is_shown(self, at: Position) -> bool:
        """Wait until a SELECT sees everything up to here, and up to wherever a sink may have been."""
        until = clock.monotonic() + timing.TIMES.shown_seconds
        undecided = self.undecided()
        waiting = [at, *(one for one in self._reached if not at.covers(one))]
        while waiting := [
            one for one in waiting if not self._asked().log.shows(one, undecided if one is at else frozenset())
        ]:
            self._breathe()
            if clock.monotonic() > until:
                return self._later()
            clock.sleep(timing.TIMES.shown_poll_seconds)
        self._reached = []
        return True

    def _later(self) -> bool:
        """No window can be opened here: the log is followed on for a while."""
        self._not_before = clock.monotonic() + timing.TIMES.shown_seconds / 2
        return False

    def _end(self, outcome: str, reason: str = "") -> None:
        job, active = self.queue.jobs[0], self._active
        begun = (
            active
            if active is not None and (active.request, active.db, active.table) == (job.request, *job.name)
            else None
        )
        rows = begun.rows if begun is not None else 0
        self.queue.end(outcome, rows, reason, begun.id if begun is not None else "")
        if job.kind == WHOLE and outcome == DONE:
            self.capture.followings.uncopied.discard(job.name)
        self._active = None
        self._leave()
        facts = {"reason": reason} if reason else {}
        logs.logger("capture").info(
            "copy_ended", table=".".join(job.name), kind=job.kind, outcome=outcome, rows=rows, **facts
        )

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
            self._catalog = self._source.catalog()
        return self._catalog


def torn(error: Halt) -> Retry:
    """A chunk of another shape than the table's: the log holds the statement that changed it,
    and is read to there without a copy."""
    return Retry("window_torn", error.place, error.rule, "the log says what changed")
