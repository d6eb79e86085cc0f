"""Which faults a seed stands for: the whole plan of a run, known before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.crash.arena import BROKER, SOURCE, TARGET
from tests.crash.points import COPY, LOAD, WAYS

WEIGHTS = {
    "crash": 6, "kill": 3, "zombie": 2, "pause": 1, "stop": 1, "twice": 1, "session": 2,
    "server": 4, "freeze": 1, "cut": 2, "reset": 2, "stall": 2, "slow": 1, "flip": 2,
}  # fmt: skip
"""How often each kind of fault is drawn, against the others."""
STREAM_POINTS = tuple(name for name, way in WAYS.items() if way.group not in (LOAD, COPY) and name not in ("apply.rewinding", "fence.kept"))


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    victim: str
    """A role of ours ("capture", "apply"), or a server."""
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

    @property
    def kills_source(self) -> bool:
        """MyISAM writes its rows before the log and repairs neither: a source that is killed may then differ from its own log."""
        return any(fault.kind == "server" and fault.victim == SOURCE for fault in self.faults)


def plan(seed: int, transport: str) -> Plan:
    """The plan of a seed."""
    rng = Random(f"plan {seed} {transport}")
    tls = rng.random() < 0.5
    faults = tuple(_fault(rng, transport) for _ in range(rng.randint(2, 5)))
    points = [name for name, way in WAYS.items() if way.group == LOAD]
    return Plan(
        faults,
        tls=tls,
        skew_seconds=rng.choice((0, 0, 0, 3600, -3600)),
        large=rng.random() < 0.15,
        crash_in_load=rng.choice(points) if rng.random() < 0.25 else "",
    )


def _fault(rng: Random, transport: str) -> Fault:
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    servers = (SOURCE, TARGET, BROKER) if transport == "kafka" else (SOURCE, TARGET)
    after, seconds = round(rng.random() * 1.5, 2), round(rng.choice((0.2, 1.0, 2.0, 4.0)) * rng.random(), 2)
    if kind == "crash":
        name = rng.choice([point for point in STREAM_POINTS if transport in WAYS[point].transports])
        return Fault(kind, WAYS[name].role, after, point=name, ordinal=1 if WAYS[name].once else rng.choice((1, 2, 3, 5, 10)))
    if kind in ("kill", "zombie", "pause", "stop", "twice"):
        return Fault(kind, rng.choice(("capture", "apply")), after, seconds)
    if kind == "session":
        return Fault(kind, rng.choice((SOURCE, TARGET)), after)
    if kind == "freeze":
        return Fault(kind, rng.choice([server for server in servers if server != TARGET]), after, seconds)
    if kind == "stall":
        return Fault(kind, rng.choice(servers), after, seconds * 2, detail=rng.randint(1, 3))
    if kind == "slow":
        return Fault(kind, rng.choice(servers), after, seconds, detail=rng.choice((20, 200)))
    if kind == "flip":
        return Fault(kind, rng.choice((SOURCE, TARGET)), after, 1.0 + seconds, detail=rng.choice((1, 100, 3000)))
    return Fault(kind, rng.choice(servers), after, seconds)
