"""Waiting for a target that is behind: told, bounded in all, and not repeated where nothing moves."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from cdc.model.position import Position
from cdc.monitoring.wait import Settling
from cdc.runtime import clock, logs, timing

TIMEOUT, TABLES = 60.0, 446


def at(offset: int) -> Position:
    return Position("mariadb", "1", file="binlog.000001", offset=offset)


class World:
    """A source that writes a byte a second, and a target whose place is a function of the time."""

    def __init__(self, applied: Any) -> None:
        self.now, self.applied, self.checked, self.told = 0.0, applied, 0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> Any:
        place = self.applied(self.now)
        return SimpleNamespace(progress=None if place is None else SimpleNamespace(cut_no=place, position=at(place)))

    def check(self, position: Position) -> None:
        self.checked += 1

    def settling(self, timeout: float = TIMEOUT) -> Settling:
        catalog: Any = SimpleNamespace(
            log=SimpleNamespace(written_position=lambda: at(int(self.now) + 100)), identity=SimpleNamespace(check=self.check)
        )
        target: Any = self
        return Settling(catalog, target, timeout, self.told.append)


def tries(world: World, settle: Settling, times: int) -> list[bool]:
    """Whether each of so many waits was not in vain."""
    found = []
    with clock.lend(monotonic=lambda: world.now, sleep=world.sleep):
        for _ in range(times):
            try:
                settle()
                found.append(True)
            except TimeoutError:
                found.append(False)
    return found


@pytest.mark.parametrize("place", [5, None])
def test_beside_a_stopped_pipeline_one_wait_is_made_for_all_tables(place):
    world = World(lambda now: place)
    assert [False] * TABLES == tries(world, world.settling(), TABLES)
    assert world.now == pytest.approx(TIMEOUT, abs=1)
    assert max(world.told) == pytest.approx(TIMEOUT, abs=1)


def test_beside_a_target_that_moves_and_is_late_for_ever_waits_get_shorter():
    world = World(int)
    assert [False] * TABLES == tries(world, world.settling(), TABLES)
    assert world.now < 2 * TIMEOUT + 1.2 * TABLES


def test_a_wait_that_is_not_in_vain_is_as_long_as_it_takes_and_the_next_one_too():
    world = World(lambda now: int(now - now % 40) + 100)  # each 40 s it has all
    assert [True] * 5 == tries(world, world.settling(), 5)
    assert 5 <= world.checked


def test_a_pipeline_that_is_started_meanwhile_is_waited_for_again():
    world = World(lambda now: 5 if now < TIMEOUT + 3 else int(now) + 100)
    settle = world.settling()
    assert [False, False] == tries(world, settle, 2)
    world.now += 5
    assert [True, True] == tries(world, settle, 2)


def test_without_a_timeout_nothing_is_waited_for():
    world = World(lambda now: 5)
    assert [False, False] == tries(world, world.settling(0), 2)
    assert 0 == world.now


def test_that_nothing_moves_is_said_once_and_soon(capsys):
    logs.configure(terminal=False)
    world = World(lambda now: 5)
    tries(world, world.settling(), 3)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert ["target_stands_still"] == [one["event"] for one in said]
    assert timing.TIMES.still_seconds == said[0]["seconds"]
    assert "is the pipeline running?" in said[0]["hint"]
    moving = World(int)
    tries(moving, moving.settling(), 3)
    assert "" == capsys.readouterr().err
