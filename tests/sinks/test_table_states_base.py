"""Where the sink's tables stand after a base, a whole cut, a copy and a change of policies; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cdc.errors import Halt
from cdc.model.policies import Chosen
from cdc.model.position import Position
from cdc.protocol.applied import MADE, REMAKE, TableProgress
from cdc.protocol.control import Base, Copy as CopyOf, Followed
from cdc.protocol.copy_progress import DONE, KEYS, REFUSED, WHOLE, Active, Copies, Ended
from cdc.protocol.table_states import TableState
from sinks.table_states import COPY, LEFT, REFUSAL, SHADOW, TableStates

T = ("d", "t")
AT = Position("mariadb", "s", "0-1-5", "b.000001", 500)


def followed(*names: str) -> tuple[Followed, ...]:
    return tuple(Followed("d", name, f"p.d.{name}", 1, None, 7) for name in names)


def schema(one: Followed) -> Mapping[str, object]:
    return {"value_schema": one.value_schema}


def made(one: Followed) -> TableProgress:
    return TableProgress(one.db, one.table, "d", one.table)


def states(standings: TableStates) -> dict[str, TableState]:
    return {one.table: one.state for one in standings}


def test_a_table_that_came_while_an_initial_copy_through_the_topics_was_made_is_not_taken_for_a_part_of_it() -> None:
    standings = TableStates({})
    standings.enter(Base(1, 0, AT, 0, True, {}, {}, followed("old", "fresh"), uncopied=(("d", "fresh"),)), schema, made)
    assert {"old": TableState.COPYING, "fresh": TableState.NEW} == states(standings)
    standings.pass_ceilings(AT, lambda name: 0, copying=True)
    assert {"old": TableState.CONSISTENT, "fresh": TableState.NEW} == states(standings)


def one(state: TableState, **more: Any) -> TableStates:
    return TableStates({T: TableProgress("d", "t", "d", "t", state, **more)})


def base(*tables: Followed, **more: Any) -> Base:
    return Base(9, 4, AT, 0, False, {}, {}, tables, **more)


# -- bases


def test_a_base_s_schemas_take_the_place_of_those_that_were_known_and_nothing_else_is_forgotten() -> None:
    standings = one(TableState.CONSISTENT, schema={"value_schema": 3, MADE: True})
    standings.enter(base(*followed("t")), schema, made)
    assert {"value_schema": 7, MADE: True} == standings[T].schema
    assert [standings[T]] == standings.dirty(), "what changed is stored with the next commit"
    standings.stored()
    assert [] == standings.dirty()


def test_a_table_whose_load_was_given_up_is_made_anew() -> None:
    standings = one(TableState.NEW, schema={REMAKE: True, MADE: True})
    standings.enter(base(*followed("t"), uncopied=(T,)), schema, made)
    assert {"value_schema": 7} == standings[T].schema


def test_a_table_that_is_not_here_although_capture_takes_it_for_copied_stops_by_its_name() -> None:
    """Whether it was never made, or holds nothing that counts; and nothing is made for it."""
    for standings in (TableStates({}), one(TableState.NEW), one(TableState.STOPPED)):
        with pytest.raises(Halt) as stop:
            standings.enter(base(*followed("t")), schema, lambda followed: pytest.fail("nothing is made"))
        assert ("table_not_copied", "d.t") == (stop.value.code, stop.value.place)


def test_a_table_whose_copy_is_known_to_be_lost_waits_for_another_and_stops_nothing() -> None:
    standings = one(TableState.NEW, reason="its copy was stopped")
    standings.enter(base(*followed("t")), schema, made)
    assert TableState.NEW == standings[T].state


def test_a_copy_through_the_topics_goes_on_where_it_had_begun() -> None:
    """Its base comes again with each start of capture."""
    standings = one(TableState.COPYING, floor=AT, ceiling=AT)
    standings.enter(Base(9, 4, AT, 0, True, {}, {}, followed("t")), schema, made)
    assert (TableState.COPYING, "") == (standings[T].state, standings[T].reason)
    standings.pass_ceilings(AT, lambda name: 0, copying=False)
    assert TableState.COPYING == standings[T].state, "it is ended by its own cut"


def test_what_is_gone_from_the_source_has_not_left_the_selection() -> None:
    """Capture stops where its log says what became of it; until then it is what it was."""
    standings = one(TableState.CONSISTENT)
    standings.enter(base(gone=(T,)), schema, made)
    assert TableState.CONSISTENT == standings[T].state


def test_a_table_leaves_the_selection_once_and_keeps_what_is_known_of_its_place_and_its_second_table() -> None:
    standings = one(TableState.CONSISTENT, schema={SHADOW: "id", COPY: "id", REFUSAL: "why", MADE: True})
    standings.enter(base(), schema, made)
    assert (TableState.STOPPED, LEFT, {SHADOW: "id", MADE: True}) == (standings[T].state, standings[T].reason, standings[T].schema)
    standings.stored()
    standings.enter(base(), schema, made)
    assert [] == standings.dirty()


def test_the_copy_of_another_table_or_of_single_rows_is_not_this_one_s() -> None:
    """A table that is to be copied and whose copy does not go on begins anew, without a reason for anybody to act."""
    for active in (Active("id", "", "d", "other", WHOLE, (), 0), Active("id", "", "d", "t", KEYS, (), 0)):
        standings = one(TableState.COPYING, schema={COPY: "id"})
        standings.enter(base(*followed("t"), copies=Copies(active=active), uncopied=(T,)), schema, made)
        assert (TableState.NEW, "") == (standings[T].state, standings[T].reason)


def test_a_copy_that_was_refused_is_over_with_the_base_of_the_next_epoch_and_one_that_began_is_not() -> None:
    refused = one(TableState.CONSISTENT, schema={COPY: "id", REFUSAL: "why", MADE: True})
    refused.enter(base(*followed("t")), schema, made)
    assert ({MADE: True, "value_schema": 7}, False) == (refused[T].schema, refused.is_refused(T))
    going = one(TableState.CONSISTENT, schema={SHADOW: "id"})
    going.enter(base(*followed("t")), schema, made)
    assert {SHADOW: "id", "value_schema": 7} == going[T].schema


def test_a_table_that_cannot_be_followed_stays_refused_whatever_capture_takes_it_for() -> None:
    for uncopied in ((T,), ()):
        standings = one(TableState.REFUSED, reason="why")
        standings.enter(base(*followed("t"), uncopied=uncopied), schema, made)
        assert (TableState.REFUSED, "why") == (standings[T].state, standings[T].reason)


# -- whole cuts


def test_a_table_is_consistent_from_its_ceiling_on_and_not_before() -> None:
    before = replace(AT, gtids="0-1-4", offset=400)
    for at, expected in ((before, TableState.CATCHING_UP), (None, TableState.CATCHING_UP), (AT, TableState.CONSISTENT)):
        standings = one(TableState.CATCHING_UP, ceiling=AT)
        standings.pass_ceilings(at, lambda name: 0, copying=False)
        assert expected == standings[T].state
    unknown = one(TableState.CATCHING_UP)
    unknown.pass_ceilings(AT, lambda name: 0, copying=False)
    assert TableState.CATCHING_UP == unknown[T].state


@pytest.mark.parametrize(
    ("state", "held", "expected"),
    [
        (TableState.CATCHING_UP, 1, TableState.QUARANTINED),
        (TableState.CONSISTENT, 2, TableState.QUARANTINED),
        (TableState.CONSISTENT, 0, TableState.CONSISTENT),
        (TableState.QUARANTINED, 1, TableState.QUARANTINED),
        (TableState.QUARANTINED, 0, TableState.CONSISTENT),
        (TableState.COPYING, 1, TableState.COPYING),
        (TableState.STOPPED, 1, TableState.STOPPED),
        (TableState.REFUSED, 1, TableState.REFUSED),
    ],
)
def test_a_table_is_quarantined_for_as_long_as_keys_of_it_wait(state: TableState, held: int, expected: TableState) -> None:
    standings = one(state, ceiling=AT)
    standings.pass_ceilings(AT, lambda name: held if name == T else 0, copying=False)
    assert expected == standings[T].state


def test_the_end_of_the_copy_through_the_topics_leaves_no_copy_in_its_tables() -> None:
    standings = one(TableState.COPYING, schema={COPY: "id", MADE: True})
    standings.pass_ceilings(AT, lambda name: 0, copying=True)
    assert (TableState.CONSISTENT, AT, {MADE: True}) == (standings[T].state, standings[T].ceiling, standings[T].schema)


# -- copies while streaming


def test_a_copy_that_begins_forgets_what_the_one_before_it_was_and_keeps_the_place() -> None:
    standings = one(TableState.CONSISTENT, ceiling=AT, rows_loaded=9, reason="old", schema={COPY: "old", REFUSAL: "why", MADE: True})
    standings.begin(CopyOf(9, 5, "d", "t", AT, "next"))
    found = standings[T]
    assert (TableState.COPYING, AT, None, 0, "") == (found.state, found.floor, found.ceiling, found.rows_loaded, found.reason)
    assert {COPY: "next", MADE: True} == found.schema
    assert (True, False) == (standings.bears(T, "next"), standings.bears(T, "old"))


def test_a_second_table_is_a_copy_s_until_there_is_none() -> None:
    standings = one(TableState.CONSISTENT, schema={MADE: True})
    standings.shade(T, "id")
    assert ("id", {SHADOW: "id", MADE: True}) == (standings.shadow(T), standings[T].schema)
    standings.shade(T, "")
    assert ("", {MADE: True}) == (standings.shadow(T), standings[T].schema)


def test_a_barrier_that_changes_nothing_is_refused_until_its_copy_ends() -> None:
    standings = one(TableState.CONSISTENT)
    standings.refuse(CopyOf(9, 5, "d", "t", AT, "next", exact=False), "why")
    assert standings.is_refused(T)
    standings.end(Ended("r", "d", "t", WHOLE, DONE, 9, "", "next"), AT)
    assert not standings.is_refused(T)


def test_what_counts_no_more_stays_new_with_the_last_reason_that_was_given() -> None:
    standings = one(TableState.NEW, reason="before")
    standings.renew(T)
    assert (TableState.NEW, "before") == (standings[T].state, standings[T].reason)
    standings.renew(T, "now")
    assert (TableState.NEW, "now") == (standings[T].state, standings[T].reason)


@pytest.mark.parametrize("kind", [WHOLE, KEYS])
def test_the_end_of_a_copy_of_a_table_that_is_not_known_is_told_as_it_is(kind: str) -> None:
    ended = Ended("r", "d", "unknown", kind, DONE, 9, "", "id")
    assert ended == one(TableState.CONSISTENT).end(ended, AT)


def test_a_copy_that_the_target_never_saw_begin_says_so_and_a_table_that_takes_nothing_says_why() -> None:
    seen = one(TableState.CONSISTENT, reason="of before").end(Ended("r", "d", "t", WHOLE, DONE, 9, "", "id"), AT)
    assert (REFUSED, "the target has not seen it begin") == (seen.outcome, seen.reason)
    why = one(TableState.REFUSED, reason="of before").end(Ended("r", "d", "t", WHOLE, DONE, 9, "", "id"), AT)
    assert (REFUSED, "of before") == (why.outcome, why.reason)


def test_an_end_of_an_earlier_version_that_names_no_copy_is_told_as_it_is() -> None:
    ended = Ended("r", "d", "t", WHOLE, DONE, 9, "", None)
    assert ended == one(TableState.CONSISTENT).end(ended, AT)


# -- policies

C: Chosen = {"nul_text": "strip"}


@dataclass
class Plan:
    """As much of a plan as a policy is asked of."""

    chosen: Mapping[str, Chosen]
    policed: Mapping[str, frozenset[str]] = field(default_factory=lambda: {"c": frozenset({"nul_text"})})
    db: str = "d"
    table: str = "t"


def plan(**chosen: Chosen) -> Any:
    return Plan(chosen)


def test_policies_are_remembered_with_the_table_and_only_when_they_change() -> None:
    standings = one(TableState.CONSISTENT, schema={MADE: True})
    standings.check_policies(plan())
    assert [] == standings.dirty()
    standings.check_policies(plan(c=C))
    assert {MADE: True, "policies": {"c": C}} == standings[T].schema
    assert [standings[T]] == standings.dirty()
    standings.stored()
    standings.check_policies(plan(c=C))
    assert [] == standings.dirty()


def test_rows_of_two_policies_are_never_mixed_but_where_there_are_none() -> None:
    other = plan(c={"nul_text": "strip"})
    held = {"policies": {"c": {"nul_text": "replace"}}}
    with pytest.raises(Halt) as stop:
        one(TableState.CONSISTENT, schema=held).check_policies(other)
    assert "policy_changed" == stop.value.code
    one(TableState.CONSISTENT, schema={"policies": {"gone": {"nul_text": "replace"}}}).check_policies(other)
    refused = one(TableState.REFUSED, schema=held)
    refused.check_policies(other)
    assert ([], held) == (refused.dirty(), refused[T].schema)
    TableStates({}).check_policies(other)


def test_before_any_mark_there_is_nothing_to_go_back_to() -> None:
    standings = one(TableState.CONSISTENT)
    standings.back_to_mark()
    assert [] == list(standings)
