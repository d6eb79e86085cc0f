"""Copying tables: the initial load into the target, and copy windows through the topics."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol_model.scenario import LOADED, Operation, Scenario, Start
from tests.protocol_model.world import NOWHERE, PARTITIONS, Capture, Control, Loader, Place, Record, Step, TableA, Target, World, put
from tests.protocol_model.wrong import Wrong

# -- copy windows (capture) ----------------------------------------------------------------------------------------------------


def is_open(scenario: Scenario, capture: Capture) -> bool:
    """Inside a window the target would be inconsistent; a snapshot through the topics is one window from its first base on."""
    return capture.chunk > 0 or (scenario.start is Start.TOPICS and capture.windows == 0)


def is_closed(scenario: Scenario, capture: Capture) -> bool:
    return not is_open(scenario, capture)


def is_read(scenario: Scenario, capture: Capture) -> bool:
    """All chunks of the window are read, so Q is known."""
    return capture.chunk == len(scenario.windows[capture.windows])


def may_read_log(scenario: Scenario, capture: Capture) -> bool:
    return not is_open(scenario, capture) or is_read(scenario, capture)


def may_close(scenario: Scenario, capture: Capture) -> bool:
    """A cut is whole outside windows, and closes one when it stands at or past Q."""
    if not is_open(scenario, capture) or scenario.wrong is Wrong.WHOLE_BEFORE_Q:
        return True
    return is_read(scenario, capture) and capture.position >= capture.q


def close(scenario: Scenario, capture: Capture) -> Capture:
    """The capture after a whole cut."""
    if capture.windows == len(scenario.windows) or not is_open(scenario, capture) or not is_read(scenario, capture):
        return capture
    return capture._replace(windows=capture.windows + 1, chunk=0, q=NOWHERE)


def goes_on(scenario: Scenario, known: tuple[Control, ...], at: int) -> int:
    """How many windows count at a restart: a copy that is under way begins anew when whole cuts lie above the point.

    A sink may have applied what they cover, and a base cannot tell how much.
    """
    windows = known[at].windows
    above = any(record.kind == "cut" and not record.partial for record in known[at + 1 :])
    if scenario.start is not Start.COPY or windows == len(scenario.windows) or scenario.wrong is Wrong.COPY_GOES_ON:
        return windows
    return 0 if above else windows


def chunk(scenario: Scenario, world: World, capture: Capture) -> Iterator[tuple[tuple[object, ...], Capture, tuple[int, ...]]]:
    """Read the next chunk of the window: rows newer than s, published as op r."""
    window = scenario.windows[capture.windows]
    if capture.piece or capture.chunk == len(window) or not may_select(scenario, world, capture):
        return
    name = window[capture.chunk]
    if name == "B" and not is_exact(scenario, world):
        return
    changed = announce(scenario, world, capture, name)
    changed = publish_rows(scenario, world, changed, name)
    changed = changed._replace(chunk=capture.chunk + 1)
    if is_read(scenario, changed):
        changed = changed._replace(q=read_q(scenario, world, changed))
    checkpoint = (capture.windows + 1,) if scenario.wrong is Wrong.CHUNK_OUTSIDE_CUT else world.checkpoint
    yield ("reads chunk", name, "at s", capture.position, "visible", world.visible), changed, checkpoint


def may_select(scenario: Scenario, world: World, capture: Capture) -> bool:
    """A window opens at a cut, when every position that a sink may have applied is visible."""
    if capture.chunk == 0 and capture.cut_at != Place(capture.position, 0, capture.windows, 0):
        return False
    wait = max([capture.position, *(record.position for record in world.control if record.kind == "cut")])
    if scenario.wrong is Wrong.NO_WAIT_FOR_CUTS:
        wait = capture.position
    if scenario.shapes[world.visible] != scenario.shapes[capture.position] and scenario.wrong is not Wrong.CHUNK_SHAPE_UNCHECKED:
        return False
    return world.executed >= wait or scenario.wrong is Wrong.NO_WAIT_FOR_S


def announce(scenario: Scenario, world: World, capture: Capture, name: str) -> Capture:
    """The barrier before a table's first row; for a table without a key it carries the exact position E."""
    if name != "B" and (scenario.start is Start.TOPICS or scenario.repair or capture.windows or capture.chunk):
        return capture
    number = capture.number + 1
    record = Control("copy", capture.epoch, number, world.executed if name == "B" else 0, table=name[0])
    return capture._replace(number=number, control=(*capture.control, record))


def publish_rows(scenario: Scenario, world: World, capture: Capture, name: str) -> Capture:
    """What a SELECT sees now; a repair publishes the keys that are gone too (op d)."""
    keys, rows = scenario.tables[world.visible]
    if name == "B":
        return row(capture, 0, Operation("B", 0, rows)) if rows else capture
    for key in PARTITIONS if name == "A" else (int(name[1]),):
        if keys[key] is not None or scenario.repair:
            capture = row(capture, key, Operation("A", key, keys[key]))
    return capture


