"""Several sinks at once: a member of a group for each partition, each partition exactly once by itself, barriers and bases together.

Each partition has its own progress and its own fence, raised when a member is assigned to it. Members walk the control topic by
themselves. At a barrier or a base a member waits until all partitions stand there; one of them then applies it for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol_model.explore import Outcome, Rules, explore
from tests.protocol_model.scenario import TRUNCATE, Kind, Scenario, Violation
from tests.protocol_model.world import PARTITIONS, Pair, TableA, put
from tests.protocol_model.wrong import Wrong


class Record(NamedTuple):
    """A numbered change of one key, which lies in the partition of that number."""

    epoch: int
    seq: int
    position: int
    value: int | None


class Entry(NamedTuple):
    """Of the control topic: base, cut or ddl."""

    kind: str
    epoch: int
    number: int
    position: int
    numbers: Pair
    ends: Pair = (0, 0)


class Stored(NamedTuple):
    """A partition's progress, which moves with its rows."""

    next: int = 0
    epoch: int = 0
    seq: int = 0
    offset: int = 0
    position: int = 0
    fence: int = 0


class Member(NamedTuple):
    """A process that works on one partition; `held` is what it has prepared to commit (without a fence only)."""

    partition: int
    fence: int
    held: tuple[Stored, int | None] | None = None


class World(NamedTuple):
    """Everything; `emptied` are the barriers applied (of wrong variants)."""

    control: tuple[Entry, ...]
    records: tuple[tuple[Record, ...], tuple[Record, ...]]
    stored: tuple[Stored, Stored]
    rows: TableA
    members: tuple[Member, ...]
    crashes: int
    assigned: int
    emptied: frozenset[int] = frozenset()


Next = tuple[tuple[object, ...], bool, World]


def run(scenario: Scenario, limit: int) -> Outcome:
    """Enumerate the scenario: crashes of capture, which may go back by a cut, and partitions that change their member."""
    rules = Rules[World](lambda w: steps(scenario, w), lambda w: consistent(scenario, w), lambda w: complete(scenario, w))
    base = Entry("base", 0, 0, 0, (0, 0))
    members = tuple(Member(p, 0) for p in PARTITIONS)
    world = World((base,), ((), ()), (Stored(), Stored()), scenario.before[0], members, scenario.faults.crash, scenario.faults.sink_zombie)
    return explore(rules, world, limit)


def steps(scenario: Scenario, world: World) -> Iterator[Next]:
    yield from capture(scenario, world)
    for index, member in enumerate(world.members):
        yield from work(scenario, world, index, member)
    if world.assigned:
        for p in PARTITIONS:
            fence = world.stored[p].fence + 1
            stored = put(world.stored, p, world.stored[p]._replace(fence=fence))
            after = world._replace(stored=stored, members=(*world.members, Member(p, fence)), assigned=world.assigned - 1)
            yield ("partition", p, "gets another member"), False, after


# -- capture, as simple as can be ----------------------------------------------------------------------------------------------


def capture(scenario: Scenario, world: World) -> Iterator[Next]:
    last = world.control[-1]
    if last.position < scenario.end:
        yield ("captures", last.position + 1), True, captured(scenario, world, last)
    if world.crashes:
        for at in restart_points(world):
            for torn in (False, True) if last.position < scenario.end else (False,):
                left = published(scenario, world, last)[0] if torn else world.records
                ends = (len(left[0]), len(left[1]))
                kept = world.control[at]
                base = Entry("base", last.epoch + 1, kept.number, kept.position, kept.numbers, ends)
                after = world._replace(control=(*world.control, base), records=left, crashes=world.crashes - 1)
                yield ("capture CRASHES, goes on from", at, "torn", torn), False, after


def restart_points(world: World) -> list[int]:
    """The last cut, and the one before it: a broker may have lost what the last one names."""
    return [i for i, entry in enumerate(world.control) if entry.kind != "ddl" and not is_void(world, i)][-2:]


def captured(scenario: Scenario, world: World, last: Entry) -> World:
    """One transaction, and the cut over it; a barrier stands before its cut."""
    position = last.position + 1
    if scenario.transactions[last.position] == TRUNCATE:
        ddl = Entry("ddl", last.epoch, last.number + 1, position, last.numbers)
        return world._replace(control=(*world.control, ddl, ddl._replace(kind="cut", number=last.number + 2)))
    records, numbers = published(scenario, world, last)
    return world._replace(records=records, control=(*world.control, Entry("cut", last.epoch, last.number + 1, position, numbers)))


def published(scenario: Scenario, world: World, last: Entry) -> tuple[tuple[tuple[Record, ...], tuple[Record, ...]], Pair]:
    records, numbers = world.records, last.numbers
    for operation in scenario.transactions[last.position]:
        p = operation.key
        numbers = put(numbers, p, numbers[p] + 1)
        records = put(records, p, (*records[p], Record(last.epoch, numbers[p], last.position + 1, operation.value)))
    return records, numbers


