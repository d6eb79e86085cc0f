"""The lane of time, its cheap part: a few seeds on the servers that all tests share; the rest is the long lane's (`make soak`)."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cdc.runtime import clock, timing
from tests.crash import chores, timed, timeplan
from tests.crash.__main__ import case_of, entry_of
from tests.crash.arena import Arena
from tests.crash.comers import Comer, Comers
from tests.crash.counting import Counting
from tests.crash.lane import Case
from tests.crash.points import WAYS
from tests.crash.sightings import Sighting, Sightings
from tests.crash.test_crash_points import combination
from tests.crash.timeplan import TIME, plan
from tests.crash.truth import Truth
from tests.crash.works import GROUP
from tests.helpers.seeds import seed
from tests.helpers.servers import Broker


def test_a_seed_of_time_is_one_plan_and_another_seed_another() -> None:
    assert plan(7, "kafka") == plan(7, "kafka")
    assert 20 == len({str(plan(seed, "kafka").acts) for seed in range(20)})


def test_what_a_plan_draws_can_be_done() -> None:
    drawn = [plan(case.seed, case.transport) for case in map(timed.case_of, range(300))]
    acts = [inner for one in drawn for act in one.acts for inner in (act, *act.meanwhile)]
    assert set(chores._KINDS) == {act.kind for act in acts}
    assert {act.point for act in acts} <= {"", *WAYS}
    assert {name for one in drawn for name in one.timing} <= {field.name for field in fields(timing.Timing)}
    assert 0.15 < sum(one.way == GROUP for one in drawn) / len(drawn) < 0.25
    for one in drawn:
        timing.read(json.dumps(dict(one.timing)))


def test_every_duration_is_drawn_or_only_ends_a_wait() -> None:
    """What is not drawn: deadlines of what answers in time, whose end on a busy machine would prove nothing, and what is only shown."""
    left = {field.name for field in fields(timing.Timing)} - {*timeplan._RANGES, "retention_ms"}
    assert left == {
        "log_write_seconds", "tell_seconds", "rate_seconds",
        "recent_seconds", "verify_locking_seconds", "verify_seconds", "call_seconds", "ask_seconds", "delivery_ms", "session_ms",
        "release_seconds", "target_connect_seconds", "target_probe_seconds",
        "answer_grace_seconds", "answer_seconds", "answer_longest_ms", "presence_seconds", "presence_look_seconds", "successor_seconds",
        "presence_write_seconds", "last_words_seconds", "still_seconds", "flow_seconds",
        "start_seconds", "repair_seconds", "position_seconds", "heartbeat_seconds",
    }  # fmt: skip


def test_a_case_of_time_is_the_ledger_s_line() -> None:
    case = timed.case_of(7)
    assert case == case_of(entry_of(case))
    assert TIME == entry_of(case)["way"]


def test_a_lane_s_clock_is_as_wrong_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "time", lambda: 1000.0 + passed[0])
    now = clock.wrong('{"seconds": 3600, "drift": 0.01, "jumps": [[2, -60]]}')
    assert 4700.0 == now()
    passed[0] = 101.0
    assert 4701.01 == pytest.approx(now())
    passed[0] = 102.0
    assert 4642.02 == pytest.approx(now())
    with pytest.raises(ValueError, match="hours"):
        clock.wrong('{"hours": 1}')


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["direct", pytest.param("kafka", marks=pytest.mark.soak)])
def test_time_that_passes_otherwise_loses_doubles_and_shows_nothing_false(transport: str, tmp_path: Path) -> None:
    case = Case(seed(), combination()[0], transport, chosen=TIME)
    print(case)
    run = timed.timed(Arena(private=False), case, tmp_path / "pipeline", short=True)
    assert run.truth.looks
    assert transport == "direct" or run.truth.judged or run.anew


_HERE = {"flavour": "mariadb", "server": "1", "gtids": "0-1-9", "file": "b.000009", "offset": 90}


def _truth(**seen: set[int]) -> Truth:
    """A judge for whom the source has held these rows for ten seconds, up to a place of its log."""
    nobody: Any = None
    comers = Comers(nobody, nobody, 1, myisam=False)
    comers.tables = {"keyed0": Comer("keyed0", keyed=True)}
    sightings = Sightings(nobody, comers.judged)
    sightings._waiting.append(Sighting((9, 90), time.monotonic() - 10, dict(seen)))
    return Truth(nobody, "p", "s", sightings, comers, Counting(Broker(nobody, "t"), {}), clocks=True)


@pytest.mark.parametrize(
    ("shown", "states", "fault"),
    [
        ([1, 2, 3], {"keyed0": "consistent"}, ""), ([1, 2], {"keyed0": "consistent"}, "I2"), ([1, 2], {"keyed0": "copying"}, ""),
        ([1, 2, 3, 3], {"keyed0": "consistent"}, "I6"), ([1, 2, 3, -1], {"keyed0": "consistent"}, "I3"), ([], {}, "I8"),
        ([-1, -2, -3], {"keyed0": "refused"}, ""),
    ],
)  # fmt: skip
def test_the_truth_can_say_no_to_a_state(shown: list[int], states: dict[str, str], fault: str) -> None:
    truth = _truth(keyed0={1, 2, 3})
    assert {} == truth._sightings.owed({**_HERE, "offset": 89}), "nothing is owed below the place"
    truth._judge_states(states, truth._sightings.owed(_HERE), {"keyed0": shown})
    assert [fault] == [told.split(": ")[1] for told in truth.faults] if fault else [] == truth.faults


@pytest.mark.parametrize(("lag", "there", "false"), [(0.0, set(), True), (8.0, set(), True), (9.0, set(), False), (0.0, {7}, False)])
def test_the_truth_can_say_no_to_a_lag(lag: float, there: set[int], false: bool) -> None:
    truth = _truth(ledger={7})
    truth._judge_lag({"ledger": "consistent"}, lag, {"ledger": list(there)}, time.monotonic())
    assert false == bool(truth.faults)


@pytest.mark.parametrize(("stored", "false"), [(4, True), (5, False), (9, False)])
def test_the_truth_can_say_no_to_a_stored_number(stored: int, false: bool) -> None:
    truth = _truth()
    assert truth._counting is not None
    truth._counting.first["t.s.keyed0"] = {11: (1, 5)}
    truth.numbers = {("t.s.keyed0", 1): stored}
    truth._note({"keyed0": [11, 12]})
    truth._judge_numbers(everything=True)
    assert (false, 1) == (bool(truth.faults), truth.judged)