def row(capture: Capture, p: int, operation: Operation) -> Capture:
    numbers = put(capture.numbers, p, capture.numbers[p] + 1)
    record = Record(capture.epoch, numbers[p], 0, "r", *operation)
    return capture._replace(numbers=numbers, queues=put(capture.queues, p, (*capture.queues[p], record)))


def read_q(scenario: Scenario, world: World, capture: Capture) -> int:
    q = world.executed if scenario.wrong is Wrong.Q_FROM_EXECUTED else world.written
    return max(q, capture.position)


# -- the initial load ----------------------------------------------------------------------------------------------------------

CHUNKS = ("A0", "A1", "B")


def steps(scenario: Scenario, world: World) -> Iterator[Step]:
    """P, the chunks (each read, then written with its ledger row in one transaction), Q."""
    loader = world.loader
    if loader.phase < LOADED:
        yield from load(scenario, world, loader)
        yield from replaced(world, loader)
    if loader.zombie is not None and scenario.wrong is Wrong.LOADER_WITHOUT_FENCE:
        key, value = loader.zombie
        target = world.target._replace(a=put(world.target.a, key, value))
        yield Step(("ZOMBIE loader writes key", key, value), False, world._replace(target=target, loader=loader._replace(zombie=None)))


def load(scenario: Scenario, world: World, loader: Loader) -> Iterator[Step]:
    if loader.phase == 0:
        if is_decided(scenario, world):
            yield read_p(scenario, world)
    elif loader.phase > len(CHUNKS):
        yield finish(scenario, world)
    elif loader.holds:
        yield write_chunk(scenario, world, loader, CHUNKS[loader.phase - 1])
    else:
        yield from read_chunk(scenario, world, loader, CHUNKS[loader.phase - 1])


def is_decided(scenario: Scenario, world: World) -> bool:
    """No XA transaction is prepared and not decided: its rows are below the position and would be true above it."""
    return not (scenario.prepared[world.executed] or scenario.prepared[world.written]) or scenario.wrong is Wrong.XA_P_WHILE_PREPARED


def read_p(scenario: Scenario, world: World) -> Step:
    p = world.written if scenario.wrong is Wrong.CARELESS_P else world.executed
    progress = world.target.progress._replace(position=p)
    return Step(("loader: P is", p), True, world._replace(target=world.target._replace(progress=progress), loader=Loader(1)))


def read_chunk(scenario: Scenario, world: World, loader: Loader, name: str) -> Iterator[Step]:
    keys, rows = scenario.tables[world.visible]
    if name == "B" and not is_exact(scenario, world):
        return
    held = rows if name == "B" else keys[int(name[1])]
    changed = loader._replace(holds=True, held=held, exact=world.executed if name == "B" else NOWHERE)
    yield Step(("loader reads", name, held), True, world._replace(loader=changed))


def is_exact(scenario: Scenario, world: World) -> bool:
    """No commit is on its way: what is executed is exactly what a SELECT sees."""
    return world.executed == world.visible or scenario.wrong is Wrong.INEXACT_KEYLESS


def write_chunk(scenario: Scenario, world: World, loader: Loader, name: str) -> Step:
    target, held = world.target, loader.held
    if name == "B":
        progress = target.progress._replace(floor=loader.exact)
        target = target._replace(b=target.b + (held or 0), progress=progress)
    else:
        target = target._replace(a=loaded(scenario, target, int(name[1]), held))
    changed = Loader(loader.phase + 1, zombie=loader.zombie)
    return Step(("loader writes", name, held), True, world._replace(target=target, loader=changed))


def loaded(scenario: Scenario, target: Target, key: int, value: int | None) -> TableA:
    """A plain COPY; where the sink runs beside the load (wrong), its newer row stays."""
    if scenario.wrong is Wrong.APPLY_WHILE_LOADING and target.a[key] is not None:
        return target.a
    return put(target.a, key, value)


def finish(scenario: Scenario, world: World) -> Step:
    q = world.executed if scenario.wrong is Wrong.Q_FROM_EXECUTED else world.written
    progress = world.target.progress._replace(ceiling=q)
    changed = Loader(LOADED, zombie=world.loader.zombie)
    return Step(("loader: Q is", q), True, world._replace(target=world.target._replace(progress=progress), loader=changed))


def replaced(world: World, loader: Loader) -> Iterator[Step]:
    """The loader is replaced by another that goes on at the ledger's next chunk; the old one holds its row for ever."""
    left = world.faults.loader_zombie
    if left and loader.holds and CHUNKS[loader.phase - 1] != "B":
        changed = Loader(loader.phase, zombie=(loader.phase - 1, loader.held))
        faults = world.faults._replace(loader_zombie=left - 1)
        yield Step(("loader becomes a ZOMBIE",), False, world._replace(loader=changed, faults=faults))
