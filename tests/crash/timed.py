"""The lane of time: pipelines whose every duration is drawn, whose topics forget within seconds, and whom the clock, the operator and
the tables surprise (docs/decisions/042-lane-of-time.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random

from tests.crash import chores, oracle, workload
from tests.crash.arena import COMBINATIONS, Arena, Place
from tests.crash.chores import Timed
from tests.crash.comers import FOREIGN_ROWS, STILL, Comers, foreign_rows
from tests.crash.counting import Counting
from tests.crash.lane import Case, reader
from tests.crash.sightings import Sightings
from tests.crash.timed_works import TimedWorks
from tests.crash.timeplan import TIME, TimePlan, plan
from tests.crash.truth import Truth
from tests.crash.workload import Workload
from tests.crash.works import DIRECT, Violation

PATIENCE_SECONDS = 45.0
"""So long nothing may move once everything runs; fair time."""
CASES = 40
"""So many seeds are the long lane's share."""
_STANDSTILL_SECONDS = 3.0
_STOPS_FOR_LOST_TOPICS = frozenset({"hole", "records_missing", "records_lost", "offset_gone", "base_beyond", "no_cut", "partitions_changed",
                                    "control_lost", "broker_error", "topic_lost", "topic_gone"})  # fmt: skip
"""What may be said when somebody has deleted a topic."""


def cases() -> Iterator[Case]:
    """The long lane's share: seeds, on a broker two times out of three."""
    return (case_of(seed) for seed in range(1, CASES + 1))


def case_of(seed: int) -> Case:
    """The case of a seed."""
    pairs = [pair for pair in COMBINATIONS for _ in range(2 if pair[1] == "kafka" else 1)]
    return Case(seed, *Random(f"time combination {seed}").choice(pairs), chosen=TIME)


def timed(arena: Arena, case: Case, folder: Path, *, short: bool = False) -> Timed:
    """The acts of the seed, beside work; then rest, and the judgement."""
    drawn = plan(case.seed, case.transport, short=short)
    with arena.place(case.flavour, case.transport) as place, beginning(place, case, drawn, folder) as run:
        run.faults.append(f"{drawn.way} through {drawn.through}" + "".join(f", {role} {clock}" for role, clock in drawn.clocks.items()))
        run.works.load()
        run.works.start_all()
        run.works.await_cut()
        if drawn.habits.wounds:
            run.works.await_whole()
        for act in drawn.acts:
            chores.do(run, act)
        ending(run)
        return run


@contextmanager
def beginning(place: Place, case: Case, drawn: TimePlan, folder: Path) -> Iterator[Timed]:
    """Tables, writers, readers of the source, of the topics and of the target; nothing of the product runs yet."""
    workload.create(place.source)
    works = TimedWorks(place, drawn, folder)
    comers = Comers(place.source, place.target, case.seed, myisam=drawn.habits.myisam)
    comers.prepare()
    sightings = Sightings(place.source, lambda: ("ledger", "audit", *comers.judged()))
    counting = Counting(place.broker, drawn.topics) if place.broker else None
    truth = Truth(place.target, works.name, works.name, sightings, comers, counting, clocks=not drawn.clocks or drawn.way == DIRECT)
    try:
        with (
            sightings, counting or nullcontext(), Workload(place.source, case.seed, drawn.habits) as work, comers,
            reader(works) as poller, truth,
        ):  # fmt: skip
            yield Timed(works, work, poller, plan=drawn, comers=comers, truth=truth, sightings=sightings, counting=counting)
    finally:
        works.end()


def ending(run: Timed) -> None:
    """The acts are over: everything runs, the work comes to rest, and what is there is judged."""
    works, work = run.works, run.work
    if any(act.kind == "rest" for act in run.plan.acts):
        chores._ask(run, "snapshot", "--resume")
    works.start_all()
    work.close()
    run.comers.close()
    if run.anew and not _may_go_on(run):
        run.faults.append("stopped for the topic that was made anew")
        return _close(run)
    _arrives(run)
    _comers_arrive(run)
    if run.counting is not None:
        run.comers.empty_still()
        _arrives(run)
        chores.expire(run)
        _outlast(run)
    _stands_still(run)
    _arrives(run)
    _comers_arrive(run)
    _is_fresh(run)
    _counts_agree(run)
    _close(run)
    oracle.judge(works, work, [STILL, *run.comers.followed()])
    return None


