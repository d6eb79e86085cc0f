"""The direct transport: log, numbers and cuts live in one process and die with it; the only memory is the position in the target.

The topic holds only what the sink has not applied; an oversized transaction is released piece by piece while its target transaction
is open, so whatever undoes that transaction must send the reader back to the stored position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol_model.explore import Outcome, Rules, explore
from tests.protocol_model.scenario import Kind, Operation, Scenario, Violation, after
from tests.protocol_model.world import Faults, State, TableA
from tests.protocol_model.wrong import Wrong

MEMORY = 2
"""Operations that the topic holds."""


class Held(NamedTuple):
    """One operation in the topic or in the open target transaction; `last` ends its source transaction."""

    position: int
    operation: Operation
    last: bool


class Process(NamedTuple):
    """Capture, topic and sink of one process."""

    state: State
    fence: int
    position: int
    piece: int = 0
    topic: tuple[Held, ...] = ()
    open: tuple[Held, ...] = ()


class Target(NamedTuple):
    """PostgreSQL: fence, position, rows."""

    fence: int
    position: int
    a: TableA
    b: int


class World(NamedTuple):
    """Everything; the source's log is written ahead."""

    target: Target
    before: Target | None
    processes: tuple[Process, ...]
    faults: Faults


Next = tuple[tuple[object, ...], bool, World]


def run(scenario: Scenario, limit: int) -> Outcome:
    """Enumerate the scenario over the direct transport."""
    rules = Rules[World](lambda w: steps(scenario, w), lambda w: consistent(scenario, w), lambda w: complete(scenario, w))
    return explore(rules, World(Target(0, 0, *scenario.before), None, (), scenario.faults), limit)


def steps(scenario: Scenario, world: World) -> Iterator[Next]:
    if not any(process.state is State.LIVE for process in world.processes):
        yield start(scenario, world)
    for index, process in enumerate(world.processes):
        for what, live, changed in work(scenario, world, index):
            yield (process.state.value, process.fence, *what), live and process.state is State.LIVE, changed
    if world.faults.rewind and world.before is not None:
        faults = world.faults._replace(rewind=world.faults.rewind - 1)
        processes = tuple(disconnected(scenario, world.before, process) for process in world.processes)
        yield ("POSTGRES loses its last commit",), False, World(world.before, None, processes, faults)


def start(scenario: Scenario, world: World) -> Next:
    """Raise the fence, which ends the open transaction of whoever held it, and read from the stored position on."""
    target = world.target._replace(fence=world.target.fence + 1)
    position = scenario.end if scenario.wrong is Wrong.DIRECT_START_AT_NOW else target.position
    others = tuple(process if scenario.wrong is Wrong.DIRECT_NO_FENCE else process._replace(open=()) for process in world.processes)
    return ("starts",), True, world._replace(target=target, processes=(*others, Process(State.LIVE, target.fence, position)))


def work(scenario: Scenario, world: World, index: int) -> Iterator[Next]:
    process = world.processes[index]
    if process.fence != world.target.fence and scenario.wrong is not Wrong.DIRECT_NO_FENCE:
        yield ("is fenced, exits",), True, put(world, index, None)
        return
    if process.position < scenario.end and len(process.topic) < MEMORY:
        yield ("reads", process.position + 1), True, put(world, index, read(scenario, process))
    if process.topic:
        released = process._replace(topic=process.topic[1:], open=(*process.open, process.topic[0]))
        yield ("applies", process.topic[0]), True, put(world, index, released)
    if process.open and (process.open[-1].last or scenario.wrong is Wrong.DIRECT_COMMIT_MID_TRANSACTION):
        yield from commit(scenario, world, index)
    if process.state is State.LIVE:
        yield from faults(scenario, world, index)


def read(scenario: Scenario, process: Process) -> Process:
    """One operation more in the topic."""
    transaction = scenario.transactions[process.position]
    last = process.piece + 1 == len(transaction)
    held = Held(process.position + 1, transaction[process.piece], last)
    position, piece = (process.position + 1, 0) if last else (process.position, process.piece + 1)
    return process._replace(position=position, piece=piece, topic=(*process.topic, held))


def commit(scenario: Scenario, world: World, index: int) -> Iterator[Next]:
    """Rows and position in one transaction; after a lost reply only the stored position says whether it happened."""
    process = world.processes[index]
    last = process.open[-1]
    a, b = after((world.target.a, world.target.b), tuple(held.operation for held in process.open))
    target = world.target._replace(a=a, b=b, position=last.position if last.last else last.position - 1)
    done = world._replace(target=target, before=world.target if world.faults.rewind else None)
    yield ("commits up to", target.position), True, put(done, index, process._replace(open=()))
    if world.faults.lost_reply:
        faults = world.faults._replace(lost_reply=world.faults.lost_reply - 1)
        unsure = process if scenario.wrong is Wrong.DIRECT_COMMIT_REPEATED else disconnected(scenario, target, process)
        yield ("commits up to", target.position, "without a reply"), False, put(done, index, unsure)._replace(faults=faults)


def disconnected(scenario: Scenario, target: Target, process: Process) -> Process:
    """The open transaction is undone; its pieces are no longer in the topic, so the reader goes back to the stored position."""
    if scenario.wrong is Wrong.DIRECT_MEMORY_KEPT:
        return process._replace(open=())
    if scenario.wrong is Wrong.DIRECT_READS_ON:
        return process._replace(open=(), topic=())
    return process._replace(open=(), topic=(), position=target.position, piece=0)


def faults(scenario: Scenario, world: World, index: int) -> Iterator[Next]:
    left, process = world.faults, world.processes[index]
    if left.crash:
        yield ("CRASHES",), False, put(world, index, None)._replace(faults=left._replace(crash=left.crash - 1))
    if left.zombie:
        zombie = put(world, index, process._replace(state=State.ZOMBIE))
        yield ("becomes a ZOMBIE",), False, zombie._replace(faults=left._replace(zombie=left.zombie - 1))
    if left.disconnect:
        broken = put(world, index, disconnected(scenario, world.target, process))
        yield ("loses its connection",), False, broken._replace(faults=left._replace(disconnect=left.disconnect - 1))


def put(world: World, index: int, process: Process | None) -> World:
    kept = () if process is None else (process,)
    return world._replace(processes=world.processes[:index] + kept + world.processes[index + 1 :])


def consistent(scenario: Scenario, world: World) -> Violation | None:
    """Promise 2."""
    target = world.target
    if (target.a, target.b) != scenario.tables[target.position]:
        return Violation(
            Kind.INCONSISTENT, f"{(target.a, target.b)}, the source at {target.position} has {scenario.tables[target.position]}"
        )
    return None


def complete(scenario: Scenario, world: World) -> Violation | None:
    """Promise 1; every state is checked for being consistent, so it is enough to have come to the end."""
    return None if world.target.position == scenario.end else Violation(Kind.STUCK, f"at {world.target.position} of {scenario.end}")
