"""Marks in cuts: where capture says that the engine changed children, and the foreign keys that it says and compares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdc.binlog.events import Event, RowsEvent
from cdc.capture import cascades as module
from cdc.capture.followed_tables import FollowedTables
from cdc.capture.restart import Restart
from cdc.errors import Halt
from cdc.model.foreign_key import ForeignKey
from cdc.model.table import Table
from cdc.protocol.control import Base, Cascade, Cut
from tests.capture.test_capture import Run, time as time
from tests.helpers.logs_by_hand import T, U, begin, commit, image, position, rows, table, transaction, when

W = table("w")
P, Q, R, S = ("p.db.t", 0), ("p.db.t", 1), ("p.db.u", 0), ("p.db.w", 0)


def key(child: Table = U, delete: Any = "cascade", update: Any = "") -> ForeignKey:
    return ForeignKey(f"of {child.name}", ("db", child.name), ("id",), ("db", "t"), ("id",), delete, update)


def gone(number: int, *ids: int, of: Table = T, **more: Any) -> RowsEvent:
    return replace(rows(of, "d", *(image(one) for one in ids), number=number), **more)


def come(number: int, *ids: int, of: Table = T) -> RowsEvent:
    return rows(of, "c", *(image(one) for one in ids), number=number)


def marks(*events: Event | list[Event], keys: tuple[ForeignKey, ...] = (key(),), **more: Any) -> list[list[Cascade]]:
    """The marks of each cut that has some."""
    run = Run(T, U, W, keys=keys, **more)
    run.start()
    return [list(one.cascades) for one in run.follow(*events, busy=True) if isinstance(one, Cut) and one.cascades]


def test_a_parent_s_deletion_is_marked_between_the_numbers_of_what_it_joins() -> None:
    found = marks(transaction(1, come(1, 1, 2), come(1, 5, of=U), come(1, 1, of=W)), transaction(2, gone(2, 1, 2), come(2, 6, of=U)),
                  transaction(3, gone(3, 9)))  # fmt: skip
    assert [[Cascade("p.db.t", "d", {P: 2, R: 1}, {P: 4}), Cascade("p.db.t", "d", {R: 2}, {P: 5})]] == found, "w is not joined"


def test_what_a_session_without_checks_does_and_what_has_no_action_is_not_marked() -> None:
    changed = rows(T, "u", image(1), image(2), number=3)
    events = [transaction(1, gone(1, 1, unchecked=True)), transaction(2, gone(2, 1, of=U)), transaction(3, changed)]
    assert [] == marks(*events)
    assert [[Cascade("p.db.t", "u", {P: 1, R: 1}, {P: 3})]] == marks(*events, keys=(key(delete="", update="set null"),))
    assert [] == marks(*events, keys=())


def test_one_transaction_s_marks_are_one_until_another_joined_record_lies_between() -> None:
    first, second = transaction(1, gone(1, 1), gone(1, 2), come(1, 1, of=W), gone(1, 3)), transaction(2, gone(2, 4))
    assert [[Cascade("p.db.t", "d", {P: 0, R: 0}, {P: 3}), Cascade("p.db.t", "d", {}, {P: 4})]] == marks(first, second)
    split = transaction(
        1, gone(1, 1), come(1, 7, of=U), gone(1, 2), rows(T, "u", image(4), image(8)), rows(T, "u", image(4), image(4, None))
    )
    keys = (key(update="cascade"),)
    assert [[("d", {P: 1}), ("d", {P: 2}), ("u", {P: 4})]] == [[(op, after) for _, op, _, after in one] for one in marks(split, keys=keys)]


def test_a_change_that_leaves_the_key_is_marked_where_children_hang_on_other_columns() -> None:
    change = transaction(1, rows(T, "u", image(4), image(4, None)))
    other = key(update="cascade")._replace(referenced=("d",))
    assert [] == marks(change, keys=(key(update="cascade"),))
    assert [[("u", {P: 1})]] == [[(op, after) for _, op, _, after in one] for one in marks(change, keys=(other,))]


def test_numbers_are_of_every_partition_that_moved() -> None:
    ((mark,),) = marks(transaction(1, come(1, 1, 2, 3, 4), gone(1, 1, 2, 3, 4)), partitions=2)
    assert {P, Q} == set(mark.before) - {R, ("p.db.u", 1)} == set(mark.after)
    assert mark.after == {one: 2 * mark.before[one] for one in (P, Q)}


def test_many_marks_make_a_cut_due_within_a_transaction_and_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MARKS", 2)
    inside: list[Event] = [begin(1), *(one for n in (1, 2, 3) for one in (gone(1, n), come(1, n, of=U))), commit(1)]
    assert [2, 1] == [len(one) for one in marks(inside)]
    assert [2, 1] == [len(one) for one in marks(*(transaction(n, gone(n, n)) for n in (1, 2, 3)))]


def test_bases_and_full_cuts_say_the_keys() -> None:
    run = Run(T, U, keys=(key(),))
    _, base, cut = run.start()
    assert isinstance(base, Base)
    assert isinstance(cut, Cut)
    assert ((key(),), True, (key(),)) == (base.foreign_keys, cut.full, cut.foreign_keys)
    later = run.follow(transaction(1, come(1, 1)))
    assert [()] == [one.foreign_keys for one in later if isinstance(one, Cut)]


def restart(*keys: ForeignKey, names: tuple[str, ...] = ("t", "u")) -> Restart:
    return Restart(position(0), when(0), followed=frozenset(("db", name) for name in names), foreign_keys=keys)


def test_keys_that_changed_unseen_stop_the_start_and_those_of_tables_that_are_copied_anew_do_not() -> None:
    for known, now in ((key(), (key(delete="set null"),)), (key(), ())):
        with pytest.raises(Halt) as stop:
            Run(T, U, keys=now).start(restart(known))
        assert ("foreign_keys_changed", "db.u foreign key of u") == (stop.value.code, stop.value.place)
    Run(T, U, keys=(key(),)).start(restart(key()))
    Run(T, U, keys=(key(),)).start(restart())
    Run(T, U, keys=(key(delete="set null"),)).start(restart(key(), names=("t",)))
    Run(T, keys=()).start(restart(key()))


def test_a_parent_that_the_target_refuses_is_read_all_the_same_where_its_children_are_followed() -> None:
    for keys, early in (((), {("db", "t")}), ((key(),), set())):
        followed = FollowedTables([T, U], position(3))
        followed.settle(replace(restart(), refused=frozenset({("db", "t")})), lambda db, name: True, keys)
        assert early == followed.early
    both = FollowedTables([T, U], position(3))
    both.settle(restart(names=()), lambda db, name: True, (key(),))
    assert {("db", "t"), ("db", "u")} == both.early, "the child begins later too"
