"""One key whose row the target refuses: what happens to it waits in order, while sink, replay and operator work beside one another.

The changes of the key are numbered; some do not fit until the target's definition is mended. The sink knows from memory whether the key
is held, and hears by a counter, under the lock that every writer takes, that somebody released keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol_model.explore import Outcome, Rules, explore
from tests.protocol_model.scenario import Kind, Scenario, Violation
from tests.protocol_model.wrong import Wrong

FITS = (True, False, True, False, True)
"""Of each change: whether the target takes it as it is defined at first."""


class Sink(NamedTuple):
    """What the process has in memory."""

    held: bool
    releases: int


class World(NamedTuple):
    """The target (how far it is, the row, what waits, the counter), its definition, and the processes."""

    done: int
    row: int
    queue: tuple[int, ...]
    releases: int
    mended: bool
    sink: Sink
    reading: tuple[int, ...] | None
    """What a replay has read (without the lock only)."""
    half: int
    """A change that was queued apart from the position (a wrong variant only)."""
    replays: int
    crashes: int


Next = tuple[tuple[object, ...], bool, World]


def run(scenario: Scenario, limit: int) -> Outcome:
    """Enumerate: a mend, one replay that finds everything fit and others before it, crashes of the sink."""
    rules = Rules[World](lambda w: steps(scenario, w), consistent, complete)
    return explore(rules, World(0, 0, (), 0, False, Sink(False, 0), None, 0, 2, scenario.faults.sink_crash), limit)


def steps(scenario: Scenario, world: World) -> Iterator[Next]:
    if world.done < len(FITS):
        yield from apply(scenario, world)
    if not world.mended:
        yield ("the definition is mended",), True, world._replace(mended=True)
    yield from replay(scenario, world)
    if world.crashes:
        held = bool(world.queue) and scenario.wrong is not Wrong.QUARANTINE_FORGOTTEN
        after = world._replace(sink=Sink(held, world.releases), half=0, crashes=world.crashes - 1)
        yield ("sink CRASHES, reads what is held:", held), False, after


def apply(scenario: Scenario, world: World) -> Iterator[Next]:
    """One change, in the transaction of its batch: row or queue, and position."""
    number, wrong = world.done + 1, scenario.wrong
    sink = world.sink
    if sink.held and sink.releases != world.releases and wrong is not Wrong.QUARANTINE_STALE:
        sink = Sink(bool(world.queue), world.releases)
    fits = FITS[number - 1] or world.mended
    if (sink.held and not (fits and wrong is Wrong.QUARANTINE_PASSED)) or not fits:
        queue = world.queue if world.half == number else (*world.queue, number)
        sink = Sink(True, world.releases)
        if wrong is Wrong.QUARANTINE_APART and world.half != number:
            yield ("queues", number), True, world._replace(queue=queue, half=number, sink=sink)
        else:
            yield ("queues", number, "and commits"), True, world._replace(queue=queue, half=0, done=number, sink=sink)
    else:
        yield ("writes", number), True, world._replace(row=number, done=number, sink=sink)


def replay(scenario: Scenario, world: World) -> Iterator[Next]:
    """The last queued change is what applying all of them leaves. It may be tried before the mend, and refused; afterwards it helps."""
    if world.reading is not None:
        yield ("replay writes",), True, released(world, world.reading)._replace(reading=None)
    elif world.queue and world.replays and (world.replays > 1 or world.mended):
        live = world.mended
        after = world._replace(replays=world.replays - 1)
        if not (FITS[world.queue[-1] - 1] or world.mended):
            yield ("replay is refused",), live, after
        elif scenario.wrong is Wrong.QUARANTINE_UNLOCKED:
            yield ("replay reads",), live, after._replace(reading=world.queue)
        else:
            yield ("replay writes",), live, released(after, world.queue)


def released(world: World, queue: tuple[int, ...]) -> World:
    return world._replace(row=queue[-1], queue=(), releases=world.releases + 1)


def consistent(world: World) -> Violation | None:
    """The row is that of a commit, and everything later waits, each once and in order."""
    waiting = tuple(range(world.row + 1, world.done + 1))
    if world.queue != waiting and world.half == 0:
        return Violation(Kind.INCONSISTENT, f"the row is {world.row}, {world.queue} wait, {world.done} are done")
    return None


def complete(world: World) -> Violation | None:
    return Violation(Kind.STUCK, f"{world.queue} wait although the key was released") if world.queue or world.row < len(FITS) else None
