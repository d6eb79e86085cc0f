"""The results as a table: one line per run, made by running it."""

from __future__ import annotations

from collections.abc import Iterable

from tests.protocol_model import direct, domains, protocol, quarantine, scaled
from tests.protocol_model.explore import Outcome
from tests.protocol_model.scenario import Scenario

RUN = {"": protocol.run, "direct": direct.run, "domains": domains.run, "scaled": scaled.run, "quarantine": quarantine.run}
LIMIT = 20_000_000
"""States; an enumeration that does not finish proves nothing and counts as failed."""


def run(scenario: Scenario, limit: int = LIMIT) -> Outcome:
    """Enumerate one scenario, over whichever transport it names."""
    return RUN[scenario.part](scenario, limit)


def as_expected(scenario: Scenario, outcome: Outcome) -> bool:
    """Held to the last state, or caught in the way that was foretold."""
    found = None if outcome.violation is None else outcome.violation.kind
    return outcome.exhausted and found is scenario.expected


def line(scenario: Scenario, outcome: Outcome) -> str:
    """`name | states | steps | ends | seconds | verdict`."""
    verdict = "holds" if outcome.violation is None else f"{outcome.violation.kind.name.lower()}: {outcome.violation.text}"
    if not as_expected(scenario, outcome):
        verdict = f"UNEXPECTED {verdict}"
    counts = f"{outcome.states:>9,} | {outcome.steps:>10,} | {outcome.ends:>6,} | {outcome.seconds:>5.1f}"
    return f"| {scenario.name:<75} | {counts} | {verdict} |"


HEADER = f"| {'run':<75} | {'states':>9} | {'steps':>10} | {'ends':>6} | {'sec':>5} | result |\n|{'-' * 77}|---:|---:|---:|---:|---|"


def show(scenarios: Iterable[Scenario], traces: bool) -> bool:
    """Print a line per run as it finishes; true when all went as expected."""
    print(HEADER, flush=True)
    good = True
    for scenario in scenarios:
        outcome = run(scenario)
        good = good and as_expected(scenario, outcome)
        print(line(scenario, outcome), flush=True)
        if traces or not as_expected(scenario, outcome):
            print(*(f"    {step}" for step in outcome.trace), sep="\n")
    return good
