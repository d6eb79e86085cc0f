"""`python -m bench.production`: a practice of production size is copied and proven equal; then copied once more beside people at work.

The practice is MyISAM on MariaDB (`cdc.demo.opendental.large`). The first copy has the machine for itself. For the second the practice
works at a steady rate, first without a copy and then with one at the default pace: what its own statements take is compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.job import Failed, Figures, configured
from bench.machine import cpu_seconds, pids
from bench.practice import connect
from bench.results import FOLDER, conditions, sentence
from cdc import stack
from cdc.demo.opendental import Report, Workload
from cdc.demo.opendental.large import grow
from cdc.errors import CdcError
from cdc.runtime import logs

DATABASE = "opendental"
WAIT_SECONDS = 600.0


@dataclass(slots=True)
class Used:
    """What a block took of the machine."""

    seconds: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """By server, its child processes included."""


class Production:
    """One practice and its two copies."""

    def __init__(self, servers: stack.Stack, folder: Path, arguments: argparse.Namespace) -> None:
        self.servers, self.folder, self.arguments = servers, folder, arguments
        self.account = {
            "host": servers.source.host, "port": servers.source.port, "user": "root",
            "password": servers.environ["CDC_SOURCE_ADMIN_PASSWORD"],
        }  # fmt: skip

    def made(self) -> Figures:
        """Make the practice."""
        started, arguments = time.monotonic(), self.arguments
        rows = grow(self.account, DATABASE, "MyISAM", rows=arguments.rows, tables=arguments.tables)
        return {"stage": "production_made", "rows": sum(rows.values()), "tables": len(rows), "bytes": self._bytes(),
                "seconds": round(time.monotonic() - started, 1)}  # fmt: skip

    def _bytes(self) -> int:
        with closing(connect(self.servers)) as line, line.cursor() as cursor:
            cursor.execute(f"SELECT SUM(data_length) FROM information_schema.tables WHERE table_schema = '{DATABASE}'")
            return int(cursor.fetchone()[0])

    def copied(self) -> Figures:
        """`cdc snapshot` alone on the machine, and the proof."""
        config = self._config("quiet")
        with self._used() as used:
            document, usage = self._run(config, "snapshot")
        return {**self._figures("production_copy", document, usage, used), **self._proof(config)}

    def beside(self) -> Iterator[Figures]:
        """The practice at work, without a copy and with one; then the log is caught up with, and the proof."""
        before = self._worked(lambda: threading.Event().wait(self.arguments.seconds))
        yield {"stage": "production_work", **_latency(before)}
        config = self._config("beside")
        found: list[Figures] = []
        during = self._worked(lambda: found.append(self._copied_beside(config)))
        yield {**found[0], **_latency(during), "p99_ms_above": round(during.p99_ms - before.p99_ms, 3)}
        yield {"stage": "production_proof", **self._caught_up(config)}

    def _copied_beside(self, config: Path) -> Figures:
        with self._used() as used:
            document, usage = self._run(config, "snapshot")
        return self._figures("production_copy_beside", document, usage, used)

    def _worked(self, meanwhile: Callable[[], object]) -> Report:
        """The practice at work for as long as something else takes."""
        stop, practice = threading.Event(), Workload(self.account, DATABASE, self.arguments.rate, 1, "MyISAM")
        worker = threading.Thread(target=practice.run, args=(stop,))
        worker.start()
        try:
            meanwhile()
        finally:
            stop.set()
            worker.join()
        return practice.report()

    def _caught_up(self, config: Path) -> Figures:
        environ, started = {**os.environ, **self.servers.environ}, time.monotonic()
        with (self.folder / "run.log").open("wb") as log:
            command = [sys.executable, "-m", "cdc", "--config", str(config), "run"]
            running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)
        try:
            self._run(config, "wait", "--timeout", str(WAIT_SECONDS))
            return {"caught_up_seconds": round(time.monotonic() - started, 1), **self._proof(config)}
        finally:
            running.terminate()
            running.wait(60)

    def _proof(self, config: Path) -> Figures:
        started = time.monotonic()
        document, _ = self._run(config, "reconcile")
        totals = document["totals"]
        return {"equal": document["equal"], "rows_target": totals["rows_target"], "proof_seconds": round(time.monotonic() - started, 1)}

    def _run(self, config: Path, *words: str) -> tuple[Any, Any]:
        """A command to its end: its document, and what it used."""
        command = [sys.executable, "-m", "cdc", "--config", str(config), "--json", *words]
        out, log = self.folder / f"{words[0]}.json", self.folder / f"{words[0]}.log"
        with out.open("wb") as stdout, log.open("wb") as stderr:
            environ = {**os.environ, **self.servers.environ}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environ)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Failed(f"cdc {words[0]} ended with {process.returncode}: {out.read_text()[-1000:]} {log.read_text()[-2000:]}")
        return json.loads(out.read_text()), usage

    def _figures(self, stage: str, document: Any, usage: Any, used: Used) -> Figures:
        own = usage.ru_utime + usage.ru_stime
        return {
            "stage": stage, "rows": document["rows"], "tables": len(document["tables"]), "seconds": round(used.seconds, 1),
            "rows_per_second": round(document["rows"] / used.seconds), "cpu_seconds": {"cdc": round(own, 1), **used.cpu_seconds},
            "peak_mb": round(usage.ru_maxrss / 1024), "reads": document["reads"],
        }  # fmt: skip

    @contextmanager
    def _used(self) -> Iterator[Used]:
        used, servers = Used(), pids(self.servers)
        before, started = {name: cpu_seconds(pid) for name, pid in servers.items()}, time.monotonic()
        yield used
        used.seconds = time.monotonic() - started
        used.cpu_seconds = {name: round(cpu_seconds(pid) - before[name], 1) for name, pid in servers.items()}

    def _config(self, name: str) -> Path:
        with psycopg.connect(self.servers.target_admin_url, autocommit=True) as line:
            line.execute(b"DROP SCHEMA IF EXISTS quiet CASCADE")  # one copy at a time has to fit on the disk
            line.execute(b"CHECKPOINT")
        return configured(self.folder / f"{name}.toml", self.servers, name, f"{DATABASE}.*")


def _latency(report: Report) -> Figures:
    return {
        "changes_per_second": round(report.per_second, 1), "statements": report.statements, "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms, "longest_ms": report.longest_ms, "work_seconds": round(report.seconds, 1),
    }  # fmt: skip


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench.production", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--tables", type=int, default=446)
    parser.add_argument("--rate", type=float, default=200.0, help="changes a second of the practice at work")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it works without a copy")
    parser.add_argument("--only", nargs="+", choices=["copy", "beside"], default=["copy", "beside"], help="the first copy, or the second")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where the JSON lines go")
    return parser.parse_args(arguments)


def main() -> int:
    arguments = parse(sys.argv[1:])
    logs.configure(level=logging.WARNING)
    run = conditions("mariadb", arguments.rows)
    print(sentence(run), f"load average before: {run['load_before']}", flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"production-{run['date'].replace(':', '').replace('+0000', 'Z')}.jsonl"

    def add(figures: Figures) -> None:
        with path.open("a") as file:
            file.write(json.dumps({**figures, "load_after": round(os.getloadavg()[0], 2), "run": run}) + "\n")
        print(json.dumps(figures), flush=True)

    try:
        _measure(arguments, add)
    except (CdcError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"written to {path}")
    return 0


def _measure(arguments: argparse.Namespace, add: Callable[[Figures], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user
        with stack.lent(folder / "stack", source="mariadb", kafka=False, databases=(DATABASE,)) as servers:
            production = Production(servers, folder, arguments)
            add(production.made())
            if "copy" in arguments.only:
                add(production.copied())
            if "beside" in arguments.only:
                for figures in production.beside():
                    add(figures)


if __name__ == "__main__":
    sys.exit(main())
