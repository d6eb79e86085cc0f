"""One pipeline's life by its seed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import patch

from cdc.capture import capture
from cdc.runtime import timing
from sinks import apply, cuts
from tests.simulation.applications import DAY
from tests.simulation.hand import Hand
from tests.simulation.oracle import Oracle
from tests.simulation.world import World

SIZES: list[tuple[Any, str, int, int]] = [
    (capture, "SEND_BYTES", 50, 1 << 16),
    (capture, "PARTIAL_BYTES", 200, 1 << 20),
    (apply, "BATCH_ROWS", 1, 2000),
    (cuts, "AHEAD_BYTES", 2000, 1 << 20),
    (cuts, "AHEAD_CUTS", 5, 500),
    (cuts, "BATCH_BYTES", 2000, 1 << 20),
]
"""What steers by size, and between what it is drawn."""
TIMES = ("cut_seconds", "full_cut_seconds", "near_us", "direct_wait_seconds", "hear_seconds", "shown_seconds", "shown_poll_seconds",
         "window_poll_seconds", "away_seconds", "call_seconds", "poll_silence_seconds", "idle_seconds", "retry_first_seconds",
         "retry_longest_seconds", "quarantine_window_seconds", "shards_look_seconds", "member_poll_seconds", "handover_seconds",
         "linger_seconds", "loaded_poll_seconds")  # fmt: skip
"""Durations that are drawn over four orders of magnitude, a tenth of what is usual above it."""


@dataclass(frozen=True)
class Lived:
    """What became of a life."""

    seed: int
    transport: str
    violation: str
    seconds: float
    """Simulated."""
    real_seconds: float
    commits: int
    steps: int
    acts: dict[str, int]
    halts: list[tuple[float, str, str]]
    said: list[str]


def live(seed: int, years: float = 0.25, transport: str = "", acts: dict[str, float] | None = None) -> Lived:
    """Live it."""
    drawn = Random(f"knobs {seed}")
    transport = transport or drawn.choice(("kafka", "kafka", "direct", "scaled"))
    world = World(seed, "kafka" if transport == "scaled" else transport, drawn.choice((1, 1, 3)), 2 if transport == "scaled" else 0)
    world.copy_rate = drawn.choice((0, 1, 1, 10))
    world.scheduler.switching = drawn.choice((0.02, 0.1, 0.4))
    oracle = Oracle(world)
    started = time.perf_counter()
    patches: list[Any] = [patch.object(module, name, int(_draw(drawn, low, high))) for module, name, low, high in SIZES]
    patches.append(patch.object(timing, "TIMES", _times(drawn)))
    for one in patches:
        one.start()
    try:
        with world.lent():
            hand = Hand(world, oracle, years, acts)
            hand.found()
            world.scheduler.spawn("hand", hand.live)
            world.scheduler.run(lambda: hand.done or oracle.failed is not None)
    finally:
        for one in patches:
            one.stop()
    return Lived(seed, transport, str(oracle.failed or ""), world.scheduler.now, time.perf_counter() - started, oracle.commits,
                 world.scheduler.steps, hand.acts, world.halts, list(world.said))  # fmt: skip


def _draw(chance: Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def _times(chance: Random) -> timing.Timing:
    usual = timing.Timing()
    drawn = {name: _draw(chance, getattr(usual, name) / 1000, getattr(usual, name) * 10) for name in TIMES}
    return replace(usual, **{name: type(getattr(usual, name))(value) for name, value in drawn.items()})


YEAR = 365 * DAY
