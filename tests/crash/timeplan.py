"""What a seed of the lane of time stands for: how long everything lasts, whose clock is wrong, and what an operator does meanwhile."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.crash.points import CAPTURE, SINK, WAYS
from tests.crash.workload import Habits
from tests.crash.works import DIRECT, GROUP, ONE, SPLIT

TIME = "time"
"""How a case of this lane is chosen."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "waited_seconds": (0.0001, 0.1), "quiet_seconds": (0.01, 1), "clock_again_seconds": (0.1, 10), "xa_shown_seconds": (0.001, 1),
    "exact_seconds": (1, 30), "exact_on_the_way_seconds": (0.05, 2), "target_truncate_ms": (10, 2_000),
    "cut_seconds": (0.001, 10), "full_cut_seconds": (0.001, 10), "near_us": (100, 5_000_000), "direct_wait_seconds": (0.002, 2),
    "log_silence_seconds": (2, 10), "invisible_seconds": (1, 15), "decision_seconds": (0.2, 10), "decision_poll_seconds": (0.001, 0.5),
    "piece_seconds": (0.0005, 1), "hear_seconds": (0.001, 2), "shown_seconds": (0.01, 5), "shown_poll_seconds": (0.0005, 0.2),
    "window_poll_seconds": (0.001, 0.5), "locking_read_seconds": (0.0005, 0.1), "read_seconds": (0.0005, 1), "scout_seconds": (0.0005, 0.1),
    "chunk_seconds": (0.001, 2), "load_look_seconds": (0.01, 2), "load_nap_seconds": (0.005, 0.5), "longest_rest_seconds": (0.01, 2),
    "away_seconds": (0.3, 3), "settle_poll_seconds": (0.005, 0.2), "first_wait_seconds": (0.005, 0.5), "flush_poll_seconds": (0.001, 0.5),
    "poll_silence_seconds": (0.5, 10), "close_seconds": (0.2, 3), "group_close_seconds": (0.2, 5), "reconnect_longest_ms": (100, 2_000),
    "linger_ms": (1, 300), "fetch_queue_backoff_ms": (1, 300), "fetch_error_backoff_ms": (1, 500), "fetch_wait_ms": (1, 500),
    "fetch_held_ms": (1, 100), "group_heartbeat_ms": (200, 2_000),
    "idle_seconds": (0.001, 2), "retry_first_seconds": (0.001, 0.1), "retry_longest_seconds": (0.01, 2),
    "quarantine_window_seconds": (0.05, 600), "release_first_seconds": (0.005, 0.2), "release_longest_seconds": (0.05, 2),
    "shards_look_seconds": (0.005, 5), "target_lock_ms": (50, 10_000), "target_idle_ms": (5_000, 120_000),
    "pause_first_seconds": (0.005, 0.25), "pause_longest_seconds": (0.05, 2), "healthy_seconds": (0.1, 60), "linger_seconds": (0.05, 5),
    "grace_seconds": (2, 8), "member_poll_seconds": (0.005, 0.5), "handover_seconds": (0.05, 5), "loaded_poll_seconds": (0.01, 1),
    "command_poll_seconds": (0.005, 0.5), "position_poll_seconds": (0.001, 0.5),
}  # fmt: skip
"""What is drawn, evenly by orders of magnitude. What is left out would only end waits that a busy machine needs."""
RETENTION_MS = (15_000, 30_000)
"""Longer than a sink is away in this lane, for what is gone before it was applied is lost by right."""
GROUP_RETENTION_MS = (40_000, 60_000)
"""A shard is longer without a sink: a group takes its seconds to see that a member has died, and the next may die too (seed 245)."""
WEIGHTS: Mapping[str, int] = {
    "idle": 2, "backlog": 3, "nap": 6, "kill": 3, "stop": 1, "freeze": 3, "burst": 1,
    "copy": 3, "keys": 2, "rest": 1, "prove": 1, "wait": 3, "status": 2, "held": 1,
    "create": 3, "foreign": 4, "leave": 2, "empty": 2, "expire": 3, "travel": 2,
}  # fmt: skip
"""How often each act is drawn, against the others; `tests/crash/chores.py` says what they are."""
_MEANWHILE = ("create", "create", "foreign", "burst", "idle", "empty", "expire", "travel", "leave", "status")
"""What is done while a process sleeps at a point."""
_KAFKA_ALONE = ("expire", "anew")
_ASLEEP = (
    "capture.based", "capture.based", "capture.started", "capture.prepared", "capture.cut", "capture.copy_announced",
    "capture.acknowledged", "copying.opened", "copying.read", "apply.opened", "apply.taken", "apply.emptied", "apply.entered",
    "apply.committed", "target.stored",
)  # fmt: skip


@dataclass(frozen=True)
class Act:
    """One thing that somebody does, or that happens."""

    kind: str
    after_seconds: float
    seconds: float = 0.0
    role: str = ""
    """Whose process: "capture" or "apply"."""
    point: str = ""
    ordinal: int = 1
    detail: int = 0
    meanwhile: tuple[Act, ...] = ()

    def __str__(self) -> str:
        what = f" {self.point}:{self.ordinal}" if self.point else f" {self.role}" if self.role else ""
        inner = f" ({', '.join(map(str, self.meanwhile))})" if self.meanwhile else ""
        return f"{self.kind}{what} {self.seconds:.1f}s{inner}"


