"""Breadth-first search over every interleaving, with the shortest trace to the first broken promise."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from tests.protocol_model.scenario import Violation

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Rules(Generic[S]):
    """A model: its next states as (what happens, must it happen some time, state afterwards), and its promises."""

    steps: Callable[[S], Iterable[tuple[tuple[object, ...], bool, S]]]
    always: Callable[[S], Violation | None]
    at_rest: Callable[[S], Violation | None]


class Outcome(NamedTuple):
    """What was enumerated; `violation` is the first broken promise and `trace` the shortest way to it."""

    states: int
    steps: int
    ends: int
    seconds: float
    violation: Violation | None
    trace: tuple[str, ...]
    exhausted: bool
    """False when the limit cut the search short: then nothing is proven."""


def explore(rules: Rules[S], initial: S, limit: int) -> Outcome:
    """Visit every state that can be reached, or stop at the first that breaks a promise."""
    gc.disable()  # millions of immutable tuples and no cycles: collecting them costs a third of the time
    try:
        return search(rules, initial, limit)
    finally:
        gc.enable()


def search(rules: Rules[S], initial: S, limit: int) -> Outcome:
    began, edges, ends = time.monotonic(), 0, 0
    came_from: dict[S, tuple[S, tuple[object, ...]] | None] = {initial: None}
    waiting = deque([initial])
    while waiting and len(came_from) <= limit:
        state = waiting.popleft()
        violation, at_rest = rules.always(state), True
        for what, live, after in rules.steps(state) if violation is None else ():
            edges += 1
            at_rest = at_rest and not live
            if after not in came_from:
                came_from[after] = (state, what)
                waiting.append(after)
        if at_rest and violation is None:
            ends += 1
            violation = rules.at_rest(state)
        if violation is not None:
            return Outcome(len(came_from), edges, ends, time.monotonic() - began, violation, trace(came_from, state), True)
    return Outcome(len(came_from), edges, ends, time.monotonic() - began, None, (), not waiting)


def trace(came_from: dict[S, tuple[S, tuple[object, ...]] | None], state: S) -> tuple[str, ...]:
    """The steps from the beginning to this state."""
    way: list[str] = []
    while (previous := came_from[state]) is not None:
        state, what = previous
        way.append(" ".join(map(str, what)))
    return tuple(reversed(way))
