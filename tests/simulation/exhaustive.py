"""Short scripts of a pipeline's life, lived once for each step at which a process may die: nothing is left to chance.

python -m tests.simulation.exhaustive                      every script on every transport, a death at each step
python -m tests.simulation.exhaustive full_cut --pairs 40  two deaths: the second at each 40th step behind the first

It is the product's own code that runs, so that what is proven here is no definition of a second kind (tests/protocol_model
proves the protocol in every interleaving, of objects of its own). A script says what happens between two rests; the oracle judges
each commit.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest.mock import patch

from cdc.capture import capture
from cdc.runtime import timing
from sinks import apply
from tests.simulation.hand import Hand
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.scheduler import Task
from tests.simulation.source import DB, Change
from tests.simulation.target import DEFERRED_VALUE, REFUSED_VALUE
from tests.simulation.world import World

TRANSPORTS = ("direct", "kafka", "scaled")
Script = Callable[[Hand], None]
FULL_CUT_SECONDS = 5.0
_WHILE = FULL_CUT_SECONDS + 1


class Deaths:
    """Counts the steps of processes, and kills whoever takes one of these."""

    def __init__(self, at: tuple[int, ...]) -> None:
        self._at, self.steps = set(at), 0

    def __call__(self, task: Task) -> None:
        if task.process is not None:
            self.steps += 1
            if self.steps in self._at:
                task.process.kill()


def lived(script: Script, transport: str, at: tuple[int, ...] = (), pieces: int = 32 << 20) -> int:
    """Live it with deaths at these steps; how many there were before the end. Raises Violation."""
    world = World(1, "kafka" if transport == "scaled" else transport, 1, 2 if transport == "scaled" else 0)
    oracle, deaths = Oracle(world), Deaths(at)
    times = replace(timing.TIMES, full_cut_seconds=FULL_CUT_SECONDS)
    sizes = (patch.object(capture, "PARTIAL_BYTES", pieces), patch.object(apply, "BATCH_ROWS", 8), patch.object(timing, "TIMES", times))
    with sizes[0], sizes[1], sizes[2], world.lent():
        hand = Hand(world, oracle, 0.0, {"clocks": 0.0})
        hand.found()

        def live() -> None:
            for name in hand._works:
                hand._start(name)
            world.scheduler.at_step = deaths
            try:
                script(hand)
                world.scheduler.at_step = lambda task: None
                hand._rest()
            except Violation as violation:
                oracle.failed = oracle.failed or violation
            hand.done = True

        world.scheduler.spawn("hand", live)
        world.scheduler.run(lambda: hand.done or oracle.failed is not None)
    if world.defects:
        raise Violation(world.defects[0])
    if oracle.failed is not None:
        raise oracle.failed
    return deaths.steps


def _on(hand: Hand, seconds: float = 1.0) -> None:
    """Time passes, and who has ended is started again."""
    hand._pass(seconds)
    for name, process in list(hand.processes.items()):
        if process.ended:
            hand._start(name)


def _without_sink(hand: Hand, script: Callable[[], None]) -> None:
    """Its processes are away meanwhile."""
    sinks = [name for name in hand.processes if name != "capture"]
    for name in sinks:
        hand.processes[name].kill()
    script()
    for name in sinks:
        hand._start(name)
    _on(hand)


def full_cut(hand: Hand) -> None:
    """A table without a key changes, a full cut passes, another table changes: the sink takes all of it at once."""

    def meanwhile() -> None:
        hand.source.write([Change("k", None, (7, 1)), Change("k", None, (7, 1))])
        hand._pass(_WHILE)
        hand.source.write([Change("p", None, (700, 1))])
        hand._pass(_WHILE)
        hand.source.write([Change("m", None, (7, 2))])

    _without_sink(hand, meanwhile)
    hand.source.write([Change("k", (7, 1), None)])
    _on(hand)


def refused(hand: Hand) -> None:
    """A table comes whose place is taken; others go on; it is asked for again before and after its place is free."""
    hand._plant("s")
    hand.source.create("s", keyed=False)
    hand.source.write([Change("s", None, (1, 1)), Change("k", None, (7, 1))])
    _on(hand)
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.s"]})
    _on(hand)
    hand._do_mend()
    hand.source.write([Change("s", None, (2, 1))])
    _on(hand)


def left(hand: Hand) -> None:
    """A table leaves the selection, changes, and comes back."""
    for excluded in ([f"{DB}.k"], []):
        hand.world.excluded = excluded
        for process in hand.processes.values():
            process.stop.set()
        _on(hand)
        hand.source.write([Change("k", None, (7, 1)), Change("p", None, (700 + len(excluded), 1))])
        _on(hand)


def expired(hand: Hand) -> None:
    """Of a table whose last change was a delete the topic keeps nothing; and then it changes again."""
    hand.source.write([Change("p", None, (700, 1)), Change("p", (700, 1), None), Change("k", None, (7, 1))])
    _on(hand, _WHILE)
    if hand._caught_up() and hand.world.transport == "kafka":
        hand.world.postgres.keep_up()
        hand.world.brokers.retain(0.0)
    hand.source.write([Change("q", None, (800, 1))])
    _on(hand)
    hand.source.write([Change("p", None, (701, 1))])
    _on(hand)


def copies(hand: Hand) -> None:
    """A table is copied in its place, another one into a second table, and keys of a third, while all change."""
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.q"]})
    hand.source.write([Change("q", None, (800, 1)), Change("p", None, (700, 1))])
    _on(hand, 0.2)
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.p"], "swap": True})
    hand.source.write([Change("p", (700, 1), (700, 2)), Change("k", None, (7, 1))])
    _on(hand, 0.2)
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.p"], "keys": [["700"], ["701"]]})
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.k"]})
    hand.source.write([Change("p", None, (701, 1)), Change("k", (7, 1), (8, 1))])
    _on(hand)


def held(hand: Hand) -> None:
    """A key is refused, changes while it waits, and is copied anew; one is refused at the commit."""
    hand.source.write([Change("q", None, (800, REFUSED_VALUE)), Change("p", None, (700, 1))])
    _on(hand)
    hand.source.write([Change("q", (800, REFUSED_VALUE), (800, 5)), Change("p", (700, 1), (700, DEFERRED_VALUE))])
    _on(hand)
    hand._signal("execute-snapshot", {"data-collections": [f"{DB}.q"]})
    _on(hand)


def pieces(hand: Hand) -> None:
    """A transaction comes in pieces, and a key that the first one wrote well is refused in the last."""
    many = [Change("k", None, (at % 3, 1)) for at in range(12)]
    hand.source.write([Change("p", None, (700, 1)), *many, Change("p", (700, 1), (700, REFUSED_VALUE)), Change("q", None, (800, 1))])
    _on(hand)
    hand.source.write([Change("q", None, (801, 1)), *many, Change("q", (801, 1), (801, DEFERRED_VALUE))])
    _on(hand)


def failed_over(hand: Hand) -> None:
    """The target loses its last commits while the sink goes on."""
    for at in range(4):
        hand.source.write([Change("k", None, (7, 1)), Change("p", None, (700 + at, 1))])
        _on(hand, 0.2)
    hand.world.postgres.fail_over(3)
    _on(hand)


def odd_clock(hand: Hand) -> None:
    """A session claims another time."""
    for ts_us in (2_000_000_000_000_000, 1):
        hand.source.write([Change("p", None, (700 + ts_us % 7, 1))], ts_us=ts_us)
        _on(hand)


SCRIPTS: dict[str, tuple[Script, int]] = {
    one.__name__: (one, 300 if one is pieces else 32 << 20)
    for one in (full_cut, refused, left, expired, copies, held, pieces, failed_over, odd_clock)
}


def cases(name: str, transport: str, every: int, pairs: int) -> Iterator[tuple[int, ...]]:
    """Where processes die, case by case."""
    script, size = SCRIPTS[name]
    steps = lived(script, transport, (), size)
    for first in range(1, steps + 1, every):
        yield (first,)
        if pairs:
            yield from ((first, second) for second in range(first + 1, steps + pairs, pairs))


def main() -> int:
    """0 when every case held."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation.exhaustive", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.exhaustive")
    parser.add_argument("scripts", nargs="*", default=list(SCRIPTS))
    parser.add_argument("--transports", nargs="*", default=TRANSPORTS)
    parser.add_argument("--every", type=int, default=1, help="a death at each n-th step only")
    parser.add_argument("--pairs", type=int, default=0, help="and a second one at each n-th step behind it")
    parser.add_argument("--at", type=int, nargs="*", help="this case alone")
    asked = parser.parse_args()
    broken = 0
    for name in asked.scripts:
        for transport in asked.transports:
            began, count = time.monotonic(), 0
            for at in [tuple(asked.at)] if asked.at else cases(name, transport, asked.every, asked.pairs):
                count += 1
                try:
                    lived(SCRIPTS[name][0], transport, at, SCRIPTS[name][1])
                except Violation as violation:
                    broken += 1
                    sys.stdout.write(f"{name} {transport} --at {' '.join(map(str, at))}: {str(violation)[:300]}\n")
            sys.stdout.write(f"{name} {transport}: {count} cases in {time.monotonic() - began:.1f} s\n")
            sys.stdout.flush()
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
