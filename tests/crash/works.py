"""One pipeline's processes: started at a crash point, watched, killed, started again as a supervisor of services would."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from tests.crash.arena import Place
from tests.crash.patience import Patience
from tests.crash.workload import LISTED, TABLES
from tests.helpers import pipelines
from tests.helpers.pipelines import Running
from tests.helpers.preloaded import Nursery, shared

T = TypeVar("T")
DIRECT, ONE, SPLIT, GROUP = "direct", "one", "split", "group"
"""`cdc run` in process; `cdc run` over a broker; `cdc snapshot`, `cdc capture` and `cdc apply` over a broker, the last of them once, or
as two members that share the partitions."""
MEMBERS, SHARDS, PARTITIONS = ("apply", "apply 2"), 2, 2
GATHER = "apply alone"
"""The one process that takes over from members and brings their shards together: `cdc apply` of a second pipeline.toml."""
KILLED = -signal.SIGKILL
_QUARANTINE = {"replay": "quarantine replay", "discard": "quarantine discard --table {name}.scar --all"}
"""Commands that end by themselves, by the role of the points on their way."""


class Violation(AssertionError):
    """Something that the guarantees exclude was seen."""


class Works:
    """The processes of one pipeline by command, and why each of them ended."""

    def __init__(
        self,
        place: Place,
        way: str,
        folder: Path,
        through: str = "target",
        environ: Mapping[str, str] | None = None,
        more: Mapping[str, Mapping[str, Any]] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        """`environ`: more of it than every process has; `more`: of pipeline.toml."""
        self.place, self.way, self.through = place, way, through
        self._nursery = nursery or shared(environ or {})
        sections = place.sections()
        for name, values in (more or {}).items():
            sections[name] = {**sections.get(name, {}), **values}
        sections.setdefault("transport", {}).update({"partitions": PARTITIONS})
        sections.setdefault("snapshot", {})["through"] = through
        sections.setdefault("policies", {})["nul_text"] = "error"  # wounds are rows that the target refuses
        brokers = [place.broker] if place.broker else []
        self.alone = pipelines.write(folder / "alone", place.source, place.target, *brokers, **sections)
        sections.setdefault("apply", {})["shards"] = SHARDS if way == GROUP else 0
        self.pipeline = pipelines.write(folder, place.source, place.target, *brokers, **sections)
        for one in (self.pipeline, self.alone):
            one.environ.update({"PYTHONFAULTHANDLER": "1", **(environ or {})})
        self.alone.running = self.pipeline.running
        self.name = place.source.name
        self._line: psycopg.Connection[tuple[Any, ...]] | None = None
        self.processes: dict[str, Running] = {}
        self.sleepers: list[Running] = []
        """Processes that were replaced while they were stopped."""
        self.ended: list[str] = []
        """What processes that ended by themselves gave as their reason: `command code`."""
        self.copies: list[str] = []
        """The requests of the copies that were asked for."""

    @property
    def commands(self) -> tuple[str, ...]:
        return ("capture", *self.sinks) if self.way in (SPLIT, GROUP) else ("run",)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The commands that apply."""
        return MEMBERS if self.way == GROUP else (self.of("apply"),)

    def of(self, role: str) -> str:
        """The command that does capture's, apply's or the load's part."""
        if role in _QUARANTINE:
            return _QUARANTINE[role].format(name=self.name)
        if self.way not in (SPLIT, GROUP):
            return "run"
        return {"load": "snapshot" if self.through == "target" else "capture"}.get(role, role)

    def start(self, command: str, crash_at: str = "") -> Running:
        """Start a command; with `crash_at` it will end itself there."""
        pipeline = self.alone if command == GATHER else self.pipeline
        if crash_at:
            pipeline.environ["CRASH_AT"] = crash_at
        try:
            words = ["apply"] if command in (*MEMBERS, GATHER) else command.split()
            self.processes[command] = pipeline.start(*words, nursery=self._nursery)
        finally:
            pipeline.environ.pop("CRASH_AT", None)
        return self.processes[command]

    def start_all(self, *but: str) -> None:
        """Start what does not run, save some; what ended by itself is noted first."""
        for command in self.commands:
            if command in but:
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

    def stop(self, command: str) -> None:
        """Ask it to end, if it runs."""
        process = self.processes.get(command)
        if process is None or not process.alive:
            return
        code, said = process.stop(), process.output()
        if code == -signal.SIGTERM and (not said or "error [" in said):  # before our handlers are there, and after Python put them away
            self.ended.append(f"{command} {reason(self.processes.pop(command))}")
        elif code not in (0, 1):
            raise Violation(f"cdc {command} ended with {code} when it was asked to\n{process.output()[-2000:]}")

    def put_to_sleep(self, command: str) -> Running:
        """Stop it where it is; whoever is started in its place does not know of it."""
        sleeper = self.processes.pop(command)
        sleeper.process.send_signal(signal.SIGSTOP)
        self.sleepers.append(sleeper)
        return sleeper

    def bury(self) -> None:
        """Kill what was replaced and lives."""
        while self.sleepers:
            self.sleepers.pop().kill()

    def load(self) -> None:
        """The initial copy, where a command of its own makes it."""
        if self.way in (SPLIT, GROUP) and self.through == "target":
            process = self.start("snapshot")
            if self._ended(process, self.patience(120)) != 0:
                raise Violation(f"cdc snapshot ended with {process.process.returncode}\n{process.output()[-3000:]}")

    def copy(self, table: str, *options: str) -> None:
        """Ask for a copy of a table while all goes on; nothing is asked for while a server is away."""
        asked = self.pipeline.run("--json", "copy", f"{self.name}.{table}", "--no-wait", *options)
        if request := re.search(r'"request": "([^"]+)"', asked.stdout):
            self.copies.append(request.group(1))

    def copied(self) -> str:
        """A condition in SQL: nothing is left to be copied of what was asked for."""
        ended = f"SELECT count(DISTINCT request) FROM cdc.copy WHERE pipeline = '{self.name}'"
        return f"({ended} AND request = ANY ('{{{','.join(self.copies)}}}')) = {len(self.copies)}"

    def replay(self, seconds: float = 60.0) -> None:
        """Bring what waits in quarantine to the target, as its operator would once every row is mended."""
        patience = self.patience(seconds)
        while self.held():
            process = self.start("quarantine replay")
            code = self._ended(process, self.patience(seconds))
            if code not in (0, 1) or reason(process) == "internal" or patience.over():
                raise Violation(f"I7: cdc quarantine replay ended with {code} and keys wait\n{process.output()[-3000:]}\n{self.said()}")

    def held(self, table: str = "") -> int:
        """How many keys wait in quarantine; 0 while nobody can be asked."""
        condition = f" AND \"table\" = '{table}'" if table else ""
        return self.asked(f"SELECT count(DISTINCT key_hash) FROM cdc.quarantine WHERE pipeline = '{self.name}'{condition}")

    def works_on_a_shard(self, process: Running) -> bool:
        """Whether the group has given the process a shard, and it has taken it over."""
        owner = f"owner LIKE '%:{process.process.pid}'"
        return bool(self.asked(f"SELECT count(*)::int FROM cdc.shard WHERE pipeline = '{self.name}' AND {owner}"))

    def floored(self) -> bool:
        """Whether the stored position says that a reader must begin before it."""
        return bool(self.asked(f"SELECT (position->'floor' IS NOT NULL)::int FROM cdc.progress WHERE pipeline = '{self.name}'"))

    def dies(self, command: str, seconds: float = 120.0, cuts: int = 0) -> bool:
        """Whether the process ends by the crash that it was started for.

        False when it does not come by in time; with `cuts`, once the target has gone on by so many without its end.
        """
        process, patience = self.processes[command], self.patience(seconds)
        first = 0
        while (code := process.process.poll()) is None:
            if patience.over():
                return False
            now = self.cut_no() if cuts else 0
            first = first or now
            if cuts and first and now > first + cuts:
                return False
            self._nap(process, 0.1)
        if code != KILLED:
            raise Violation(f"cdc {command} ended with {code} before its crash point\n{process.output()[-3000:]}")
        del self.processes[command]
        return True

    def patience(self, seconds: float) -> Patience:
        """A deadline for these processes and for the servers that they speak to."""
        return Patience(seconds, self._pids)

    def _pids(self) -> Iterator[int]:
        for running in self.processes.values():
            yield running.process.pid
        for server in self.place.servers.values():
            if (process := server.process) is not None:
                yield process.pid

    def _ended(self, process: Running, patience: Patience) -> int | None:
        """The exit code; None when it does not end in time."""
        while process.alive and not patience.over():
            self._nap(process, 0.1)
        return process.process.poll()

    @staticmethod
    def _nap(process: Running, seconds: float) -> None:
        """Sleep, but not longer than the process lives."""
        with suppress(subprocess.TimeoutExpired):
            process.process.wait(seconds)

    def end(self) -> None:
        """Kill all that is left."""
        self._hang_up()
        self.bury()
        self.pipeline.end()

    def cut_no(self) -> int:
        """The newest cut in the target; 0 before the first, and while nobody can be asked."""
        return self.asked(f"SELECT cut_no FROM cdc.progress WHERE pipeline = '{self.name}'")

    def await_cut(self, after: int = 0, seconds: float = 60.0) -> None:
        """Wait for a newer cut in the target; ended processes are started again. A load that goes on is no standstill."""
        patience, before = self.patience(seconds), None
        while self.cut_no() <= after:
            if (now := self._loaded()) != before:
                before = now
                patience.renew()
            if patience.over():
                raise Violation(f"I7: there was no cut after {after} for {patience}; ended: {self.ended}\n{self.said()}")
            self.start_all()
            time.sleep(0.05)

    def await_whole(self, seconds: float = 60.0) -> None:
        """Wait until every table is shown as consistent."""
        whole = f"SELECT count(*)::int FROM cdc.tables WHERE pipeline = '{self.name}' AND state = 'consistent' AND \"table\" IN ({LISTED})"
        patience = self.patience(seconds)
        while self.asked(whole) < len(TABLES):
            if patience.over():
                raise Violation(f"I7: the tables were not consistent within {patience}; ended: {self.ended}\n{self.said()}")
            self.start_all()
            time.sleep(0.05)

    def _loaded(self) -> int:
        """How many steps a load has taken."""
        return self.asked(
            f"SELECT (SELECT count(*) FROM cdc.chunks WHERE pipeline = '{self.name}')"
            f" + (SELECT count(*) FROM cdc.tables WHERE pipeline = '{self.name}' AND state <> 'new')"
        )

    def asked(self, sql: str) -> int:
        """A number out of schema cdc; 0 before it is there, and while nobody can be asked."""
        try:
            self._line = self._line or self.place.target.connect()
            row = self._line.execute(sql.encode()).fetchone()
        except psycopg.OperationalError:
            self._hang_up()
            return 0
        except psycopg.Error:
            return 0
        return int(row[0] or 0) if row else 0

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

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
    if not found and re.search(r'"component": "cli".*"event": "internal"', process.output()):
        return "internal"  # a defect is logged, without its text, and not printed
    return found[-1] if found else f"exit {process.process.returncode}"


def until(condition: Callable[[], T], patience: Patience, what: str) -> T:
    """Ask until the answer is true; a Violation when it never is."""
    while not (found := condition()):
        if patience.over():
            raise Violation(f"{what} did not come true within {patience}")
        time.sleep(0.03)
    return found
