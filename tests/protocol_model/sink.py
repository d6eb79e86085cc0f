"""The sink: walk the control topic from the stored place, take what each valid cut covers, commit rows and positions together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.protocol_model.scenario import LOADED, TEN_MORE, Kind, Scenario
from tests.protocol_model.voidness import is_undone
from tests.protocol_model.world import (
    NO_MARK,
    NOWHERE,
    PARTITIONS,
    Batch,
    Change,
    Control,
    Progress,
    Record,
    Sink,
    State,
    Step,
    TableA,
    Target,
    World,
)
from tests.protocol_model.wrong import Wrong

UNLOCKED = (Wrong.NO_FENCE, Wrong.FENCE_WITHOUT_LOCK)
UNREFUSED = (Wrong.START_AT_NOW_UNREFUSED, Wrong.NEW_P_UNREFUSED)
TWO_COMMITS = (Wrong.ROWS_FIRST, Wrong.POSITIONS_FIRST)


class Walk:
    """A batch while it grows; `ready` is what may be committed, fixed at each whole cut."""

    def __init__(self, scenario: Scenario, world: World, stored: Progress, entered: bool) -> None:
        self.scenario, self.world, self.stored = scenario, world, stored
        self.skips = entered or scenario.wrong not in (Wrong.NO_SKIP, Wrong.SKIP_FORGOTTEN)
        self.ready: Batch | None = None
        self.stop: Kind | None = None
        self.changes: list[Change] = []
        self.rewind()

    def rewind(self) -> None:
        """Back to what is stored: pieces gathered since then are void."""
        stored = self.stored
        self.position, self.epoch, self.ceiling, self.floor = stored.position, stored.epoch, stored.ceiling, stored.floor
        self.swapping = stored.swapping
        self.numbers, self.offsets = list(stored.numbers), list(stored.offsets)
        if self.scenario.wrong is Wrong.EPOCH_FORGOTTEN:
            self.epoch = 0
        if self.scenario.wrong is not Wrong.PIECES_KEPT:
            self.changes = []

    def close(self, index: int, record: Control) -> None:
        """All up to this control record may be committed."""
        numbers, offsets = (self.numbers[0], self.numbers[1]), (self.offsets[0], self.offsets[1])
        mark = record.epoch, record.number
        progress = Progress(self.position, self.epoch, numbers, offsets, index + 1, mark, self.ceiling, self.floor, self.swapping)
        self.ready = Batch(progress, tuple(self.changes))


def next_batch(scenario: Scenario, world: World, stored: Progress, entered: bool) -> Batch | Kind | None:
    """Up to the newest complete whole cut; a base or a barrier ends the batch before it and is one by itself."""
    if is_lost(scenario, world, stored):
        return Kind.LOST
    walk = Walk(scenario, world, stored, entered)
    for index in range(stored.control_next, len(world.control)):
        record = world.control[index]
        if is_void(walk, index, record):
            continue
        if not TAKE[record.kind](walk, index, record):
            break
    return walk.stop or walk.ready


def is_lost(scenario: Scenario, world: World, stored: Progress) -> bool:
    """The record before the stored place is not the one that was applied there."""
    if stored.mark == NO_MARK or scenario.wrong is Wrong.MARK_UNCHECKED or not scenario.faults.control_loss:
        return False
    if stored.control_next > len(world.control):
        return True
    record = world.control[stored.control_next - 1]
    return (record.epoch, record.number) != stored.mark


def is_void(walk: Walk, index: int, record: Control) -> bool:
    """Of a lower epoch than the newest start, or numbered above a later base."""
    if record.kind == "copy" and walk.scenario.wrong is Wrong.COPY_WITHOUT_EPOCH:
        return False
    if record.partial and walk.scenario.wrong is Wrong.PIECES_KEPT:
        return record.epoch < walk.epoch  # it had taken the pieces before it could know of the base
    return record.epoch < walk.epoch or is_undone(walk.scenario, walk.world.control, index)


# -- one control record; the answer is whether the walk goes on ----------------------------------------------------------------


def take_start(walk: Walk, index: int, record: Control) -> bool:
    walk.epoch = index
    return True


def take_base(walk: Walk, index: int, record: Control) -> bool:
    """Numbers and offsets become the base's; what was gathered since the last whole cut is void with its window."""
    if walk.ready is not None:
        return False
    walk.rewind()
    walk.epoch = record.epoch
    if walk.position == NOWHERE or walk.scenario.wrong in UNREFUSED:
        walk.position = max(walk.position, record.position)
    elif walk.position < record.position:
        walk.stop = Kind.REFUSED
        return False
    if walk.scenario.wrong is not Wrong.RECORDS_WITHOUT_EPOCH:
        walk.numbers, walk.offsets = list(record.numbers), list(record.ends)
    if record.windows < walk.scenario.windows_of_a and walk.scenario.wrong is not Wrong.CEILING_KEPT and not walk.scenario.swap:
        walk.ceiling = None
    if walk.scenario.wrong is Wrong.NEW_P_UNSTORED and record.number == 0:
        return True
    walk.close(index, record)
    return False


