"""Which faults a seed stands for: the whole plan of a run, known before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from tests.crash.arena import BROKER, SOURCE, TARGET
from tests.crash.points import CAPTURE, LOAD, SHARD, SINK, WAIT, WAYS, XA
from tests.crash.workload import TABLES, Habits
from tests.crash.works import GROUP, MEMBERS

WEIGHTS = {
    "crash": 6, "kill": 3, "zombie": 2, "pause": 1, "stop": 1, "twice": 1, "session": 2,
    "server": 4, "freeze": 1, "cut": 2, "reset": 2, "stall": 2, "slow": 1, "flip": 2,
}  # fmt: skip
"""How often each kind of fault is drawn, against the others."""
_WEIGHTS_OF_A_GROUP = {**WEIGHTS, "copy": 3}
"""Copies are asked for while members die: all of them begin and end each together."""
_ELSEWHERE = ("apply.rewinding", "fence.kept", "kafka.topic_created", "schemas.registering", "schemas.appended")
"""Points that a pipeline comes by at its first start only, or when something else is provoked: the lane of points does them."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    victim: str
    """A command of ours ("capture", "apply", "apply 2"), a server, or a table to be copied."""
    after_seconds: float
    """Since the fault before."""
    seconds: float = 0.0
    """How long it lasts."""
    point: str = ""
    ordinal: int = 1
    detail: int = 0

    def __str__(self) -> str:
        what = f"{self.point}:{self.ordinal}" if self.point else f"{self.victim} {self.seconds:.1f}s"
        return f"{self.kind} {what}" + (f" {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Plan:
    """Everything that a seed decides besides the workload's own choices."""

    faults: tuple[Fault, ...]
    tls: bool
    skew_seconds: int
    """How far the clocks of our own processes are off."""
    large: bool
    """Whether a transaction that passes in pieces is under way meanwhile."""
    crash_in_load: str
    """A point of the load at which the first start dies; "" for none."""
    habits: Habits
    """What the writers do."""


def plan(seed: int, transport: str, way: str = "") -> Plan:
    """The plan of a seed; a group of sinks has another one."""
    rng = Random(f"plan {seed} {GROUP if way == GROUP else transport}")
    tls, xa, wounds = rng.random() < 0.5, rng.random() < 0.2, rng.random() < 0.2
    draw = _fault_of_a_group if way == GROUP else _fault
    faults = tuple(draw(rng, transport, xa, wounds) for _ in range(rng.randint(2, 5)))
    # A source that is killed may differ from its own log for good, where it wrote MyISAM (rows before log, neither repaired) or
    # prepared XA transactions (log and engine are two steps on MariaDB): what cannot be right is not judged.
    killed = any(fault.kind == "server" and fault.victim == SOURCE for fault in faults)
    points = [name for name, way in WAYS.items() if way.group == LOAD]
    return Plan(
        faults,
        tls=tls,
        skew_seconds=rng.choice((*(0,) * 10, 3600, -3600)),
        large=rng.random() < 0.1,
        crash_in_load=rng.choice(points) if rng.random() < 0.25 else "",
        habits=Habits(myisam=not killed, xa=xa and not killed, wounds=wounds),
    )


def _points(transport: str, xa: bool, wounds: bool, *more: str) -> list[str]:
    """Where a process of a running pipeline may be made to die."""
    groups = (CAPTURE, SINK, *more, *([XA] if xa else []), *([WAIT] if wounds else []))
    return [
        name
        for name, way in WAYS.items()
        if way.group in groups and transport in way.transports and name not in _ELSEWHERE and way.role in ("capture", "apply")
    ]


def _fault_of_a_group(rng: Random, transport: str, xa: bool, wounds: bool) -> Fault:
    """As any other, or a copy; what would happen to the sink happens to one of its members."""
    kind = rng.choices(list(_WEIGHTS_OF_A_GROUP), list(_WEIGHTS_OF_A_GROUP.values()))[0]
    names = [name for name in _points(transport, xa, wounds, SHARD) if not WAYS[name].ungrouped]
    drawn = _fault_of(kind, rng, transport, names)
    return replace(drawn, victim=rng.choice(MEMBERS)) if drawn.victim == "apply" else drawn


def _fault(rng: Random, transport: str, xa: bool, wounds: bool) -> Fault:
    return _fault_of(rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0], rng, transport, _points(transport, xa, wounds))


def _fault_of(kind: str, rng: Random, transport: str, names: list[str]) -> Fault:
    servers = (SOURCE, TARGET, BROKER) if transport == "kafka" else (SOURCE, TARGET)
    after, seconds = round(rng.random() * 0.8, 2), round(rng.choice((0.1, 0.5, 1.0, 3.0)) * rng.random(), 2)
    if kind == "crash":
        name = rng.choice(names)
        return Fault(kind, WAYS[name].role, after, point=name, ordinal=1 if WAYS[name].once else rng.choice((1, 2, 3, 5, 10)))
    if kind in ("kill", "zombie", "pause", "stop", "twice"):
        return Fault(kind, rng.choice(("capture", "apply")), after, seconds)
    if kind == "session":
        return Fault(kind, rng.choice((SOURCE, TARGET)), after)
    if kind == "copy":
        return Fault(kind, rng.choice(TABLES), after, detail=rng.randint(0, 1))
    if kind == "freeze":
        return Fault(kind, rng.choice([server for server in servers if server != TARGET]), after, seconds)
    if kind == "stall":
        return Fault(kind, rng.choice(servers), after, seconds * 2, detail=rng.randint(1, 3))
    if kind == "slow":
        return Fault(kind, rng.choice(servers), after, seconds, detail=rng.choice((20, 200)))
    if kind == "flip":
        return Fault(kind, rng.choice((SOURCE, TARGET)), after, 1.0 + seconds, detail=rng.choice((1, 100, 3000)))
    return Fault(kind, rng.choice(servers), after, seconds)
