"""Capture: read the log, publish, wait for acknowledgements, cut; restart at the newest cut that still holds."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol_model import copying
from tests.protocol_model.scenario import Operation, Scenario, Start, Transaction, kind_of
from tests.protocol_model.servers import accepts, holds, is_running
from tests.protocol_model.voidness import is_superseded, is_undone
from tests.protocol_model.world import NOTHING, PARTITIONS, Capture, Control, Named, Place, Record, State, Step, World, put
from tests.protocol_model.wrong import Wrong


def steps(scenario: Scenario, world: World) -> Iterator[Step]:
    """What every running incarnation of capture may do; what is left of dead ones arrives just before it would matter."""
    if world.loader.phase >= 1 and not any(is_running(capture) for capture in world.captures):
        for after in late_control(scenario, world):
            yield start(scenario, after)
    for capture in world.captures:
        if capture.state is State.STARTING:
            for after in late_data(scenario, world, PARTITIONS):
                yield base(scenario, after, capture)
        elif capture.state is not State.DEAD:
            yield from deliveries(scenario, world, capture)
            yield from work(scenario, world, capture)
        if capture.state is State.LIVE:
            yield from faults(scenario, world, capture)


def work(scenario: Scenario, world: World, capture: Capture) -> Iterator[Step]:
    live = capture.state is State.LIVE
    for what, changed, checkpoint in decisions(scenario, world, capture):
        after = replace(scenario, world, changed)
        yield Step((capture.state.value, "capture", capture.epoch, *what), live, after._replace(checkpoint=checkpoint))


Decision = tuple[tuple[object, ...], Capture, tuple[int, ...]]
"""What it does, itself afterwards, the checkpoint afterwards (wrong variants only)."""


def decisions(scenario: Scenario, world: World, capture: Capture) -> Iterator[Decision]:
    """What a running capture may do next."""
    free = len(capture.control) < scenario.in_flight
    if capture.again < capture.position:
        yield from read_again(scenario, world, capture)
    elif capture.position < world.written and copying.may_read_log(scenario, capture):
        kind = kind_of(scenario.transactions[capture.position])
        if kind in ("truncate", "alter") or (kind == "make" and not capture.piece):
            yield from barrier(scenario, world, capture, kind) if free else ()
        elif capture.cut_at is not None and in_flight(capture) < scenario.unacknowledged:
            yield from read(scenario, world, capture)
    may_publish = capture.cut_at is not None and in_flight(capture) < scenario.unacknowledged and capture.again == capture.position
    if capture.windows < len(scenario.windows) and free and may_publish:
        yield from copying.chunk(scenario, world, capture)
    yield from cut(scenario, world, capture) if free else ()


def in_flight(capture: Capture) -> int:
    return len(capture.queues[0]) + len(capture.queues[1])


def place(capture: Capture) -> Place:
    return Place(capture.position, capture.piece, capture.windows, capture.chunk, capture.again if capture.floor < capture.position else 0)


# -- start ---------------------------------------------------------------------------------------------------------------------


NEW_P = (Wrong.NEW_P_EACH_ATTEMPT, Wrong.NEW_P_UNSTORED, Wrong.NEW_P_UNREFUSED)


def start(scenario: Scenario, world: World) -> Step:
    """Append a start record and read it back: its offset is the epoch."""
    epoch = len(world.control)
    captures = (*world.captures, Capture(State.STARTING, epoch, control_end=tracked(scenario, world)))
    return Step(("capture", epoch, "starts"), True, world._replace(captures=captures, control=(*world.control, Control("start", epoch))))


def base(scenario: Scenario, world: World, capture: Capture) -> Step:
    """Choose the restart point and write the base; what follows is numbered on from it."""
    point = moved(scenario, world, restart_point(scenario, world, capture.epoch))
    ends = (len(world.partitions[0]), len(world.partitions[1]))
    if scenario.wrong in (Wrong.XA_NO_FLOOR, Wrong.XA_UNKNOWN_PASSED):
        point = point._replace(floor=point.position)
    record = Control("base", capture.epoch, point.number, point.position, False, point.numbers, point.named, point.windows, ends,
                     floor=point.floor)  # fmt: skip
    changed = capture._replace(
        state=State.LIVE, position=point.position, numbers=point.numbers, number=point.number, named=point.named, ends=ends,
        windows=point.windows, control=(record,), again=point.floor, floor=point.floor,
    )  # fmt: skip
    changed = changed._replace(cut_at=place(changed))
    return Step(("capture", capture.epoch, "writes", record), True, replace(scenario, world, changed))


def restart_point(scenario: Scenario, world: World, epoch: int) -> Control:
    """The newest whole cut that is not void and whose records are held; else the first base, which counts as cut 0; else the beginning."""
    known = world.control[:epoch]
    for i in reversed(range(len(known))):
        if is_restart_point(scenario, world, known, i):
            return known[i]._replace(windows=copying.goes_on(scenario, known, i))
    position = beginning(scenario, world)
    return Control("base", epoch, position=position, floor=position)


def is_restart_point(scenario: Scenario, world: World, known: tuple[Control, ...], index: int) -> bool:
    record = known[index]
    if record.kind == "base":
        wanted = record.number == 0 and scenario.wrong not in NEW_P
    else:
        wanted = record.kind == "cut" and (not record.partial or scenario.wrong is Wrong.PARTIAL_RESTART)
    if not wanted or not covered(scenario, world, record):
        return False
    if scenario.wrong is Wrong.NEWEST_CUT_VOID_OR_NOT:
        return True
    return not is_superseded(known, index) and not is_undone(scenario, known, index)


def covered(scenario: Scenario, world: World, record: Control) -> bool:
    if scenario.wrong is Wrong.COVERED_BY_LAST_NUMBER:
        return all(record.numbers[p] <= (world.partitions[p][-1].seq if world.partitions[p] else 0) for p in PARTITIONS)
    return holds(world, record.named)


def beginning(scenario: Scenario, world: World) -> int:
    """Where the very first base stands: at the load's P, at the visible position, or at the start of the history."""
    if scenario.start is Start.TOPICS:
        return world.written if scenario.wrong is Wrong.CARELESS_P else world.executed
    if scenario.start is Start.LOAD:
        at_now = scenario.wrong in (Wrong.START_AT_NOW, Wrong.START_AT_NOW_UNREFUSED)
        return world.written if at_now else world.target.progress.position
    return 0


