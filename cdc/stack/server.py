"""One real server in a folder of its own: prepared once, started, asked until it is ready, ended,
started again on the same port."""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cdc.errors import CdcError, Halt
from cdc.stack import docker, processes
from cdc.stack.probe import HOST, free_port

LOG_LINES = 25


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate files (PEM) that a server shows; `ca` is the authority that signed them."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the servers of one stack have in common."""

    mark: str
    """The mark that all its processes carry."""
    admin_password: str = ""
    cdc_password: str = ""
    databases: tuple[str, ...] = ("opendental",)
    """Databases of the source that the account cdc may read; ("*",) means all."""
    target_database: str = "analytics"
    durable: bool = True
    """False: survive the end of the process, but not the end of the machine (for tests)."""
    tls: Tls | None = None
    docker: bool = False
    """Run by a Docker engine instead of by this machine's own programs."""
    options: tuple[str, ...] = ()
    """More options, in the form the server knows; they win over ours."""


class Server(ABC):
    """A server process. The subclasses know the programs; this class knows its life."""

    name: ClassVar[str]
    clean_signal: ClassVar[signal.Signals] = signal.SIGTERM
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL
    start_seconds: ClassVar[float] = 90.0

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings, self.host = folder.resolve(), settings, HOST
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self._port("port")

    @abstractmethod
    def install(self) -> None:
        """Makes sure that the programs are there, or says how to get them."""

    def lacks(self) -> tuple[str, ...]:
        """The packages of the system that `install` would have to bring first."""
        return ()

    @abstractmethod
    def prepare(self) -> None:
        """Makes the data folder. Called once."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program and its arguments."""

    @abstractmethod
    def ready(self) -> bool:
        """Asks the server itself, over its port; an OSError means no."""

    @abstractmethod
    def image(self) -> docker.Image:
        """The same server as an image."""

    def user(self) -> str:
        """The OS user to run as; "" for the user that asks."""
        return ""

    def environ(self) -> dict[str, str]:
        """What the program needs in its environment."""
        return {}

    def settled(self) -> None:
        """Called after the very first start, when the server is ready."""
        return

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def process(self) -> processes.Process | None:
        """The running process, whoever started it."""
        found = processes.recorded(self.folder / "process.json")
        return found if found is not None and found.alive() else None

    def start(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Starts the server, unless it runs, and returns when it is ready; gives up once `wanted` says no."""
        if self.process is None:
            if not self.settings.docker:
                self._prepare_once()
            self._launch(wanted)
        if not (self.folder / "settled").exists():
            self.settled()
            (self.folder / "settled").touch()

    def stop(self, grace_seconds: float = 60.0) -> None:
        """Ends the server cleanly; after `grace_seconds` by force."""
        self._end(signal.SIGTERM if self.settings.docker else self.clean_signal, grace_seconds)

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(self.crash_signal, 10.0)

    def purge(self) -> None:
        """Ends the server and removes everything it kept."""
        self.kill()
        if self.settings.docker:
            docker.forget(self._container())
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str | Path, text: str = "") -> None:
        """Runs one preparing program as the server's user; stops with the log's end if it fails."""
        code = processes.finish(
            command, log=self.log, mark=self.settings.mark, user=self.user(), text=text, environ=self.environ()
        )
        if code != 0:
            raise self.failed(f"{Path(str(command[0])).name} ended with exit code {code}")

    def failed(self, rule: str) -> CdcError:
        """The error that shows what the server itself said last."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        told = [line for line in lines[:-LOG_LINES] if "ERROR" in line or "FATAL" in line][
            -LOG_LINES:
        ]  # some say much more after it
        shown = "\n".join([f"the end of {self.log}:", *told, *lines[-LOG_LINES:]])
        return Halt("stack_start", f"{self.name} at {self.host}:{self.port}", rule, shown)

    def _prepare_once(self) -> None:
        done = self.folder / "prepared"
        if done.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # half made, by a start that was interrupted
        self.prepare()
        done.touch()

    def _launch(self, wanted: Callable[[], bool]) -> None:
        command, user, place = self.command, self.user(), self.data
        if self.settings.docker:
            command, user, place = self._docker, "", self.folder
        process = processes.spawn(
            command(), log=self.log, mark=self.settings.mark, user=user, cwd=place, environ=self.environ()
        )
        processes.record(self.folder / "process.json", process)
        try:
            self._await(process, wanted)
        except BaseException:
            self.kill()
            raise

    def _docker(self) -> list[str | Path]:
        return docker.command(self._container(), self.port, self.image(), self.folder / "secrets.env")

    def _container(self) -> str:
        return f"cdc-{self.name}-{hashlib.sha256(self.settings.mark.encode()).hexdigest()[:12]}"

    def _end(self, first: signal.Signals, grace_seconds: float) -> None:
        if (process := self.process) is not None:
            processes.end(process, first, grace_seconds)
        if self.settings.docker:
            docker.remove(self._container())

    def _await(self, process: processes.Process, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self._ready():
            if processes.gone(process, 0.05):
                raise self.failed("it ended before it was ready")
            if not wanted():
                raise self.failed("its start was called off")
            if time.monotonic() > deadline:
                raise self.failed(f"it was not ready within {self.start_seconds:.0f} s")

    def _ready(self) -> bool:
        try:
            return self.ready()
        except OSError:
            return False

    def _port(self, name: str) -> int:
        """The port kept under this name: the same one for every start."""
        place = self.folder / name
        if not place.exists():
            place.write_text(str(free_port()))
        return int(place.read_text())
