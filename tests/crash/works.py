"""One pipeline's processes: started at a crash point, watched, killed, started again as a supervisor of services would."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psycopg

from tests import pipelines
from tests.crash.arena import Place
from tests.pipelines import Running

T = TypeVar("T")
DIRECT, ONE, SPLIT = "direct", "one", "split"
"""`cdc run` in process; `cdc run` over a broker; `cdc snapshot`, `cdc capture` and `cdc apply` over a broker."""
KILLED = -signal.SIGKILL


class Violation(AssertionError):
    """Something that the guarantees exclude was seen."""


class Works:
    """The processes of one pipeline by command, and why each of them ended."""

    def __init__(self, place: Place, way: str, folder: Path, through: str = "target", environ: Mapping[str, str] | None = None) -> None:
        self.place, self.way, self.through = place, way, through
        sections = place.sections()
        sections.setdefault("transport", {}).update({"partitions": 2})
        sections["snapshot"] = {"through": through}
        self.pipeline = pipelines.write(folder, place.source, place.target, *([place.broker] if place.broker else []), **sections)
        self.pipeline.environ.update({"PYTHONFAULTHANDLER": "1", **(environ or {})})
        self.name = place.source.name
        self.processes: dict[str, Running] = {}
        self.sleepers: list[Running] = []
        """Processes that were replaced while they were stopped."""
        self.ended: list[str] = []
        """What processes that ended by themselves gave as their reason: `command code`."""

    @property
    def commands(self) -> tuple[str, ...]:
        return ("capture", "apply") if self.way == SPLIT else ("run",)

    def of(self, role: str) -> str:
        """The command that does capture's, apply's or the load's part."""
        if self.way != SPLIT:
            return "run"
        return {"load": "snapshot" if self.through == "target" else "capture"}.get(role, role)

    def start(self, command: str, crash_at: str = "") -> Running:
        """Start a command; with `crash_at` it will end itself there."""
        if crash_at:
            self.pipeline.environ["CRASH_AT"] = crash_at
        try:
            self.processes[command] = self.pipeline.start(command)
        finally:
            self.pipeline.environ.pop("CRASH_AT", None)
        return self.processes[command]

    def start_all(self, but: str = "") -> None:
        """Start what does not run, save one; what ended by itself is noted first."""
        for command in self.commands:
            if command == but:
                continue
            running = self.processes.get(command)
            if running is None or not running.alive:
                self.note(command)
                self.start(command)

    def note(self, command: str) -> None:
        """Write down why a process ended, unless it was killed."""
        process = self.processes.get(command)
        if process is None or process.alive:
            return
        del self.processes[command]
        if process.process.returncode == KILLED:
            return
        if process.process.returncode not in (0, 1, 2) or reason(process) == "internal":
            raise Violation(f"cdc {command} ended with {process.process.returncode}\n{process.output()[-3000:]}")
        self.ended.append(f"{command} {reason(process)}")

    def kill(self, command: str) -> None:
        """End it as a crash would."""
        self.note(command)
        if command in self.processes:
            self.processes.pop(command).kill()

    def load(self) -> None:
        """The initial copy, where a command of its own makes it."""
        if self.way == SPLIT and self.through == "target":
            process = self.start("snapshot")
            if process.process.wait(120) != 0:
                raise Violation(f"cdc snapshot ended with {process.process.returncode}\n{process.output()[-3000:]}")

    def dies(self, command: str, seconds: float = 120.0) -> bool:
        """Whether the process ends by the crash that it was started for; False when it does not come by in time."""
        process = self.processes[command]
        try:
            code = process.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if code != KILLED:
            raise Violation(f"cdc {command} ended with {code} before its crash point\n{process.output()[-3000:]}")
        del self.processes[command]
        return True

    def end(self) -> None:
        """Kill all that is left."""
        for process in self.sleepers:
            process.kill()
        self.pipeline.end()

    def cut_no(self) -> int:
        """The newest cut in the target; 0 before the first, and while nobody can be asked."""
        try:
            if self.place.target.execute("SELECT to_regclass('cdc.progress')") == [(None,)]:
                return 0
            rows = self.place.target.execute(f"SELECT cut_no FROM cdc.progress WHERE pipeline = '{self.name}'")
        except psycopg.Error:
            return 0
        return int(rows[0][0]) if rows else 0

    def await_cut(self, seconds: float = 60.0) -> None:
        """Wait for a cut in the target; ended processes are started again."""
        end = time.monotonic() + seconds
        while not self.cut_no():
            if time.monotonic() > end:
                raise Violation(f"I7: there was no cut within {seconds:g} s; ended: {self.ended}\n{self.said()}")
            self.start_all()
            time.sleep(0.1)

    def dump(self) -> None:
        """Let processes that stand still write down where, and end."""
        for process in self.processes.values():
            if process.alive:
                process.stop(signal.SIGABRT)

    def said(self) -> str:
        """What the processes said last, for a failing run to show."""
        return "\n".join(
            f"--- {one.log.name}, exit code {one.process.poll()}\n{one.output()[-4000:]}" for one in self.pipeline.running[-6:]
        )


def reason(process: Running) -> str:
    """The code of the error with which a process ended."""
    found = re.findall(r"^error \[([a-z_]+)\]", process.output(), re.MULTILINE)
    return found[-1] if found else f"exit {process.process.returncode}"


def until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Ask until the answer is true; a Violation when it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Violation(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.05)
    return found