def take_ddl(walk: Walk, index: int, record: Control) -> bool:
    """A barrier is a batch by itself; inside a copy window, or before rows of its own transaction, it is a piece of what follows."""
    if record.position <= walk.position and walk.scenario.wrong is not Wrong.BARRIER_TWICE:
        return True
    if walk.ready is not None and not record.partial:
        return False
    walk.changes.append(Change(DDL[record.table]))
    if record.table != "make" or not record.partial:
        walk.position = max(walk.position, record.position)
    if not record.partial:
        walk.close(index, record)
    return record.partial


DDL = {"truncate": "empty A", "alter": "alter A", "make": "empty B"}


def take_copy(walk: Walk, index: int, record: Control) -> bool:
    """The table is emptied together with its first rows; for one without a key the floor becomes the exact position E."""
    if record.table == "A" and walk.scenario.swap:
        walk.changes.append(Change("empty second"))
        walk.swapping = True
    elif record.table == "A" and walk.scenario.wrong is not Wrong.NO_BARRIER:
        walk.changes.append(Change("empty A"))
        walk.ceiling = None
    if record.table == "B":
        if walk.scenario.wrong is not Wrong.KEYLESS_NOT_EMPTIED:
            walk.changes.append(Change("empty B"))
        walk.floor = 0 if walk.scenario.wrong is Wrong.KEYLESS_NO_FLOOR else record.position
    return True


def take_cut(walk: Walk, index: int, record: Control) -> bool:
    """Take the records that the cut covers; if it is whole, all up to here is a consistent state."""
    for p in PARTITIONS:
        if not take_partition(walk, p, record):
            return False
    walk.position = max(walk.position, record.position)
    if record.windows == len(walk.scenario.windows) and walk.swapping and not record.partial:
        walk.changes.append(Change("swap"))
        walk.swapping = False
    if record.windows == len(walk.scenario.windows) and walk.ceiling is None and not record.partial:
        walk.ceiling = record.position
    if not record.partial or walk.scenario.wrong is Wrong.PARTIAL_COMMITTED:
        walk.close(index, record)
    return True


TAKE: dict[str, Callable[[Walk, int, Control], bool]] = {
    "start": take_start,
    "base": take_base,
    "ddl": take_ddl,
    "copy": take_copy,
    "cut": take_cut,
}


# -- data records --------------------------------------------------------------------------------------------------------------


def take_partition(walk: Walk, p: int, cut: Control) -> bool:
    """The records of the cut's epoch numbered after the stored one up to the cut's; false while some are missing."""
    records = walk.world.partitions[p]
    while walk.numbers[p] < cut.numbers[p]:
        if walk.offsets[p] >= len(records):
            return False
        record = records[walk.offsets[p]]
        walk.offsets[p] += 1
        if record.epoch != cut.epoch and walk.scenario.wrong is not Wrong.RECORDS_WITHOUT_EPOCH:
            continue
        if record.seq <= walk.numbers[p]:
            continue
        if record.seq > walk.numbers[p] + 1:
            walk.stop = Kind.HOLE
            return False
        walk.numbers[p] = record.seq
        if not is_applied(walk, record, cut):
            walk.changes += effects(walk, record)
    return True