# -- the members ---------------------------------------------------------------------------------------------------------------


def work(scenario: Scenario, world: World, index: int, member: Member) -> Iterator[Next]:
    p, who = member.partition, ("member", member.partition, member.fence)
    stored, unfenced = world.stored[p], scenario.wrong is Wrong.SCALED_NO_FENCE
    if member.held is not None:
        changed, value = member.held
        rows = put(world.rows, p, value)
        after = world._replace(stored=put(world.stored, p, changed._replace(fence=stored.fence)), rows=rows)
        yield (*who, "commits"), True, put_member(after, index, member._replace(held=None))
    elif member.fence != stored.fence:
        yield (*who, "is fenced, exits"), True, put_member(world, index, None)
    elif stored.next < len(world.control):
        entry = world.control[stored.next]
        if entry.epoch < stored.epoch or is_void(world, stored.next):
            yield (*who, "skips what is void"), True, moved(world, p, stored._replace(next=stored.next + 1))
        elif entry.kind == "cut":
            taken, value = take(scenario, world, p, entry)
            if unfenced:
                yield (*who, "prepares"), True, put_member(world, index, member._replace(held=(taken, value)))
            else:
                yield (*who, "commits cut", entry.number), True, moved(world, p, taken)._replace(rows=put(world.rows, p, value))
        else:
            yield from together(scenario, world, p, entry)


def take(scenario: Scenario, world: World, p: int, cut: Entry) -> tuple[Stored, int | None]:
    """The partition's records of the cut's epoch, up to the cut's number, but for those that it has applied already."""
    stored, value, offset, seq = world.stored[p], world.rows[p], world.stored[p].offset, world.stored[p].seq
    known = max(each.position for each in world.stored) if scenario.wrong is Wrong.SCALED_SHARED_POSITION else stored.position
    while seq < cut.numbers[p]:
        record = world.records[p][offset]
        offset += 1
        if record.epoch == cut.epoch and record.seq == seq + 1:
            seq += 1
            value = value if record.position <= known else record.value
    return stored._replace(next=stored.next + 1, offset=offset, seq=seq, position=max(stored.position, cut.position)), value


def together(scenario: Scenario, world: World, p: int, entry: Entry) -> Iterator[Next]:
    """A barrier or a base: when all stand there, one applies it for all."""
    at, wrong = world.stored[p].next, scenario.wrong
    alone = wrong is (Wrong.SCALED_BARRIER_ALONE if entry.kind == "ddl" else Wrong.SCALED_BASE_ALONE)
    each = wrong is Wrong.SCALED_BARRIER_EACH and entry.kind == "ddl"
    if not alone and any(other.next < at for other in world.stored):
        return
    mine = (p,) if alone or each else PARTITIONS
    stored = world.stored
    for q in mine:
        stored = put(stored, q, passed(stored[q], q, entry, at))
    applies = entry.kind == "ddl" and entry.position > world.stored[p].position and (each or at not in world.emptied)
    rows: TableA = (None, None) if applies else world.rows
    emptied = world.emptied | {at} if alone and applies else world.emptied
    yield ("member", p, "applies", entry.kind, "for", mine), True, world._replace(stored=stored, rows=rows, emptied=emptied)


def passed(stored: Stored, p: int, entry: Entry, at: int) -> Stored:
    if entry.kind == "ddl":
        return stored._replace(next=at + 1, position=max(stored.position, entry.position))
    return stored._replace(next=at + 1, epoch=entry.epoch, seq=entry.numbers[p], offset=entry.ends[p])


def is_void(world: World, at: int) -> bool:
    record = world.control[at]
    return any(b.kind == "base" and b.epoch > record.epoch and b.number < record.number for b in world.control[at + 1 :])


def moved(world: World, p: int, stored: Stored) -> World:
    return world._replace(stored=put(world.stored, p, stored))


def put_member(world: World, index: int, member: Member | None) -> World:
    kept = () if member is None else (member,)
    return world._replace(members=world.members[:index] + kept + world.members[index + 1 :])


# -- promises ------------------------------------------------------------------------------------------------------------------


def consistent(scenario: Scenario, world: World) -> Violation | None:
    """Each partition holds what the source held at the partition's own position."""
    for p in PARTITIONS:
        wanted = scenario.tables[world.stored[p].position][0][p]
        if world.rows[p] != wanted:
            return Violation(Kind.INCONSISTENT, f"key {p} is {world.rows[p]}, the source at {world.stored[p].position} has {wanted}")
    return None


def complete(scenario: Scenario, world: World) -> Violation | None:
    behind = [p for p in PARTITIONS if world.stored[p].position < scenario.end]
    return Violation(Kind.STUCK, f"partitions {behind} do not move any more") if behind else None
