"""How a process says in the target that it runs, and at its end why it ends: beside its work, which never waits for
that.

The session that says it is a thread's own. Where the target is away nothing is said, and what runs runs on.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import psycopg

from cdc.config.load import TargetConfig
from cdc.errors import CdcError
from cdc.postgres.connection import Connection, connect
from cdc.runtime import clock, logs, timing
from cdc.state import processes

Doing = Callable[[], Mapping[str, Any]]
ASKED = {"code": "", "place": "", "rule": "ended as it was asked to", "hint": ""}
"""What a process says that was told to stop."""


def nothing() -> Mapping[str, Any]:
    """What a process does of which nothing is known yet."""
    return {}


class Presence:
    """This process, as the target shows it, for as long as it is entered; the error that leaves it is why it ends."""

    def __init__(self, target: TargetConfig, pipeline: str, command: str) -> None:
        self._target, self._pipeline, self._command = target, pipeline, command
        self.doing: Doing = nothing
        """What is told of the work, asked each time."""
        self._number, self._began = random.randrange(1, 1 << 31), clock.monotonic()
        self._ends, self._ended = threading.Event(), dict[str, str]()
        self._line: Connection | None = None
        self._said: Mapping[str, Any] | None = None
        self._written, self._tried = 0.0, -math.inf
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def __enter__(self) -> Presence:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._ended = dict(ASKED) if error is None else logs.described(error)
        self._ends.set()
        self._thread.join(timing.TIMES.last_words_seconds)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._ends.is_set()
            if over or self._due():
                self._tried = clock.monotonic()
                had_line = self._line is not None
                if not self._told(over) and over and had_line:
                    self._told(over)  # the line was lost since the last turn: the last words go over a new one
            if not over:
                self._ends.wait(timing.TIMES.presence_look_seconds)
        self._close()

    def _due(self) -> bool:
        """Whether there is news, and somebody to tell; or it was silent for long enough."""
        news = self._line is not None and self.doing() != self._said
        return news or clock.monotonic() - self._tried >= timing.TIMES.presence_seconds

    def _told(self, over: bool) -> bool:
        """Tell; False where the target did not hear it, and is told at a later turn."""
        try:
            self._tell(over)
        except (CdcError, psycopg.Error):
            self._close()
            return False
        return True

    def _tell(self, over: bool) -> None:
        line = self._open()
        doing, now = self.doing(), clock.monotonic()
        due = doing != self._said or now - self._written > timing.TIMES.presence_write_seconds
        if (due or over) and processes.known(line):
            said = {
                "command": self._command,
                "owner": processes.myself(),
                "age": now - self._began,
                "doing": dict(doing),
            }
            processes.say(line, self._pipeline, self._number, said)
            self._said, self._written = doing, now
            if over:
                processes.end(line, self._pipeline, self._number, self._ended)
        else:
            line.execute("SELECT 1")  # a session that says nothing for long is taken for one that hangs

    def _open(self) -> Connection:
        if self._line is None:
            self._said = None
            self._line = connect(self._target, processes.application(self._pipeline, self._command), again=True)
            processes.hold(self._line, self._pipeline, self._number)
        return self._line

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None
