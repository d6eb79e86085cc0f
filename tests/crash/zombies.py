"""Processes that are stopped where it is worst, replaced, and woken; a stop at random rarely finds the moment.

A sink is stopped between the check of its fence and its commit: a lock on a table that it writes holds it there; of a group all
members are. A member stops itself with a batch in hand, and another one takes its shard meanwhile. Capture is stopped, and its successor
dies before its base: the next cut in the topic is a dead epoch's.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from subprocess import TimeoutExpired

from tests.crash.arena import Arena
from tests.crash.lane import Case, Run, beginning, ending, on_a_broker
from tests.crash.works import GROUP, until
from tests.helpers.pipelines import Running

ZOMBIE = "zombie"
_ROUND = 4
_AWAKE_SECONDS = 0.5
_HANDS_FULL = ("apply.taken", "apply.taken", "apply.released")
"""Between two transactions, where only the fence of the next one is left: within one the lock on a table holds it."""
_HELD = """SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name LIKE '% apply'"""


def cases() -> Iterator[Case]:
    """The long lane's share."""
    yield from on_a_broker(ZOMBIE, _ROUND)


def zombies(arena: Arena, case: Case, folder: Path) -> Run:
    """Sink and capture in turn; the pipeline goes on before the next."""
    rng = Random(f"zombies {case.seed}")
    with arena.place(case.flavour, case.transport) as place, beginning(place, case, folder) as run:
        run.works.load()
        run.works.await_cut()
        for number in range(case.times):
            before = run.works.cut_no()
            if run.works.way == GROUP:
                run.works.bury()  # those that woke up end here, not by themselves, and would share what there is
            kinds = (_with_a_batch, _sink, _capture) if run.works.way == GROUP else (_sink, _capture)
            kinds[number % len(kinds)](run, rng)
            run.works.await_cut(before)
        ending(run)
        return run


def _sink(run: Run, rng: Random) -> None:
    works, commands = run.works, run.works.sinks
    works.start_all()
    with works.place.target.connect("postgres") as line:
        with line.transaction():
            line.execute(f'LOCK TABLE "{works.name}".{rng.choice(("account", "trail", "counter"))} IN EXCLUSIVE MODE'.encode())
            until(lambda: line.execute(_HELD).fetchone() != (0,), works.patience(60), "a sink that waits for a table")
            sleepers = [works.put_to_sleep(command) for command in commands]
            others = [works.start(command) for command in commands]
            if works.way == GROUP:
                until(lambda: all(map(works.works_on_a_shard, others)), works.patience(60), "others that have the shards")
            with suppress(TimeoutExpired):  # so long it may take over and come to the same table
                others[0].process.wait(1 + 2 * rng.random())
    for sleeper in sleepers:
        _woken(run, sleeper)
    run.faults.append("sink")


def _with_a_batch(run: Run, rng: Random) -> None:
    """A member stops itself, and sleeps until another one has its shard and has gone on."""
    works, command = run.works, rng.choice(run.works.sinks)
    works.kill(command)
    works.start_all(command)
    sleeper = works.start(command, f"{rng.choice(_HANDS_FULL)}:{rng.randint(1, 5)}:stop")
    until(lambda: sleeper.stopped, works.patience(60), "a member that stops itself")
    works.put_to_sleep(command)
    works.start(command)
    until(lambda: not works.works_on_a_shard(sleeper), works.patience(60), "others that have its shard")
    works.await_cut(works.cut_no() + 3)
    _woken(run, sleeper)
    run.faults.append(command)


def _capture(run: Run, rng: Random) -> None:
    works, command = run.works, run.works.of("capture")
    works.start_all()
    sleeper = works.put_to_sleep(command)
    works.start(command, rng.choice(("capture.started:1", "capture.prepared:1")))
    works.dies(command)
    _woken(run, sleeper)
    sleeper.kill()
    run.faults.append("capture")


def _woken(run: Run, sleeper: Running) -> None:
    """It goes on for a moment, or ends by what it finds."""
    sleeper.process.send_signal(signal.SIGCONT)
    with suppress(TimeoutExpired):
        sleeper.process.wait(_AWAKE_SECONDS)
