"""The parts of the bench: each makes its table, writes its backlogs, and measures stages over them. No part needs another."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from pymysql import MySQLError

from bench import chain, peers
from bench.debezium import Debezium
from bench.job import Failed, Figures, Job, configured, run, with_bytes, with_peaks
from bench.latency import Latency
from bench.machine import Meter, pids
from bench.practice import Practice
from bench.results import Results
from bench.tables import TRANSACTION_ROWS, Shape
from cdc import stack
from cdc.commands import snapshot
from cdc.config.load import Config, load
from cdc.errors import CdcError
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.state.store import StateStore

SINGLE_SHARE = 15
"""So many times fewer rows in transactions of one row, which take the source long."""
STOCK_SHARE = 15
"""So many times fewer rows for the stock reader: its rate does not depend on their number."""
HISTORY = 10
"""So many times the first rows has the table in the end whose cost with history is measured."""
ARRIVAL_SECONDS = 60.0
TAKEOVERS = 4
"""So many members of a group are killed."""
IN_TARGET = {"apply", "direct", "kafka", "load", *chain.SINKS}
"""Stages after which the target is compared with the source."""
WAYS = {"capture_kafka": "topics", "apply": "topics", "kafka": "kafka", "load": "load", **{name: name for name in chain.SINKS}}
"""Whose pipeline a stage works in; every other one in that of `cdc run`."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is written at once, and the stages that then go over it."""

    suffix: str
    write: Callable[[], int]
    stages: Sequence[str]
    inside: bool = False
    """`cdc run`'s work in a process of ours, so that no interpreter's start is in its figures."""


@dataclass(frozen=True, slots=True)
class Span:
    """A backlog in the log: its rows, its two ends, its bytes."""

    rows: int
    first: Position
    last: Position
    size: int


