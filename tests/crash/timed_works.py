"""The processes of a pipeline in the lane of time: their durations are set, each has a clock of its own, commands run beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cdc.runtime import clock, timing
from tests.crash.arena import Place
from tests.crash.timeplan import TimePlan
from tests.crash.works import Violation, Works
from tests.helpers.pipelines import Running
from tests.helpers.preloaded import Nursery

_STUCK = 8
"""So often a process may end in a row without any progress."""


class TimedWorks(Works):
    """Processes whose durations and clocks are drawn."""

    def __init__(self, place: Place, drawn: TimePlan, folder: Path) -> None:
        self._drawn = drawn
        self._last, self._times = ("", 0), 0
        environ = {timing.ENVIRONMENT: json.dumps(dict(drawn.timing))}
        sections = {**drawn.sections, "source": {**drawn.sections["source"], "exclude": []}}
        self.own = Nursery(environ)
        super().__init__(place, drawn.way, folder, drawn.through, environ, sections, self.own)

    def start(self, command: str, crash_at: str = "") -> Running:
        """As any other, by a clock of its own."""
        role = "capture" if command in ("run", "capture", "snapshot") else "apply"
        for one in (self.pipeline, self.alone):
            one.environ[clock.VARIABLE] = self._drawn.clocks.get(role, "")
        return super().start(command, crash_at)

    def note(self, command: str) -> None:
        """As any other; who ends by the same reason again and again, while no cut comes, will go on like that."""
        before = len(self.ended)
        super().note(command)
        if len(self.ended) == before:
            return
        now = (self.ended[-1], self.cut_no())
        self._times = self._times + 1 if now == self._last else 1
        self._last = now
        if self._times >= _STUCK:
            raise Violation(
                f"I7: {self._times} times in a row, and no cut between: {self.ended[-1]}; ended: {self.ended[:-_STUCK]}\n{self.said()}"
            )

    def beside(self, *words: str) -> Running:
        """Start a command that is none of the pipeline's own processes."""
        self.pipeline.environ[clock.VARIABLE] = ""
        return self.pipeline.start(*words, nursery=self._nursery)

    def copy(self, table: str, *options: str) -> None:
        """Ask for a copy and wait for nothing."""
        process = self.beside("--json", "copy", f"{self.name}.{table}", "--no-wait", *options)
        self._ended(process, self.patience(30))
        if request := re.search(r'"request": "([^"]+)"', process.output()):
            self.copies.append(request.group(1))

    def end(self) -> None:
        super().end()
        self.own.close()
