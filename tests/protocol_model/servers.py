"""The servers around the product: the source that commits, the broker that may lose a tail, PostgreSQL that may lose a commit."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol_model.scenario import Scenario
from tests.protocol_model.world import PARTITIONS, Capture, Named, State, Step, World, put


def steps(scenario: Scenario, world: World) -> Iterator[Step]:
    """What the servers may do by themselves."""
    if scenario.selects:
        yield from source(scenario, world)
    if world.faults.loss:
        yield from lose_record(world)
    if world.faults.control_loss and world.control:
        faults = world.faults._replace(control_loss=world.faults.control_loss - 1)
        yield Step(("BROKER loses", world.control[-1]), False, world._replace(control=world.control[:-1], faults=faults))
    if world.faults.rewind and world.before is not None:
        yield rewind(world)


def source(scenario: Scenario, world: World) -> Iterator[Step]:
    """A commit is in the log first, then visible to SELECT, then reported as executed."""
    if world.executed < world.visible:
        yield Step(("source: executed", world.executed + 1), True, world._replace(executed=world.executed + 1))
    elif world.visible < world.written:
        yield Step(("source: visible", world.visible + 1), True, world._replace(visible=world.visible + 1))
    elif world.written < scenario.end:
        yield Step(("source: written", world.written + 1), True, world._replace(written=world.written + 1))


def lose_record(world: World) -> Iterator[Step]:
    """The broker loses the last acknowledged record of a partition, and nobody is told."""
    faults = world.faults._replace(loss=world.faults.loss - 1)
    for p in PARTITIONS:
        if world.partitions[p]:
            partitions = put(world.partitions, p, world.partitions[p][:-1])
            yield Step(("BROKER loses the last record of partition", p), False, world._replace(partitions=partitions, faults=faults))


def rewind(world: World) -> Step:
    """PostgreSQL crashes, its last commit is lost, and every connection with it."""
    assert world.before is not None
    faults = world.faults._replace(rewind=world.faults.rewind - 1)
    sinks = tuple(sink._replace(open=None) for sink in world.sinks)
    return Step(("POSTGRES loses its last commit",), False, world._replace(target=world.before, before=None, sinks=sinks, faults=faults))


def holds(world: World, named: tuple[Named, Named]) -> bool:
    """The partitions still hold the records that a cut names (a broker loses tails only, so all before them too)."""
    return all(holds_record(world, p, named[p]) for p in PARTITIONS)


def holds_record(world: World, p: int, named: Named) -> bool:
    records = world.partitions[p]
    if named.offset < 0:
        return True
    return named.offset < len(records) and records[named.offset][:2] == named[1:]


def accepts(world: World, capture: Capture, p: int) -> bool:
    """An idempotent producer is refused once a record that it wrote to this partition is gone."""
    return capture.named[p].epoch != capture.epoch or holds_record(world, p, capture.named[p])


def is_running(capture: Capture) -> bool:
    return capture.state is State.LIVE or capture.state is State.STARTING
