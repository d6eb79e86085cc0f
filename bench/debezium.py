"""Debezium's source and JDBC sink on Kafka Connect (standalone, one worker), tuned: the same servers, table and statements as ours.

A source without offsets and without a snapshot reads the log from its beginning, so the log is started anew before each backlog.
Rows are counted from the first that arrives, so that no start of a JVM is in the figures; its warming up is. Messages are JSON without
their schemas, the fastest of its forms; the sink is told the schemas in its configuration. The source is measured in Avro as well.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench import apicurio
from bench.chain import Point, Running, running, second_half, watched
from bench.job import Failed, Figures, figures, with_bytes, with_peaks
from bench.latency import Latency
from bench.machine import Meter, pids
from bench.practice import Practice
from bench.tables import DATABASE, Shape
from cdc import stack
from cdc.stack import install
from cdc.stack.probe import HOST, free_port

VERSION = "Debezium 3.5.0.Final on Kafka Connect 4.3.1, JSON without schemas, or Avro by Apicurio's converter 2.6.13"
HERE = Path(__file__).parent
AVRO = "avro"
"""The run whose messages are Avro."""
_JVM = ("-Xms1g", "-Xmx2g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
_JSON = "org.apache.kafka.connect.json.JsonConverter"
_START_SECONDS, _ARRIVAL_SECONDS, _WARM_SECONDS = 600.0, 300.0, 30.0  # a JVM takes long to be warm
Settings = Mapping[str, str]

WORKER: Settings = {
    "offset.flush.interval.ms": "10000", "plugin.discovery": "service_load", "key.converter": _JSON, "value.converter": _JSON,
    "key.converter.schemas.enable": "false", "value.converter.schemas.enable": "false",
}  # fmt: skip
FAST: Settings = {
    "producer.linger.ms": "20", "producer.batch.size": "524288", "producer.compression.type": "lz4", "producer.buffer.memory": "67108864",
    "consumer.max.poll.records": "5000", "consumer.fetch.min.bytes": "262144", "consumer.fetch.max.wait.ms": "50",
    "consumer.max.partition.fetch.bytes": "8388608",
}  # fmt: skip
FAST_SOURCE: Settings = {"max.batch.size": "8192", "max.queue.size": "32768", "poll.interval.ms": "10"}
FAST_SINK: Settings = {"batch.size": "5000", "use.reduction.buffer": "true", "dialect.postgres.unnest.insert.enabled": "true"}
PROMPT: Settings = {"producer.linger.ms": "2", "consumer.fetch.max.wait.ms": "20", "consumer.fetch.min.bytes": "1"}
PROMPT_SOURCE: Settings = {"poll.interval.ms": "5"}
PROMPT_SINK: Settings = {"batch.size": "500"}
"""What makes it fast on a backlog, and what makes it prompt: the best of several settings that were tried."""


class Debezium:
    """Its connectors and what they take."""

    def __init__(self, servers: stack.Stack, shape: Shape, practice: Practice, folder: Path) -> None:
        self._servers, self._shape, self._practice, self._folder = servers, shape, practice, folder
        if servers.kafka is None:
            raise Failed("Kafka Connect needs a broker")
        self._bootstrap = servers.kafka.bootstrap
        self._schemas: dict[str, str] = {}

    def measure(self, rows: int, arguments: argparse.Namespace) -> Iterator[Figures]:
        """Source, sink, and both in one worker, over new rows and then updates of half of them; then latency."""
        changed = max(1, rows // 2)
        sizes = self._written(rows, changed)
        self._learn_schemas()
        probe: Callable[[], float] = partial(self._end, self._topic("apart"))
        yield from self._drained("source", ["source"], "apart", FAST, (rows, changed), probe, sizes)
        for stage, kinds, run in (("sink", ["sink"], "apart"), ("chain", ["source", "sink"], "chain")):
            probe = self._in_target(run, rows, changed)
            yield from self._drained(stage, kinds, run, FAST, (rows, changed), probe, sizes)
            self._practice.compare(_schema(run), _ARRIVAL_SECONDS)
        yield from self._latencies(arguments)
        sizes = self._written(rows, changed)
        with apicurio.registry(_java(), self._folder) as url:
            probe, worker = partial(self._end, self._topic(AVRO)), {**FAST, **apicurio.settings(url)}
            yield from self._drained("avro", ["source"], AVRO, worker, (rows, changed), probe, sizes)

    def _written(self, rows: int, changed: int) -> tuple[int, int]:
        """The backlog; the bytes of its two kinds of rows."""
        self._practice.start_log_anew()
        self._practice.prepare(0)
        before = self._practice.log_bytes()
        self._practice.insert(0, rows)
        between = self._practice.log_bytes()
        self._practice.update(0, changed)
        return between - before, self._practice.log_bytes() - between

    def _drained(
        self, stage: str, kinds: Sequence[str], run: str, worker: Settings, rows: tuple[int, int], probe: Callable[[], float],
        sizes: tuple[int, int],
    ) -> Iterator[Figures]:  # fmt: skip
        """A worker from its start until `probe` has seen all rows: a figure for the new ones, and one for the changed."""
        new, changed = rows
        with self._worker(run, kinds, worker) as processes:
            meter = Meter({**pids(self._servers), **processes.pids()}, os.getpid())
            with meter.watching():
                points = watched(new + changed, probe, processes, meter)
            other = meter.other_load()
        if points[-1].rows != new + changed:
            raise Failed(f"{stage} of Debezium carried {points[-1].rows:.0f} of {new + changed} rows")
        for suffix, first, last, size in (("", 0, new, sizes[0]), ("_updates", new, new + changed, sizes[1])):
            between = _between(points, first, last)
            took, cpu = between[-1].seconds - between[0].seconds, between[-1].cpu_seconds - between[0].cpu_seconds
            count = round(between[-1].rows - between[0].rows)
            found = figures(
                f"debezium_{stage}{suffix}", self._shape, rows=count, seconds=took, cpu_seconds=cpu, version=VERSION,
                cpu={name: used - between[0].cpu[name] for name, used in between[-1].cpu.items()}, other_load=other,
                peak_bytes=max(processes.peak_bytes.values()), **second_half(between),
            )  # fmt: skip
            yield with_bytes(with_peaks(found, {**meter.peaks, **processes.peak_bytes}), round(size * count / (last - first)))

    def _latencies(self, arguments: argparse.Namespace) -> Iterator[Figures]:
        """On an empty log and table."""
        self._practice.start_log_anew()
        self._practice.prepare(0)
        run = "prompt"
        with self._worker(run, ["source", "sink"], PROMPT) as processes:
            self._practice.insert(0, 1)  # the sink makes its table
            watched(1, self._in_target(run, 1, 0), processes, Meter(processes.pids(), os.getpid()))
            place = (_schema(run), self._shape.table)
            changes = Latency(self._servers, self._shape, place, arguments.rate)
            for found in changes.measure("debezium", processes, arguments.seconds, _WARM_SECONDS):
                yield {**found, "version": VERSION}
            self._practice.compare(_schema(run), _ARRIVAL_SECONDS)

    # -- workers -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _worker(self, run: str, kinds: Sequence[str], worker: Settings) -> Iterator[Running]:
        """Kafka Connect with these connectors, for the length of the block."""
        libraries = install.maven("Debezium", HERE / "connect-pom.xml", install.cache() / "debezium-3.5.0")
        listener = {"listeners": f"http://{HOST}:{free_port()}", "bootstrap.servers": self._bootstrap}
        offsets = {"offset.storage.file.filename": str(self._folder / f"{run}-{'-'.join(kinds)}.offsets")}
        files = [self._properties(f"{run}-worker", {**WORKER, **worker, **listener, **offsets})]
        for kind in kinds:
            settings = self._source(run, worker) if kind == "source" else self._sink(run, worker)
            files.append(self._properties(f"{run}-{kind}", {"name": f"{run}-{kind}", "tasks.max": "1", **settings}))
        classes = f"{libraries}/*" + (f":{apicurio.converter()}/*" if run == AVRO else "")
        java: list[str | Path] = [_java(), *_JVM, f"-Dlog4j2.configurationFile={HERE / 'connect-log4j2.xml'}", "-cp", classes]
        command = [*java, "org.apache.kafka.connect.cli.ConnectStandalone", *files]
        with running({"connect": command}, self._folder, {}) as processes:
            yield processes

    def _properties(self, name: str, settings: Settings) -> Path:
        path = self._folder / f"{name}.properties"
        path.touch(mode=0o600)  # passwords are in it
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _source(self, run: str, worker: Settings) -> Settings:
        source = self._servers.source
        kind = "mysql.MySql" if source.flavour == "mysql" else "mariadb.MariaDb"
        return {
            "connector.class": f"io.debezium.connector.{kind}Connector",
            "database.hostname": source.host, "database.port": str(source.port),
            "database.user": "root", "database.password": self._servers.environ["CDC_SOURCE_ADMIN_PASSWORD"],
            "database.server.id": str(5000 + sum(run.encode()) % 900), "topic.prefix": f"debezium_{run}",
            "database.include.list": DATABASE, "table.include.list": self._shape.name, "snapshot.mode": "never",
            "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
            "schema.history.internal.file.filename": str(self._folder / f"{run}.history"),
            "time.precision.mode": "connect",  # its own temporal types and UNNEST do not go together
            "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
            **(PROMPT_SOURCE if worker is PROMPT else FAST_SOURCE), **({"schema.name.adjustment.mode": "avro"} if run == AVRO else {}),
        }  # fmt: skip

    def _sink(self, run: str, worker: Settings) -> Settings:
        target, password = self._servers.target, self._servers.environ["CDC_TARGET_ADMIN_PASSWORD"]
        with psycopg.connect(self._servers.target_admin_url, autocommit=True) as line:
            line.execute(f"DROP SCHEMA IF EXISTS {_schema(run)} CASCADE".encode())
            line.execute(f"CREATE SCHEMA {_schema(run)}".encode())
        schemas: dict[str, str] = {}
        for side, text in self._schemas.items():
            place, schema = f"{side}.converter", text.replace(_schema("schemas"), _schema(run))
            schemas |= {place: _JSON, f"{place}.schemas.enable": "true", f"{place}.schema.content": schema}
        return {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector", "topics": self._topic(run),
            "connection.url": f"jdbc:postgresql://{target.host}:{target.port}/{target.settings.target_database}",
            "connection.username": "postgres", "connection.password": password, "insert.mode": "upsert", "delete.enabled": "true",
            "primary.key.mode": "record_key", "schema.evolution": "basic", "quote.identifiers": "true",
            "collection.name.format": f"{_schema(run)}.{self._shape.table}",
            **(PROMPT_SINK if worker is PROMPT else FAST_SINK), **schemas,
        }  # fmt: skip

    def _learn_schemas(self) -> None:
        """The schemas of key and value, from the first message of a source that puts them into each."""
        telling = {**FAST, "key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true"}
        topic, deadline = self._topic("schemas"), time.monotonic() + _START_SECONDS
        with self._worker("schemas", ["source"], telling) as processes:
            while not self._end(topic):
                processes.check()
                if time.monotonic() > deadline:
                    raise Failed(f"Debezium published nothing within {_START_SECONDS:g} s: {processes.said()}")
                time.sleep(0.2)
        with closing(self._consumer()) as consumer:
            consumer.assign([TopicPartition(topic, 0, 0)])
            message = consumer.poll(30.0)
            if message is None or message.error():
                raise Failed("the first message of Debezium's source cannot be read")
            for side, text in (("key", message.key()), ("value", message.value())):
                self._schemas[side] = json.dumps(json.loads(text)["schema"], separators=(",", ":"))

    # -- how far it is -----------------------------------------------------------------------------------------------------

    def _topic(self, run: str) -> str:
        return f"debezium_{run}.{self._shape.name}"

    def _consumer(self) -> Any:
        return Consumer({"bootstrap.servers": self._bootstrap, "group.id": "bench", "auto.offset.reset": "earliest", "log_level": 0})

    def _end(self, topic: str) -> int:
        """Messages in the topic, which has one partition; 0 while it is not there."""
        with closing(self._consumer()) as consumer:
            try:
                return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=5.0)[1])
            except KafkaException:
                return 0

    def _in_target(self, run: str, rows: int, changed: int) -> Callable[[], float]:
        """A probe: rows that are there, then rows that are changed; both arrive in the order of their keys."""
        table, key = f"{_schema(run)}.{self._shape.table}", self._shape.key

        def probe() -> float:
            with psycopg.connect(self._servers.target_admin_url, autocommit=True) as line:
                there = line.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
                if there != (True,):
                    return 0
                row = line.execute(f'SELECT max("{key}") FROM {table}'.encode()).fetchone()
                highest = int((row and row[0]) or 0)
                return highest if highest < rows else rows + _changed(line, table, key, changed)

        return probe


def _changed(line: psycopg.Connection[Any], table: str, key: str, changed: int) -> int:
    """The highest key whose note says that it was changed."""
    low, high = 0, changed
    while low < high:
        middle = (low + high + 1) // 2
        row = line.execute(f'SELECT "Note" LIKE \'upd %%\' FROM {table} WHERE "{key}" = %s'.encode(), [middle]).fetchone()
        low, high = (middle, high) if row == (True,) else (low, middle - 1)
    return low


def _between(points: Sequence[Point], first: float, last: float) -> list[Point]:
    """The points from the first rows above `first` to those that reach `last`; from before them where they came at once."""
    begin = next(number for number, point in enumerate(points) if point.rows > first)
    end = next(number for number, point in enumerate(points) if point.rows >= last)
    return list(points[begin if begin < end else max(0, begin - 1) : end + 1])


def _schema(run: str) -> str:
    return f"debezium_{run}"


def _java() -> Path:
    java = install.find("java")
    if java is None:
        raise Failed("there is no java: make servers")
    return java