def moved(scenario: Scenario, world: World, point: Control) -> Control:
    """The restart point as the wrong variants with a checkpoint of their own see it."""
    if scenario.wrong is Wrong.POSITION_BEFORE_ACK and world.checkpoint:
        position, first, second, windows = world.checkpoint
        return point._replace(position=position, numbers=(first, second), windows=windows)
    if scenario.wrong is Wrong.CHUNK_OUTSIDE_CUT and world.checkpoint:
        return point._replace(windows=world.checkpoint[0])
    return point


# -- work ----------------------------------------------------------------------------------------------------------------------


def read(scenario: Scenario, world: World, capture: Capture) -> Iterator[Decision]:
    """Read a transaction, or one operation of it where cuts may fall inside."""
    transaction = scenario.transactions[capture.position]
    changed = with_prepared(scenario, capture, capture.position + 1)
    said = rows_of(scenario, capture, transaction)
    if said is None:
        return  # stops: an XA COMMIT whose PREPARE was not read
    count = 1 if scenario.pieces else len(said)
    for operation in said[capture.piece : capture.piece + count]:
        changed = publish(scenario, changed, operation, capture.position + 1)
    piece = capture.piece + count
    changed = changed._replace(piece=piece) if piece < len(said) else moved_on(scenario, changed)
    checkpoint = world.checkpoint
    if scenario.wrong is Wrong.POSITION_BEFORE_ACK:
        checkpoint = (changed.position, *changed.numbers, changed.windows)
    yield ("reads", capture.position + 1, "piece", capture.piece), changed, checkpoint


def rows_of(scenario: Scenario, capture: Capture, transaction: Transaction) -> Transaction | None:
    """The rows that become true by a transaction of the log; None when they were prepared out of sight."""
    kind = kind_of(transaction)
    if kind == "xa prepare":
        return transaction[1:] if scenario.wrong is Wrong.XA_AT_PREPARE else ()
    if kind == "xa commit" and not capture.held:
        return () if scenario.wrong in (Wrong.XA_UNKNOWN_PASSED, Wrong.XA_P_WHILE_PREPARED) else None
    if kind == "xa commit" and scenario.wrong is not Wrong.XA_AT_PREPARE:
        return scenario.transactions[capture.held[-1] - 1][1:]
    return () if kind in ("xa commit", "xa rollback") else transaction


