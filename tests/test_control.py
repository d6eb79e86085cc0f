"""Which control records count, and where a restart of capture begins."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cdc.control import Base, Copy, Cut, Entry, Followed, Ledger, Named, Start, from_document, key, restart_point, to_document
from cdc.copies import Active, Copies, Ended
from cdc.errors import Malformed
from cdc.position import Position
from cdc.topic import Partition

P: Partition = ("p.db.t", 0)
Q: Partition = ("p.db.t", 1)


def position(number: int) -> Position:
    """The position after so many transactions."""
    return Position("mariadb", "s", f"0-1-{number}", "b.000001", number * 100)


def start(name: str = "a") -> Start:
    return Start(name, 1)


def base(epoch: int, cut_no: int, at: int, *, copying: bool = False, named: dict[Partition, Named] | None = None) -> Base:
    tables = (Followed("db", "t", "p.db.t", 2, 1, 2),)
    return Base(epoch, cut_no, position(at), 0, copying, {P: 0, Q: 0}, named or {}, tables)


def cut(epoch: int, cut_no: int, at: int, *, full: bool = False, partial: bool = False, **named: Named) -> Cut:
    return Cut(epoch, cut_no, position(at), 0, full, partial, {("p.db.t", int(name[1:])): n for name, n in named.items()})


def at_offsets(*entries: Entry) -> list[tuple[int, Entry]]:
    return list(enumerate(entries))


def test_every_control_record_survives_its_json_form() -> None:
    """What capture writes is what the sink reads."""
    entries: list[Entry] = [
        start(),
        base(0, 3, 5, named={P: Named(4, 0, 9)}),
        cut(0, 4, 6, full=True, p0=Named(5, 0, 10)),
        Copy(0, 5, "db", "t", position(7), "id"),
        replace(
            cut(0, 5, 6),
            copies=Copies(3, 4, ("db", "t"), True, Active("a", "r", "db", "u", "whole", ("'x'", "1"), 5, True)),
            ended=(Ended("r", "db", "t", "keys", "refused", 2, "why"),),
        ),
    ]
    for offset, entry in enumerate(entries):
        assert entry == from_document(json.loads(json.dumps(to_document(entry))), offset)
    assert ["start a", "base 0", "full 0", "copy id", "cut 0"] == [key(e) for e in entries]


@pytest.mark.parametrize("document", [{}, {"type": "cut"}, {"type": "other"}, {"type": "start", "id": "a", "ts_ms": 1, "more": 2}])
def test_what_is_no_control_record_is_malformed_with_its_offset(document: dict[str, object]) -> None:
    """A foreign topic is not guessed at."""
    with pytest.raises(Malformed) as caught:
        from_document(document, 17)
    assert "control offset 17" == caught.value.place


def test_a_record_of_a_lower_epoch_after_a_later_start_is_void() -> None:
    """A zombie's late cut does not count."""
    ledger = Ledger()
    assert ledger.add(0, start())
    assert ledger.add(1, base(0, 0, 0))
    assert ledger.add(2, start("b"))
    assert not ledger.add(3, cut(0, 1, 1))
    assert ledger.add(4, base(2, 0, 0))


def test_a_cut_above_the_number_that_a_later_base_goes_on_from_is_void() -> None:
    """A broker lost records, capture went back: the cuts in between say what is no longer there."""
    ledger = Ledger()
    low, high, later = cut(0, 1, 1), cut(0, 2, 2), cut(3, 2, 2)
    for offset, entry in at_offsets(start(), low, high, start("b"), base(3, 1, 1), later):
        ledger.add(offset, entry)
    assert [False, True, False] == [ledger.went_below(entry) for entry in (low, high, later)]


def test_a_copy_stands_and_falls_with_the_cut_after_it() -> None:
    """A finished copy outlives a restart; a torn one is void."""
    done, torn = Copy(0, 2, "db", "t", position(1), "done"), Copy(0, 4, "db", "t", position(1), "torn")
    ledger = Ledger()
    for offset, entry in at_offsets(start(), base(0, 1, 0), done, cut(0, 2, 1), cut(0, 3, 2), torn, start("b"), base(6, 3, 2)):
        ledger.add(offset, entry)
    assert [False, True] == [ledger.went_below(copy) for copy in (done, torn)]


def held(*numbers: tuple[Partition, int, int, int]) -> set[tuple[Partition, Named]]:
    return {(p, Named(offset, epoch, seq)) for p, offset, epoch, seq in numbers}


