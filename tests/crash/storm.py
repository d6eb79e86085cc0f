"""A run whose faults follow from its seed: the plan is drawn first, then done, then judged."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.crash import harm
from tests.crash.arena import Arena
from tests.crash.lane import Case, Run, beginning, ending
from tests.crash.plan import plan
from tests.crash.points import die_at


def storm(arena: Arena, case: Case, folder: Path) -> Run:
    """The faults of the seed, beside work; then rest, and the judgement."""
    drawn = plan(case.seed, case.transport, case.way())
    skew = harm.skewed(drawn.skew_seconds) if case.transport == "direct" else {}  # librdkafka's waits do not survive libfaketime
    with (
        arena.place(case.flavour, case.transport, tls=drawn.tls) as place,
        beginning(place, case, folder, drawn.habits, skew) as run,
    ):
        run.faults += [
            f"{case.way()} through {case.through()}",
            *(["tls"] if drawn.tls else []),
            *([f"clock {drawn.skew_seconds:+d}s"] if skew else []),
            *(["xa"] if drawn.habits.xa else []),
            *(["wounds"] if drawn.habits.wounds else []),
        ]
        if drawn.crash_in_load and case.through() == "target":
            died = die_at(run.works, run.work, drawn.crash_in_load, 1)
            run.faults.append(f"{drawn.crash_in_load}:1" if died else f"{drawn.crash_in_load}:1 not come by")
        run.works.load()
        run.works.start_all()
        if drawn.habits.wounds:
            run.works.await_whole()
            run.work.wounding = True
        elif Random(f"begun {case.seed}").random() < 0.8:
            run.works.await_cut()
        for fault in drawn.faults:
            if drawn.large:
                run.work.grow()
            harm.do(run, fault)
        ending(run)
        return run