def _close(run: Timed) -> None:
    looks = run.truth.looks
    while run.truth.looks <= looks + 1 and not run.truth.faults:
        time.sleep(0.02)
    run.poller.close()
    run.truth.close()
    run.watch()


def _arrives(run: Timed) -> None:
    """I7, after the rows that the target refused are mended."""
    if run.plan.habits.wounds and run.work.wounding:
        run.work.heal()
        oracle.arrived(run.works, run.work.last(), PATIENCE_SECONDS, ("consistent", "quarantined"))
        run.works.replay()
        run.work.wounding = False
    oracle.arrived(run.works, run.work.last(), PATIENCE_SECONDS)


def _may_go_on(run: Timed) -> bool:
    """Whether the pipeline goes on after a topic was made anew; else it stops for that, says so, and nothing false is shown."""
    try:
        oracle.arrived(run.works, run.work.last(), PATIENCE_SECONDS)
    except Violation:
        last = [ended.rpartition(" ")[2] for ended in run.works.ended[-3:]]
        if last and set(last) <= _STOPS_FOR_LOST_TOPICS:
            return False
        raise
    return True


def _outlast(run: Timed) -> None:
    """Nothing happens for longer than the topics keep their records."""
    if run.plan.outlasts and run.works.place.proxies:
        until = time.monotonic() + int(run.plan.topics["retention.ms"]) / 1000 + 2
        while time.monotonic() < until:
            run.works.start_all()
            time.sleep(0.2)
        run.faults.append("outlasted")


def _stands_still(run: Timed) -> None:
    """The sinks are away while something waits: the lag that is shown must grow (`Truth` looks at it)."""
    for command in run.works.sinks:
        run.works.kill(command)
    run.work.last()
    time.sleep(_STANDSTILL_SECONDS)
    run.watch()


def _comers_arrive(run: Timed) -> None:
    """Each table that came and is selected is consistent; one whose place is taken is refused, and what was there is there."""
    works, patience, before = run.works, run.works.patience(PATIENCE_SECONDS), -1
    while True:
        states = dict(works.place.target.execute(f"""SELECT "table", state FROM cdc.tables WHERE pipeline = '{works.name}'"""))
        missing = [name for name in (STILL, *run.comers.followed()) if states.get(name) != "consistent"]
        if not missing:
            break
        if (now := works.cut_no() if len(missing) == before else -1) < 0:
            before = len(missing)
            patience.renew()
        if patience.over():
            shown = {name: states.get(name) for name in missing}
            raise Violation(f"I7: {shown} for {patience} and {now} cuts; ended: {works.ended}\n{works.said()}")
        works.start_all()
        time.sleep(0.05)
    for comer in run.comers.tables.values():
        if comer.foreign and (found := foreign_rows(works.place.target, works.name, comer.name)) != FOREIGN_ROWS:
            raise Violation(f"I3: of {FOREIGN_ROWS} rows of somebody else in the place of {comer.name} {found} are left")
        if comer.foreign and comer.there and comer.selected and states.get(comer.name) not in ("refused", "stopped"):
            raise Violation(f"I8: {comer.name} is {states.get(comer.name)}, and somebody else's rows are in its place")


def _is_fresh(run: Timed) -> None:
    """At rest the lag that is shown falls to what a heartbeat and the sink's waits make of it, where clocks agree (guarantees.md, 5)."""
    if not run.truth.clocks:
        return
    most = 4.0 + run.plan.sections["apply"]["max_delay_seconds"]
    patience = run.works.patience(PATIENCE_SECONDS)
    asked = f"""SELECT (coalesce(max(seconds_behind), 1e6) < {most})::int FROM cdc.freshness
                 WHERE pipeline = '{run.works.name}' AND "table" = 'ledger'"""
    while not run.works.asked(asked):
        if patience.over():
            raise Violation(f"the lag does not fall below {most} s at rest\n{run.works.said()}")
        run.works.start_all()
        time.sleep(0.05)


def _counts_agree(run: Timed) -> None:
    """What is stored of each partition is what the last cut or base that names it says."""
    if run.counting is None:
        return
    patience, wrong = run.works.patience(PATIENCE_SECONDS), ["nobody looked"]
    while wrong:
        named, stored = run.counting.named(), run.truth.numbers
        wrong = [f"{p[0]}:{p[1]} {stored[p]} stored, {seq} named" for p, seq in named.items() if p in stored and stored[p] != seq]
        if wrong and patience.over():
            raise Violation(f"the numbers stored are not those of the last cuts: {wrong[:5]}\n{run.works.said()}")
        time.sleep(0.1)
