"""Records of one topic are applied run by run, none left out or taken twice; and what a failed try did is undone in memory too."""

from __future__ import annotations

import pytest

from cdc.config.load import ServerUrl, TargetConfig
from cdc.errors import RowRefused
from cdc.model.position import Position
from cdc.protocol.applied import Stored
from cdc.protocol.control import Copy
from cdc.transport.direct import DirectLog
from sinks import fold
from sinks.apply import Apply
from sinks.postgres.target import PostgresTarget

OLD, NEW = b"\0\0\0\0\1", b"\0\0\0\0\2"


@pytest.mark.parametrize(
    ("runs", "frames"),
    [
        ([], []),
        ([slice(0, 1)], [OLD]),
        ([slice(0, 3)], [OLD, OLD, OLD]),
        ([slice(0, 2), slice(2, 3)], [OLD, OLD, NEW]),
        ([slice(0, 1), slice(1, 2), slice(2, 4)], [OLD, NEW, OLD, OLD]),
    ],
)
def test_a_run_ends_where_the_schema_changes(runs, frames):
    assert runs == list(fold.runs([frame + b"row" for frame in frames]))


def test_a_try_that_is_undone_leaves_nothing_of_what_it_changed():
    """As often as a batch is tried: a flag of a copy that was cleared is set again, a floor and a held key are gone."""
    at = Position("mariadb", "s", "0-1-1", "b.000001", 100)
    url = ServerUrl("postgresql", "nowhere", 1, "u", "p", "d", {})
    stage = Apply(DirectLog("p"), PostgresTarget(TargetConfig(url=url), "p"), Stored(None, {}))
    stage.cuts.floors["p.a"] = at
    stage._copying, stage._begins = True, [Copy(1, 2, "db", "t", at, "id")]

    def known():
        own = stage._copying, stage._releases, list(stage._begins)
        return own, dict(stage.cuts.floors), set(stage.held_keys.held(("db", "t")))

    before, undone = known(), stage._mark()
    for _ in range(2):
        stage._copying, stage._releases, stage._begins = False, 7, []
        stage.cuts.floors["p.b"] = at
        stage.held_keys.judge(("db", "t"), {b"k": RowRefused("target_value", "db.t", "")}, 0, 0.0)
        undone()
        assert before == known()
