"""The stages that are measured, each in a process of its own: `python -m bench.stages JOB`.

A stage prepares what it needs and returns its work; only the work is timed. All of it is the product's own code.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

import cdc
from bench.job import Clock, Failed, Figures, Job, Work, measured
from cdc import codec
from cdc.binlog.events import Commit, RowsEvent
from cdc.binlog.reader import BinlogReader
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.codec import envelope
from cdc.commands import run as run_command, snapshot
from cdc.errors import Retry
from cdc.model.position import Position
from cdc.model.record import Document, Record
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.runtime import logs
from cdc.runtime.supervisor import spare_collector
from cdc.state.store import StateStore
from cdc.transport.contract import Writer
from cdc.transport.direct import DirectLog
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.reader import KafkaReader
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.kafka.writer import KafkaWriter
from sinks.apply import Apply
from sinks.postgres.target import PostgresTarget

_TRIES, _PAUSE_SECONDS = 20, 0.25
LOOK_SECONDS = 0.02
"""How often the target is asked whether a pipeline has arrived."""


class Discarding(DirectLog):
    """The in-process transport with a reader that throws away: records are appended, read and released."""

    _control_end = 0

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        self._control_end = super().append_control(key, document, wait=wait) + 1
        return self._control_end - 1

    def send(self, topic: str, records: Sequence[Record]) -> None:
        super().send(topic, records)
        self.poll(0)
        self.release({(topic, number): end for number, end in enumerate(self.ends(topic))}, self._control_end)


class Until:
    """Says when a position has reached another; asks only about new ones."""

    def __init__(self, last: Position, now: Callable[[], Position | None]) -> None:
        self._last, self._now = last, now
        self._seen: Position | None = None

    def __call__(self) -> bool:
        position = self._now()
        if position is None or position is self._seen:
            return False
        self._seen = position
        return position.covers(self._last)


def _wants(job: Job) -> Callable[[str, str], bool]:
    wanted = job.shape.table
    return lambda _, table: table == wanted


def _reader(job: Job) -> BinlogReader:
    config = job.config
    return BinlogReader(config.source, config.source.server_id, job.first, wants=_wants(job))


def _events(job: Job, reader: BinlogReader | None = None) -> Iterator[RowsEvent]:
    """The rows events of the job, in order."""
    for event in reader or _reader(job):
        if isinstance(event, RowsEvent):
            yield event
        elif isinstance(event, Commit) and event.position.covers(job.last):
            return


def _encoder(job: Job, event: RowsEvent) -> Callable[[RowsEvent], list[Record]]:
    """What makes the records of events like this one."""
    plan, numbers = codec.RowPlan(event.table.table()), codec.Numbers(1, 1)
    connector = envelope.Connector(cdc.__version__, job.first.flavour, "bench")
    place = envelope.LogPlace(event.ts_us, 1, "0-1-1", event.file, event.offset)
    name = event.table.db, event.table.name
    stamp = envelope.stamp((1, 2), connector, name, place, event.ts_us, transaction="0-1-1")

    def encoded(event: RowsEvent) -> list[Record]:
        out: list[Record] = []
        codec.encode_rows(plan, event.body, event.start, event.end, event.kind, stamp, numbers, out)
        return out

    return encoded


def read(job: Job) -> Work:
    """The log reader alone: packets, checksums, events; rows stay undecoded, so they are counted before, in the same bytes."""
    encoded, rows, size = _encoder(job, next(iter(_events(job)))), 0, 0
    for event in _events(job):
        rows, size = rows + len(encoded(event)), size + event.end - event.start
    reader = _reader(job)

    def work() -> Figures:
        found = sum(event.end - event.start for event in _events(job, reader))
        if found != size:
            raise Failed(f"the reader gave {found} of {size} bytes of rows")
        return {"rows": rows}

    return work


def encode(job: Job) -> Work:
    """The codec alone: row images in memory -> Avro records."""
    events = list(_events(job))
    encoded = _encoder(job, events[0])

    def work() -> Figures:
        rows, size = 0, 0  # the size is that of one record of each event
        for event in events:
            out = encoded(event)
            rows, size = rows + len(out), size + len(out[-1].value or b"")
        return {"rows": rows, "record_bytes": size // len(events)}

    return work


def _table(job: Job, catalog: Catalog) -> Table:
    return catalog.tables([job.shape.name])[0]


def _capture(job: Job, writer: Writer) -> Work:
    config = job.config
    with Catalog(config.source) as catalog:
        stage = Capture(writer, config.transport.prefix, catalog.flavour, cdc.__version__, [_table(job, catalog)])
        restart = stage.start(lambda: Restart(job.first))
        selects = catalog.selection(config.source.tables)
    reader = BinlogReader(config.source, config.source.server_id, restart.position, wants=stage.wants)
    until = Until(job.last, lambda: stage.position)

    def work() -> Figures:
        stage.run(reader, until, selects)
        stage.cut(stage.position or job.last)
        writer.flush()  # the last cut itself
        return {"rows": stage.counters.rows, "cuts": stage.counters.cut_no}

    return work


def capture(job: Job) -> Work:
    """Log -> records in the in-process transport."""
    return _capture(job, Discarding(job.config.transport.prefix))


def capture_kafka(job: Job) -> Work:
    """Log -> records acknowledged by the broker."""
    broker = _broker(job)
    return _capture(job, KafkaWriter(broker, topic_registry(broker)))


def _broker(job: Job) -> KafkaBroker:
    transport = job.config.transport
    return KafkaBroker(transport.bootstrap, transport.prefix, transport.kafka, partitions=transport.partitions)


def apply(job: Job) -> Work:
    """Records that the broker holds -> committed rows in PostgreSQL."""
    config, broker = job.config, _broker(job)
    target = PostgresTarget(config.target, config.pipeline.name)
    stage = Apply(KafkaReader(broker, topic_registry(broker)), target, target.open())
    until = Until(job.last, lambda: stage.cuts.at.position)

    def work() -> Figures:
        stage.run(until, config.apply.max_delay_seconds)
        return {"rows": sum(stage.counters.rows.values()), "commits": stage.counters.commits}

    return work


def direct(job: Job) -> Work:
    """The log to PostgreSQL in one process, as `cdc run` does it; its start is included."""
    stop, arrived, clock = threading.Event(), {}, Clock(job.servers)

    def watch() -> None:
        with StateStore(job.config.target, job.config.pipeline.name) as state:
            while not stop.wait(LOOK_SECONDS):
                progress = state.read().progress
                if progress is not None and progress.position.covers(job.last):
                    arrived.update(clock.read())
                    stop.set()

    def work() -> Figures:
        clock.start()
        watcher = threading.Thread(target=watch)
        watcher.start()
        run_command.run(job.config, stop)
        watcher.join()
        return arrived

    return work


def load(job: Job) -> Work:
    """`cdc snapshot`, from its start to its end."""

    def work() -> Figures:
        found = snapshot.snapshot(job.config, threading.Event(), lambda *_: None)
        return {"rows": found["rows"]}

    return work


def stock(job: Job) -> Work:
    """mysql-replication's reader over the first rows of the same log."""
    config, at = job.config, job.first
    url = config.source.url
    settings = {"host": url.host, "port": url.port, "user": url.user, "passwd": url.password}

    def work() -> Figures:
        stream = BinLogStreamReader(
            connection_settings=settings, server_id=config.source.server_id, only_events=[WriteRowsEvent], only_tables=[job.shape.table],
            blocking=False, log_file=at.file, log_pos=at.offset, resume_stream=True,
        )  # fmt: skip
        rows = 0
        with closing(stream):
            for event in stream:
                rows += len(event.rows)
                if rows >= job.rows:
                    break
        return {"rows": rows}

    return work


STAGES: Mapping[str, Callable[[Job], Work]] = {
    "read": read,
    "encode": encode,
    "capture": capture,
    "stock": stock,
    "capture_kafka": capture_kafka,
    "apply": apply,
    "direct": direct,
    "load": load,
}


def stage_of(name: str) -> str:
    """The stage of a figure's name, which may end in the kind of its backlog: `apply` of `apply_updates`."""
    return max((stage for stage in STAGES if name == stage or name.startswith(f"{stage}_")), key=len)


def prepared(job: Job) -> Work:
    """The stage's work, once its servers are ready for it: a topic just made may not be known everywhere yet."""
    spare_collector()
    for _ in range(_TRIES):
        try:
            return STAGES[stage_of(job.stage)](job)
        except Retry:
            time.sleep(_PAUSE_SECONDS)
    return STAGES[stage_of(job.stage)](job)


def main() -> None:
    logs.configure(level=logging.WARNING)
    job = Job(**json.loads(sys.argv[1]))
    print(json.dumps(measured(job, prepared(job))))


if __name__ == "__main__":
    main()
