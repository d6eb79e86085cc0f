"""`python -m bench`: every figure of the performance page, one run each, on servers of its own."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from bench import latency, peers
from bench.job import Failed, Job, configured, run
from bench.practice import Practice
from bench.results import FOLDER, Results, conditions
from bench.stages import STAGES
from bench.tables import DATABASE, SHAPES, Shape
from cdc import app, logs, stack
from cdc.catalog import Catalog
from cdc.config import Config, load
from cdc.errors import CdcError
from cdc.position import Position
from cdc.state import State

WIDE_SHARE = 3
"""The wide table gets a third of the rows: about as many bytes."""
SINGLE_SHARE = 15
"""So many of the rows come once more, in transactions of one row each, which take the source longer."""
CHAINS = (
    ("capture_kafka", "apply", "capture_kafka_updates", "apply_updates", "latency"),
    ("direct", "direct_updates", "direct_single", "latency"),
)
"""Stages of one pipeline: each goes on where the one before it ended."""
STOCK_SHARE = 15
"""The stock reader gets a fifteenth: its rate does not depend on their number."""


class Bench:
    """One table's measurements, in the order in which each finds what it needs."""

    def __init__(self, servers: stack.Stack, folder: Path, shape: Shape, arguments: argparse.Namespace, results: Results) -> None:
        self.servers, self.folder, self.shape, self.arguments, self.results = servers, folder, shape, arguments, results
        self.rows = max(1, arguments.rows // (1 if shape.label == "narrow" else WIDE_SHARE))
        self.practice = Practice(servers)
        self._key = latency.FIRST_KEY

    def everything(self) -> None:
        """All stages; with --profile or --only, those that were asked for and what they need."""
        self.practice.prepare(self.shape)
        floors = {kind: self._copied_empty(kind) for kind in ("direct", "kafka")}
        first, log = floors["kafka"], self._written()
        self.practice.insert(self.shape, 0, self.rows)
        second = self._written()
        for stage in ("read", "encode", "capture"):
            self._stage(stage, "direct", self.rows, first, second, log)
        self._stage("stock", "direct", max(1, self.rows // STOCK_SHARE), first, second, log)
        self._stage("capture_kafka", "kafka", self.rows, first, second, log)
        self._stage("apply", "kafka", self.rows, first, second, log)
        self._stage("direct", "direct", self.rows, first, second, log)
        changed = max(1, self.rows // 2)
        self.practice.update(self.shape, 0, changed)
        third = self._written()
        self._stage("capture_kafka_updates", "kafka", changed, second, third, log)
        self._stage("apply_updates", "kafka", changed, second, third, log)
        self._stage("direct_updates", "direct", changed, second, third, log)
        singly = max(1, self.rows // SINGLE_SHARE)
        self.practice.insert_singly(self.shape, self.rows, self.rows + singly)
        fourth = self._written()
        self._stage("capture_single", "direct", singly, third, fourth, log)
        self._stage("direct_single", "direct", singly, third, fourth, log)
        self._loads(self.rows + singly, fourth)
        self._latencies()

    def _config(self, kind: str) -> Path:
        """The configuration of one of the table's pipelines: direct, kafka, or load."""
        broker = self.servers.kafka if kind == "kafka" else None
        path, bootstrap = self.folder / f"{self.shape.label}-{kind}.toml", broker.bootstrap if broker else ""
        return configured(path, self.servers, f"{self.shape.label}_{kind}", self.shape.name, bootstrap)

    def _loaded(self, kind: str) -> Config:
        return load(self._config(kind), {**os.environ, **self.servers.environ})

    def _copied_empty(self, kind: str) -> Position:
        """The copy of the empty table; the position from which its changes are to be applied."""
        config = self._loaded(kind)
        app.snapshot(config, threading.Event(), lambda *_: None)
        with State(config.target, config.pipeline.name) as state:
            progress = state.read().progress
        if progress is None:
            raise Failed(f"the copy of the empty {self.shape.label} table did not end")
        return progress.position

    def _written(self) -> Position:
        with Catalog(self._loaded("direct").source) as catalog:
            return catalog.written_position()

    def _wanted(self, stage: str) -> bool:
        return not self.arguments.only or stage in self.arguments.only

    def _stage(self, stage: str, kind: str, rows: int, first: Position, last: Position, log: Position) -> None:
        """Measure one stage; one that later stages need is run in any case, and shown only if it was asked for."""
        wanted = self._wanted(stage)
        if not wanted and not self._needed_later(stage):
            return
        start, end, place = (position.to_json() for position in (first, last, log))
        job = Job(stage, str(self._config(kind)), self.shape.label, rows, start, end, place, wanted and stage == self.arguments.profile)
        figures = run(job, self.servers.environ)
        if wanted:
            self.results.add(figures)

    def _needed_later(self, stage: str) -> bool:
        return any(set(self.arguments.only) & set(chain[chain.index(stage) :]) for chain in CHAINS if stage in chain)

    def _loads(self, rows: int, at: Position) -> None:
        self._stage("load", "load", rows, at, at, at)
        if self._wanted("load_pgloader"):
            try:
                found = peers.pgloader(self.servers, self.shape, rows, self.folder, install_it=self.arguments.peers)
            except Failed as error:  # a peer's failure is its own, and no reason to end
                print(error, file=sys.stderr)
                return
            if found is not None:
                self.results.add(found)

    def _latencies(self) -> None:
        if not self._wanted("latency"):
            return
        for kind, commands in (("direct", ["run"]), ("kafka", ["capture", "apply"])):
            place = (f"{self.shape.label}_{kind}", self.shape.table)
            seconds = self.arguments.seconds
            figures = latency.measure(self.servers, self.shape, place, self._config(kind), commands, seconds, self._key)
            self._key += round(latency.RATE * seconds) + 1000
            self.results.add(figures)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the 17-column table; the 90-column one gets a third")
    parser.add_argument("--source", choices=sorted(stack.SOURCES), default="mariadb")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement of latency, at 100 changes a second")
    parser.add_argument("--only", nargs="+", choices=[*STAGES, "load_pgloader", "latency"], default=[], help="these stages, not all")
    parser.add_argument("--tables", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="narrow: 17 columns, wide: 90")
    parser.add_argument("--profile", choices=list(STAGES), help="only this stage, under cProfile, whose top 25 are printed")
    parser.add_argument("--peers", action="store_true", help="install pgloader to compare with, if it is missing")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where the JSON lines go")
    found = parser.parse_args(arguments)
    if found.profile:
        found.only = [found.profile]
    return found


def main() -> int:
    arguments = parse(sys.argv[1:])
    logs.configure(level=logging.WARNING)
    results = Results(arguments.results, conditions(arguments.source, arguments.rows))
    results.begin()
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        place = Path(folder)
        place.chmod(0o711)  # PostgreSQL runs as another user
        try:
            with stack.lent(place / "stack", source=arguments.source, kafka=True, databases=(DATABASE,)) as servers:
                for label in arguments.tables:
                    Bench(servers, place, SHAPES[label], arguments, results).everything()
        except (CdcError, Failed) as error:
            print(error, file=sys.stderr)
            return 1
    results.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