def with_prepared(scenario: Scenario, capture: Capture, position: int) -> Capture:
    """What is prepared after one more transaction of the log."""
    kind = kind_of(scenario.transactions[position - 1])
    if kind == "xa prepare":
        return capture._replace(held=(*capture.held, position))
    return capture._replace(held=capture.held[:-1]) if kind in ("xa commit", "xa rollback") else capture


def moved_on(scenario: Scenario, capture: Capture) -> Capture:
    """Behind a transaction; the floor moves with the position unless something is prepared."""
    position = capture.position + 1
    return with_floor(scenario, capture._replace(piece=0, position=position, again=position))


def with_floor(scenario: Scenario, capture: Capture) -> Capture:
    """Before the oldest PREPARE that is not decided."""
    oldest = capture.held[-1 if scenario.wrong is Wrong.XA_FLOOR_OF_NEWEST else 0] if capture.held else capture.position + 1
    return capture._replace(floor=oldest - 1)


def read_again(scenario: Scenario, world: World, capture: Capture) -> Iterator[Decision]:
    """What lies between the floor and the position: it fills the memory of what is prepared, and is not said again."""
    changed = with_prepared(scenario, capture, capture.again + 1)._replace(again=capture.again + 1)
    if scenario.wrong is Wrong.XA_FLOOR_MOVES_EARLY or changed.again == changed.position:
        changed = with_floor(scenario, changed)
    yield ("reads again", changed.again), changed, world.checkpoint


def publish(scenario: Scenario, capture: Capture, operation: Operation, position: int) -> Capture:
    """Number a change and hand it to the producer."""
    if operation.table == "B" and scenario.unfollow and capture.epoch > 0:
        return capture
    p = operation.key if operation.table == "A" else 0
    return enqueue(capture, p, "c", position, operation)


def enqueue(capture: Capture, p: int, op: str, position: int, operation: Operation) -> Capture:
    numbers = put(capture.numbers, p, capture.numbers[p] + 1)
    record = Record(capture.epoch, numbers[p], position, op, *operation)
    return capture._replace(numbers=numbers, queues=put(capture.queues, p, (*capture.queues[p], record)))


def barrier(scenario: Scenario, world: World, capture: Capture, kind: str) -> Iterator[Decision]:
    """A schema change: cut, barrier, and a cut before anything else is read; inside a copy window the barrier is as partial as the cuts.

    Rows in the same transaction follow a partial barrier, and the position moves once, at their end.
    """
    ready = not in_flight(capture) and capture.cut_at == place(capture)
    if ready or scenario.wrong is Wrong.BARRIER_WITHOUT_CUT:
        number = capture.number + 1
        partial = copying.is_open(scenario, capture) or (kind == "make" and scenario.wrong is not Wrong.MAKE_WHOLE_BARRIER)
        record = Control("ddl", capture.epoch, number, capture.position + 1, partial, table=kind)
        changed = capture._replace(number=number, control=(*capture.control, record), cut_at=None)
        changed = changed._replace(piece=1) if kind == "make" else moved_on(scenario, changed)
        yield ("barrier", number, "at", changed.position), changed, world.checkpoint


def cut(scenario: Scenario, world: World, capture: Capture) -> Iterator[Decision]:
    """State that everything up to here is in the topics: only when all of it is acknowledged."""
    if capture.cut_at == place(capture) or (in_flight(capture) and scenario.wrong is not Wrong.CUT_BEFORE_ACK):
        return
    partial = bool(capture.piece) or not copying.may_close(scenario, capture)
    if not partial:
        capture = copying.close(scenario, capture)
    number = capture.number + 1
    record = Control("cut", capture.epoch, number, capture.position, partial, capture.numbers, capture.named, capture.windows,
                     floor=capture.floor)  # fmt: skip
    changed = capture._replace(number=number, control=(*capture.control, record), cut_at=place(capture))
    yield ("partial cut" if partial else "cut", number, "at", capture.position), changed, world.checkpoint


# -- the producer --------------------------------------------------------------------------------------------------------------


def deliveries(scenario: Scenario, world: World, capture: Capture) -> Iterator[Step]:
    """Messages arrive in order within a partition and anyhow between them."""
    who, live = (capture.state.value, "capture", capture.epoch, "delivers"), capture.state is State.LIVE
    for p in PARTITIONS:
        if capture.queues[p]:
            for before in late_data(scenario, world, (p,)):
                yield Step((*who, p, capture.queues[p][0]), live, deliver(scenario, before, capture.epoch, p))
    if capture.control:
        for before in late_control(scenario, world):
            yield Step((*who, capture.control[0]), live, deliver_control(scenario, before, capture.epoch))


