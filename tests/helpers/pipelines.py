"""A pipeline as its operator sees it: a configuration file, an environment, and the command line."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.helpers.preloaded import Born, Nursery, shared
from tests.helpers.servers import PASSWORD, Broker, SourceDatabase, TargetDatabase

_READ_AT_IMPORT = frozenset({"CDC_TIMING", "CDC_PURE", "LD_PRELOAD"})
_numbers = count()
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Running:
    """A `cdc` process in the background; it dies with the test's process."""

    process: subprocess.Popen[bytes] | Born
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it is held still, as by SIGSTOP (proc(5): state T); not once it is gone."""
        try:
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def output(self) -> str:
        """What it has written so far, both streams."""
        return self.log.read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_seconds: float = 30.0) -> int:
        """Signals it and returns its exit code."""
        if self.alive:
            self.process.send_signal(how)
        return self.process.wait(timeout_seconds)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.stop(signal.SIGKILL)


def said(*processes: Running) -> str:
    """What processes said last, for a failing test to show."""
    return "\n".join(f"--- {one.log.name}, exit code {one.process.poll()}\n{one.output()[-4000:]}" for one in processes)


@dataclass
class Pipeline:
    """The files of one pipeline and the two ways to run a command on them."""

    folder: Path
    environ: dict[str, str]
    running: list[Running] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "pipeline.toml"

    def run(self, *arguments: str, timeout_seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs `cdc ARGUMENTS` to its end; one that takes longer is made to say where it stands, and fails."""
        number = next(_numbers)
        out, errors = (self.folder / f"run-{number}.{stream}" for stream in ("out", "err"))
        process = self._begun(arguments, out, errors)
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait()
            rule = f"cdc {' '.join(arguments)} did not end within {timeout_seconds:g} s"
            raise AssertionError(f"{rule}\n{errors.read_text(errors='replace')}\n{said(*self.running)}") from None
        return subprocess.CompletedProcess(self._command(arguments), code, out.read_text(), errors.read_text())

    def json(self, *arguments: str, timeout_seconds: float = 120.0) -> Any:
        """Runs `cdc --json ARGUMENTS`, which must succeed, and returns its document."""
        done = self.run("--json", *arguments, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, f"cdc {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def start(self, *arguments: str, nursery: Nursery | None = None) -> Running:
        """Starts `cdc ARGUMENTS` in the background."""
        log = self.folder / f"{arguments[0]}-{len(self.running)}.log"
        self.running.append(Running(self._begun(arguments, log, log, nursery), log))
        return self.running[-1]

    def _begun(self, arguments: tuple[str, ...], out: Path, errors: Path, nursery: Nursery | None = None) -> subprocess.Popen[bytes] | Born:
        """Born by a process that has read the modules, unless what they read of the environment then is to be another."""
        if nursery is None and _READ_AT_IMPORT & self.environ.keys():
            return self._spawned(arguments, out, errors)
        return (nursery or shared({})).start(self._command(arguments)[3:], self._environ(), out, errors)

    def _spawned(self, arguments: tuple[str, ...], out: Path, errors: Path) -> subprocess.Popen[bytes]:
        with out.open("ab") as first, errors.open("ab") as second:
            return subprocess.Popen(
                self._command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=first,
                stderr=second,
                env=self._environ(),
                preexec_fn=_die_with_parent,
            )

    def end(self) -> None:
        """Kills what still runs."""
        for each in self.running:
            each.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "cdc", "--config", str(self.path), *arguments]

    def _environ(self) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[2])
        return {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "default", "PYTHONFAULTHANDLER": "1", **self.environ}


def write(
    folder: Path, source: SourceDatabase, target: TargetDatabase, broker: Broker | None = None, /, **sections: dict[str, Any]
) -> Pipeline:
    """Writes pipeline.toml for these places; `sections` add to it or override it, key by key."""
    document: dict[str, dict[str, Any]] = {
        "pipeline": {"name": source.name},
        "source": {"url": source.url, "tables": [f"{source.name}.*"], "server_id": _server_id()},
        "target": {"url": target.url},
        "transport": {"kind": "direct"},
        "metrics": {"listen": "127.0.0.1:0"},
    }
    if broker is not None:
        document["transport"] = {"kind": "kafka", "bootstrap": broker.bootstrap, "prefix": broker.prefix}
    for name, values in sections.items():
        document[name] = {**document.get(name, {}), **values}
    folder.mkdir(parents=True, exist_ok=True)
    made = Pipeline(folder, {"CDC_SOURCE_PASSWORD": PASSWORD, "CDC_TARGET_PASSWORD": PASSWORD})
    lines = [
        line for name, values in document.items() for line in [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    ]
    made.path.write_text("\n".join(lines) + "\n")
    return made


def _section(name: str, values: dict[str, Any]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _server_id() -> int:
    """An id that no other reader of a shared server has: the server ends the older of two."""
    return 100_000 + int.from_bytes(os.urandom(3))


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
