"""Where an epoch of capture begins, field by field, over the in-process transport's control log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.capture.restart import Restart, found_empty, from_history
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.protocol.control import Base, Copy, Cut, Entry, Followed, Named, Start, key, to_document
from cdc.protocol.copy_progress import KEYS, NOTHING, WHOLE, Active, Copies
from cdc.transport.direct import DirectLog

P: Partition = ("p.db.t", 0)
Q: Partition = ("p.db.t", 1)
ACTIVE = Active("id", "request", "db", "t", WHOLE, ("17",), 4)


def position(number: int, server: str = "s") -> Position:
    return Position("mariadb", server, f"0-1-{number}", "b.000001", number * 100)


class Held(DirectLog):
    """Whose partitions hold every record but these, as after a broker lost some."""

    lost: frozenset[Named] = frozenset()
    asked: list[tuple[Partition, Named]]

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        self.asked = [*getattr(self, "asked", []), (partition, Named(offset, epoch, seq))]
        return Named(offset, epoch, seq) not in self.lost


def history(*entries: Entry, lost: tuple[Named, ...] = ()) -> Held:
    log = Held("p")
    log.lost = frozenset(lost)
    for entry in entries:
        log.append_control(key(entry), to_document(entry))
    return log


def begins(log: Held) -> Restart | None:
    """Where the next epoch begins."""
    return from_history(log, "p", log.append_control("start", to_document(Start("next", 0))))


def base(epoch: int, cut_no: int, at: int, **more: object) -> Base:
    tables = (Followed("db", "t", "p.db.t", 2, 1, 2), Followed("db", "u", "p.db.u", 1, 3, 4))
    return replace(Base(epoch, cut_no, position(at), at * 10, False, {P: 0, Q: 0}, {}, tables), **more)  # type: ignore[arg-type]


def cut(epoch: int, cut_no: int, at: int, named: dict[Partition, Named], **more: object) -> Cut:
    return replace(Cut(epoch, cut_no, position(at), at * 10, False, False, named), **more)  # type: ignore[arg-type]


A, B, C = Named(0, 0, 1), Named(0, 0, 2), Named(1, 0, 3)
BOTH = frozenset({("db", "t"), ("db", "u")})


def test_nothing_was_ever_captured() -> None:
    assert begins(history()) is None


def test_an_epoch_begins_at_the_newest_cut_with_all_that_it_says() -> None:
    copies = Copies(1, 2, ("db", "t"), True)
    log = history(Start("a", 0), base(0, 0, 1), cut(0, 1, 2, {P: A, Q: B}, copies=copies))
    assert Restart(position(2), 20, 1, {P: A, Q: B}, False, BOTH, copies, frozenset(), (position(2),)) == begins(log)
    assert [(P, A), (Q, B)] == log.asked


def test_records_of_every_partition_must_be_held_and_each_may_be_what_sends_it_back() -> None:
    for lost in (A, B):
        log = history(Start("a", 0), base(0, 0, 1), cut(0, 1, 2, {P: A, Q: B}), lost=(lost,))
        assert Restart(position(1), 10, 0, {}, False, BOTH, NOTHING, frozenset(), (position(2),)) == begins(log)


def test_without_a_start_record_to_read_back_nothing_is_known() -> None:
    log = history(Start("a", 0), base(0, 0, 1))
    with pytest.raises(Halt) as stop:
        from_history(log, "p", 77)
    assert ("control_topic", "p.control") == (stop.value.code, stop.value.place)


def test_records_behind_the_own_start_are_of_nobody_s_past() -> None:
    log = history(Start("a", 0), base(0, 0, 1), Start("mine", 0), Start("later", 0), base(3, 0, 9), cut(3, 1, 9, {}))
    found = from_history(log, "p", 2)
    assert found is not None
    assert (position(1), (position(1),)) == (found.position, found.reached)


def test_a_copy_through_the_topics_begins_anew() -> None:
    log = history(Start("a", 0), base(0, 0, 1, copying=True), cut(0, 1, 1, {P: A}, partial=True))
    found = begins(log)
    assert found is not None
    both = frozenset({("db", "t"), ("db", "u")})  # those that it began with: what came since is no part of it
    assert (True, both, position(1), frozenset()) == (found.copying, found.followed, found.position, found.emptied)


def test_a_whole_copy_under_way_is_emptied_and_not_followed_as_copied() -> None:
    log = history(Start("a", 0), base(0, 0, 1), cut(0, 1, 2, {}, copies=Copies(active=ACTIVE)))
    found = begins(log)
    assert found is not None
    assert (frozenset({("db", "u")}), frozenset({("db", "t")}), ACTIVE) == (found.followed, found.emptied, found.copies.active)


@pytest.mark.parametrize("active", [replace(ACTIVE, swap=True), replace(ACTIVE, kind=KEYS)])
def test_a_copy_that_leaves_the_rows_where_they_are_empties_nothing(active: Active) -> None:
    found = begins(history(Start("a", 0), base(0, 0, 1), cut(0, 1, 2, {}, copies=Copies(active=active))))
    assert found is not None
    assert (BOTH, frozenset(), active) == (found.followed, found.emptied, found.copies.active)


def test_above_an_older_cut_a_copy_may_have_begun_and_none_goes_on() -> None:
    """The sink may have applied what lies above: the table that the later copy empties is not as it was."""
    later = Copy(0, 3, "db", "u", position(2), "later", exact=False)
    under_way = cut(0, 1, 2, {P: A}, copies=Copies(5, active=ACTIVE))
    entries: list[Entry] = [Start("a", 0), base(0, 0, 1), under_way, later, cut(0, 2, 3, {P: C})]
    found = begins(history(*entries, lost=(C,)))
    assert found is not None
    assert (position(2), Copies(5), frozenset()) == (found.position, found.copies, found.followed)
    assert frozenset({("db", "t"), ("db", "u")}) == found.emptied
    swap = replace(later, swap=True)
    found = begins(history(*entries[:3], swap, cut(0, 2, 3, {P: C}), lost=(C,)))
    assert found is not None
    assert frozenset({("db", "t")}) == found.emptied, "a second table is not the first"
    found = begins(history(*entries[:3], later, cut(0, 2, 3, {P: C}, partial=True)))
    assert found is not None
    assert (ACTIVE, frozenset({("db", "t")})) == (found.copies.active, found.emptied), "no sink commits at a piece"


def test_a_table_that_a_base_above_an_older_cut_leaves_out_or_has_to_copy_is_to_be_copied() -> None:
    """The sink may have entered that base, a void one too: then it holds nothing of the table, and stopped at each start."""
    u = ("db", "u")
    without = base(2, 1, 2).tables[:1]
    for above, followed in (
        (base(2, 1, 2, tables=without), BOTH - {u}),
        (base(2, 1, 2, uncopied=(u,)), BOTH - {u}),
        (base(2, 1, 2, tables=without, gone=(u,)), BOTH),
        (base(2, 1, 2), BOTH),
    ):
        for void in ([], [Start("c", 0)]):
            log = history(Start("a", 0), base(0, 0, 1), Start("b", 0), *void, replace(above, named={P: C}), lost=(C,))
            found = begins(log)
            assert found is not None
            assert (position(1), followed, frozenset()) == (found.position, found.followed, found.emptied)


def test_what_a_sink_may_have_reached_are_the_positions_that_no_later_one_covers() -> None:
    """Those of void cuts too, and of all servers; a later one that covers an earlier one stands for it."""
    there = [replace(cut(0, n, 1, {}), position=Position("mariadb", "other", gtids)) for n, gtids in ((2, "0-2-9,5-1-1"), (3, "5-1-4"))]
    log = history(Start("a", 0), base(0, 0, 1), cut(0, 1, 4, {}), *there, Start("b", 0), cut(0, 4, 6, {}), base(5, 1, 4))
    found = begins(log)
    assert found is not None
    assert ["0-2-9,5-1-1", "5-1-4", "0-1-6", "0-1-4"] == [each.gtids for each in found.reached]


@pytest.mark.parametrize(
    ("found", "ends", "expected"),
    [
        (None, {P: 1}, False),
        ({P: 0, Q: 0}, {P: 1, Q: 1}, True),
        ({P: 0}, {P: 1, Q: 1}, False),
        ({P: 0}, {P: 1, Q: 0}, True),
        ({P: 2, Q: 0}, {P: 3, Q: 1}, False),
        ({P: 2, Q: 0}, {P: 0, Q: 1}, True),
    ],
)
def test_a_base_that_found_partitions_empty(found: dict[Partition, int] | None, ends: dict[Partition, int], expected: bool) -> None:
    log = history(Start("a", 0), *([] if found is None else [base(0, 0, 1, ends=found)]))
    assert expected == found_empty(log, ends)


def test_a_restart_that_says_nothing_begins_with_a_copy_of_nothing() -> None:
    empty = Restart(position(1))
    assert (0, 0, {}, False, None, NOTHING, frozenset(), ()) == (
        empty.source_ts_us, empty.cut_no, empty.named, empty.copying, empty.followed, empty.copies, empty.emptied, empty.reached,
    )  # fmt: skip