def late_data(scenario: Scenario, world: World, partitions: tuple[int, ...]) -> Iterator[World]:
    """The world as it is, and with records of dead captures arrived in these partitions.

    They arrive only just before the next record of a running capture in the same partition, or before a base reads the ends:
    void records at a partition's end are looked at by nobody else, so every other moment of arrival equals one of these.
    """
    yield world
    for capture in world.captures:
        for p in partitions if capture.state is State.DEAD else ():
            if capture.queues[p]:
                yield from late_data(scenario, deliver(scenario, world, capture.epoch, p), partitions)


def late_control(scenario: Scenario, world: World) -> Iterator[World]:
    """The same for control records: just before a start or a running capture's next one."""
    yield world
    for capture in world.captures:
        if capture.state is State.DEAD and capture.control:
            yield from late_control(scenario, deliver_control(scenario, world, capture.epoch))


def deliver(scenario: Scenario, world: World, epoch: int, p: int) -> World:
    """Append one record, unless the broker refuses it because it lost the one before."""
    capture = of_epoch(world, epoch)
    if not accepts(world, capture, p):
        return replace(scenario, world, died(capture._replace(queues=put(capture.queues, p, ()))))
    record, offset = capture.queues[p][0], len(world.partitions[p])
    partitions = put(world.partitions, p, (*world.partitions[p], record))
    named = put(capture.named, p, Named(offset, record.epoch, record.seq))
    changed = capture._replace(queues=put(capture.queues, p, capture.queues[p][1:]), named=named)
    if capture.state is State.DEAD or (offset < capture.ends[p] and scenario.wrong is not Wrong.ENDS_UNCHECKED):
        changed = died(changed)
    return replace(scenario, world._replace(partitions=partitions), changed)


def deliver_control(scenario: Scenario, world: World, epoch: int) -> World:
    capture = of_epoch(world, epoch)
    if len(world.control) < capture.control_end:
        return replace(scenario, world, died(capture._replace(control=())))
    changed = capture._replace(control=capture.control[1:], control_end=tracked(scenario, world))
    return replace(scenario, world._replace(control=(*world.control, capture.control[0])), changed)


def tracked(scenario: Scenario, world: World) -> int:
    """The end of the control topic after one more record (kept only where the broker may lose some)."""
    return len(world.control) + 1 if scenario.faults.control_loss else 0


# -- faults --------------------------------------------------------------------------------------------------------------------


def faults(scenario: Scenario, world: World, capture: Capture) -> Iterator[Step]:
    left = world.faults
    if left.crash:
        after = replace(scenario, world, died(capture))
        yield Step(("capture", capture.epoch, "CRASHES"), False, after._replace(faults=left._replace(crash=left.crash - 1)))
    if left.zombie:
        after = replace(scenario, world, capture._replace(state=State.ZOMBIE))
        yield Step(("capture", capture.epoch, "becomes a ZOMBIE"), False, after._replace(faults=left._replace(zombie=left.zombie - 1)))
    if scenario.faults.loss and scenario.wrong is not Wrong.LOSS_UNNOTICED and not holds(world, capture.named):
        yield Step(("capture", capture.epoch, "misses a record, exits"), True, replace(scenario, world, died(capture)))
    if len(world.control) < capture.control_end:
        yield Step(("capture", capture.epoch, "misses its control record, exits"), True, replace(scenario, world, died(capture)))


def died(capture: Capture) -> Capture:
    """Only what is in flight is left of it (and what the broker checks on arrival)."""
    own = put(put(capture.named, 0, own_or_nothing(capture, 0)), 1, own_or_nothing(capture, 1))
    return Capture(State.DEAD, capture.epoch, queues=capture.queues, control=capture.control, named=own, control_end=capture.control_end)


def own_or_nothing(capture: Capture, p: int) -> Named:
    return capture.named[p] if capture.queues[p] and capture.named[p].epoch == capture.epoch else NOTHING


def of_epoch(world: World, epoch: int) -> Capture:
    return next(capture for capture in world.captures if capture.epoch == epoch)


def replace(scenario: Scenario, world: World, changed: Capture) -> World:
    """The world with this capture changed; a dead one is kept only while something of it may still arrive."""
    gone = changed.state is State.DEAD and not (scenario.late and (in_flight(changed) or changed.control))
    kept = () if gone else (changed,)
    index = [capture.epoch for capture in world.captures].index(changed.epoch)
    return world._replace(captures=world.captures[:index] + kept + world.captures[index + 1 :])
