"""Several sinks that share a pipeline's partitions: the points that they come by, and everything that is done to pipelines of one sink.

And one thing more: members die one after the other, or all at once, while tables are copied and capture begins anew, so that the
ones that are left meet with those that come, ahead of them or behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.crash import kills, losses, zombies
from tests.crash.arena import BROKER, FLAVOURS, TARGET, Arena
from tests.crash.lane import Case, Run, beginning, ending, on_a_broker
from tests.crash.points import ORDINALS, SHARD, members_come_by, of_group
from tests.crash.workload import PLAIN, TABLES
from tests.crash.works import GROUP

MEMBER = "member"
"""The victim's name in a case."""
SEEDS = 20
_ROUND, _ZOMBIES, _LOSSES = 6, 4, 5


def cases() -> Iterator[Case]:
    """The long lane's share: every point that members come by, seeds, members that die, zombies, lost records, killed servers."""
    for ordinal in ORDINALS:
        for flavour in FLAVOURS:
            yield Case(ordinal, flavour, "kafka", tuple((name, ordinal) for name in of_group(SHARD, "kafka")))
            yield Case(ordinal, flavour, "kafka", tuple((name, ordinal) for name in members_come_by(own=False)), chosen=GROUP)
    for seed in range(1, SEEDS + 1):
        yield Case(seed, FLAVOURS[seed % len(FLAVOURS)], "kafka", chosen=GROUP)
    yield from on_a_broker(MEMBER, _ROUND, chosen=GROUP)
    yield from on_a_broker(zombies.ZOMBIE, _ZOMBIES, 4, chosen=GROUP)
    yield from on_a_broker(losses.LOG, _LOSSES, 4, chosen=GROUP)
    for victim in (TARGET, BROKER):
        yield from on_a_broker(victim, kills.ROUND, 2, chosen=GROUP)


def members(arena: Arena, case: Case, folder: Path) -> Run:
    """Copies are asked for, capture begins anew, members die; the pipeline goes on before the next time."""
    rng = Random(f"members {case.seed}")
    with arena.place(case.flavour, case.transport) as place, beginning(place, case, folder, PLAIN) as run:
        run.works.load()
        run.works.await_cut()
        for _ in range(case.times):
            before = run.works.cut_no()
            run.faults.append(_once(run, rng))
            run.works.await_cut(before)
        ending(run)
        return run


def _once(run: Run, rng: Random) -> str:
    works, done = run.works, []
    if rng.random() < 0.7:
        table, swap = rng.choice(TABLES), rng.random() < 0.3
        works.copy(table, *(["--swap"] if swap else []))
        done.append(f"copy {table}{' beside' if swap else ''}")
    if rng.random() < 0.4:
        works.kill("capture")
        works.start("capture", rng.choice(("", "capture.based:1", "capture.cut:3", "capture.copy_announced:1", "capture.table_copied:1")))
        done.append("capture")
    for command in rng.sample(works.sinks, rng.choice((0, 1, 1, 2))):
        works.kill(command)
        point = rng.choice(("", f"{rng.choice(members_come_by())}:{rng.randint(1, 3)}"))
        works.start(command, point)
        done.append(f"{command} {point}".strip())
    return ", ".join(done) or "nothing"
