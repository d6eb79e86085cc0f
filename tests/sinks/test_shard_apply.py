"""One of several sinks over a log made by hand: what it writes, stores and shows alone, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc.errors import Retry
from cdc.protocol.control import Start
from cdc.protocol.table_states import TableState
from cdc.runtime import timing
from sinks import apply as module
from sinks.apply import BELOW
from tests.helpers.shards_by_hand import Sinks, begun, filled
from tests.helpers.sink_by_hand import DB, P, Time, position, state
from tests.simulation.target import REFUSED_VALUE


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


# -- alone


def test_each_writes_its_own_partitions_and_stores_its_own_place() -> None:
    sinks = begun(state("p", ceiling=position(1)), state("q"), state("heap"))
    filled(sinks)
    mine = sinks.of_shard(P, 0)
    sinks.alone(0)
    assert ([(1 + mine, 1)], position(1), position(0)) == (sinks.rows(P), sinks.place(0).position, sinks.place(1).position)
    assert (position(0), TableState.CATCHING_UP) == (sinks.stored.position, sinks.of(P).state), "others have not come so far"
    sinks.alone(1)
    assert ([(1, 1), (2, 1)], position(1), TableState.CONSISTENT) == (sinks.rows(P), sinks.stored.position, sinks.of(P).state)
    assert {("p.d.p", partition): (1, 1) for partition in (0, 1)}.items() <= sinks.stored.partitions.items()


def test_a_key_that_waits_is_shown_with_its_table_at_once() -> None:
    sinks = begun()
    filled(sinks)
    sinks.together()
    assert TableState.CONSISTENT == sinks.of(P).state
    partition = sinks.of_shard(P, 1)
    sinks.put(P, None, (9, REFUSED_VALUE), partition=partition)
    sinks.cut()
    sink = sinks.alone(1)
    assert (["p"], {(DB, "p"): 1}) == (sinks.waiting(), sink.counters.queued)
    assert TableState.QUARANTINED == sinks.of(P).state
    assert 1 == sinks.shards[1].calls.count("hold")
    sinks.put(P, None, (99, 1), partition=partition)
    sinks.cut()
    sinks.alone(1)
    assert 1 == sinks.shards[1].calls.count("hold"), "nothing more waits"


def test_what_becomes_of_tables_is_looked_up_now_and_then_while_any_is_unsettled(time: Time) -> None:
    seconds = timing.TIMES.shards_look_seconds
    rest = (state(name, TableState.CONSISTENT) for name in ("q", "heap"))
    sinks = begun(state("p", TableState.CATCHING_UP, ceiling=position(9)), *rest)
    sink = sinks.shard_sink(0)
    for moved, looked in ((0.0, 1), (seconds, 1), (0.001, 2)):
        time.now += moved
        filled(sinks, 10 * sinks.number)
        sinks.alone(0, sink)
        assert looked == sinks.shards[0].looked
    assert {"catching_up": 1, "consistent": 2} == sink.counters.states
    while sinks.number < 9:
        sinks.cut()
    sinks.alone(1)
    for _ in range(2):
        time.now += 2 * seconds
        sinks.alone(0, sink)
        assert {"consistent": 3} == sink.counters.states, "as it is by now, and not before the commit"
        filled(sinks, 10 * sinks.number)
    assert 3 == sinks.shards[0].looked, "none is left to look after"


def test_a_sink_that_is_to_end_somewhere_ends_there_and_says_so() -> None:
    sinks = begun()
    filled(sinks)
    sinks.until = sinks.log._ends[sinks.log.control_topic, 0]
    filled(sinks, 5)
    sinks.alone(0)
    assert (sinks.until, position(1)) == (sinks.place(0).control_next, sinks.place(0).position)
    assert 1 == len(sinks.rows(P))
    asked = iter(range(20))
    sink = sinks.shard_sink(0)
    sink.run(sinks.shards[0].read(), lambda: next(asked) < 0, 0.0)  # it ends by itself, or runs out of what it may ask
    assert sinks.until == sinks.place(0).control_next


def test_a_meeting_below_where_a_sink_is_to_end_is_met() -> None:
    sinks = Sinks()
    sinks.begins()
    filled(sinks)
    sinks.until = sinks.log._ends[sinks.log.control_topic, 0]
    sinks.together()
    assert [(1, 1), (2, 1)] == sinks.rows(P)


def test_pieces_that_stand_below_where_a_sink_is_to_end_are_void_and_undone() -> None:
    sinks = begun()
    sinks.put(P, None, (1, 1), partition=sinks.of_shard(P, 0))
    sinks.cut(partial=True)
    sinks.until = sinks.log._ends[sinks.log.control_topic, 0]
    sink = sinks.shard_sink(0)
    rounds = iter(range(50))
    sink.run(sinks.shards[0].read(), lambda: next(rounds) > 20, 0.0)
    assert {BELOW} == {error.rule for error in sinks.told}
    assert "rollback" in sinks.shards[0].calls
    assert [] == sinks.rows(P)


def test_a_fault_that_is_not_a_move_ends_a_sink() -> None:
    sinks = begun()
    filled(sinks)
    away = Retry("target_lost", "pipeline sim", "there is no connection", "")
    sinks.shards[0].fails.append(("commit", away))
    with pytest.raises(Retry):
        sinks.alone(0)
    assert [] == sinks.told


def test_where_a_sink_is_to_end_is_stored_although_no_rows_stand_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on with one sink for all begins at one place of every shard."""
    monkeypatch.setattr(module, "BATCH_ROWS", 1)
    sinks = begun()
    filled(sinks)
    sinks.say(Start("s", 0))
    sinks.until = sinks.log._ends[sinks.log.control_topic, 0]
    sinks.alone(0)
    assert (sinks.until, position(1)) == (sinks.place(0).control_next, sinks.place(0).position)
