"""One thread, many tasks: who runs next, when time moves, and who dies; all of it follows from one seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from greenlet import GreenletExit, getcurrent, greenlet

FOREVER = float("inf")


class Killed(GreenletExit):
    """The process that this ran in is no more."""


class Stuck(Exception):
    """Nothing can happen any more although somebody waits."""


@dataclass(eq=False)
class Task:
    """Work that runs until it waits."""

    name: str
    process: Any
    wake: float = 0.0
    key: Hashable = None
    """What it waits for, beside time."""
    line: greenlet = field(default=None)  # type: ignore[assignment]


class Scheduler:
    """Runs tasks one at a time, each until it waits or until chance says so."""

    current: ClassVar[Scheduler]
    """The one of the simulation that runs."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        """Seconds since the simulation began."""
        self.steps = 0
        self.lazy_until = 0.0
        """Until then nobody does anything: what polls may sleep longer than it asked to."""
        self.switching = 0.1
        """How likely another task goes on at a step."""
        self.at_step: Callable[[Task], None] = lambda task: None
        self._tasks: list[Task] = []
        self._main = getcurrent()

    @property
    def task(self) -> Task | None:
        """The one that runs."""
        line = getcurrent()
        return next((task for task in self._tasks if task.line is line), None)

    def spawn(self, name: str, work: Callable[[], None], process: Any = None) -> Task:
        """Start a task; it runs when it is its turn."""
        task = Task(name, process, self.now)
        task.line = greenlet(work, self._main)
        self._tasks.append(task)
        return task

    def run(self, until: Callable[[], bool]) -> None:
        """Let tasks run until something is so."""
        while not until():
            ready = [task for task in self._tasks if task.wake <= self.now]
            if not ready:
                self.now = min((task.wake for task in self._tasks), default=FOREVER)
                if self.now == FOREVER:
                    raise Stuck("nobody ever wakes up")
                continue
            task = ready[0] if len(ready) == 1 else self.random.choice(ready)
            task.key, task.wake = None, self.now
            self.steps += 1
            task.line.switch()
            if task.line.dead and task in self._tasks:
                self._tasks.remove(task)

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, or longer."""
        self.wait(None, seconds)

    def wait(self, key: Hashable, seconds: float) -> None:
        """Wait until somebody notifies the key; for so many seconds at the most, or longer where nobody does anything."""
        task = self.task
        if task is None:  # not within the simulation: before it starts, and when it is over
            return
        if self.now < self.lazy_until:
            seconds = max(seconds, (self.lazy_until - self.now) * self.random.uniform(0.05, 0.5))
        task.wake, task.key = self.now + max(seconds, 1e-6), key
        self._main.switch()

    def take(self, seconds: float) -> None:
        """Let so much time pass, whatever others do: what is done takes that long."""
        task = self.task
        if task is not None:
            task.wake, task.key = self.now + seconds, None
            self._main.switch()

    def notify(self, key: Hashable) -> None:
        """Wake up whoever waits for the key."""
        for task in self._tasks:
            if task.key == key and task.key is not None:
                task.wake = self.now

    def step(self) -> None:
        """A moment at which others may go on, and at which a process may die."""
        task = self.task
        if task is None:
            return
        self.at_step(task)
        if self.random.random() < self.switching:
            task.wake = self.now
            self._main.switch()

    def end(self, process: Any) -> None:
        """End all tasks of a process, wherever they are; what they do on their way out reaches nobody."""
        for task in [task for task in self._tasks if task.process is process]:
            if task in self._tasks:
                self._tasks.remove(task)
            if task.line is getcurrent():
                continue  # it raises Killed itself
            if task.line.gr_frame is None:
                continue  # never begun
            task.line.throw(Killed)

    def over(self) -> None:
        """End everything."""
        for task in list(self._tasks):
            self.end(task.process)


class Condition:
    """`threading.Condition` for tasks: only one runs at a time, so there is nothing to lock."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *error: object) -> None:
        pass

    def wait(self, seconds: float | None = None) -> bool:
        """Until somebody notifies, or for so long."""
        Scheduler.current.wait(self, FOREVER if seconds is None else seconds)
        return True

    def notify_all(self) -> None:
        """Wake up whoever waits."""
        Scheduler.current.notify(self)
