"""How each crash point is come by: whose process, on which transports, after which preparation, and what must be provoked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.crash.arena import TRANSPORTS
from tests.crash.workload import BULK_ROWS, Workload, patiently
from tests.crash.works import Works, until

LOAD, CAPTURE, SINK, COPY = "load", "capture", "sink", "copy"
"""Groups of points that one pipeline can come by in a row: the initial load, capture, the sink, a copy through the topics."""
GROUPS = (LOAD, CAPTURE, SINK, COPY)
Provoke = Callable[[Works, Workload], None]


def _nothing(works: Works, work: Workload) -> None:
    """The point is come by in any case."""


def _grow(works: Works, work: Workload) -> None:
    work.grow()


def _lose_connection(works: Works, work: Workload) -> None:
    """The sink streams, and the target ends its session."""
    before = works.cut_no()
    until(lambda: works.cut_no() > before, 60, "a cut before the lost connection")
    with works.place.target.connect("postgres") as line:
        line.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'cdc % apply'"
        )


def _tear(works: Works, work: Workload) -> None:
    """Capture dies after the first piece of a large transaction was taken by the sink, and begins again below it."""
    count = "SELECT count(*) FROM bulk"
    if patiently(lambda: works.place.source.execute(count), works.place.source) != [(BULK_ROWS,)]:
        work.grow()  # the first one comes in one piece and a half, the next ones in more than two
        until(lambda: patiently(lambda: works.place.source.execute(count), works.place.source) == [(BULK_ROWS,)], 60, "a large table")
    before = works.cut_no()
    until(lambda: works.cut_no() > before, 60, "a cut before the large transaction")
    works.kill("capture")
    works.start("capture", "capture.partial_cut:2")
    work.grow()
    works.dies("capture", 90)
    works.start("capture")


@dataclass(frozen=True)
class Way:
    """How one point is reached."""

    group: str
    role: str
    transports: tuple[str, ...] = TRANSPORTS
    once: bool = False
    """A process comes by once in its life: its ordinal n means that n starts in a row die there."""
    split: bool = False
    """Only where capture and sink are processes of their own."""
    provoke: Provoke = _nothing


_KAFKA = ("kafka",)
WAYS: Mapping[str, Way] = {
    "migration.step": Way(LOAD, "load"),
    "migration.done": Way(LOAD, "load", once=True),
    "fence.cleared": Way(LOAD, "load", once=True),
    "fence.raised": Way(LOAD, "load", once=True),
    "target.locked": Way(LOAD, "load"),
    "load.created": Way(LOAD, "load"),
    "load.floor": Way(LOAD, "load", once=True),
    "load.begun": Way(LOAD, "load"),
    "load.read": Way(LOAD, "load"),
    "load.written": Way(LOAD, "load"),
    "load.ledger": Way(LOAD, "load"),
    "load.chunk": Way(LOAD, "load"),
    "load.keyless_read": Way(LOAD, "load"),
    "load.keyless_copied": Way(LOAD, "load"),
    "load.ceiling": Way(LOAD, "load", once=True),
    "load.finished": Way(LOAD, "load"),
    "load.ended": Way(LOAD, "load", once=True),
    "load.stored": Way(LOAD, "load", once=True),
    "kafka.topic_created": Way(CAPTURE, "capture", _KAFKA),
    "schemas.registering": Way(CAPTURE, "capture", _KAFKA),
    "schemas.appended": Way(CAPTURE, "capture", _KAFKA),
    "capture.started": Way(CAPTURE, "capture", once=True),
    "capture.prepared": Way(CAPTURE, "capture", once=True),
    "capture.based": Way(CAPTURE, "capture", once=True),
    "capture.sending": Way(CAPTURE, "capture"),
    "capture.sent": Way(CAPTURE, "capture"),
    "kafka.produced": Way(CAPTURE, "capture", _KAFKA),
    "capture.acknowledging": Way(CAPTURE, "capture"),
    "capture.acknowledged": Way(CAPTURE, "capture"),
    "capture.cut": Way(CAPTURE, "capture"),
    "capture.sent_within": Way(CAPTURE, "capture", provoke=_grow),
    "capture.partial_cut": Way(CAPTURE, "capture", once=True, provoke=_grow),
    "apply.opened": Way(SINK, "apply", once=True),
    "apply.taken": Way(SINK, "apply"),
    "apply.entered": Way(SINK, "apply", once=True),
    "target.sent": Way(SINK, "apply"),
    "target.stored": Way(SINK, "apply"),
    "apply.written": Way(SINK, "apply"),
    "target.committed": Way(SINK, "apply"),
    "apply.committed": Way(SINK, "apply"),
    "apply.released": Way(SINK, "apply"),
    "fence.kept": Way(SINK, "apply", once=True, provoke=_lose_connection),
    "apply.piece_written": Way(SINK, "apply", once=True, provoke=_grow),
    "apply.rewinding": Way(SINK, "apply", _KAFKA, once=True, split=True, provoke=_tear),
    "capture.copying": Way(COPY, "capture", once=True),
    "capture.copy_announced": Way(COPY, "capture"),
    "capture.table_copied": Way(COPY, "capture"),
    "capture.copied": Way(COPY, "capture", once=True),
    "apply.emptied": Way(COPY, "apply"),
}
"""Every point, in the order in which a pipeline comes by within its group."""


def of_group(group: str, transport: str, *, split: bool = True) -> list[str]:
    """The points of a group that exist on this transport."""
    return [name for name, way in WAYS.items() if way.group == group and transport in way.transports and (split or not way.split)]


def die_at(works: Works, work: Workload, name: str, ordinal: int) -> bool:
    """Let the process that comes by this point end there; False when it never did."""
    way = WAYS[name]
    command = works.of(way.role)
    starts, at = (ordinal, 1) if way.once else (1, ordinal)
    for _ in range(starts):
        works.kill(command)
        if command != "snapshot":
            works.start_all(but=command)
        works.start(command, f"{name}:{at}")
        way.provoke(works, work)
        if not works.dies(command):
            return False
    return True
