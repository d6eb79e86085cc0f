"""Where several sinks meet over a log made by hand: what one does for all, and what a base may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdc.errors import Halt, Refused
from cdc.protocol.applied import MADE
from cdc.protocol.copy_progress import DONE, REFUSED, WHOLE, Active, Copies, Ended
from cdc.protocol.table_states import TableState
from sinks.apply import BELOW
from sinks.cuts import CutAssembler
from sinks.table_states import COPY, SHADOW
from tests.helpers.shards_by_hand import Sinks, begun, filled
from tests.helpers.sink_by_hand import DB, P, Time, position, state


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


# -- meetings


def test_a_wait_that_a_failover_has_lost_is_said_again() -> None:
    sinks = Sinks()
    sinks.begins()
    base = sinks.log._ends[sinks.log.control_topic, 0] - 1
    sink = sinks.alone(1)
    sinks.content.shards[1] = replace(sinks.content.shards[1], waits_at=None)
    sinks.alone(1, sink)
    assert [None, base] == sinks.waits()


def test_a_base_is_entered_by_the_first_for_all_when_all_wait_before_it() -> None:
    sinks = Sinks()
    sinks.begins()
    base = sinks.log._ends[sinks.log.control_topic, 0] - 1
    sinks.alone(1)
    assert ([None, base], base) == (sinks.waits(), sinks.place(1).control_next)
    assert 1 == len(sinks.shards[1].commits), "it says once that it waits"
    filled(sinks)
    sinks.alone(1)
    assert [] == sinks.rows(P), "and reads on without applying"
    sinks.alone(0)
    assert ([None, None], base + 2) == (sinks.waits(), sinks.place(0).control_next)
    assert (base + 1, {"key_schema", "value_schema", MADE}) == (sinks.place(1).control_next, set(sinks.of(P).schema))
    sinks.alone(1)
    assert [(1, 1), (2, 1)] == sinks.rows(P)


def test_only_the_first_presides_although_another_sees_that_all_wait() -> None:
    sinks = Sinks()
    sinks.begins()
    sinks.alone(0)
    assert (1, False) == (len(sinks.shards[0].commits), "lead" in sinks.shards[0].calls)
    sinks.alone(1)
    base = sinks.log._ends[sinks.log.control_topic, 0] - 1
    assert ([base, base], {MADE}) == (sinks.waits(), set(sinks.of(P).schema))
    sinks.alone(0)
    assert [None, None] == sinks.waits()


def test_one_that_waits_begins_again_from_what_is_stored_when_another_has_moved_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CutAssembler, "ahead", lambda self, stuck: frozenset({("p.d.p", 0)}))
    sinks = Sinks()
    sinks.begins()
    filled(sinks)
    polls = iter(range(99))

    def the_other_works() -> None:
        if next(polls) == 2:
            sinks.log.at_poll = lambda: None
            sinks.alone(0)

    sinks.log.at_poll = the_other_works
    sinks.alone(1)
    assert [(1, 1), (2, 1)] == sinks.rows(P)
    assert ("rollback", True, False) == (
        sinks.shards[1].calls[1],
        ("hold", frozenset()) in sinks.log.asked,
        "lead" in sinks.shards[1].calls,
    )


def test_what_comes_before_a_meeting_is_committed_before_it() -> None:
    sinks = begun()
    filled(sinks)
    sinks.begins()
    sinks.alone(0)
    assert (position(1), 1) == (sinks.place(0).position, len(sinks.rows(P)))
    sinks.together()
    filled(sinks, 5)
    sinks.together()
    assert [(1, 1), (2, 1), (5, 1), (6, 1)] == sinks.rows(P)
    assert {(2, 2)} == {sinks.stored.partitions["p.d.p", partition] for partition in (0, 1)}


def test_a_base_sets_every_partition_s_place_and_what_is_said_of_copies() -> None:
    sinks = begun()
    filled(sinks)
    copies = Copies(2, 3, channel="here")
    sinks.begins(copies=copies)
    sinks.together()
    assert {(1, 1)} == {sinks.stored.partitions["p.d.p", partition] for partition in (0, 1)}
    assert {(0, 0)} == {sinks.stored.partitions["p.d.q", partition] for partition in (0, 1)}
    assert [copies, copies] == [sinks.place(number).copies for number in (0, 1)]


def test_a_copy_s_barrier_empties_the_table_for_all_and_its_end_is_told_by_one() -> None:
    sinks = begun()
    filled(sinks)
    sinks.together()
    sinks.copy(P, "id")
    for partition in (0, 1):
        sinks.put(P, None, (5 + partition, 1), read=True, partition=partition)
    sinks.cut(copies=Copies(0, 1, active=Active("id", "r", DB, "p", WHOLE, ("6",), 2)))
    sinks.together()
    assert ([(5, 1), (6, 1)], TableState.COPYING, "id") == (sinks.rows(P), sinks.of(P).state, sinks.of(P).schema[COPY])
    assert ["lead", "lock_all", "empty p"] == [call for call in sinks.shards[0].calls if call in ("lead", "lock_all", "empty p")]
    assert "empty p" not in sinks.shards[1].calls
    sinks.shards[0].calls.clear()
    sinks.cut(copies=Copies(1, 1), ended=(Ended("r", DB, "p", WHOLE, DONE, 2, "", "id"),))
    sinks.together()
    assert ["lead", "lock_all"] == [call for call in sinks.shards[0].calls if call in ("lead", "lock_all")]
    assert [(DONE, 2)] == [(one.outcome, one.rows) for one in sinks.content.copies.values()]
    assert (TableState.CONSISTENT, position(3)) == (sinks.of(P).state, sinks.of(P).ceiling)
    assert [Copies(1, 1)] * 2 == [sinks.place(number).copies for number in (0, 1)]
    assert [None, None] == sinks.waits()


def test_a_second_table_is_checked_at_once_when_its_copy_ends_in_a_meeting() -> None:
    sinks = begun()
    sinks.copy(P, "id", swap=True)
    sinks.put(P, None, (5, 1), read=True, partition=sinks.of_shard(P, 1))
    sinks.cut()
    sinks.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    sinks.together()
    assert ([(5, 1)], ["become equal strictly"]) == (
        sinks.rows(P), [call for shard in sinks.shards for call in shard.calls if call.startswith("become")],
    )  # fmt: skip


def test_a_copy_that_the_target_refuses_ends_as_refused_in_a_meeting_too() -> None:
    sinks = begun()
    filled(sinks)
    for shard in sinks.shards:
        shard.refuses["empty"] = Refused("target_denied", "d.p", "is referenced", "")
    sinks.copy(P, "id")
    sinks.put(P, None, (5, 1), read=True, partition=sinks.of_shard(P, 1))
    sinks.cut(ended=(Ended("r", DB, "p", WHOLE, DONE, 1, "", "id"),))
    sinks.together()
    assert ([(1, 1), (2, 1)], [REFUSED]) == (sinks.rows(P), [one.outcome for one in sinks.content.copies.values()])


def test_a_second_table_whose_copy_goes_on_nowhere_is_dropped_by_the_base_for_all() -> None:
    sinks = Sinks(state("p", TableState.CONSISTENT, schema={MADE: True, SHADOW: "id"}), state("q"), state("heap"))
    sinks.content.stocks["d.p/shadow"] = sinks.content.stocks["d.p"].copy()
    sinks.begins()
    sinks.together()
    assert ("drop second p" in sinks.shards[0].calls) == (SHADOW not in sinks.of(P).schema) is True


def test_a_base_below_pieces_begins_at_what_is_stored() -> None:
    sinks = begun()
    sinks.put(P, None, (1, 1), partition=sinks.of_shard(P, 0))
    sinks.cut(partial=True)
    polls = iter(range(99))

    def capture_begins_again() -> None:
        if next(polls) == 2:
            sinks.begins(cut_no=0)

    sinks.log.at_poll = capture_begins_again
    sinks.alone(0)
    assert [BELOW] == [error.rule for error in sinks.told]
    assert ("rollback" in sinks.shards[0].calls, [], sinks.epoch + 1) == (True, sinks.rows(P), sinks.waits()[0])


# -- what a base may not do


def halted(sinks: Sinks) -> str:
    sinks.alone(1)
    with pytest.raises(Halt) as stop:
        sinks.alone(0)
    return stop.value.code


def test_several_sinks_do_not_take_the_first_copy_through_the_topics() -> None:
    sinks = Sinks()
    sinks.begins(copying=True)
    assert "not_loaded" == halted(sinks)


def test_a_base_beyond_what_any_sink_has_applied_stops() -> None:
    sinks = begun()
    filled(sinks)
    sinks.number = 0
    sinks.begins(position=position(2))
    assert "base_beyond" == halted(sinks)


def test_a_base_beyond_what_one_of_them_has_applied_stops() -> None:
    sinks = begun()
    filled(sinks)
    sinks.alone(0)
    sinks._changed.clear()
    sinks.begins(cut_no=0)
    assert (position(1), position(0)) == (sinks.place(0).position, sinks.place(1).position)
    assert "base_beyond" == halted(sinks)


@pytest.mark.parametrize(("apart", "width", "stops"), [(True, 3, True), (True, 2, False), (False, 3, False)])
def test_another_number_of_partitions_is_taken_only_where_all_stand_at_one_position(apart: bool, width: int, stops: bool) -> None:
    """One of them has applied what capture goes back behind."""
    sinks = begun()
    tables = tuple(replace(one, partitions=width) if one.table == "p" else one for one in sinks.base.tables)
    filled(sinks)
    if apart:
        sinks.alone(0)
        sinks.number = sinks.cut_no = 0
        sinks._changed.clear()
    else:
        sinks.together()
    sinks.begins(tables=tables)
    if stops:
        assert "partitions_changed" == halted(sinks)
    else:
        sinks.together()
        assert [None, None] == sinks.waits()
        assert sinks.place(1).control_next > sinks.epoch
