"""Mutants of real images: the short campaign of every run, the sanitizer's, and that both see what they are there for."""

from __future__ import annotations

import pytest

from tests.fuzz import campaign
from tests.fuzz.build import Plant
from tests.fuzz.campaign import Campaign, run
from tests.fuzz.corpus import KINDS, read

SHORT, BOTH, SANITIZED = 100_000, 3_000, 300_000
READ: Plant = (
    "_image",
    "    if n > end - at:\n        raise broken",
    "    if n > end - at + 1:\n        raise broken",
)
"""A value may end one byte behind its image."""
WRITE: Plant = ("_buffer", "    if b.n + 1 > b.size:\n        b.need(1)", "    if b.n > b.size:\n        b.need(1)")
"""A byte may be written one place behind its buffer."""


def test_the_corpus_has_rows_of_both_servers_by_every_way() -> None:
    recorded = read()
    assert {"mariadb", "mysql"} == {one.server.partition(" ")[0] for one in recorded}
    for server in ("mariadb", "mysql"):
        mine = [one for one in recorded if one.server.startswith(server)]
        assert 80 < len({one.table.columns[1] for one in mine})
        assert {"c", "u", "d"} == {kind for one in mine for kind, _ in one.log}
        assert [] == [one.name for one in mine if not one.select and not one.log]


def test_mutants_are_taken_or_refused_and_nothing_else() -> None:
    outcome = run(Campaign("plain", seed=20, count=SHORT))
    assert [] == [(case["lane"], case["iteration"], case["complaint"]) for case in outcome.failures]
    assert SHORT == outcome.executions == sum(outcome.outcomes)
    lazy = [kind for i, kind in enumerate(KINDS) if min(outcome.outcomes[3 * i], outcome.outcomes[3 * i + 1]) < 100]
    assert ["numeric"] == lazy, "every kind of lane takes some mutants and refuses some"


def test_the_compiled_and_the_uncompiled_codec_say_the_same_of_every_mutant() -> None:
    fast, slow = (run(Campaign(form, seed=21, count=BOTH, digesting=True)) for form in ("plain", "pure"))
    assert ([], []) == (fast.failures, slow.failures)
    assert (fast.outcomes, fast.digests) == (slow.outcomes, slow.digests)


def test_what_was_found_once_stays_mended() -> None:
    cases = campaign.cases()
    assert [case["outcome"] for case in cases] == campaign.again("plain")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_mutant_reads_or_writes_beside_its_block() -> None:
    outcome = run(Campaign("asan", seed=22, count=SANITIZED, jobs=2))
    assert [] == [(case["lane"], case["iteration"], case["complaint"]) for case in outcome.failures]
    assert SANITIZED == outcome.executions
    assert [case["outcome"] for case in campaign.cases()] == campaign.again("asan")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("plant", "told"), [(READ, "heap-buffer-overflow"), (WRITE, "heap-buffer-overflow")], ids=["read", "write"])
def test_an_off_by_one_that_was_planted_is_found_and_its_image_is_told(plant: Plant, told: str) -> None:
    outcome = run(Campaign("asan", seed=23, count=20_000, plant=plant, most_failures=1))
    (case,) = outcome.failures
    assert told in case["complaint"]
    repeated = run(Campaign("asan", seed=23, count=1, first=case["iteration"], plant=plant, most_failures=1))
    assert [(case["lane"], case["image"])] == [(again["lane"], again["image"]) for again in repeated.failures]
