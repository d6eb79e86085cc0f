"""What the sink knows of a table, and what capture says of it: every pair is decided, and none shows rows that are not all there.

The product's own `TableStates`, without a database. Each line of a table below is one meeting of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from cdc.capture.followed_tables import FollowedTables
from cdc.capture.restart import Restart
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.table import Table
from cdc.protocol.applied import TableProgress
from cdc.protocol.control import Base, Copy, Followed
from cdc.protocol.copy_progress import DONE, KEYS, REFUSED, STOPPED, WHOLE, Active, Copies, Ended
from cdc.protocol.table_states import SHOWN_AS_CONSISTENT, TableState
from sinks.table_states import COPY, REFUSAL, SHADOW, TableStates

NAME = ("db", "t")
FOLLOWED = Followed(*NAME, "p.db.t", 1, 1, 2)
MINE, OTHER = "mine", "other"
HELD: Mapping[str, tuple[TableState | None, dict[str, object]]] = {
    "absent": (None, {}),
    "new": (TableState.NEW, {}),
    "copying": (TableState.COPYING, {COPY: MINE}),
    "copying of an earlier version": (TableState.COPYING, {}),
    "copying another": (TableState.COPYING, {COPY: OTHER}),
    "catching up": (TableState.CATCHING_UP, {}),
    "consistent": (TableState.CONSISTENT, {}),
    "quarantined": (TableState.QUARANTINED, {}),
    "swapping": (TableState.CONSISTENT, {SHADOW: MINE}),
    "swapping another": (TableState.CONSISTENT, {SHADOW: OTHER}),
    "not emptied": (TableState.CONSISTENT, {COPY: MINE, REFUSAL: "why"}),
    "not emptied for another": (TableState.CONSISTENT, {COPY: OTHER, REFUSAL: "why"}),
    "refused": (TableState.REFUSED, {}),
    "stopped": (TableState.STOPPED, {}),
}
"""What the sink has stored, in words."""
LEFT, COPIED, UNCOPIED, GOES_ON, SWAPS = "not selected", "copied", "to be copied", "its copy goes on", "its second table fills"
SAID = (LEFT, COPIED, UNCOPIED, GOES_ON, SWAPS)
"""What a base says, in words."""
HALT = "table_not_copied"
ENDS = ((DONE, MINE), (STOPPED, MINE), (REFUSED, MINE), (DONE, OTHER), (STOPPED, ""))
"""What a cut says of the copy that ends with it: what became of it, and whose it is; "": it never began."""

AT_A_BASE: Mapping[str, tuple[str, str, str, str, str]] = {
    #                               LEFT       COPIED        UNCOPIED   GOES_ON        SWAPS
    "absent":                       ("absent", HALT, "new", "new", HALT),
    "new":                          ("stopped", HALT, "new", "new", HALT),
    "copying":                      ("stopped", "new", "new", "copying", "copying"),
    "copying of an earlier version": ("stopped", "new", "new", "copying", "copying"),
    "copying another":              ("stopped", "new", "new", "new", "new"),
    "catching up":                  ("stopped", "catching_up", "new", "new", "catching_up"),
    "consistent":                   ("stopped", "consistent", "new", "new", "consistent"),
    "quarantined":                  ("stopped", "quarantined", "new", "new", "quarantined"),
    "swapping":                     ("stopped", "consistent", "new", "consistent", "consistent"),
    "swapping another":             ("stopped", "consistent", "new", "new", "consistent"),
    "not emptied":                  ("stopped", "consistent", "new", "consistent", "consistent"),
    "not emptied for another":      ("stopped", "consistent", "new", "new", "consistent"),
    "refused":                      ("stopped", "refused", "refused", "refused", "refused"),
    "stopped":                      ("stopped", HALT, "new", "new", HALT),
}  # fmt: skip


def at(number: int) -> Position:
    return Position("mariadb", "s", f"0-1-{number}", "b.000001", number * 100)


def standing(held: str) -> TableStates:
    state, schema = HELD[held]
    if state is None:
        return TableStates({})
    return TableStates({NAME: TableProgress(*NAME, *NAME, state, at(1), at(2), 3, "", {"value_schema": 2, **schema})})


def base(said: str) -> Base:
    active = Active(MINE, "r", *NAME, WHOLE, ("7",), 7, said == SWAPS) if said in (GOES_ON, SWAPS) else None
    uncopied = (NAME,) if said in (UNCOPIED, GOES_ON) else ()
    return Base(9, 4, at(5), 0, False, {}, {}, () if said == LEFT else (FOLLOWED,), Copies(active=active), uncopied)


def enter(tables: TableStates, entry: Base) -> None:
    tables.enter(entry, lambda followed: {"value_schema": 2}, lambda followed: TableProgress(*NAME, *NAME))


def found(tables: TableStates) -> str:
    state = tables.get(NAME)
    return "absent" if state is None else str(state.state)


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("said", SAID)
def test_a_base_and_what_the_target_holds_agree_or_nothing_is_shown(said: str, held: str) -> None:
    tables, expected = standing(held), AT_A_BASE[held][SAID.index(said)]
    if expected == HALT:
        with pytest.raises(Halt, match="takes it for copied"):
            enter(tables, base(said))
        return
    enter(tables, base(said))
    assert expected == found(tables)
    orphan = tables.orphans(base(said).copies.active)
    assert ([NAME] if SHADOW in HELD[held][1] and (said not in (GOES_ON, SWAPS) or HELD[held][1][SHADOW] == OTHER) else []) == orphan
    if expected == "new" and said == GOES_ON:
        assert "cdc copy begins another" in tables[NAME].reason
    if expected == "new" and said in (COPIED, SWAPS):  # and no change goes into what its copy left unfinished: one might miss a row there
        assert "never ended here" in tables[NAME].reason
        assert not tables.takes(NAME)


@pytest.mark.parametrize("held", [name for name in HELD if name != "absent"])
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("ended", [*ENDS, (DONE, None), (STOPPED, None)])
def test_no_base_and_no_end_show_a_table_as_copied_whose_copy_did_not_begin_there(
    ended: tuple[str, str | None], said: str, held: str
) -> None:
    """After any base and any end that may follow it: consistent is only what was, or what holds the copy that ends, from its first row."""
    tables, (before, schema) = standing(held), HELD[held]
    try:
        enter(tables, base(said))
    except Halt:
        return
    outcome, copy = ended
    told = tables.end(Ended("r", *NAME, WHOLE, outcome, 9, "reason", copy), at(6))
    tables.pass_ceilings(at(7), lambda name: 0, copying=False)
    begun = before == TableState.COPYING and outcome == DONE and schema.get(COPY, copy) in (copy, None if copy else schema.get(COPY))
    was = before in (TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED)
    assert tables[NAME].state not in SHOWN_AS_CONSISTENT or begun or was
    if tables[NAME].state == TableState.REFUSED and copy is not None:
        assert told.outcome != DONE


AT_AN_END: Mapping[str, tuple[str, str, str, str, str]] = {
    #                               done        stopped       refused      another's    a queued one's
    "new":                          ("new", "new", "refused", "new", "new"),
    "copying":                      ("catching_up", "new", "refused", "copying", "copying"),
    "copying of an earlier version": ("catching_up", "new", "refused", "catching_up", "copying"),
    "copying another":              ("copying", "copying", "copying", "catching_up", "copying"),
    "catching up":                  ("catching_up", "catching_up", "catching_up", "catching_up", "catching_up"),
    "consistent":                   ("consistent", "consistent", "consistent", "consistent", "consistent"),
    "quarantined":                  ("quarantined", "quarantined", "quarantined", "quarantined", "quarantined"),
    "not emptied":                  ("consistent", "consistent", "consistent", "consistent", "consistent"),
    "not emptied for another":      ("consistent", "consistent", "consistent", "consistent", "consistent"),
    "refused":                      ("refused", "refused", "refused", "refused", "refused"),
    "stopped":                      ("stopped", "stopped", "stopped", "stopped", "stopped"),
}  # fmt: skip


@pytest.mark.parametrize("held", AT_AN_END)
@pytest.mark.parametrize("end", range(len(ENDS)))
def test_a_copy_ends_only_where_it_began(end: int, held: str) -> None:
    tables, (outcome, copy) = standing(held), ENDS[end]
    told = tables.end(Ended("r", *NAME, WHOLE, outcome, 9, "reason", copy), at(6))
    assert AT_AN_END[held][end] == found(tables)
    done = outcome == DONE and found(tables) == "catching_up" and HELD[held][0] == TableState.COPYING
    assert (outcome if outcome != DONE or done else REFUSED) == told.outcome


@pytest.mark.parametrize(("held", "outcome"), [("consistent", DONE), ("copying", DONE), ("refused", REFUSED), ("new", REFUSED)])
def test_keys_that_are_read_again_are_not_done_where_the_table_takes_nothing(held: str, outcome: str) -> None:
    assert outcome == standing(held).end(Ended("r", *NAME, KEYS, DONE, 2, "", MINE), at(6)).outcome


BARRIERS: Mapping[str, tuple[str, str, str]] = {
    #                               begins     cannot       cannot, exactly
    "new":                          ("copying", "refused", "refused"),
    "copying":                      ("copying", "refused", "refused"),
    "copying of an earlier version": ("copying", "refused", "refused"),
    "copying another":              ("copying", "refused", "refused"),
    "catching up":                  ("copying", "catching_up", "refused"),
    "consistent":                   ("copying", "consistent", "refused"),
    "quarantined":                  ("copying", "quarantined", "refused"),
    "not emptied":                  ("copying", "consistent", "refused"),
    "not emptied for another":      ("copying", "consistent", "refused"),
    "refused":                      ("copying", "refused", "refused"),
    "stopped":                      ("copying", "refused", "refused"),
}  # fmt: skip


@pytest.mark.parametrize("held", BARRIERS)
def test_a_barrier_begins_a_copy_or_changes_nothing_that_is_shown(held: str) -> None:
    def barrier(exact: bool = False) -> Copy:
        return Copy(9, 5, *NAME, at(5), "next", exact)

    tables = standing(held)
    tables.begin(barrier())
    assert (BARRIERS[held][0], True) == (found(tables), tables.bears(NAME, "next"))
    assert not tables.is_refused(NAME)
    for column, exact in ((1, False), (2, True)):
        tables = standing(held)
        tables.refuse(barrier(exact), "why not")
        assert BARRIERS[held][column] == found(tables)
        told = tables.end(Ended("r", *NAME, WHOLE, DONE, 9, "", "next"), at(6))
        assert (REFUSED, "why not") == (told.outcome, told.reason)
        assert (BARRIERS[held][column], False) == (found(tables), tables.is_refused(NAME))


def test_a_table_that_leaves_and_comes_back_does_not_go_on_with_the_copy_that_it_left() -> None:
    for held in ("copying", "swapping"):
        tables = standing(held)
        enter(tables, base(LEFT))
        assert ([NAME] if held == "swapping" else []) == tables.orphans(base(GOES_ON).copies.active)
        enter(tables, base(GOES_ON))
        assert ("new", False) == (found(tables), tables.bears(NAME, MINE))


@pytest.mark.parametrize("kind", [WHOLE, KEYS])
def test_capture_gives_up_the_copy_of_a_table_that_left_the_selection(kind: str) -> None:
    """Nobody publishes what changes behind its chunks; and it would go on there when the table comes back."""
    restart = Restart(at(1), copies=Copies(3, 4, active=Active(MINE, "r", *NAME, kind, ("7",), 7)), followed=frozenset({("db", "u")}))
    for tables in ([Table(*NAME, ())], [Table("db", "u", ())]):
        follows = replace(restart)
        FollowedTables(tables, at(2)).settle(follows, lambda db, table: True)
        assert (tables[0].name == "t") == (follows.copies.active is not None)
        assert (3, 4) == (follows.copies.next, follows.copies.read)


def test_what_a_try_changed_is_as_it_was() -> None:
    tables = standing("consistent")
    tables.mark()
    tables.begin(Copy(9, 5, *NAME, at(5), "next"))
    tables.back_to_mark()
    assert ("consistent", [], False) == (found(tables), tables.dirty(), tables.bears(NAME, "next"))