def effects(walk: Walk, record: Record) -> Iterator[Change]:
    """While a second table is filled, copied rows go there and changes go into both."""
    if record.table == "B" or not walk.scenario.swap or record.op != "r":
        yield Change(record.table, record.key, record.value)
    if record.table == "A" and walk.swapping and (record.op == "r" or walk.scenario.wrong is not Wrong.SWAP_CHANGES_ONCE):
        yield Change("second", record.key, record.value)


def is_applied(walk: Walk, record: Record, cut: Control) -> bool:
    """Skipped by its own transaction's position, never by the cut's; a row that was read is newer than any position."""
    wrong = walk.scenario.wrong
    if record.op == "r":
        return False
    if wrong is Wrong.SKIP_BY_CUT:
        if cut.position <= walk.position and not cut.partial:
            return True
    elif record.position <= walk.position and walk.skips:
        return True
    if record.table != "B" or walk.floor is None:
        return False
    return (cut.position if wrong is Wrong.FLOOR_BY_CUT else record.position) <= walk.floor


# -- processes -----------------------------------------------------------------------------------------------------------------


def steps(scenario: Scenario, world: World) -> Iterator[Step]:
    """What every incarnation of the sink may do."""
    loading = world.loader.phase < LOADED and scenario.wrong is not Wrong.APPLY_WHILE_LOADING
    if not loading and not world.target.stop and not any(sink.state is State.LIVE for sink in world.sinks):
        yield start(scenario, world)
    for index, sink in enumerate(world.sinks):
        if sink.open is not None:
            yield commit(scenario, world, index, sink.open)
        elif not world.target.stop:
            yield from begin(scenario, world, index)
        if sink.state is State.LIVE:
            yield from faults(world, index)


def start(scenario: Scenario, world: World) -> Step:
    """Raise the fence (which ends the transaction of whoever held it) and read the positions."""
    fence = world.target.fence + 1
    others = world.sinks if scenario.wrong in UNLOCKED else tuple(sink._replace(open=None) for sink in world.sinks)
    sinks = (*others, Sink(State.LIVE, fence, memory=remember(scenario, world.target)))
    return Step(("sink", fence, "starts"), True, world._replace(sinks=sinks, target=world.target._replace(fence=fence)))


def remember(scenario: Scenario, target: Target) -> Progress | None:
    return target.progress if scenario.wrong is Wrong.POSITIONS_IN_MEMORY else None


def begin(scenario: Scenario, world: World, index: int) -> Iterator[Step]:
    """Check the fence, gather the next batch, and (in the right variant, under the fence's lock) commit it."""
    sink, target = world.sinks[index], world.target
    live = sink.state is State.LIVE
    if sink.fence != target.fence and scenario.wrong is not Wrong.NO_FENCE:
        yield Step((sink.state, "sink", sink.fence, "is fenced, exits"), live, put_sink(world, index, None))
        return
    stored = sink.memory or target.progress
    batch = next_batch(scenario, world, stored, sink.entered)
    if isinstance(batch, Kind):
        if live:
            stopped = target._replace(stop=batch.name)
            yield Step(("sink", sink.fence, "STOPS:", batch.value), live, put_sink(world, index, None)._replace(target=stopped))
    elif batch is not None and scenario.wrong in UNLOCKED:
        yield Step((sink.state, "sink", sink.fence, "begins", batch), live, put_sink(world, index, sink._replace(open=batch)))
    elif batch is not None and scenario.wrong in TWO_COMMITS:
        first = apply(target, batch, scenario.wrong is Wrong.ROWS_FIRST, scenario.wrong is not Wrong.ROWS_FIRST)
        after = put_sink(world, index, sink._replace(open=batch))._replace(target=first)
        yield Step((sink.state, "sink", sink.fence, "commits the first half of", batch), live, after)
    elif batch is not None:
        yield commit(scenario, world, index, batch)
        yield from lost_reply(scenario, world, index, batch)


