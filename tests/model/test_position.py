"""Positions as values: how they compare, what they contain, how they move."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cdc.errors import Halt, Malformed
from cdc.model.position import Position, Tracker, canonical_gtids, least, log_number, mysql_gtids

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4f22fa47-71ca-11e1-9e33-c80aa9429562"


def my(gtids: str = "", file: str = "", offset: int = 0, server: str = "s", created: int = 0) -> Position:
    return Position("mysql", server, canonical_gtids("mysql", gtids), file, offset, created)


def ma(gtids: str = "", file: str = "", offset: int = 0, server: str = "s", created: int = 0) -> Position:
    return Position("mariadb", server, canonical_gtids("mariadb", gtids), file, offset, created)


def test_a_position_that_moves_to_another_server_remembers_where_it_was_and_comes_back_to_it() -> None:
    here = my(f"{A}:1-5", "b.000002", 100, "s", 7)
    there = here.moved_to("t")
    assert ("t", "", (here,)) == (there.server, there.file, there.peers)
    assert there.peers == Position.from_json(there.to_json()).peers
    tracker = Tracker(there)
    tracker.add(f"{A}:6", "x.000001", 50)
    back = tracker.position().moved_to("s")
    assert [("t", "x.000001")] == [(peer.server, peer.file) for peer in back.peers]
    assert 4 == len(functools.reduce(lambda at, name: replace(at.moved_to(name), file="f.000001"), "abcdefgh", here).peers)
    with pytest.raises(Malformed):
        Position.from_json({**here.to_json(), "peers": 5})


JOINED = [
    (my(f"{A}:1-3"), my(f"{A}:1:3-5,{B}:7"), my(f"{A}:1-5,{B}:7")),
    (ma("0-1-5,1-1-2"), ma("0-2-3,1-2-9"), ma("0-1-5,1-2-9")),
    (ma("0-1-5"), ma("7-1-1"), ma("0-1-5,7-1-1")),
]


@pytest.mark.parametrize(("a", "b", "both"), JOINED)
def test_two_positions_of_which_neither_covers_the_other_are_joined(a: Position, b: Position, both: Position) -> None:
    assert both == a.joined(b) == b.joined(a)
    assert a.joined(b).covers(a)
    assert a.joined(b).covers(b)
    assert a.joined(b).floor is None


def test_what_is_prepared_behind_either_of_two_is_read_again_behind_both() -> None:
    a, b = replace(ma("0-1-5,1-1-2"), floor=ma("0-1-4,1-1-2")), ma("0-1-3,1-1-9")
    joined = a.joined(b)
    assert joined.floor is not None
    assert "0-1-3,1-1-2" == joined.floor.gtids
    mysql = replace(my(f"{A}:1-5"), floor=my(f"{A}:1-3")).joined(my(f"{A}:2-9"))
    assert mysql.floor is not None
    assert f"{A}:2-3" == mysql.floor.gtids


COVERS = [
    (True, my(f"{A}:1-5"), my(f"{A}:1-5")),
    (True, my(f"{A}:1-9"), my(f"{A}:3-5")),
    (False, my(f"{A}:1-4:6-9"), my(f"{A}:3-6")),
    (False, my(f"{A}:1-9"), my(f"{B}:1")),
    (True, my(f"{A}:1-9,{B}:1-2"), my(f"{B}:1")),
    (False, my(f"{A}:1-9"), my(f"{A}:tag:1")),
    (True, my(f"{A}:1-9:tag:1-2"), my(f"{A}:tag:2")),
    (True, my(f"{A}:1"), my()),
    (False, my(), my(f"{A}:1")),
    (True, my(), my()),
    (True, ma("0-1-5"), ma("0-2-4")),
    (False, ma("0-1-5"), ma("0-1-6")),
    (False, ma("0-1-5"), ma("0-1-5,1-1-1")),
    (True, ma("0-1-5,1-1-1"), ma("0-1-5")),
    (True, ma("0-1-5"), ma("", "binlog.000009", 4)),
    (False, ma("0-1-5"), my()),
    # the same server: the place decides, whatever the GTIDs' upper bound says
    (True, my(f"{A}:1-5", "b.000002", 100), my(f"{A}:1-9", "b.000002", 100)),
    (False, my(f"{A}:1-9", "b.000002", 99), my(f"{A}:1-5", "b.000002", 100)),
    (True, my(f"{A}:1-9", "b.000010", 4), my(f"{A}:1-9", "b.000009", 5_000_000_000)),
    (True, my("", "b.1000000", 4), my("", "b.999999", 4)),
    # another server, another series of files, a file made anew: only GTIDs can tell
    (True, my(f"{A}:1-9", "b.000001", 4, "t"), my(f"{A}:1-5", "b.000002", 100)),
    (False, my(f"{A}:1-4", "b.000009", 4, "t"), my(f"{A}:1-5", "b.000002", 100)),
    (True, my(f"{A}:1-9", "new.000001", 4), my(f"{A}:1-5", "b.000002", 100)),
    (False, my("", "b.000002", 200, "t"), my("", "b.000002", 100)),
    (False, my("", "b.000002", 200, created=7), my("", "b.000002", 100, created=8)),
    (True, my("", "b.000002", 200, created=7), my("", "b.000002", 100)),
    (False, my(f"{A}:1-9"), my("", "b.000002", 100)),
]


@pytest.mark.parametrize(("expected", "held", "other"), COVERS)
def test_covers(expected: bool, held: Position, other: Position) -> None:
    assert expected is held.covers(other)


CONTAINS = [
    (True, my(f"{A}:1-5"), f"{A}:5"),
    (True, my(f"{A}:1-5"), f"{A.upper()}:5"),
    (False, my(f"{A}:1-5:7"), f"{A}:6"),
    (False, my(f"{A}:1-5"), f"{A}:tag:5"),
    (True, my(f"{A}:tag:1-5"), f"{A}:tag:5"),
    (True, ma("0-1-5"), "0-2-5"),
    (False, ma("0-1-5"), "0-1-6"),
    (False, ma("0-1-5"), "1-1-1"),
    (True, my("", "b.000003", 100), "file=b.000003,pos=100"),
    (False, my("", "b.000003", 100), "file=b.000003,pos=101"),
    (True, my("", "b.000003", 100), "file=b.000002,pos=101"),
    (False, my(f"{A}:1-5"), "file=b.000002,pos=101"),
]


@pytest.mark.parametrize(("expected", "held", "transaction"), CONTAINS)
def test_contains(expected: bool, held: Position, transaction: str) -> None:
    assert expected is held.contains(transaction)


@pytest.mark.parametrize("transaction", ["", "x", "0-1", "file=b.000003", f"{A}:", f"{A}"])
def test_what_is_no_transaction_is_malformed(transaction: str) -> None:
    for held in (ma("0-1-5"), my(f"{A}:1-5")):
        with pytest.raises(Malformed):
            held.contains(transaction)


def test_the_least_is_the_one_that_the_other_covers() -> None:
    assert ma("0-1-5") == least(ma("0-1-5"), ma("0-1-6")) == least(ma("0-1-6"), ma("0-1-5"))
    with pytest.raises(Halt) as stopped:
        least(ma("0-1-5,1-1-6"), ma("0-1-6,1-1-5"))
    assert "positions_diverge" == stopped.value.code


@pytest.mark.parametrize("text", ["", f"{A}:1-5", f"{A}:1-5:7,{B}:1", f"{A}:1,{A}:tag:1-3,{A}:tag:9"])
def test_one_spelling_for_one_set(text: str) -> None:
    expected = f"{A}:1,{A}:tag:1-3:9" if "tag" in text else text
    assert expected == canonical_gtids("mysql", text)
    assert expected == canonical_gtids("mysql", text.upper().replace(",", ",\n").replace("TAG", "Tag"))


def test_the_servers_own_spelling_of_tags_is_read() -> None:
    assert f"{A}:1-3,{A}:one:1,{A}:two:5-6" == canonical_gtids("mysql", f"{A}:1-3:one:1:two:5-6")
    assert "0-1-5,1-2-7" == canonical_gtids("mariadb", "1-2-7,0-1-5")


@pytest.mark.parametrize("text", ["x:y:z:", f"{A}", f"{A}:a-b", f"{A}:1-", f"{A}:1--2"])
def test_what_is_no_set_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        mysql_gtids(text)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_order_of_transactions_gives_the_same_set(numbers: list[int]) -> None:
    tracker = Tracker(my(f"{A}:50"))
    for at, number in enumerate(dict.fromkeys(numbers)):
        tracker.add(f"{A}:{number}", "b.000001", 100 + at)
    have = {*numbers, 50}
    firsts, lasts = sorted(n for n in have if n - 1 not in have), sorted(n for n in have if n + 1 not in have)
    expected = ":".join(f"{first}-{last}" if first < last else f"{first}" for first, last in zip(firsts, lasts, strict=True))
    assert f"{A}:{expected}" == tracker.position().gtids


def test_a_tracker_moves_over_sources_tags_and_domains() -> None:
    tracker = Tracker(my(f"{A}:1-5", "b.000001", 4))
    for transaction in (f"{B}:1", f"{A}:6", f"{A}:tag:1", f"{A}:8"):
        tracker.add(transaction, "b.000002", 77)
    assert my(f"{A}:1-6:8,{A}:tag:1,{B}:1", "b.000002", 77) == tracker.position()
    tracker = Tracker(ma("0-1-5"))
    tracker.add("1-1-1", "b.000002", 5)
    tracker.add("0-2-6", "b.000002", 9)
    assert ma("0-2-6,1-1-1", "b.000002", 9) == tracker.position()


@pytest.mark.parametrize(
    ("start", "transaction"), [(my(f"{A}:1-5"), f"{A}:3"), (my(f"{A}:1-5"), f"{A}:5"), (ma("0-1-5"), "0-1-5"), (ma("0-1-5"), "0-2-4")]
)
def test_a_transaction_seen_before_stops(start: Position, transaction: str) -> None:
    with pytest.raises(Halt):
        Tracker(start).add(transaction, "b.000001", 9)


def test_without_gtids_only_the_place_moves() -> None:
    tracker = Tracker(my("", "b.000001", 4))
    tracker.add("", "b.000001", 5_000_000_000)
    assert my("", "b.000001", 5_000_000_000) == tracker.position()


def test_a_log_that_holds_no_gtid_yet_has_no_place_either() -> None:
    """Else it would look like a position that goes by file."""
    tracker = Tracker(my())
    tracker.move("b.000001", 158, 7)
    assert my() == tracker.position()
    tracker.add(f"{A}:1", "b.000001", 300)
    assert my(f"{A}:1", "b.000001", 300, created=7) == tracker.position()


@pytest.mark.parametrize("at", [my(f"{A}:1-5:7", "b.000002", 5_000_000_000, created=1_700_000_000), ma("0-1-5,1-2-7"), my()])
def test_json_and_back(at: Position) -> None:
    import json

    assert at == Position.from_json(json.loads(json.dumps(at.to_json())))
    assert hash(at) == hash(Position.from_json(at.to_json()))


@pytest.mark.parametrize(
    "document", [None, {}, {"flavour": "oracle", "server": "s"}, {"flavour": "mysql", "server": 1}, {**my().to_json(), "more": 1},
                 {**my().to_json(), "offset": "4"}, {**my().to_json(), "offset": True}]
)  # fmt: skip
def test_what_is_no_position_is_malformed(document: Any) -> None:
    with pytest.raises(Malformed):
        Position.from_json(document)


def test_a_log_files_number() -> None:
    assert ("a.b", 12) == log_number("a.b.000012")
    with pytest.raises(Malformed):
        log_number("binlog.index")


def test_a_floor_travels_in_the_document_and_is_not_compared() -> None:
    floor = Position("mysql", "s", "00000000-0000-0000-0000-000000000001:1-3", "b.000001", 77, 5)
    at = Position("mysql", "s", "00000000-0000-0000-0000-000000000001:1-9", "b.000002", 78, 6, floor)
    found = Position.from_json(json.loads(json.dumps(at.to_json())))
    assert (at, floor, floor) == (found, found.floor, found.begin)
    assert "floor" not in floor.to_json()
    assert floor.begin is floor
    assert replace(at, floor=None) == at
    for odd in (None, {}, at.to_json(), {**floor.to_json(), "flavour": "mariadb"}, {**floor.to_json(), "offset": "1"}):
        with pytest.raises(Malformed):
            Position.from_json({**at.to_json(), "floor": odd})
