"""How each crash point is come by: whose process, on which transports, after which preparation, and what must be provoked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.crash.arena import TRANSPORTS
from tests.crash.workload import BULK_ROWS, Habits, Workload, patiently
from tests.crash.works import GATHER, Works, until

LOAD, CAPTURE, SINK, COPY, WAIT, XA, SHARD = "load", "capture", "sink", "copy", "quarantine", "xa", "shard"
"""Groups of points that one pipeline can come by in a row: the initial load, capture, the sink, a copy through the topics, rows
that wait in quarantine, transactions that wait for their outcome, and what only members of a group come by."""
GROUPS = (LOAD, CAPTURE, SINK, COPY, WAIT, XA, SHARD)
Provoke = Callable[[Works, Workload], None]


def _nothing(works: Works, work: Workload) -> None:
    """The point is come by in any case."""


def grow(works: Works, work: Workload) -> None:
    """A transaction comes that passes in pieces."""
    work.grow()


def _lose_connection(works: Works, work: Workload) -> None:
    """The sink streams, and the target ends its session."""
    before = works.cut_no()
    until(lambda: works.cut_no() > before, works.patience(60), "a cut before the lost connection")
    with works.place.target.connect("postgres") as line:
        line.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'cdc % apply'"
        )


def _begin_anew(works: Works, work: Workload) -> None:
    """Capture starts once more, so that the sink finds a base that it has not entered yet."""
    if works.of("capture") != works.of("apply"):
        works.kill("capture")
        works.start("capture")


def _tear(works: Works, work: Workload) -> None:
    """Capture dies after the first piece of a large transaction was taken by the sink, and begins again below it."""

    def large() -> bool:
        source = works.place.source
        return bool(patiently(lambda: source.execute("SELECT count(*) FROM bulk"), source) == [(BULK_ROWS,)])

    if not large():
        work.grow()  # the first one comes in one piece and a half, the next ones in more than two
        until(large, works.patience(60), "a large table")
    before = works.cut_no()
    until(lambda: works.cut_no() > before, works.patience(60), "a cut before the large transaction")
    works.kill("capture")
    works.start("capture", "capture.partial_cut:2")
    work.grow()
    works.dies("capture", 90)
    works.start("capture")


def _waiting(works: Works, work: Workload) -> None:
    """Keys of both tables wait, so many that among them there are three whose last change the target takes."""
    works.start_all()
    until(lambda: min(works.held("wound"), works.held("scar")) >= 8, works.patience(60), "keys in quarantine")


def _change(works: Works, work: Workload) -> None:
    """A load that has begun dies, and three of its tables are other ones when it is started again."""
    command, columns = works.of("load"), {"number": "n BIGINT NOT NULL", "heap": "note VARCHAR(30)", "wound": "note VARCHAR(30) NOT NULL"}
    works.kill(command)
    works.start(command, "load.floor:1")
    works.dies(command)
    for table, column in columns.items():
        works.place.source.execute(f"ALTER TABLE {table} MODIFY {column}")


def _undecided(works: Works, work: Workload) -> None:
    """A transaction is prepared, stays so, and the target has passed it: the next reader must begin before its position."""
    work.may_decide.clear()
    until(work.prepared.is_set, works.patience(60), "a prepared transaction")
    works.start_all()
    before = works.cut_no()
    until(lambda: works.floored() and works.cut_no() > before, works.patience(60), "a position with a floor")


def _meet(works: Works, work: Workload) -> None:
    """Each member has a shard, and then comes a base, at which all stand together."""
    members = [works.processes[command] for command in works.sinks if command in works.processes]
    until(lambda: all(works.works_on_a_shard(one) for one in members if one.alive), works.patience(60), "members that have shards")
    _begin_anew(works, work)


def _ask(*options: str) -> Provoke:
    """Some tables are to be copied again while the pipeline streams."""

    def ask(works: Works, work: Workload) -> None:
        works.await_cut()
        for table in ("account", "slot", "counter"):
            works.pipeline.run("copy", f"{works.name}.{table}", "--no-wait", *options)

    return ask


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
    """Done once the process has started that is to die."""
    prepare: Provoke = _nothing
    """Done before."""
    reason: str = ""
    """Why it does not occur on the other transport."""
    never_again: str = ""
    """Why a pipeline comes by once in its life."""
    alone: bool = False
    """Only while no other sink works, which would come by in its place."""
    ungrouped: str = ""
    """Why members of a group do not come by, or not by chance."""


_KAFKA = ("kafka",)
_NO_TOPICS = "in process there are no topics and no schemas topic: what capture makes is in memory"
_BESIDE = "there capture may run beside the load, and what changes a table that it follows stops it"
_NO_REWIND = "in process capture and sink die together, so no sink holds pieces of a capture that began again"
_ONE_PROCESS = "in process there is one sink"
_TOGETHER = "members enter a base together: shard.meeting and shard.met stand there"
_NEVER_KEPT = "who lost the connection takes its shard over anew, like anybody else"
_RARE = "needs a pipeline without members, or one process in place of them: the lane of points does it"
WAYS: Mapping[str, Way] = {
    "migration.step": Way(LOAD, "load"),
    "migration.done": Way(LOAD, "load", never_again="the migration is committed, the next start finds nothing to migrate"),
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
    "load.given_up": Way(LOAD, "load", ("direct",), prepare=_change, reason=_BESIDE),
    "load.ceiling": Way(LOAD, "load", once=True),
    "load.finished": Way(LOAD, "load"),
    "load.ended": Way(LOAD, "load", once=True),
    "load.stored": Way(LOAD, "load", never_again="the first position is committed, the next start finds the load complete"),
    "kafka.topic_created": Way(CAPTURE, "capture", _KAFKA, reason=_NO_TOPICS),
    "schemas.registering": Way(CAPTURE, "capture", _KAFKA, reason=_NO_TOPICS),
    "schemas.appended": Way(CAPTURE, "capture", _KAFKA, reason=_NO_TOPICS),
    "capture.started": Way(CAPTURE, "capture", once=True),
    "capture.prepared": Way(CAPTURE, "capture", once=True),
    "capture.based": Way(CAPTURE, "capture", once=True),
    "capture.sending": Way(CAPTURE, "capture"),
    "capture.sent": Way(CAPTURE, "capture"),
    "kafka.produced": Way(CAPTURE, "capture", _KAFKA, reason=_NO_TOPICS),
    "capture.acknowledging": Way(CAPTURE, "capture"),
    "capture.acknowledged": Way(CAPTURE, "capture"),
    "capture.cut": Way(CAPTURE, "capture"),
    "capture.sent_within": Way(CAPTURE, "capture", provoke=grow),
    "capture.partial_cut": Way(CAPTURE, "capture", once=True, provoke=grow),
    "apply.opened": Way(SINK, "apply", once=True),
    "apply.taken": Way(SINK, "apply"),
    "apply.entered": Way(SINK, "apply", once=True, provoke=_begin_anew, ungrouped=_TOGETHER),
    "target.sent": Way(SINK, "apply"),
    "target.stored": Way(SINK, "apply"),
    "apply.written": Way(SINK, "apply"),
    "target.committed": Way(SINK, "apply"),
    "apply.committed": Way(SINK, "apply"),
    "apply.released": Way(SINK, "apply"),
    "fence.kept": Way(SINK, "apply", once=True, provoke=_lose_connection, ungrouped=_NEVER_KEPT),
    "apply.piece_written": Way(SINK, "apply", once=True, provoke=grow),
    "apply.rewinding": Way(SINK, "apply", _KAFKA, once=True, split=True, provoke=_tear, reason=_NO_REWIND),
    "capture.copying": Way(COPY, "capture", once=True),
    "capture.copy_announced": Way(COPY, "capture"),
    "capture.table_copied": Way(COPY, "capture"),
    "capture.copied": Way(COPY, "capture", once=True),
    "apply.emptied": Way(COPY, "apply"),
    "copying.opened": Way(COPY, "capture", provoke=_ask()),
    "copying.read": Way(COPY, "capture", provoke=_ask()),
    "apply.swapped": Way(COPY, "apply", provoke=_ask("--swap")),
    "shard.dealt": Way(SHARD, "apply", _KAFKA, once=True, alone=True, reason=_ONE_PROCESS, ungrouped=_RARE),
    "shard.cleared": Way(SHARD, "apply", _KAFKA, once=True, reason=_ONE_PROCESS),
    "shard.raised": Way(SHARD, "apply", _KAFKA, once=True, reason=_ONE_PROCESS),
    "shard.waiting": Way(SHARD, "apply", _KAFKA, once=True, provoke=_meet, reason=_ONE_PROCESS),
    "shard.meeting": Way(SHARD, "apply", _KAFKA, once=True, alone=True, provoke=_meet, reason=_ONE_PROCESS),
    "shard.met": Way(SHARD, "apply", _KAFKA, once=True, alone=True, provoke=_meet, reason=_ONE_PROCESS),
    "shard.gathered": Way(SHARD, GATHER, _KAFKA, once=True, alone=True, reason=_ONE_PROCESS, ungrouped=_RARE),
    "quarantine.queued": Way(WAIT, "apply"),
    "quarantine.known": Way(WAIT, "apply", once=True, prepare=_waiting),
    "quarantine.replayed": Way(WAIT, "replay", prepare=_waiting),
    "quarantine.released": Way(WAIT, "discard", prepare=_waiting),
    "quarantine.freed": Way(WAIT, "replay", prepare=_waiting),
    "xa.held": Way(XA, "capture"),
    "xa.decided": Way(XA, "capture"),
    "xa.again": Way(XA, "capture", once=True, prepare=_undecided),
}
"""Every point, in the order in which a pipeline comes by within its group."""


ORDINALS = (1, 2, 3)
_CHAINED = (CAPTURE, SINK, WAIT, XA, SHARD)
"""Groups whose points are come by again and again, so that one pipeline serves them all at any ordinal."""


def chains(transport: str, ordinal: int) -> Iterator[list[str]]:
    """Every point that exists on this transport, those together that one pipeline can come by in a row at this ordinal."""
    for group in GROUPS:
        names = [name for name in of_group(group, transport) if not impossible(name, transport, ordinal)]
        if ordinal == 1 or group in _CHAINED:
            if row := [name for name in names if ordinal == 1 or name not in _BEGINNINGS]:
                yield row
            names = [name for name in names if ordinal > 1 and name in _BEGINNINGS]
        yield from ([name] for name in names)


_BEGINNINGS = ("kafka.topic_created", "schemas.registering", "schemas.appended")
"""Points of capture that a pipeline comes by at its first start only: beyond the first passing each needs a pipeline of its own."""


def of_group(group: str, transport: str, *, split: bool = True) -> list[str]:
    """The points of a group that exist on this transport."""
    return [name for name, way in WAYS.items() if way.group == group and transport in way.transports and (split or not way.split)]


def impossible(name: str, transport: str, ordinal: int = 1) -> str:
    """Why no process comes by this point so often on this transport; "" where one does."""
    way = WAYS[name]
    return way.reason if transport not in way.transports else way.never_again if ordinal > 1 else ""


def habits(groups: Iterable[str]) -> Habits:
    """What the writers must do for the points of these groups."""
    return Habits(xa=XA in groups, wounds=WAIT in groups)


def die_at(works: Works, work: Workload, name: str, ordinal: int) -> bool:
    """Let the process that comes by this point end there; False when it never did."""
    way = WAYS[name]
    command = works.of(way.role)
    starts, at = (ordinal, 1) if way.once else (1, ordinal)
    for _ in range(starts):
        way.prepare(works, work)
        silent = {command, *(works.sinks if way.alone else ())}
        for one in silent:
            works.kill(one)
        if command != "snapshot":
            works.start_all(*silent)
        elif "apply" not in works.processes:
            works.start("apply")  # what always runs may be there before there is anything to apply
        works.start(command, f"{name}:{at}")
        way.provoke(works, work)
        died = works.dies(command)
        work.may_decide.set()
        if not died:
            return False
    return True


def members_come_by(*, own: bool = True) -> list[str]:
    """The points that running members of a group come by; not `own`: only those that every sink comes by."""
    groups = (SINK, SHARD) if own else (SINK,)
    return [name for name, way in WAYS.items() if way.group in groups and way.role == "apply" and not way.ungrouped]
