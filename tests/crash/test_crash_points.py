"""Processes die at every named point of the protocol, one point after the other, and nothing is lost, doubled, torn or reordered."""

from __future__ import annotations

import ast
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdc.runtime import crash_points as crash
from tests.crash import kills, lane, points
from tests.crash.arena import BROKER, COMBINATIONS, SOURCE, TARGET, TRANSPORTS, Arena
from tests.crash.lane import Case
from tests.helpers.seeds import seed
from tests.project.test_structure import ROOT, modules, tree


def _called() -> list[str]:
    """The names in calls of `crash.point` anywhere in the product."""
    found = []
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "crash.point":
                found += [one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found


def test_code_list_table_and_lane_name_the_same_crash_points() -> None:
    assert sorted(crash.POINTS) == sorted(_called())
    assert set(crash.POINTS) == set(points.WAYS)
    assert crash.document() == (ROOT / "docs" / "crash-points.md").read_text()


@pytest.mark.parametrize("text", ["nowhere:1", "capture.cut", "capture.cut:0", "capture.cut:1:sleep"])
def test_a_crash_point_that_cannot_be_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(SystemExit, match="CRASH_AT"):
        crash._armed(text)


def combination() -> tuple[str, str]:
    """The pair of source and transport whose turn it is: another one every day; CDC_TEST_COMBINATION chooses one."""
    chosen = os.environ.get("CDC_TEST_COMBINATION")
    if chosen:
        flavour, _, transport = chosen.partition("-")
        return flavour, transport
    return COMBINATIONS[datetime.now(UTC).toordinal() % len(COMBINATIONS)]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_point_is_in_the_long_lane_at_each_ordinal_or_says_why_it_cannot_be(transport: str) -> None:
    for ordinal in points.ORDINALS:
        done = [name for chain in points.chains(transport, ordinal) for name in chain]
        assert len(done) == len(set(done))
        assert set(points.WAYS) == set(done) | {name for name in points.WAYS if points.impossible(name, transport, ordinal)}


def _dies(group: str, arena: Arena, folder: Path) -> None:
    flavour, transport = combination()
    names = points.of_group(group, transport)
    case = Case(seed(), flavour, transport, tuple((name, 1) for name in names))
    print(case)
    run = lane.crashes(arena, case, folder)
    assert [f"{name}:1" for name in names] == run.faults
    assert run.poller.whole


_ELSEWHERE = (points.XA, points.SHARD)
"""On servers of its own, below; in the long lane alone, for a group of sinks misses each one that dies for six seconds."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", [group for group in points.GROUPS if group not in _ELSEWHERE])
def test_dying_at_every_point_loses_doubles_tears_and_reorders_nothing(group: str, tmp_path: Path) -> None:
    """Each point of a group once, in one pipeline beside work; the next start is on its way to the next point."""
    _dies(group, Arena(private=False), tmp_path / "pipeline")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_servers_and_undecided_transactions_lose_double_tear_and_reorder_nothing(tmp_path: Path) -> None:
    """On servers of its own: prepared transactions hold up everybody's copies, and each server is killed in the midst, twice."""
    flavour, _ = combination()
    with closing(Arena(private=True)) as arena:
        _dies(points.XA, arena, tmp_path / "xa")
        for victim in (TARGET, SOURCE, BROKER):
            case = Case(seed(), flavour, "kafka", victim=victim, times=2)
            print(case)
            run = kills.kills(arena, case, tmp_path / victim)
            assert [victim] * 2 == [fault.partition(" ")[0] for fault in run.faults]
            assert run.poller.whole
