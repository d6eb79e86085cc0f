"""Which control records count, and where a restart of capture begins."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, replace

import pytest

from cdc.errors import Malformed
from cdc.model.foreign_key import ForeignKey
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.protocol.control import Anomaly, Base, Cascade, Copy, Cut, Entry, Followed, Named, Start, from_document, key, mark, to_document
from cdc.protocol.copy_progress import NOTHING, Active, Copies, Ended
from cdc.protocol.ledger import Ledger, restart_point
from tests.helpers.documents import faults

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


COPIES = Copies(3, 4, ("db", "t"), True, Active("a", "r", "db", "u", "whole", ("'x'", "1"), 5, True))
TABLES = (Followed("db", "t", "p.db.t", 2, None, 2), Followed("db", "u", "u", 1, 3, 4))
KEYS = (
    ForeignKey("fk", ("db", "u"), ("a", "b"), ("db", "t"), ("x", "y"), "cascade", "", ("", "ci pad")),
    ForeignKey("of", ("db", "u"), ("c",), ("db", "u"), ("z",), "set null", "cascade"),
)
BASE = Base(
    4, 3, position(5), 17, True, {P: 2, Q: 0}, {P: Named(4, 0, 9)}, TABLES, COPIES, (("db", "t"), ("db", "u")), (("db", "gone"),), KEYS
)  # fmt: skip
CUT = Cut(
    4, 4, position(6), 18, True, True, {P: Named(5, 0, 10), Q: Named(1, 0, 2)}, (Anomaly("db", "t", "c", "zero_date", 3),),
    (("db", "t"), ("db", "u")), COPIES, (Ended("r", "db", "t", "keys", "refused", 2, "why"), Ended("s", "", "", "", "refused", 0)), 61,
    (Cascade("p.db.t", "d", {P: 8, Q: 1}, {P: 10}), Cascade("p.db.t", "u", {}, {Q: 2})), KEYS,
)  # fmt: skip
ENTRIES: list[tuple[Entry, str]] = [
    (Start("a", 1), "start a"),
    (Start("b", 2, "od"), "start b"),
    (BASE, "base 4"),
    (base(7, 3, 5), "base 7"),
    (CUT, "full 4"),
    (cut(8, 4, 6), "cut 8"),
    (Copy(0, 5, "db", "t", position(7), "id"), "copy id"),
    (Copy(0, 5, "db", "t", position(7), "other", False, True), "copy other"),
]


@pytest.mark.parametrize(("entry", "expected"), ENTRIES)
def test_every_control_record_survives_its_json_form(entry: Entry, expected: str) -> None:
    """What capture writes is what the sink reads: every kind, with every field."""
    document = json.loads(json.dumps(to_document(entry)))
    assert (entry, expected) == (from_document(document, 3), key(entry))
    assert set(entry.__slots__) | {"type"} == set(document)


def test_the_records_that_survive_have_no_field_left_at_its_default() -> None:
    """Else a field that is lost on the way would not be seen."""
    for entry in (ENTRIES[1][0], BASE, CUT, ENTRIES[-1][0]):
        plain = {one.name: one.default for one in fields(entry) if one.default is not MISSING}
        assert [] == [name for name, default in plain.items() if getattr(entry, name) == default], type(entry).__name__


@pytest.mark.parametrize(
    ("name", "default"), [("anomalies", ()), ("followed", ()), ("copies", NOTHING), ("ended", ()), ("clock_offset_us", 0)]
)
def test_what_an_older_version_did_not_write_is_nothing(name: str, default: object) -> None:
    document = to_document(CUT)
    del document[name]
    assert replace(CUT, **{name: default}) == from_document(document, 0)  # type: ignore[arg-type]


def test_a_mark_is_of_the_record_s_bytes() -> None:
    """It is stored: another length would be another record to every sink that goes on from a stored one."""
    assert hashlib.blake2b(b"record", digest_size=12).hexdigest() == mark(b"record")


def test_a_copy_is_exact_unless_it_says_otherwise_and_a_base_counts_from_what_it_names() -> None:
    assert (True, False) == (Copy(0, 5, "db", "t", position(7), "id").exact, Copy(0, 5, "db", "t", position(7), "id").swap)
    assert (9, 0) == (BASE.number(P), BASE.number(Q))


@pytest.mark.parametrize("document", [{}, {"type": "cut"}, {"type": "other"}, {"type": "start", "id": "a", "ts_ms": 1, "more": 2}])
def test_what_is_no_control_record_is_malformed_with_its_offset(document: dict[str, object]) -> None:
    """A foreign topic is not guessed at."""
    with pytest.raises(Malformed) as caught:
        from_document(document, 17)
    assert ("control_record", "control offset 17") == (caught.value.code, caught.value.place)


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


def test_a_topic_that_was_lost_is_asked_for_every_cut_and_the_others_once() -> None:
    """Days of cuts may name it: what each question costs, the others may not cost that often (the lane of time, seed 1788523121)."""
    cuts = [cut(0, n + 1, n + 1, full=True, p0=Named(n, 0, n + 1), p1=Named(n, 0, n + 1)) for n in range(500)]
    entries = at_offsets(start(), base(0, 0, 0), *cuts)
    asked: list[Partition] = []

    def holds(partition: Partition, record: Named) -> bool:
        asked.append(partition)
        return partition == P

    found = restart_point(entries, holds)
    assert found is not None
    assert position(0) == found.entry.position
    assert (1, 500) == (asked.count(P), asked.count(Q))


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


def test_the_end_of_a_copy_says_whose_it_is_and_one_of_an_earlier_version_is_still_read() -> None:
    end = Cut(1, 1, position(1), 0, True, False, {}, ended=(Ended("r", "db", "t", "whole", "done", 2, "", "attempt"),))
    document = json.loads(json.dumps(to_document(end)))
    assert end == from_document(document, 0)
    earlier = {**document, "ended": [document["ended"][0][:7]]}
    assert [] == [fault for one in (document, earlier) for fault in faults("control", one)]
    read = from_document(earlier, 0)
    assert isinstance(read, Cut)
    assert read.ended[0].copy is None


def test_a_base_that_a_later_one_went_below_is_no_place_to_begin() -> None:
    entries = at_offsets(start(), base(0, 0, 0), start("b"), base(2, 5, 5), start("c"), base(4, 0, 0), cut(4, 1, 1, p0=Named(9, 4, 1)))
    found = restart_point([*entries[:5], (5, replace(base(4, 0, 0), named={P: Named(9, 4, 1)}))], lambda p, n: n.epoch != 4)
    assert found is not None
    assert (0, position(0)) == (found.entry.epoch, found.entry.position), "the base at 5 is above what the newest one goes on from"


def test_a_cut_that_a_base_went_below_is_no_place_to_begin_although_the_base_is_none_either() -> None:
    held = base(4, 1, 1, named={P: Named(3, 0, 3)})
    entries = at_offsets(start(), base(0, 0, 0), cut(0, 1, 1, full=True), cut(0, 2, 2, full=True), start("b"), held)
    found = restart_point(entries, lambda p, n: n.offset != 3)
    assert found is not None
    assert (1, frozenset()) == (found.entry.cut_no, found.undone)


def test_a_ledger_knows_no_epoch_at_first_and_never_an_older_one() -> None:
    ledger = Ledger()
    assert -1 == ledger.epoch
    for offset in (5, 3):
        ledger.add(offset, start())
    assert 5 == ledger.epoch
    copy = Copy(5, 1, "db", "t", position(1), "id")
    assert ledger.add(6, copy)
    later = cut(3, 9, 9)
    assert not ledger.went_below(later), "a copy is no base"


def test_what_lies_above_a_point_undoes_copies_only_where_a_whole_cut_lies_there() -> None:
    """No sink commits at a piece; a table that is filled beside the first one is not emptied."""
    point = cut(0, 1, 1, full=True)
    torn, swapped = Copy(0, 3, "db", "v", position(1), "v"), Copy(0, 3, "db", "w", position(1), "w", True, True)
    above = cut(0, 2, 2, p0=Named(1, 0, 2))
    for later, undone in ((above, frozenset({("db", "v")})), (replace(above, partial=True), None)):
        found = restart_point(at_offsets(start(), base(0, 0, 0), point, torn, swapped, later), lambda p, n: n.offset != 1)
        assert found is not None
        assert (1, undone) == (found.entry.cut_no, found.undone)


# -- what is said of copies


def test_what_is_said_of_copies_says_nothing_by_itself() -> None:
    assert Copies(0, 0, None, False, None) == Copies() == NOTHING == Copies.from_json(None) == Copies.from_json({})
    assert not Active("a", "r", "db", "u", "whole", (), 5).swap
    document = Copies(1, 2, ("db", "t")).to_json()
    assert {"next": 1, "read": 2, "last": ["db", "t"], "paused": False, "active": None, "channel": ""} == document


@pytest.mark.parametrize(
    ("later", "followed"),
    [
        ({"tables": ()}, False),
        ({"uncopied": (("db", "t"),)}, False),
        ({"tables": (), "gone": (("db", "t"),)}, True),
        ({}, True),
    ],
)
@pytest.mark.parametrize("void", [False, True])
def test_a_table_that_a_base_above_leaves_out_or_has_as_uncopied_is_not_copied_where_capture_goes_back_to(
    void: bool, later: dict[str, tuple[object, ...]], followed: bool
) -> None:
    """A sink that has gone by that base has stopped the table: behind the older cut changes of it would be missing (seed 42)."""
    above = replace(base(2, 1, 2, named={P: Named(9, 2, 1)}), **later)  # type: ignore[arg-type]
    newest = [start("c")] if void else []  # of a capture that began before the base was written
    entries = at_offsets(start(), base(0, 0, 0), *([] if void else [start("b")]), *newest, above)
    found = restart_point(entries, lambda p, n: n.epoch != 2)
    assert found is not None
    assert (0, followed) == (found.entry.epoch, ("db", "t") in found.followed)
