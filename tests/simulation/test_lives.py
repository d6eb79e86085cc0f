"""Lives of a pipeline in the simulation: some by chance, some by a script for what was broken once; and that a seed says all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from unittest.mock import patch

import pytest

from cdc.capture import capture
from cdc.protocol.table_states import TableState
from tests.helpers.seeds import seed
from tests.simulation import exhaustive
from tests.simulation.hand import Hand
from tests.simulation.life import live
from tests.simulation.oracle import Oracle
from tests.simulation.source import DB, Change
from tests.simulation.target import DEFERRED_VALUE, REFUSED_VALUE
from tests.simulation.world import World

LIVES, YEARS = 8, 0.02


def _seeds(first: int, transport: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--first", str(first), "--seeds", str(LIVES), "--years", str(YEARS)]
    run = subprocess.run(
        [*command, "--transport", transport],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return run.stdout + run.stderr


@pytest.mark.parametrize("transport", ["kafka", "direct", "scaled"])
@pytest.mark.slow
def test_lives_by_chance_break_no_promise(transport: str) -> None:
    """The seeds are the day's, so that each day adds to what was seen; the line printed replays one."""
    first = 1_000_000 + seed() % 9973 * LIVES
    said = _seeds(first, transport)
    assert f"{LIVES} lives, 0 violations" in said, said


@pytest.mark.parametrize("transport", exhaustive.TRANSPORTS)
@pytest.mark.parametrize("name", list(exhaustive.SCRIPTS))
@pytest.mark.slow
def test_a_death_at_each_of_many_steps_of_a_script_breaks_no_promise(name: str, transport: str) -> None:
    """`python -m tests.simulation.exhaustive` takes every step, and two deaths."""
    script, size = exhaustive.SCRIPTS[name]
    for at in exhaustive.cases(name, transport, 23, 0):
        exhaustive.lived(script, transport, at, size)


def test_a_seed_says_everything() -> None:
    one, again = live(423, 0.01), live(423, 0.01)
    assert (one.steps, one.commits, one.acts, one.said) == (again.steps, again.commits, again.acts, again.said)
    other = live(37, 0.01)
    assert one.said != other.said


def _scripted(transport: str, script: Callable[[Hand], None], pieces: int = 32 << 20, shards: int = 0) -> Hand:
    """A pipeline whose people do as they are told."""
    world = World(1, transport, 1, shards)
    oracle = Oracle(world)
    with patch.object(capture, "PARTIAL_BYTES", pieces), patch.object(capture, "SEND_BYTES", min(pieces, 512 << 10)), world.lent():
        hand = Hand(world, oracle, 0.0)
        hand.found()

        def live_on() -> None:
            for name in hand._works:
                hand._start(name)
            hand._pass(60)
            script(hand)
            hand._rest()
            hand.done = True

        world.scheduler.spawn("hand", live_on)
        world.scheduler.run(lambda: hand.done or oracle.failed is not None)
    assert oracle.failed is None, "\n".join([str(oracle.failed), *world.said])
    return hand


def _shown(hand: Hand, name: str) -> list[tuple[int | None, ...]]:
    return list(hand.world.postgres.content.stocks[f"{DB}.{name}"].content())


def _waiting(hand: Hand) -> set[str]:
    return {name for (_, name), _ in hand.world.postgres.content.waiting}


@pytest.mark.parametrize("transport", ["direct", "kafka"])
def test_a_deferred_refusal_of_what_is_written_in_pieces_holds_its_key_and_nothing_else(transport: str) -> None:
    """Nobody names the row of a refusal at the commit: the transaction is done again with constraints checked row by row."""

    def script(hand: Hand) -> None:
        rows = [Change("p", None, (1000 + at, 5)) for at in range(40)]
        hand.source.write([*rows, Change("q", None, (2000, DEFERRED_VALUE)), Change("q", None, (2001, 7))])
        hand._pass(600)

    hand = _scripted(transport, script, pieces=300)
    assert {"q"} == _waiting(hand)
    assert (2001, 7) in _shown(hand, "q")
    assert (2000, DEFERRED_VALUE) not in _shown(hand, "q")
    assert TableState.QUARANTINED == hand.world.postgres.content.tables[DB, "q"].state
    assert all(target.strictly is False for process in hand.processes.values() for target in process.targets)


@pytest.mark.parametrize("transport", ["direct", "kafka"])
def test_a_key_that_is_refused_late_in_a_transaction_in_pieces_shows_what_it_was_before(transport: str) -> None:
    def script(hand: Hand) -> None:
        hand.source.write([Change("p", None, (1000, 5))])
        hand._pass(60)
        between = [Change("q", None, (2000 + at, 5)) for at in range(40)]
        hand.source.write([Change("p", (1000, 5), (1000, 6)), *between, Change("p", (1000, 6), (1000, REFUSED_VALUE))])
        hand._pass(600)

    hand = _scripted(transport, script, pieces=300)
    assert {"p"} == _waiting(hand)
    assert (1000, 5) in _shown(hand, "p")
    assert 40 == len([row for row in _shown(hand, "q") if (row[0] or 0) >= 2000])


@pytest.mark.parametrize("transport", ["direct", "kafka"])
def test_a_table_whose_place_is_taken_leaves_the_selection_and_comes_back_and_its_place_stays_what_it_is(transport: str) -> None:
    """Found by seed 30006: a table that was refused, excluded and included was copied into somebody else's rows."""

    def script(hand: Hand) -> None:
        hand._plant("s")
        hand.source.create("s", keyed=False)
        hand.source.write([Change("s", None, (1, 1))])
        hand._pass(60)
        for excluded in (["d.s"], []):
            hand.world.excluded = excluded
            for process in hand.processes.values():
                process.stop.set()
            hand._pass(60)
            for name in hand.processes:
                hand._start(name)
            hand._pass(60)
            assert {(-1, 9)} == set(_shown(hand, "s"))

    _scripted(transport, script)
