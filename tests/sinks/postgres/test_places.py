"""The target itself refuses a commit that does not go on from the places that it has stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.errors import Halt
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import batch, cut, rows
from tests.sinks.postgres.plans import ONLY_KEY


@pytest.mark.parametrize(
    ("begun", "place"),
    [((7, 6), (9, 8)), ((5, 4), (9, 8)), ((6, 5), (5, 6)), ((6, 5), (7, 4))],
    ids=["it is behind", "it is beyond", "its offset goes back", "its number goes back"],
)
def test_a_commit_that_goes_on_from_elsewhere_than_is_stored_writes_nothing(
    begun: tuple[int, int], place: tuple[int, int], postgres: TargetDatabase, opened: Opened
) -> None:
    target = opened(ONLY_KEY)
    target.commit(cut(1, t=(6, 5)))
    target.write(batch(ONLY_KEY, ("c", None, (1,))))
    with pytest.raises(Halt) as stop:
        target.commit(replace(cut(2, t=place), since={("t", 0): begun}))
    assert ("place_apart", 0) == (stop.value.code, rows(postgres, ONLY_KEY).total())
    target.write(batch(ONLY_KEY, ("c", None, (2,))))
    target.commit(replace(cut(2, t=(9, 8)), since={("t", 0): (6, 5)}))
    assert {("2",): 1} == rows(postgres, ONLY_KEY)
    with pytest.raises(Halt):
        target.commit(replace(cut(3, u=(2, 1)), since={("u", 0): (0, 0)}))  # of a partition that no base has named
    target.commit(replace(cut(3, t=(2, 1)), since={("t", 0): None}))  # a base goes back
    assert [(2, 1)] == postgres.execute("SELECT next_offset, seq FROM cdc.partition")
