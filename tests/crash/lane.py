"""One run: a fresh pipeline beside its workload and its reader, faults, then rest, and the judgement."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash import oracle, workload
from tests.crash.arena import FLAVOURS, Arena, Place
from tests.crash.points import COPY, LOAD, SHARD, WAIT, WAYS, die_at, habits
from tests.crash.poller import Poller
from tests.crash.poller_of_shards import ShardsPoller
from tests.crash.workload import PLAIN, Habits, Workload
from tests.crash.works import DIRECT, GROUP, ONE, SPLIT, Violation, Works


@dataclass
class Run:
    """What stands ready for faults."""

    works: Works
    work: Workload
    poller: Poller
    faults: list[str] = field(default_factory=list)
    """What was done, for the ledger."""


@dataclass(frozen=True)
class Case:
    """Everything that a run is made from."""

    seed: int
    flavour: str
    transport: str
    points: tuple[tuple[str, int], ...] = ()
    """Crash points with their ordinals, one after the other."""
    victim: str = ""
    """A server that is killed in the midst of what it does; without points and victim, faults follow from the seed."""
    times: int = 0
    full: str = ""
    """A server whose disk becomes full."""
    chosen: str = ""
    """The way, where the seed is not to say it: GROUP is never drawn, so that a seed of any age stands for what it stood for. TIME is
    the lane of time, whose seeds stand for plans of their own."""

    def way(self) -> str:
        """In process, in one process over a broker, or split: the seed says which. Or by a group of sinks."""
        if self.transport == "direct":
            return DIRECT
        if self.chosen:
            return self.chosen
        if any(WAYS[name].group == SHARD for name, _ in self.points):
            return GROUP
        if any(WAYS[name].split for name, _ in self.points):
            return SPLIT
        return Random(f"way {self.seed}").choice((ONE, SPLIT, SPLIT))

    def through(self) -> str:
        if self.way() == GROUP:
            return "target"
        groups = {WAYS[name].group for name, _ in self.points}
        if groups:
            return "topics" if COPY in groups else "target"
        return "topics" if Random(f"through {self.seed}").random() < 0.25 else "target"

    def __str__(self) -> str:
        points = "".join(f" --point {name}:{ordinal}" for name, ordinal in self.points)
        kill = f" --kill {self.victim}:{self.times}" if self.victim else ""
        full = f" --full {self.full}" if self.full else ""
        way = f" --way {self.chosen}" if self.chosen else ""
        return f"python -m tests.crash --seed {self.seed} --source {self.flavour} --transport {self.transport}{way}{points}{kill}{full}"


def on_a_broker(victim: str, times: int, pipelines: int = 10, chosen: str = "") -> Iterator[Case]:
    """Pipelines over a broker to which the same is done again and again, on each source in turn."""
    for number in range(pipelines):
        yield Case(number + 1, FLAVOURS[number % len(FLAVOURS)], "kafka", victim=victim, times=times, chosen=chosen)


@contextmanager
def beginning(place: Place, case: Case, folder: Path, habits: Habits = PLAIN, environ: dict[str, str] | None = None) -> Iterator[Run]:
    """Tables, writers, a reader; nothing of the product runs yet."""
    workload.create(place.source)
    works = Works(place, case.way(), folder, case.through(), environ)
    try:
        with Workload(place.source, case.seed, habits) as work, reader(works) as poller:
            yield Run(works, work, poller)
    finally:
        works.end()


def reader(works: Works) -> Poller:
    """Who looks at the target all the while."""
    place = works.place
    if works.way == GROUP:
        return ShardsPoller(place.target, works.name, works.name, place.source, place.broker.prefix if place.broker else "")
    return Poller(place.target, works.name, works.name)


def ending(run: Run) -> None:
    """The faults are over: everything runs, the work comes to rest, and what is there is judged."""
    works, work, poller = run.works, run.work, run.poller
    if works.cut_no() == 0:
        works.load()
    works.start_all()
    work.close()
    if work.habits.wounds:
        work.heal()
        op = work.last()
        oracle.arrived(works, op, states=("consistent", "quarantined"))
        works.replay()
        oracle.arrived(works, op)
    else:
        oracle.arrived(works, work.last())
    looks = poller.whole
    while poller.whole <= looks + 1 and not poller.faults:
        time.sleep(0.02)
    poller.close()
    if poller.faults:
        raise Violation("\n".join([f"{len(poller.faults)} looks at the target saw what cannot be:", *poller.faults[:5], works.said()]))
    oracle.judge(works, work)


def crashes(arena: Arena, case: Case, folder: Path) -> Run:
    """Die at one point after the other; each must be come by."""
    groups = {WAYS[name].group for name, _ in case.points}
    with arena.place(case.flavour, case.transport) as place, beginning(place, case, folder, habits(groups)) as run:
        if not groups & {LOAD, COPY}:
            run.works.load()
        if WAIT in groups:
            run.works.await_whole()
            run.work.wounding = True
        for name, ordinal in case.points:
            if not any(die_at(run.works, run.work, name, ordinal) for _ in range(2)):
                raise Violation(f"no process came by {name} {ordinal} times\n{run.works.said()}")
            run.faults.append(f"{name}:{ordinal}")
        ending(run)
        return run