def commit(scenario: Scenario, world: World, index: int, batch: Batch) -> Step:
    sink = world.sinks[index]
    rows = scenario.wrong is not Wrong.ROWS_FIRST or sink.open is None
    positions = scenario.wrong is not Wrong.POSITIONS_FIRST or sink.open is None
    target = apply(world.target, batch, rows, positions)
    entered = sink.entered or has_entered(scenario, world, batch)
    after = put_sink(world, index, Sink(sink.state, sink.fence, None, remember(scenario, target), entered))
    before = world.target if world.faults.rewind else world.before
    return Step((sink.state, "sink", sink.fence, "commits", batch), sink.state is State.LIVE, after._replace(target=target, before=before))


def has_entered(scenario: Scenario, world: World, batch: Batch) -> bool:
    """The batch was a base; remembered only where a variant depends on it."""
    return scenario.wrong is Wrong.SKIP_FORGOTTEN and world.control[batch.progress.control_next - 1].kind == "base"


def lost_reply(scenario: Scenario, world: World, index: int, batch: Batch) -> Iterator[Step]:
    """The commit happens, its reply is lost; the right sink reads the positions again, which it does before every batch anyway."""
    left = world.faults.lost_reply
    if left and scenario.wrong is Wrong.BLIND_REPLAY:
        after = commit(scenario, world, index, batch).world
        again = put_sink(after, index, after.sinks[index]._replace(open=batch))
        faults_ = world.faults._replace(lost_reply=left - 1)
        yield Step(("sink", world.sinks[index].fence, "commits without a reply"), False, again._replace(faults=faults_))


def apply(target: Target, batch: Batch, rows: bool, positions: bool) -> Target:
    """One transaction: all of it or nothing."""
    if rows:
        for change in batch.changes:
            target = apply_change(target, change)
    return target._replace(progress=batch.progress) if positions else target


def apply_change(target: Target, change: Change) -> Target:
    if change.what == "empty A":
        return target._replace(a=(None, None))
    if change.what == "empty B":
        return target._replace(b=0)
    if change.what == "empty second":
        return target._replace(second=(None, None))
    if change.what == "swap":
        return target._replace(a=target.second, second=(None, None))
    if change.what == "alter A":
        return target._replace(a=altered(target.a), second=altered(target.second))
    if change.what == "second":
        return target._replace(second=with_row(target.second, change))
    if change.what == "B":
        return target._replace(b=target.b + (change.value or 0))
    return target._replace(a=with_row(target.a, change))


def with_row(table: TableA, change: Change) -> TableA:
    return (change.value, table[1]) if change.key == 0 else (table[0], change.value)


def altered(table: TableA) -> TableA:
    first, second = (None if value is None else value + TEN_MORE for value in table)
    return first, second


def faults(world: World, index: int) -> Iterator[Step]:
    left, sink = world.faults, world.sinks[index]
    if left.sink_crash:
        after = put_sink(world, index, None)
        yield Step(("sink", sink.fence, "CRASHES"), False, after._replace(faults=left._replace(sink_crash=left.sink_crash - 1)))
    if left.sink_zombie:
        after = put_sink(world, index, sink._replace(state=State.ZOMBIE))
        yield Step(("sink", sink.fence, "becomes a ZOMBIE"), False, after._replace(faults=left._replace(sink_zombie=left.sink_zombie - 1)))


def put_sink(world: World, index: int, sink: Sink | None) -> World:
    kept = () if sink is None else (sink,)
    return world._replace(sinks=world.sinks[:index] + kept + world.sinks[index + 1 :])
