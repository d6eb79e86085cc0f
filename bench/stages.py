"""The stages that are measured, each in a process of its own: `python -m bench.stages JOB`.

A stage prepares what it needs and returns its work; only the work is timed. All of it is the product's own code.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

import cdc
from bench.job import Clock, Figures, Job, Work, measured
from cdc import app, codec, envelope, logs
from cdc.binlog import BinlogReader
from cdc.binlog_events import Commit, Rows
from cdc.capture import Capture
from cdc.catalog import Catalog
from cdc.direct import DirectLog
from cdc.epoch import Restart
from cdc.errors import Retry
from cdc.kafka import KafkaReader, KafkaWriter
from cdc.kafka_broker import KafkaBroker, topic_registry
from cdc.model import Record, Table
from cdc.position import Position
from cdc.state import State
from cdc.supervise import spare_collector
from cdc.topic import Document, Writer
from sinks.apply import Apply
from sinks.postgres import PostgresTarget

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


def read(job: Job) -> Work:
    """The log reader alone: packets, checksums, events; rows stay undecoded."""
    reader = _reader(job)

    def work() -> Figures:
        for event in reader:
            if isinstance(event, Commit) and event.position.covers(job.last):
                break
        return {}

    return work


def encode(job: Job) -> Work:
    """The codec alone: row images in memory -> Avro records."""
    events: list[Rows] = []
    for event in _reader(job):
        if isinstance(event, Rows):
            events.append(event)
        elif isinstance(event, Commit) and event.position.covers(job.last):
            break
    plan, numbers = codec.RowPlan(events[0].table.table()), codec.Numbers(1, 1)
    stamp = envelope.stamp(
        1, 2, flavour=job.first.flavour, version=cdc.__version__, name="bench", ts_us=events[0].ts_us, snapshot="false",
        db=events[0].table.db, table=events[0].table.name, server_id=1, gtid="0-1-1", file=events[0].file, pos=events[0].offset,
        transaction="0-1-1", now_us=events[0].ts_us,
    )  # fmt: skip

    def work() -> Figures:
        size = 0  # of one record of each event
        for event in events:
            out: list[Record] = []
            codec.encode_rows(plan, event.body, event.start, event.end, event.kind, stamp, numbers, out)
            size += len(out[-1].value or b"")
        return {"row_bytes": round(sum(event.end - event.start for event in events) / job.rows), "record_bytes": size // len(events)}

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
        stage.cut(stage.position or job.last, stage.counters.source_ts_us)
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
    stored = target.open()
    stage = Apply(KafkaReader(broker, topic_registry(broker)), target)
    until = Until(job.last, lambda: stage.cuts.at.position)

    def work() -> Figures:
        stage.run(stored, until, config.apply.max_delay_seconds)
        return {"rows": sum(stage.counters.rows.values()), "commits": stage.counters.commits}

    return work


def direct(job: Job) -> Work:
    """The log to PostgreSQL in one process, as `cdc run` does it; its start is included."""
    stop, arrived, clock = threading.Event(), {}, Clock()

    def watch() -> None:
        with State(job.config.target, job.config.pipeline.name) as state:
            while not stop.wait(LOOK_SECONDS):
                progress = state.read().progress
                if progress is not None and progress.position.covers(job.last):
                    arrived.update(clock.read())
                    stop.set()

    def work() -> Figures:
        clock.start()
        watcher = threading.Thread(target=watch)
        watcher.start()
        app.run(job.config, stop)
        watcher.join()
        return arrived

    return work


def load(job: Job) -> Work:
    """`cdc snapshot`, from its start to its end."""

    def work() -> Figures:
        found = app.snapshot(job.config, threading.Event(), lambda *_: None)
        return {"rows": found["rows"]}

    return work


def stock(job: Job) -> Work:
    """mysql-replication's reader over the first rows of the same log."""
    config, at = job.config, Position.from_json(job.log)
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
    "capture_single": capture,
    "capture_kafka": capture_kafka,
    "capture_kafka_updates": capture_kafka,
    "apply": apply,
    "apply_updates": apply,
    "direct": direct,
    "direct_updates": direct,
    "load": load,
    "direct_single": direct,
    "stock": stock,
}


def prepared(job: Job) -> Work:
    """The stage's work, once its servers are ready for it: a topic just made may not be known everywhere yet."""
    spare_collector()
    for _ in range(_TRIES):
        try:
            return STAGES[job.stage](job)
        except Retry:
            time.sleep(_PAUSE_SECONDS)
    return STAGES[job.stage](job)


def main() -> None:
    logs.configure(level=logging.WARNING)
    job = Job(**json.loads(sys.argv[1]))
    print(json.dumps(measured(job, prepared(job))))


if __name__ == "__main__":
    main()