@dataclass(frozen=True)
class TimePlan:
    """Everything that a seed decides besides the workload's own choices."""

    way: str
    through: str
    timing: Mapping[str, float | int]
    sections: Mapping[str, Mapping[str, Any]]
    """Of pipeline.toml."""
    topics: Mapping[str, str]
    """What topics are set to, on a broker of the lane's own."""
    clocks: Mapping[str, str]
    """By role: what is wrong with its clock."""
    habits: Habits
    acts: tuple[Act, ...]
    outlasts: bool
    """Whether the last rest, on a broker of the lane's own, is longer than the topics' retention."""


def way_of(seed: int, transport: str) -> str:
    """In process; or over a broker in one process, split, or with two sinks."""
    return DIRECT if transport == "direct" else Random(f"time way {seed}").choices((ONE, SPLIT, GROUP), (2, 5, 3))[0]


def plan(seed: int, transport: str, *, short: bool = False) -> TimePlan:
    """The plan of a seed; a short one has fewer acts."""
    rng, way = Random(f"time {seed} {transport}"), way_of(seed, transport)
    timing = {name: _drawn(rng, *bounds, whole=name.endswith(("_ms", "_us"))) for name, bounds in _RANGES.items()}
    retention = int(_drawn(rng, *(GROUP_RETENTION_MS if way == GROUP else RETENTION_MS), whole=True))
    timing |= {"retention_ms": retention}
    if timing["shown_seconds"] < 4 * timing["shown_poll_seconds"]:
        timing["shown_seconds"] = 4 * timing["shown_poll_seconds"]
    wounds = rng.random() < 0.25
    acts = tuple(_acts(rng, transport, way, wounds, 3 if short else rng.randint(5, 9)))
    return TimePlan(
        way,
        "topics" if way != GROUP and rng.random() < 0.2 else "target",
        timing,
        {
            "source": {"heartbeat_seconds": round(rng.choice((0.05, 0.1, 0.5)), 3)},
            "apply": {"max_delay_seconds": rng.choice((0.0, 0.001, 0.02, 0.2, 1.0, 3.0))},
        },
        {
            "retention.ms": str(retention), "segment.ms": str(rng.choice((500, 1_000, 3_000))),
            "max.compaction.lag.ms": str(2 * retention),
        },
        {role: _clock(rng) for role in ("capture", "apply") if rng.random() < 0.25},
        Habits(myisam=rng.random() < 0.7, xa=rng.random() < 0.3, wounds=wounds),
        acts,
        outlasts=transport == "kafka" and rng.random() < 0.3,
    )  # fmt: skip


def _drawn(rng: Random, low: float, high: float, *, whole: bool) -> float | int:
    found = math.exp(rng.uniform(math.log(low), math.log(high)))
    return round(found) if whole else round(found, 5)


def _clock(rng: Random) -> str:
    """An hour or a few seconds off, gaining or losing, and set while the process runs."""
    said = {
        "seconds": rng.choice((0, 0, 3.0, -3.0, 3600, -3600)),
        "drift": rng.choice((0, 0, 0.02, -0.02)),
        "jumps": [[round(rng.uniform(0.5, 6), 1), rng.choice((-60, -2, 2, 60))] for _ in range(rng.choice((0, 0, 1, 2)))],
    }
    return json.dumps(said)


def _possible(kind: str, transport: str, way: str) -> bool:
    """`cdc run` looks at the places of all tables before it starts, and refuses them together."""
    return not (kind in _KAFKA_ALONE and transport != "kafka") and not (kind == "foreign" and way in (DIRECT, ONE))


def _acts(rng: Random, transport: str, way: str, wounds: bool, count: int) -> Iterator[Act]:
    weights = {kind: weight for kind, weight in WEIGHTS.items() if _possible(kind, transport, way)}
    if not wounds:
        weights.pop("held")
    for _ in range(count):
        yield _act(rng, rng.choices(list(weights), list(weights.values()))[0], transport, way)
    if transport == "kafka" and rng.random() < 0.08:
        yield _act(rng, "anew", transport, way)


def _act(rng: Random, kind: str, transport: str, way: str) -> Act:
    after, seconds = round(rng.random() * 0.6, 2), round(rng.choice((0.1, 0.5, 1.5, 3.0)) * rng.random(), 2)
    role, detail = rng.choice(("capture", "apply")), rng.randrange(1 << 16)
    if kind == "nap":
        point = rng.choice(_ASLEEP)
        inner = [rng.choice(_MEANWHILE) for _ in range(rng.randint(1, 3))]
        meanwhile = tuple(_act(rng, each, transport, way) for each in inner if _possible(each, transport, way))
        return Act(kind, after, seconds, WAYS[point].role, point, 1 if WAYS[point].once else rng.choice((1, 1, 2, 4)), detail, meanwhile)
    if kind == "kill":
        names = [name for name, way in WAYS.items() if way.group in (CAPTURE, SINK) and transport in way.transports and not way.ungrouped]
        point = rng.choice(["", "capture.copy_announced", *names])
        return Act(kind, after, seconds, WAYS[point].role if point else role, point, rng.choice((1, 1, 2, 5)), detail)
    if kind in ("stop", "freeze"):
        return Act(kind, after, max(seconds, 2.5) if kind == "freeze" else seconds, role, detail=detail)
    return Act(kind, after, seconds, detail=detail)
