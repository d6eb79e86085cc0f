"""The list of decisions that lanes take seldom names decisions that are there."""

from __future__ import annotations

from tests.decisions.__main__ import elsewhere, named
from tests.decisions.branches import modules


def test_the_list_names_what_exists() -> None:
    there = {named(module, way) for module in modules().values() for way in module.ways}
    assert [] == [name for name in elsewhere() if name not in there]
