"""The promises as checks: on every state, and where nothing can move any more."""

from __future__ import annotations

from tests.protocol_model.scenario import LOADED, Kind, Scenario, Violation
from tests.protocol_model.sink import TWO_COMMITS
from tests.protocol_model.world import World


def consistent(scenario: Scenario, world: World) -> Violation | None:
    """Promise 2: every table past its ceiling equals the source at the stored position."""
    if world.loader.phase < LOADED or (scenario.wrong in TWO_COMMITS and any(sink.open for sink in world.sinks)):
        return None
    target, progress = world.target, world.target.progress
    keys, rows = scenario.tables[max(progress.position, 0)]
    if progress.ceiling is not None and progress.position >= progress.ceiling and target.a != keys:
        return Violation(Kind.INCONSISTENT, f"A is {target.a}, the source at {progress.position} has {keys}")
    if progress.floor is not None and progress.position >= progress.floor and target.b != rows and not scenario.unfollow:
        return Violation(Kind.INCONSISTENT, f"B has {target.b} rows, the source at {progress.position} has {rows}")
    return None


def complete(scenario: Scenario, world: World) -> Violation | None:
    """Promise 1: at rest the target equals the source, and all of it is shown."""
    target, progress = world.target, world.target.progress
    keys, rows = scenario.tables[scenario.end]
    if target.stop:
        return None if scenario.may_stop else Violation(Kind[target.stop], Kind[target.stop].value)
    if progress.position != scenario.end or progress.ceiling is None or progress.floor is None:
        return Violation(Kind.STUCK, f"{Kind.STUCK.value}: at {progress.position} of {scenario.end}")
    if target.a != keys or (target.b != rows and not scenario.unfollow):
        return Violation(Kind.DIFFERENT, f"{(target.a, target.b)}, not {(keys, rows)}")
    return None
