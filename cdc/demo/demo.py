"""The main job on this machine, from nothing: servers, a practice at work, copy, stream, lag,
and the proof at the end."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console

from cdc import stack
from cdc.commands.reconcile import Told, reconcile
from cdc.commands.snapshot import Bars, snapshot
from cdc.config.load import Config, load
from cdc.demo import opendental
from cdc.errors import Halt
from cdc.model.record import Document
from cdc.monitoring.status import status
from cdc.monitoring.wait import wait
from cdc.state.store import StateStore

RATE = 100.0
WAIT_SECONDS = 120.0
_DATABASE = "opendental"
_END_SECONDS = 20.0

Say = Callable[[str], None]
Checked = Callable[[], AbstractContextManager[Told]]
"""What shows the comparison, as long as it is made."""


def demo(
    *, source: str, transport: str, seconds: float, size: float, stop: threading.Event, bars: Bars, checked: Checked
) -> Document:
    """Run everything for `seconds` of work; the document of `cdc demo`."""
    say = _teller()
    with tempfile.TemporaryDirectory(prefix="cdc-demo-") as folder:
        say(
            f"starting {source}, PostgreSQL{' and Kafka' if transport == 'kafka' else ''} (installed first if they "
            "are missing)"
        )
        with stack.lent(
            Path(folder) / "stack", source=source, kafka=transport == "kafka", databases=(_DATABASE,)
        ) as servers:
            config = _config(servers, Path(folder))
            rows = _practice(servers, size, say)
            found = _work(servers, config, Path(folder), seconds, stop, bars, checked, say)
    return {"source": source, "transport": transport, "rows_loaded": rows, **found}


def _teller() -> Say:
    console, started = Console(stderr=True, highlight=False), time.monotonic()
    return lambda text: console.print(
        f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {text}", soft_wrap=not console.is_terminal
    )


def _config(servers: stack.Stack, folder: Path) -> Config:
    path = folder / "pipeline.toml"
    path.write_text(servers.config.read_text() + '[metrics]\nlisten = "127.0.0.1:0"\n')
    return load(path, {**os.environ, **servers.environ})


def _connection(servers: stack.Stack) -> Document:
    return {
        "host": servers.source.host,
        "port": servers.source.port,
        "user": "root",
        "password": servers.environ["CDC_SOURCE_ADMIN_PASSWORD"],
    }


def _practice(servers: stack.Stack, size: float, say: Say) -> int:
    say(f"a practice moves in: OpenDental-like tables, MyISAM, size {size:g}")
    opendental.create(_connection(servers), _DATABASE, "MyISAM")
    loaded = opendental.load(_connection(servers), _DATABASE, size=size, seed=1)
    return sum(loaded.values())


def _work(
    servers: stack.Stack,
    config: Config,
    folder: Path,
    seconds: float,
    stop: threading.Event,
    bars: Bars,
    checked: Checked,
    say: Say,
) -> Document:
    closing = threading.Event()
    practice = opendental.Workload(_connection(servers), _DATABASE, RATE, 1, "MyISAM")
    worker = threading.Thread(target=practice.run, args=(closing,), name="practice")
    worker.start()
    try:
        say(f"people start to work ({RATE:g} changes a second); the tables are copied meanwhile")
        with bars() as progress:
            copied = snapshot(config, stop, progress)
        say(
            f"copied {copied['rows']} rows of {len(copied['tables'])} tables in {copied['seconds']:.1f} s; "
            "now every change streams"
        )
        with _streaming(config, folder, servers) as alive:
            lags = _watch(config, seconds, stop, say, alive)
            if stop.is_set():
                raise Halt("interrupted", "cdc demo", "was asked to stop before the proof", "start it again")
            closing.set()
            worker.join()
            return _prove(config, practice.report().total, lags, folder, seconds, checked, say)
    finally:
        closing.set()
        worker.join()


@contextmanager
def _streaming(config: Config, folder: Path, servers: stack.Stack) -> Iterator[Callable[[], None]]:
    """The streaming processes; yields a check that they are alive."""
    names = ["run"] if config.transport.kind == "direct" else ["capture", "apply"]
    processes = {name: _start(name, folder, servers.environ) for name in names}

    def alive() -> None:
        for name, process in processes.items():
            if process.poll() is not None:
                raise Halt("demo_process", f"cdc {name}", f"ended by itself with {process.returncode}", _logs(folder))

    try:
        yield alive
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            process.wait(_END_SECONDS)


def _start(name: str, folder: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "cdc", "--config", str(folder / "pipeline.toml"), name]
        own = {**os.environ, **environ}  # a session of its own: Ctrl-C reaches the demo, which ends it in order
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=own, start_new_session=True
        )


def _watch(config: Config, seconds: float, stop: threading.Event, say: Say, alive: Callable[[], None]) -> list[float]:
    lags: list[float] = []
    until, told = time.monotonic() + seconds, 0.0
    with StateStore(config.target, config.pipeline.name) as state:
        while time.monotonic() < until and not stop.wait(0.25):
            alive()
            progress, behind = state.read().progress, state.behind()
            if progress is not None and progress.cut_no and behind is not None:
                lags.append(behind)
            if lags and time.monotonic() - told > 5.0:
                told = time.monotonic()
                say(f"lag {lags[-1]:.2f} s, cut {progress.cut_no if progress else 0}")
    return lags


def _prove(
    config: Config, changes: int, lags: list[float], folder: Path, seconds: float, checked: Checked, say: Say
) -> Document:
    say(f"the practice closes after {changes} changes; waiting until the target has the last of them")
    waited = wait(config, WAIT_SECONDS)
    if not waited["reached"]:
        raise Halt("demo_wait", "target", f"did not catch up within {WAIT_SECONDS:g} s", _logs(folder))
    say(f"caught up in {waited['seconds']:.2f} s; comparing every table, row by row, by checksums")
    with checked() as told:
        report = reconcile(config, (), False, folder / "report", told=told)
    say("every table is equal" if report["equal"] else "the two sides differ")
    last = status(config)["lag_seconds"]
    middle, worst = (statistics.median(lags), max(lags)) if lags else (0.0, 0.0)
    return {
        "seconds": seconds, "equal": report["equal"], "tables": len(report["tables"]), "changes": changes,
        "rows": report["totals"]["rows_target"], "caught_up_seconds": waited["seconds"],
        "lag_median_seconds": middle, "lag_max_seconds": worst, "lag_seconds": last,
    }  # fmt: skip


def _logs(folder: Path) -> str:
    return " | ".join(path.read_text(errors="replace")[-600:].strip() for path in sorted(folder.glob("*.log")))
