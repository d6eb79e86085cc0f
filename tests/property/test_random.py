"""Random tables under random changes, through the real pipeline, judged by code that shares nothing with it.

`make property` plays 2,000 tables more. A failure prints its seed; `python -m tests.property --shrink 'mysql 17 3'` makes it small
and keeps it in `seeds/`, whose tables are part of every run from then on.
"""

from __future__ import annotations

import os
from random import SystemRandom
from typing import Any

from cdc.model import types
from tests.helpers.servers import SourceDatabase, TargetDatabase
from tests.property import found
from tests.property.kinds import KINDS, Server
from tests.property.rounds import Plan, play
from tests.property.tables import case

TABLES = 25


def test_every_type_of_the_product_is_drawn() -> None:
    assert set(types.TYPES) == set(KINDS)


def test_random_tables_arrive_whole(source: SourceDatabase, postgres: TargetDatabase, pipeline: Any) -> None:
    """Copied while they change, streamed, with a crash on the way; then the tables that once failed, by the same means."""
    seed = int(os.environ.get("CDC_PROPERTY_SEED") or SystemRandom().randrange(10**9))
    server = Server(source.execute, source.flavour)
    cases = [case(server, seed, number) for number in range(TABLES)]
    print(f"seed {seed}")
    outcome = play([*cases, *found.kept(source.flavour)], seed, Plan(), source, postgres, None, pipeline)
    names = {one.shape.name: one.place for one in cases}
    assert {} == {names.get(name, name): wrong for name, wrong in outcome.failures.items()}
    assert TABLES <= outcome.tables + len(outcome.unmade)
    assert TABLES < outcome.rows, "the tables stayed empty: nothing was tried"
    assert len(outcome.unmade) < 3, outcome.unmade
