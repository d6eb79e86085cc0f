"""Promises 1 and 2 hold in every interleaving of a small scope, and every wrong variant of the protocol is caught, and how."""

from __future__ import annotations

import pytest

from tests.protocol_model import table
from tests.protocol_model.scenario import Scenario
from tests.protocol_model.scenarios import ALL, RIGHT, WRONG
from tests.protocol_model.wrong import Wrong


def parameters(scenarios: tuple[Scenario, ...]) -> list[object]:
    """One test per scenario, named after its variant or itself."""
    return [pytest.param(s, id=f"{s.wrong.name if s.wrong and s.expected else s.name} {s.start.name}", marks=marks(s)) for s in scenarios]


def marks(scenario: Scenario) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if scenario.slow else []


@pytest.mark.parametrize("scenario", parameters(RIGHT))
def test_the_promises_hold_in_every_interleaving(scenario: Scenario) -> None:
    outcome = table.run(scenario)
    assert (None, ()) == (outcome.violation, outcome.trace)
    assert outcome.exhausted
    assert outcome.ends > 0, "an enumeration that never comes to rest has checked nothing"


@pytest.mark.parametrize("scenario", parameters(tuple(run for run in ALL if run.expected)))
def test_a_wrong_variant_is_caught_in_the_way_foretold(scenario: Scenario) -> None:
    outcome = table.run(scenario)
    assert outcome.violation is not None
    assert scenario.expected is outcome.violation.kind, "\n".join(outcome.trace)
    assert outcome.trace


def test_every_wrong_variant_is_tried() -> None:
    assert set(Wrong) == {scenario.wrong for scenario in ALL} - {None}


def test_an_enumeration_that_is_cut_short_does_not_count_as_proof() -> None:
    held = RIGHT[0]
    outcome = table.run(held, limit=100)
    assert not outcome.exhausted
    assert not table.as_expected(held, outcome)


def test_the_shortest_trace_to_a_violation_is_told_step_by_step() -> None:
    careless = next(scenario for scenario in WRONG if scenario.wrong is Wrong.CARELESS_P)
    outcome = table.run(careless)
    assert outcome.trace[:2] == ("source: written 1", "loader: P is 1")
