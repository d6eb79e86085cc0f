"""Positions that are sets: several GTID domains (or MySQL's gaps), and servers that log the same transactions in another order.

Capture and sink are as small as can be: each transaction is one record and one cut, a start goes back to any cut ever written (what a
broker lost decides to which), on any server. What is kept is the sink's rule: skip what the stored position contains, and store with the
rows a position that contains exactly what was applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol_model.explore import Outcome, Rules, explore
from tests.protocol_model.scenario import Kind, Scenario, Violation
from tests.protocol_model.wrong import Wrong

ORDERS = ((0, 1, 2), (2, 0, 1), (0, 2, 1))
"""Three transactions, as three servers log them: 0 and 1 are of one domain, 2 is of another."""
DOMAIN = (0, 0, 1)
Set = frozenset[int]


class Entry(NamedTuple):
    """Of the control topic: a base (`record` is -1), or a cut over one record. Cuts count on from the base's number."""

    epoch: int
    number: int
    record: int
    position: Set


class Reader(NamedTuple):
    """Capture: what it has read since its base, on which server."""

    epoch: int
    server: int
    number: int
    position: Set


class World(NamedTuple):
    """Everything; `applied` counts each transaction in the target."""

    entries: tuple[Entry, ...]
    reader: Reader
    stored: Set
    next: int
    applied: tuple[int, int, int]
    skips: Set | None
    starts: int
    crashes: int


Next = tuple[tuple[object, ...], bool, World]


def run(scenario: Scenario, limit: int) -> Outcome:
    """Enumerate the scenario: so many starts of capture, so many of the sink."""
    rules = Rules[World](lambda w: steps(scenario, w), consistent, complete)
    nothing: Set = frozenset()
    base = Entry(0, 0, -1, nothing)
    faults = scenario.faults
    return explore(rules, World((base,), Reader(0, 0, 0, nothing), nothing, 0, (0, 0, 0), None, faults.crash, faults.sink_crash), limit)


def steps(scenario: Scenario, world: World) -> Iterator[Next]:
    yield from read(world)
    yield from restart(world)
    yield from apply(scenario, world)
    if world.crashes:
        yield ("sink CRASHES",), False, world._replace(skips=world.stored, crashes=world.crashes - 1)


def read(world: World) -> Iterator[Next]:
    """The next transaction of the server's log that the position lacks."""
    reader = world.reader
    left = [one for one in ORDERS[reader.server] if one not in reader.position]
    if left:
        position = reader.position | {left[0]}
        entry = Entry(reader.epoch, reader.number + 1, left[0], position)
        changed = reader._replace(position=position, number=entry.number)
        yield ("reads", left[0]), True, world._replace(entries=(*world.entries, entry), reader=changed)


def restart(world: World) -> Iterator[Next]:
    """Capture goes on from any cut that is not void and that the broker may have kept, on any server."""
    if not world.starts:
        return
    for at, kept in enumerate(world.entries):
        for server in range(0 if is_void(world, at) else len(ORDERS)):
            epoch = world.reader.epoch + 1
            entries = (*world.entries, Entry(epoch, kept.number, -1, kept.position))
            reader = Reader(epoch, server, kept.number, kept.position)
            yield (("starts at", sorted(kept.position), "on", server), False,
                   world._replace(entries=entries, reader=reader, starts=world.starts - 1))  # fmt: skip


def is_void(world: World, at: int) -> bool:
    """A later base went below this record's number."""
    return any(other.record < 0 and other.number < world.entries[at].number for other in world.entries[at + 1 :])


def apply(scenario: Scenario, world: World) -> Iterator[Next]:
    """The next control record; rows and position are one commit. What a later base went below is void."""
    if world.next == len(world.entries):
        return
    entry, wrong = world.entries[world.next], scenario.wrong
    after = world._replace(next=world.next + 1)
    if entry.record < 0:
        yield ("enters", entry.epoch), True, after._replace(skips=world.stored)
    elif is_void(world, world.next):
        yield ("skips a void cut",), True, after
    else:
        known = is_held(wrong, entry.record, world.skips)
        applied = tuple(count + (one == entry.record and not known) for one, count in enumerate(world.applied))
        stored = position_after(wrong, world.stored, entry.position)
        skips = None if world.skips is not None and world.skips <= entry.position else world.skips
        yield (("applies", entry.record, "or skips it", known), True,
               after._replace(applied=applied, stored=stored, skips=skips))  # type: ignore[arg-type]  # fmt: skip


def is_held(wrong: Wrong | None, record: int, skips: Set | None) -> bool:
    if skips is None:
        return False
    if wrong is Wrong.DOMAINS_BY_NUMBER:
        number = sum(DOMAIN[one] == DOMAIN[record] for one in range(record + 1))
        return number <= len(skips)
    return record in skips


def position_after(wrong: Wrong | None, stored: Set, cut: Set) -> Set:
    """The cut's position when it covers the stored one; the stored one when that covers it; else both together."""
    if wrong is Wrong.DOMAINS_KEPT:
        return stored if stored - cut else cut
    if wrong is Wrong.DOMAINS_TAKEN:
        return cut
    return stored | cut


def consistent(world: World) -> Violation | None:
    """The target holds what its position says: each transaction once, and no other."""
    wanted = tuple(int(one in world.stored) for one in range(len(world.applied)))
    if world.applied != wanted:
        return Violation(Kind.INCONSISTENT, f"{world.applied} times, the position says {sorted(world.stored)}")
    return None


def complete(world: World) -> Violation | None:
    missing = set(range(len(world.applied))) - world.stored
    return Violation(Kind.STUCK, f"never applied: {sorted(missing)}") if missing else None
