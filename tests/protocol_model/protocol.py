"""The Kafka protocol as rules for the explorer: all processes and servers, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol_model import capture, copying, promises, servers, sink
from tests.protocol_model.explore import Outcome, Rules, explore
from tests.protocol_model.scenario import Scenario
from tests.protocol_model.world import Step, World


def steps(scenario: Scenario, world: World) -> Iterator[Step]:
    yield from servers.steps(scenario, world)
    yield from copying.steps(scenario, world)
    yield from capture.steps(scenario, world)
    yield from sink.steps(scenario, world)


def run(scenario: Scenario, limit: int) -> Outcome:
    """Enumerate the scenario, or stop at the first broken promise."""
    rules = Rules[World](
        steps=lambda world: steps(scenario, world),
        always=lambda world: promises.consistent(scenario, world),
        at_rest=lambda world: promises.complete(scenario, world),
    )
    return explore(rules, scenario.initial(), limit)
