"""A server is killed in the midst of what is relied on: PostgreSQL in a COMMIT, a broker in a produce, a source in a group commit.

A proxy reads what passes and knows the message that matters; the moment is drawn from the seed: before the server has it, while it
works on it, or when its answer is on the way back, which is then lost. Before a source is killed its writers line up, so that several
commits are under way.
"""

from __future__ import annotations

import re
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.crash.arena import BROKER, COMBINATIONS, SOURCE, TARGET, Arena
from tests.crash.lane import Case, Run, beginning, ending
from tests.crash.proxy import DOWN, UP, Line, Watcher
from tests.crash.workload import WRITERS, Habits
from tests.crash.works import Violation

TIMES, ROUND = 100, 10
"""How often each server is killed in the long lane, and how often in one pipeline."""
BEFORE, WITHIN, ANSWERED = "before", "within", "answered"
MOMENTS = (BEFORE, WITHIN, WITHIN, ANSWERED)
_PARSED = re.compile(rb"P....(cdc\d+)\0COMMIT\0", re.DOTALL)
_BOUND = re.compile(rb"B....\0(cdc\d+)\0", re.DOTALL)
_PRODUCE = 0


def cases() -> Iterator[Case]:
    """The long lane's share: each server on each pair where it is."""
    for victim in (TARGET, SOURCE, BROKER):
        pairs = [pair for pair in COMBINATIONS if victim != BROKER or pair[1] == "kafka"]
        for number in range(TIMES // ROUND):
            yield Case(number + 1, *pairs[number % len(pairs)], victim=victim, times=ROUND)


class Ambush(Watcher):
    """Waits for the message that matters, and kills the server at the moment that was drawn."""

    def __init__(self, server: Any, rng: Random) -> None:
        self.server, self._rng = server, rng
        self.sprung = threading.Event()
        self._lock = threading.Lock()
        self._moment = ""
        self._delay = 0.0

    def arm(self) -> str:
        """From now on; the moment that it will be."""
        self._delay = self._rng.choice((0, 0.0002, 0.001, 0.003)) * self._rng.random()
        self.sprung.clear()
        self._moment = moment = self._rng.choice(MOMENTS)
        return moment

    def before(self, line: Line, way: str, data: bytes) -> None:
        if way == DOWN:
            if line.kept.get("asked") and self._moment == ANSWERED and self.answers(data):
                self._spring(line)
            line.kept["asked"] = line.kept.get("asked", False) and not self.answers(data)
        elif self.matters(line, data):
            line.kept["asked"] = True
            if self._moment == BEFORE:
                self._spring(line)

    def after(self, line: Line, way: str, data: bytes) -> None:
        if way == UP and line.kept.get("asked") and self._moment == WITHIN:
            time.sleep(self._delay)
            self._spring(line)

    def matters(self, line: Line, data: bytes) -> bool:
        """Whether the message is among these bytes of a client."""
        return False

    def answers(self, data: bytes) -> bool:
        """Whether its answer is among these bytes of the server."""
        return False

    def _spring(self, line: Line | None) -> None:
        with self._lock:
            if not self._moment:
                return
            self._moment = ""
            self.server.kill()
            if line is not None:
                line.reset()
            self.sprung.set()


class Commits(Ambush):
    """COMMIT on its way to PostgreSQL: a statement that was prepared once under a name (protocol 3.0, Parse and Bind)."""

    def matters(self, line: Line, data: bytes) -> bool:
        names: set[bytes] = line.kept.setdefault("commits", set())
        names |= set(_PARSED.findall(data))
        return any(name in names for name in _BOUND.findall(data))

    def answers(self, data: bytes) -> bool:
        return b"COMMIT\0" in data


class Produces(Ambush):
    """A produce request on its way to a broker: frames of a length, the kind of request (0) and its version."""

    def matters(self, line: Line, data: bytes) -> bool:
        rest: bytearray = line.kept.setdefault("rest", bytearray())
        skip: int = line.kept.get("skip", 0)
        found, data = False, bytes(rest) + data
        while len(data) - skip >= 6:
            data = data[skip:]
            size, kind = struct.unpack_from(">ih", data)
            found, skip = found or kind == _PRODUCE, size + 4
        left = max(len(data) - skip, 0)
        line.kept["rest"], line.kept["skip"] = bytearray(data[len(data) - left :]), max(skip - len(data), 0)
        return found

    def answers(self, data: bytes) -> bool:
        return True  # whatever comes next on this connection


class GroupCommits(Ambush):
    """Commits of several writers on their way to the source, which is killed an instant after they were let go together."""

    def arm(self) -> str:
        super().arm()
        self._gate = threading.Barrier(WRITERS, action=self._release)
        return WITHIN

    def before_commit(self) -> None:
        """A writer's last step before its commit."""
        if self._moment and threading.current_thread().name.startswith("writer"):
            try:
                self._gate.wait(1.0)
            except threading.BrokenBarrierError:
                self._gate.reset()

    def _release(self) -> None:
        threading.Thread(target=self._strike, daemon=True).start()

    def _strike(self) -> None:
        time.sleep(self._delay)
        self._spring(None)


_AMBUSHES = {TARGET: Commits, BROKER: Produces, SOURCE: GroupCommits}


def kills(arena: Arena, case: Case, folder: Path) -> Run:
    """Kill one server again and again, each time in the midst; it comes back, and the pipeline goes on before the next time."""
    habits = Habits(myisam=case.victim != SOURCE)
    with arena.place(case.flavour, case.transport, tls=False) as place, beginning(place, case, folder, habits) as run:
        ambush = _AMBUSHES[case.victim](place.servers[case.victim], Random(f"kills {case.seed}"))
        if isinstance(ambush, GroupCommits):
            run.work.before_commit = ambush.before_commit
        place.proxies[case.victim].watcher = ambush  # from the first connection on: names are given once
        try:
            run.works.load()
            run.works.await_cut()
            for _ in range(case.times):
                _once(run, case.victim, ambush)
        finally:
            place.proxies[case.victim].watcher = Watcher()
        ending(run)
        return run


def _once(run: Run, victim: str, ambush: Ambush) -> None:
    before = run.works.cut_no()
    moment, patience = ambush.arm(), run.works.patience(60)
    while not ambush.sprung.wait(0.1):
        run.works.start_all()
        if patience.over():
            raise Violation(f"no message that matters passed within {patience}\n{run.works.said()}")
    if victim == SOURCE:
        run.works.place.source.close()
    run.works.place.servers[victim].start()
    run.faults.append(f"{victim} {moment}")
    run.works.await_cut(before)
