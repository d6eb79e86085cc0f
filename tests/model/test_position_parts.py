"""Positions and sets of transactions, part by part: what is left out, what touches, what is no position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdc.errors import Halt, Malformed
from cdc.model.position import (  # fmt: skip
    PEERS,
    Position,
    Tracker,
    canonical_gtids,
    file_transaction,
    least,
    log_number,
    mariadb_gtid,
    mariadb_gtids,
    mariadb_text,
    mysql_gtid,
    mysql_gtids,
    mysql_text,
)
from tests.model.test_position import A, B, ma, my

FLOOR = Position("mysql", "s", f"{A}:1-3", "b.000001", 77, 5)


def malformed(code: str, work: Any, *arguments: Any) -> str:
    """The place of the error."""
    with pytest.raises(Malformed) as stop:
        work(*arguments)
    assert code == stop.value.code
    return stop.value.place


# -- documents


def test_a_position_without_floor_and_peers_has_none_in_its_document() -> None:
    assert {"flavour", "server", "gtids", "file", "offset", "file_created"} == set(my(f"{A}:1").to_json())
    assert {"floor", "peers"} <= set(replace(my(f"{A}:1"), floor=FLOOR, peers=(my("", "f.1", 4, "t"),)).to_json())


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (5, "stored position"),
        ({"flavour": "mysql", "server": "s", "more": 1}, "stored position"),
        ({"flavour": "mysql"}, "stored position"),
        ({"server": "s"}, "stored position"),
        ({"flavour": "mysql", "server": "s", "offset": "1"}, "stored position, offset"),
        ({"flavour": "mysql", "server": "s", "floor": ma("0-1-1").to_json()}, "stored position, floor"),
        ({"flavour": "mysql", "server": "s", "floor": replace(my(f"{A}:1"), floor=FLOOR).to_json()}, "stored position, floor"),
        ({"flavour": "mysql", "server": "s", "peers": {}}, "stored position, peers"),
    ],
)
def test_what_is_no_position_says_where(document: Any, place: str) -> None:
    assert place == malformed("position", Position.from_json, document)


def test_the_least_that_a_position_has_is_its_flavour_and_its_server() -> None:
    assert Position("mysql", "s", "", "", 0, 0, None, ()) == Position.from_json({"flavour": "mysql", "server": "s"})


# -- another server


def test_on_another_server_the_place_is_lost_and_the_floor_keeps_its_transactions_alone() -> None:
    here = replace(my(f"{A}:1-5", "b.000002", 100, "s", 7), floor=FLOOR)
    there = here.moved_to("t")
    assert Position("mysql", "t", f"{A}:1-5") == there
    assert there.floor is not None
    assert ("t", f"{A}:1-3", "", 0, 0) == (
        there.floor.server, there.floor.gtids, there.floor.file, there.floor.offset, there.floor.file_created,
    )  # fmt: skip
    (peer,) = there.peers
    assert (None, (), "b.000002", 100, 7) == (peer.floor, peer.peers, peer.file, peer.offset, peer.file_created)
    assert my(f"{A}:1").moved_to("t").floor is None


def test_a_place_that_is_none_is_no_peer_and_the_newest_few_are_remembered_each_once() -> None:
    at = my(f"{A}:1-5").moved_to("t")
    assert () == at.peers
    for name in "abcdefg":
        at = replace(at.moved_to(name), file=f"{name}.000001")
    assert (PEERS, list("fedc")) == (len(at.peers), [peer.server for peer in at.peers])
    back = at.moved_to("e")
    assert ["g", "f", "d", "c"] == [peer.server for peer in back.peers], "one that is come back to is itself no peer"
    again = replace(back, file="e.000002").moved_to("g")
    assert ["e", "f", "d", "c"] == [peer.server for peer in again.peers]


def test_a_position_follows_the_file_only_where_nothing_else_says_where_it_is() -> None:
    expected = {my("", "b.1", 4): True, my(): False, my(f"{A}:1", "b.1", 4): False, ma("", "b.1", 4): False}
    assert expected == {position: position.by_file for position in expected}


@pytest.mark.parametrize(
    ("expected", "held", "other"),
    [
        (True, my("", "b.000002", 200), my()),
        (True, my("", "b.000003", 4, created=7), my("", "b.000002", 100, created=8)),
        (False, my("", "b.000002", 99, created=7), my("", "b.000002", 100, created=7)),
        (True, my("", "b.000002", 100, created=7), my("", "b.000002", 100, created=7)),
        (True, my("", "b.000002", 200, created=0), my("", "b.000002", 100, created=8)),
        (True, my(f"{A}:1-5", "", 0), my(f"{A}:1-5", "b.000002", 100)),
        (True, my(f"{A}:1-5", "b.000002", 100), my(f"{A}:1-5", "", 0)),
    ],
)
def test_covers_at_the_edges(expected: bool, held: Position, other: Position) -> None:
    assert expected is held.covers(other)


# -- two of which neither covers the other


@pytest.mark.parametrize(("one", "two"), [(True, False), (False, True), (True, True)])
def test_what_is_prepared_behind_either_is_read_again(one: bool, two: bool) -> None:
    a, b = my(f"{A}:1-9"), my(f"{A}:1-5,{B}:1-4")
    a = replace(a, floor=my(f"{A}:1-6")) if one else a
    b = replace(b, floor=my(f"{A}:1-4,{B}:1-2")) if two else b
    joined = a.joined(b)
    assert joined.floor is not None
    expected = {(True, False): f"{A}:1-5", (False, True): f"{A}:1-4", (True, True): f"{A}:1-4"}
    assert (expected[one, two], "", 0) == (joined.floor.gtids, joined.floor.file, joined.floor.offset)


def test_joined_sets_keep_what_either_has_and_their_floors_what_both_have() -> None:
    a, b = ma("0-1-0,3-1-5"), ma("2-1-7")
    assert "0-1-0,2-1-7,3-1-5" == a.joined(b).gtids == b.joined(a).gtids
    low = replace(ma("0-1-9,1-1-1"), floor=ma("0-1-4,1-1-1")).joined(ma("0-2-6,7-1-1"))
    assert low.floor is not None
    assert "0-1-4" == low.floor.gtids
    one = replace(my(f"{A}:1-3:7"), floor=my(f"{A}:2:7")).joined(my(f"{A}:2:5-9"))
    assert one.floor is not None
    assert f"{A}:2:7" == one.floor.gtids
    none = replace(my(f"{A}:1-3"), floor=my(f"{A}:1-2")).joined(my(f"{B}:1"))
    assert none.floor is not None
    assert "" == none.floor.gtids


def test_the_lesser_of_two() -> None:
    with pytest.raises(Halt) as stop:
        least(my(f"{A}:1"), my(f"{B}:1"))
    assert "positions_diverge" == stop.value.code


# -- texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A}:1-3:4-5", f"{A}:1-5"),
        (f"{A}:1-3,{A}:4", f"{A}:1-4"),
        (f"{A}:1-3:5", f"{A}:1-3:5"),
        (f"{A}:1-9:3-4", f"{A}:1-9"),
        (f"{A}:5:1-2:3", f"{A}:1-3:5"),
        (f"{A}:1-5,6", None),
        (f"{A}:1-2:8-9:3-7", f"{A}:1-9"),
        (f"{A}:1-2:5-6:6-8", f"{A}:1-2:5-8"),
        (f"{A}:1-2:5-9:6-7", f"{A}:1-2:5-9"),
    ],
)
def test_intervals_that_touch_or_overlap_are_one(text: str, expected: str | None) -> None:
    """By literals, as the server writes them."""
    if expected is None:
        malformed("gtid", canonical_gtids, "mysql", text)
    else:
        assert expected == canonical_gtids("mysql", text)


@pytest.mark.parametrize("text", [f"{A}", f"{A}:1-2-3", f"{A}:tag", f"{A}:-5", f"{A}:5-x", f"{A}:a!b:1"])
def test_what_is_no_set_of_mysql(text: str) -> None:
    if text.endswith(":tag"):  # a tag without an interval names nothing
        assert {} == mysql_gtids(text)
    else:
        assert "GTID set" == malformed("gtid", mysql_gtids, text)


def test_what_is_no_transaction() -> None:
    for text in (":5", "5", f"{A}:", f"{A}:x", ""):
        assert "GTID" == malformed("gtid", mysql_gtid, text)
    for text in ("0-1", "0-1-2-3", "a-1-5", "0-b-5", "0-1-c", "0-1-", ""):
        assert "GTID" == malformed("gtid", mariadb_gtid, text)
    assert (f"{A}:tag", 5) == mysql_gtid(f"{A.upper()}:TAG:5")
    assert (0, 1, 5) == mariadb_gtid(" 0-1-5 ")
    assert "transaction id" == malformed("position", my("", "b.000001", 4).contains, "file=b.000001,pos=x")
    assert "log file name" == malformed("position", log_number, "binlog")


def test_a_domain_stands_once_in_a_position_of_mariadb() -> None:
    assert "domain 0" == malformed("gtid", mariadb_gtids, "0-1-5,0-2-6")
    assert {0: (1, 5), 7: (2, 1)} == dict(mariadb_gtids("7-2-1, 0-1-5,"))
    assert "0-1-5,7-2-1" == mariadb_text({7: (2, 1), 0: (1, 5)})


def test_a_source_without_transactions_is_in_no_text() -> None:
    assert f"{A}:1" == mysql_text({A: ((1, 1),), B: ()})


def test_the_place_of_a_transaction_is_its_id() -> None:
    assert "file=b.000001,pos=9" == file_transaction("b.000001", 9)
    assert my("", "b.000001", 9).contains(file_transaction("b.000001", 9))


# -- a reader on its way


def test_any_order_of_transactions_gives_the_set_that_the_server_would_write() -> None:
    """The expected texts are written out: none is made by what is tested."""
    for numbers, expected in {
        (1, 2, 3): "1-3:50",
        (3, 2, 1): "1-3:50",
        (1, 3, 5): "1:3:5:50",
        (1, 3, 2): "1-3:50",
        (49, 48): "48-50",
        (51, 52): "50-52",
        (52, 51): "50-52",
        (51, 53, 52, 49): "49-53",
        (10, 60, 11, 61, 59): "10-11:50:59-61",
    }.items():
        tracker = Tracker(my(f"{A}:50"))
        for at, number in enumerate(numbers):
            tracker.add(f"{A}:{number}", "b.000001", 100 + at)
        assert f"{A}:{expected}" == tracker.position().gtids, numbers


def test_many_intervals_and_sources_stay_apart() -> None:
    tracker = Tracker(my(f"{A}:1-2:5-6,{B}:9"))
    for gtid in (f"{A}:7", f"{B}:10", f"{A}:tag:1", f"{B}:3"):
        tracker.add(gtid, "b.000001", 4)
    assert f"{A}:1-2:5-7,{A}:tag:1,{B}:3:9-10" == tracker.position().gtids
    for code, flavour, gtid in (("transaction_repeated", my(f"{A}:1-5:9"), f"{A}:3"), ("sequence_not_growing", ma("0-1-5"), "0-9-5")):
        with pytest.raises(Halt) as stop:
            Tracker(flavour).add(gtid, "b.000001", 4)
        assert (code, gtid) == (stop.value.code, stop.value.place)


def test_a_new_source_takes_its_place_in_the_text_at_once() -> None:
    """The text is compared and stored as it is."""
    tracker = Tracker(my(f"{B}:1"))
    tracker.add(f"{A}:1", "b.000001", 4)
    assert f"{A}:1,{B}:1" == tracker.position().gtids


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8])
def test_no_number_of_any_interval_comes_a_second_time(number: int) -> None:
    with pytest.raises(Halt):
        Tracker(my(f"{A}:8:1-5")).add(f"{A}:{number}", "b.000001", 4)
    with pytest.raises(Halt):
        Tracker(my(f"{A}:{'1-5' if number < 8 else '7-9'}")).add(f"{A}:{number}", "b.000001", 4)


def test_a_position_is_made_when_it_has_moved_and_is_the_same_object_until_then() -> None:
    start = my(f"{A}:1", "b.000001", 4, created=3)
    tracker = Tracker(start)
    assert tracker.position() is start
    tracker.move("b.000001", 90)
    moved = tracker.position()
    assert (90, 3) == (moved.offset, moved.file_created)
    assert tracker.position() is moved
    tracker.move("b.000002", 4, 8)
    assert ("b.000002", 4, 8) == (tracker.position().file, tracker.position().offset, tracker.position().file_created)


def test_a_tracker_keeps_the_floor_that_it_is_given_and_the_peers_of_its_start() -> None:
    start = replace(my(f"{A}:1", "b.000001", 4), floor=FLOOR, peers=(my("", "f.1", 4, "t"),))
    tracker = Tracker(start)
    tracker.add(f"{A}:2", "b.000001", 9)
    assert (FLOOR, start.peers) == (tracker.position().floor, tracker.position().peers)
    tracker.floor = None
    tracker.move("b.000001", 10)
    assert tracker.position().floor is None


def test_mariadb_has_a_place_before_its_first_transaction_and_mysql_by_file_moves_by_place_alone() -> None:
    tracker = Tracker(ma(""))
    tracker.move("b.000001", 256)
    assert ma("", "b.000001", 256) == tracker.position()
    tracker = Tracker(my("", "b.000001", 4))
    tracker.add(f"{A}:1", "b.000001", 50)
    assert my("", "b.000001", 50) == tracker.position()
    tracker = Tracker(my(f"{A}:1", "b.000001", 4))
    tracker.add("", "b.000001", 50)
    assert my(f"{A}:1", "b.000001", 50) == tracker.position()