class Parts:
    """One table's parts; an instance is for one part."""

    def __init__(
        self, name: str, servers: stack.Stack, folder: Path, shape: Shape, arguments: argparse.Namespace, results: Results
    ) -> None:
        self.name, self.servers, self.folder, self.shape, self.arguments, self.results = name, servers, folder, shape, arguments, results
        self.rows = max(1, arguments.rows // shape.share)
        self.practice = Practice(servers, shape)

    def run(self) -> None:
        """The part, from the empty table to nothing left of it."""
        try:
            PARTS[self.name](self)
        finally:
            self.practice.forget()
            self._forget()

    # -- parts -----------------------------------------------------------------------------------------------------------

    def insert(self) -> None:
        """New rows, 1000 a transaction: every stage."""
        stages = ("read", "encode", "capture", "stock", "capture_kafka", "apply", "direct", "kafka")
        self._backlogs(0, [Backlog("", partial(self.practice.insert, 0, self.rows), stages)])

    def update(self) -> None:
        """Changes of rows that are there."""
        changed = max(1, self.rows // 2)
        self._backlogs(changed, [Backlog("_updates", partial(self.practice.update, 0, changed), self._whole())])

    def mixed(self) -> None:
        """Inserts, updates and deletes in turn."""
        self._backlogs(self.rows, [Backlog("_mixed", partial(self.practice.mixed, self.rows, self.rows // 2), self._whole())])

    def single(self) -> None:
        """New rows, one a statement and a transaction."""
        rows = max(1, self.rows // SINGLE_SHARE)
        self._backlogs(0, [Backlog("_single", partial(self.practice.insert_singly, 0, rows), ("capture", "direct", "kafka"))])

    def large(self) -> None:
        """New rows in one transaction."""
        self._backlogs(0, [Backlog("_large", partial(self.practice.insert_at_once, 0, self.arguments.large), ("direct", "kafka"))])

    def deep(self) -> None:
        """A backlog of very many rows."""
        self._backlogs(0, [Backlog("_deep", partial(self.practice.insert, 0, self.arguments.deep), ("direct", "kafka"))])

    def history(self) -> None:
        """The same work in an empty table and in one that has grown: first some rows, then nine times as many on top of them."""
        rows, stages = self.arguments.history, ("capture_kafka", "apply", "direct")
        first = Backlog("_first", partial(self.practice.insert, 0, rows), stages, inside=True)
        after = Backlog("_after", partial(self.practice.insert, rows, HISTORY * rows), stages, inside=True)
        self._backlogs(0, [first, after])

    def scaled(self) -> None:
        """Two partitions: one sink for both, and two that share them; then how long it takes until a killed one is replaced."""
        changed, sinks = max(1, self.rows // 2), tuple(chain.SINKS)
        inserts = Backlog("", partial(self.practice.insert, changed, changed + self.rows), sinks)
        self._backlogs(changed, [inserts, Backlog("_updates", partial(self.practice.update, 0, changed), sinks)])
        if self._wanted("takeover"):
            commands = chain.pipeline(("capture", *("apply" for _ in range(TAKEOVERS + 2))), self._config("sinks"))
            with chain.running(commands, self.folder, self.servers.environ) as processes:
                self.results.add(self._takeovers(processes, changed + self.rows))

    def _takeovers(self, processes: chain.Running, rows: int) -> Figures:
        """Kill one member after the other, beside single changes; others wait to take its place."""
        seconds = []
        with StateStore(self._loaded("sinks").target, self._pipeline("sinks")) as state:
            for number in range(TAKEOVERS + 1):
                before = time.monotonic()
                if number:  # the first round only waits until all are at work
                    processes.kill("apply" if number == 1 else f"apply {number}")
                self.practice.insert(rows + 20 * number, rows + 20 * number + 20)
                at = self._written()
                while not chain.position(state).covers(at):
                    processes.check()
                    time.sleep(chain.LOOK_SECONDS / 10)
                seconds.append(round(time.monotonic() - before, 2))
        self._check("sinks")
        return {"stage": "takeover", "table": self.shape.label, "columns": len(self.shape.columns), "rows": 20 * TAKEOVERS,
                "seconds_each": seconds[1:], "processes": {}}  # fmt: skip

    def load(self) -> None:
        """The initial copy of a table that is there, and pgloader's."""
        self.practice.prepare(self.rows)
        at = self._written()
        if self._wanted("load"):
            self._measure("load", "load", Span(self.rows, at, at, self.practice.table_bytes()), inside=True)
        if self._wanted("load_pgloader"):
            found = peers.pgloader(self.servers, self.shape, self.rows, self.folder, install_it=self.arguments.peers)
            if found is not None:
                self.results.add(with_bytes(found, self.practice.table_bytes()))

    def latency(self) -> None:
        """Single changes, idle and beside load, through either way."""
        for way, commands in chain.COMMANDS.items():
            if self._wanted("latency"):
                self.practice.prepare(0)
                self._copied(way)
                place, config = (self._pipeline(way), self.shape.table), self._config(way)
                with chain.running(chain.pipeline(commands, config), self.folder, self.servers.environ) as processes:
                    changes = Latency(self.servers, self.shape, place, self.arguments.rate)
                    for found in changes.measure(way, processes, self.arguments.seconds):
                        self.results.add(found)
                    self._check(way, ARRIVAL_SECONDS)  # the last of the load beside is still on its way

    def debezium(self) -> None:
        """Debezium on Kafka Connect: the same table, the same statements."""
        for found in Debezium(self.servers, self.shape, self.practice, self.folder).measure(self.rows, self.arguments):
            self.results.add(found)

    # -- how -------------------------------------------------------------------------------------------------------------

    def _whole(self) -> Sequence[str]:
        return ("capture_kafka", "apply", "direct", "kafka")

    def _backlogs(self, rows: int, backlogs: Sequence[Backlog]) -> None:
        """Write each backlog on top of a table with `rows` rows, and measure the stages that are wanted."""
        self.practice.prepare(rows)
        for way in {WAYS.get(stage, "direct") for stage in backlogs[0].stages if self._needed(stage, backlogs[0].stages)}:
            self._copied(way)
        for backlog in backlogs:
            span = self._span(backlog.write)
            for stage in backlog.stages:
                if self._needed(stage, backlog.stages):
                    self._over(stage, backlog, span)

    def _span(self, write: Callable[[], int]) -> Span:
        first = self._written()
        rows = write()
        last = self._written()
        return Span(rows, first, last, self.practice.log_bytes(last) - self.practice.log_bytes(first))

    def _over(self, stage: str, backlog: Backlog, span: Span) -> None:
        name = f"{stage}{backlog.suffix}"
        if stage == "stock":
            whole = -(-span.rows // STOCK_SHARE // TRANSACTION_ROWS) * TRANSACTION_ROWS  # it stops at the end of an event
            rows = min(span.rows, max(whole, TRANSACTION_ROWS))
            span = Span(rows, span.first, span.last, span.size * rows // span.rows)
        inside = backlog.inside or stage == self.arguments.profile or stage not in chain.PROCESSES
        if stage in chain.SINKS:
            self._inside(f"capture_kafka{backlog.suffix}", stage, span)
        self._measure(name, stage, span, inside=inside)

    def _measure(self, name: str, stage: str, span: Span, *, inside: bool) -> None:
        way = WAYS.get(stage, "direct")
        with psycopg.connect(self.servers.target_admin_url, autocommit=True) as target:
            target.execute(b"CHECKPOINT")  # what the stage before it left to be written is not this one's
        if inside:
            found = self._inside(name, way, span)
        else:
            found = chain.drain(name, self.servers, self.shape, self._config(way), (span.rows, span.last), self.practice.log_bytes)
        if stage in IN_TARGET:
            self._check(way)
        if self._wanted(stage) and not self.arguments.profile:  # a profiled figure is none
            self.results.add(with_bytes(found, span.size))

    def _inside(self, name: str, way: str, span: Span) -> Figures:
        """A stage in a process of its own."""
        servers, ends = pids(self.servers), (span.first.to_json(), span.last.to_json())
        profiled = self.arguments.profile is not None and name.startswith(self.arguments.profile)
        job = Job(name, str(self._config(way)), self.shape.label, span.rows, *ends, servers, profiled)
        meter = Meter(servers, os.getpid())
        with meter.watching():
            found = run(job, self.servers.environ)
        return with_peaks(found, meter.peaks)

    def _wanted(self, stage: str) -> bool:
        return not self.arguments.stages or stage in self.arguments.stages

    def _needed(self, stage: str, stages: Sequence[str]) -> bool:
        """One that is wanted, or fills the topics for one that is."""
        return self._wanted(stage) or (stage == "capture_kafka" and "apply" in stages and self._wanted("apply"))

    def _pipeline(self, way: str) -> str:
        return f"{self.shape.label}_{self.name}_{way}"

    def _config(self, way: str) -> Path:
        """The configuration of one of the part's pipelines."""
        broker = self.servers.kafka if way in ("topics", "kafka", *chain.SINKS) else None
        path, bootstrap = self.folder / f"{self._pipeline(way)}.toml", broker.bootstrap if broker else ""
        shards = len(chain.SINKS.get(way, ()))
        return configured(path, self.servers, self._pipeline(way), self.shape.name, bootstrap, shards=shards)

    def _loaded(self, way: str) -> Config:
        return load(self._config(way), {**os.environ, **self.servers.environ})

    def _copied(self, way: str) -> None:
        """The table as it is now is in the target, and its changes are to be applied from here on."""
        if not snapshot.snapshot(self._loaded(way), threading.Event(), lambda *_: None)["complete"]:
            raise Failed(f"the copy of the {self.shape.label} table did not end")

    def _written(self) -> Position:
        with Catalog(self._loaded("direct").source) as catalog:
            return catalog.log.written_position()

    def _check(self, way: str, seconds: float = 0.0) -> None:
        self.practice.compare(self._pipeline(way), seconds)

    def _forget(self) -> None:
        with psycopg.connect(self.servers.target_admin_url, autocommit=True) as target:
            for way in ("direct", "topics", "kafka", "load", *chain.SINKS):
                target.execute(f"DROP SCHEMA IF EXISTS {self._pipeline(way)} CASCADE".encode())


PARTS: Mapping[str, Callable[[Parts], None]] = {
    "insert": Parts.insert, "update": Parts.update, "mixed": Parts.mixed, "single": Parts.single, "load": Parts.load,
    "latency": Parts.latency, "scaled": Parts.scaled,
    "large": Parts.large, "history": Parts.history, "deep": Parts.deep, "debezium": Parts.debezium,
}  # fmt: skip
ONCE = ("scaled", "large", "history", "deep", "debezium")
"""Parts of the narrow table only, unless they are asked for by name."""


def measured(servers: stack.Stack, folder: Path, shapes: Sequence[Shape], arguments: argparse.Namespace, results: Results) -> Iterator[str]:
    """Every part that is wanted, of every table; gives those that failed, and goes on after them."""
    for shape in shapes:
        for name in PARTS:
            if not _asked(name, shape, arguments):
                continue
            try:
                Parts(name, servers, folder, shape, arguments, results).run()
            except (CdcError, Failed, MySQLError, psycopg.Error) as error:
                print(f"{name}, {shape.label}: {error}", file=sys.stderr, flush=True)
                yield f"{name} of {shape.label}"


def _asked(name: str, shape: Shape, arguments: argparse.Namespace) -> bool:
    if (name == "large" and shape.engine != "InnoDB") or (name == "debezium" and shape.label != "narrow"):
        return False
    if arguments.only:
        return name in arguments.only
    return (name not in ONCE or shape.label == "narrow") and (name != "debezium" or arguments.peers)