def test_a_restart_begins_at_the_newest_whole_cut() -> None:
    """With the records of the full cut before it, because a cut names only what changed since."""
    entries = at_offsets(
        start(), base(0, 0, 0), cut(0, 1, 1, full=True, p0=Named(0, 0, 1), p1=Named(0, 0, 1)), cut(0, 2, 2, p0=Named(1, 0, 2))
    )
    found = restart_point(entries, lambda p, n: True)
    assert found is not None
    assert (position(2), {P: Named(1, 0, 2), Q: Named(0, 0, 1)}) == (found.entry.position, found.named)


def test_a_restart_goes_back_to_what_the_broker_still_holds() -> None:
    """Acknowledged records were lost: an older cut serves, and the full cut's own records count too."""
    entries = at_offsets(
        start(), base(0, 0, 0), cut(0, 1, 1, full=True, p0=Named(0, 0, 1), p1=Named(0, 0, 1)), cut(0, 2, 2, p0=Named(1, 0, 2))
    )
    broker = held((P, 0, 0, 1), (Q, 0, 0, 1))
    found = restart_point(entries, lambda p, n: (p, n) in broker)
    assert found is not None
    assert position(1) == found.entry.position
    found = restart_point(entries, lambda p, n: (p, n) in held((P, 0, 0, 1), (P, 1, 0, 2)))
    assert found is not None
    assert position(0) == found.entry.position, "the base names nothing, so it is always held"


def test_a_partial_cut_is_never_a_restart_point() -> None:
    """It ends no consistent state."""
    entries = at_offsets(start(), base(0, 0, 0), cut(0, 1, 1, full=True), cut(0, 2, 1, partial=True))
    found = restart_point(entries, lambda p, n: True)
    assert found is not None
    assert 1 == found.entry.cut_no


def test_a_torn_copy_through_the_topics_begins_again_at_its_base() -> None:
    """Only partial cuts follow it, so the base with its P is all there is."""
    entries = at_offsets(start(), base(0, 0, 3, copying=True), cut(0, 1, 3, partial=True, p0=Named(9, 0, 10)))
    found = restart_point(entries, lambda p, n: True)
    assert found is not None
    assert isinstance(found.entry, Base)
    assert found.entry.copying
    assert (position(3), {}) == (found.entry.position, found.named)


def test_a_void_cut_is_never_a_restart_point() -> None:
    """A zombie's cut after a later start, and a cut that a later base went below, are passed over."""
    entries = at_offsets(start(), base(0, 0, 0), cut(0, 1, 1, full=True), cut(0, 2, 2), start("b"), base(4, 1, 1), cut(0, 3, 3))
    found = restart_point(entries, lambda p, n: True)
    assert found is not None
    assert (4, position(1)) == (found.entry.epoch, found.entry.position)


def test_a_window_that_begins_in_the_middle_serves_from_its_first_full_cut_on() -> None:
    """A cut before that names only what changed since something that was not read."""
    tail = [(90, cut(0, 7, 7, p0=Named(6, 0, 7))), (91, cut(0, 8, 8, full=True, p0=Named(7, 0, 8), p1=Named(3, 0, 4)))]
    assert restart_point(tail[:1], lambda p, n: True) is None
    found = restart_point(tail, lambda p, n: True)
    assert found is not None
    assert 8 == found.entry.cut_no


def test_no_history_is_no_restart_point() -> None:
    """A first start finds nothing."""
    assert restart_point(at_offsets(start()), lambda p, n: True) is None


def test_the_progress_of_a_copy_counts_at_the_newest_cut_and_not_where_whole_cuts_lie_above_it() -> None:
    """A sink may have applied those: what a copy had done by the older cut may have been emptied since."""
    active = Active("a", "r", "db", "t", "whole", ("17",), 17)
    copying = replace(cut(0, 1, 1, full=True, p0=Named(0, 0, 1)), followed=(("db", "u"),), copies=Copies(active=active))
    torn = Copy(0, 3, "db", "v", position(1), "v", exact=False)
    entries = at_offsets(start(), base(0, 0, 0), copying, cut(0, 2, 2, p0=Named(1, 0, 2)), torn)
    found = restart_point(entries, lambda p, n: n.offset == 0)
    assert found is not None
    assert frozenset({("db", "v")}) == found.undone
    last = restart_point(entries[:3] + entries[4:], lambda p, n: True)
    assert last is not None
    assert (None, active, frozenset({("db", "u")})) == (last.undone, last.entry.copies.active, last.followed)


def test_a_base_does_not_count_what_is_still_to_be_copied_as_copied() -> None:
    entries = at_offsets(start(), replace(base(0, 1, 1), uncopied=(("db", "t"),)))
    found = restart_point(entries, lambda p, n: True)
    assert found is not None
    assert frozenset() == found.followed
