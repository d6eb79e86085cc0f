"""Whether a log continues a position, rule by rule: a server that is a few values in memory is asked what a real one would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cdc.errors import Halt, Retry
from cdc.model.position import PEERS, Flavour, Position
from cdc.mysql import log_identity as module
from cdc.mysql.log_identity import Identity

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4f22fa47-71ca-11e1-9e33-c80aa9429562"


@dataclass(frozen=True)
class Place:
    """A log file: how long it is, when it was begun, and (MariaDB) the GTIDs at some offsets: as the server tells, and as is read."""

    size: int
    created: int | None = 7
    gtids: Mapping[int, str | None] = field(default_factory=dict)
    read: Mapping[int, str | None] = field(default_factory=dict)


@dataclass
class Memory:
    """What a server answers."""

    files: dict[str, Place]
    executed: str = ""
    purged: str = ""
    place = "server:3306"

    def all(self, sql: str) -> list[tuple[Any, ...]]:
        assert sql == "SHOW BINARY LOGS"
        return [(name, one.size, "No") for name, one in self.files.items()]

    def one(self, sql: str, *values: Any) -> Any:
        if sql.startswith("SELECT BINLOG_GTID_POS"):
            return self.files[values[0]].gtids.get(values[1])
        return {"gtid_purged": self.purged, "gtid_executed": self.executed, "gtid_binlog_pos": self.executed}[sql.rpartition(".")[2]]


@pytest.fixture(autouse=True)
def headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read by another connection; here the session that is asked knows them."""
    monkeypatch.setattr(module, "log_created", lambda source, file: source.files[file].created)
    monkeypatch.setattr(module, "gtids_at", lambda source, file, offset: source.files[file].read.get(offset))


def stops(memory: Memory, position: Position, *, flavour: Flavour = "mysql", server: str = "s", gtid_mode: bool = True) -> str:
    """The code with which a start at the position stops; "" when it goes on."""
    session: Any = memory
    try:
        Identity(session, session, flavour, server, 1, gtid_mode).check(position)
    except Halt as stop:
        return stop.code if stop.place and stop.hint else "it is not said where, or what to do"
    return ""


def my(gtids: str = f"{A}:1-5", file: str = "b.000002", offset: int = 100, server: str = "s", created: int = 7, **more: Any) -> Position:
    return Position("mysql", server, gtids, file, offset, created, **more)


def ma(gtids: str = "0-1-5", file: str = "b.000002", offset: int = 100, server: str = "s", created: int = 7, **more: Any) -> Position:
    return Position("mariadb", server, gtids, file, offset, created, **more)


def two(size: int = 500, created: int | None = 7, **gtids: str | None) -> dict[str, Place]:
    """Two files; the second is the one that positions name."""
    return {"b.000001": Place(900, 3, {4: ""}), "b.000002": Place(size, created, {int(at[1:]): text for at, text in gtids.items()})}


def read(text: str | None) -> dict[str, Place]:
    """Two files, of which the server cannot tell the GTIDs of the place that positions name: its log does."""
    return {**two(), "b.000002": Place(500, 7, {}, {100: text})}


MYSQL = Memory(two(), f"{A}:1-9")
MARIADB = Memory(two(o100="0-1-5"), "0-1-9")


# -- MySQL


@pytest.mark.parametrize(
    ("code", "memory", "position"),
    [
        ("", MYSQL, my()),
        ("", MYSQL, my(offset=500)),
        ("log_shortened", MYSQL, my(offset=501)),
        ("log_rewritten", MYSQL, my(created=8)),
        ("", MYSQL, my(created=0)),
        ("log_purged", replace(MYSQL, files=two(created=None)), my()),
        ("log_rewritten", MYSQL, my(file="b.000003")),
        # the file is gone: what stands up to the place must be what the server says that it deleted
        ("log_rewritten", MYSQL, my(file="other.000003")),
        ("", replace(MYSQL, purged=f"{A}:1-5"), my(file="other.000003")),
        ("log_rewritten", replace(MYSQL, files={"b.000003": Place(9)}), my()),
        ("log_rewritten", replace(MYSQL, files={"b.000003": Place(9)}, purged=f"{A}:1-4"), my()),
        ("", replace(MYSQL, files={"b.000003": Place(9)}, purged=f"{A}:1-5"), my()),
        ("log_purged", replace(MYSQL, files={"b.000003": Place(9)}, purged=f"{A}:1-6"), my()),
        ("log_rewritten", replace(MYSQL, files={}), my()),
        ("log_purged", replace(MYSQL, files={}, purged=f"{A}:1-5"), my()),
        ("place_unknown", MYSQL, my(file="", offset=0, created=0)),
        ("log_purged", replace(MYSQL, purged=f"{A}:1-6"), my()),
        ("", replace(MYSQL, purged=f"{A}:1-5"), my()),
        ("log_purged", replace(MYSQL, purged=f"{B}:1"), my()),
        ("source_diverged", replace(MYSQL, executed=f"{A}:1-4"), my()),
        ("", replace(MYSQL, executed=f"{A}:1-5"), my()),
        ("other_server", MYSQL, ma()),
        # on another server: the GTIDs alone, unless the server's own place is remembered
        ("", MYSQL, my(server="t", file="x.000001")),
        ("log_rewritten", MYSQL, my(server="t", peers=(my(f"{A}:1-3", created=8),))),
        ("log_shortened", MYSQL, my(server="t", peers=(my(f"{A}:1-3", offset=501),))),
        ("", MYSQL, my(server="t", peers=(my(f"{A}:1-3"), my(f"{A}:1-3", server="u", created=9)))),
        ("source_diverged", replace(MYSQL, executed=f"{A}:1-4"), my(server="t")),
        ("log_purged", replace(MYSQL, purged=f"{A}:1-6"), my(server="t")),
        # by file and offset
        ("", MYSQL, my("")),
        ("other_server", MYSQL, my("", server="t")),
        ("log_purged", replace(MYSQL, files={"b.000003": Place(9)}), my("")),
        ("log_rewritten", MYSQL, my("", file="b.000003")),
        ("log_shortened", MYSQL, my("", offset=501)),
    ],
)
def test_a_log_of_mysql_goes_on_from_a_position_or_stops(code: str, memory: Memory, position: Position) -> None:
    assert code == stops(memory, position)


def test_gtids_must_be_on_where_the_position_goes_by_them() -> None:
    assert "gtid_off" == stops(MYSQL, my(), gtid_mode=False)
    assert "" == stops(MYSQL, my(""), gtid_mode=False)


def test_a_floor_must_be_there_too() -> None:
    """What is prepared is read again from there."""
    floor = my(f"{A}:1-3", "b.000001", 50, created=3)
    assert "" == stops(MYSQL, my(floor=floor))
    assert "log_purged" == stops(replace(MYSQL, purged=f"{A}:1-4"), my(floor=floor))
    assert "log_rewritten" == stops(MYSQL, my(floor=replace(floor, file_created=4)))
    assert "log_shortened" == stops(MYSQL, my(floor=replace(floor, offset=901)))
    assert "" == stops(MYSQL, my(server="t", floor=replace(floor, server="t", offset=901))), "a place on another server is none here"
    assert "" == stops(MYSQL, my(floor=Position("mysql", "s", f"{A}:1-3")))


# -- MariaDB


@pytest.mark.parametrize(
    ("code", "memory", "position"),
    [
        ("", MARIADB, ma()),
        ("log_rewritten", MARIADB, ma("0-1-4")),
        ("log_shortened", MARIADB, ma(offset=501)),
        ("log_rewritten", MARIADB, ma(created=8)),
        ("log_rewritten", MARIADB, ma(file="b.000003")),
        ("", replace(MARIADB, executed="0-1-3"), ma()),
        # the server cannot tell the GTIDs of the place: its log does
        ("", replace(MARIADB, files=read("0-1-5")), ma()),
        ("log_rewritten", replace(MARIADB, files=read("0-1-4")), ma()),
        ("log_rewritten", replace(MARIADB, files=read(None)), ma()),
        ("place_unknown", MARIADB, ma(file="", offset=0, created=0)),
        # the file is gone: as much as the oldest one begins with must be in the position
        ("", Memory({"b.000003": Place(9, 7, {4: "0-1-5"})}, "0-1-9"), ma()),
        ("log_purged", Memory({"b.000003": Place(9, 7, {4: "0-1-6"})}, "0-1-9"), ma()),
        ("log_rewritten", Memory({"b.000003": Place(9, 7, {4: "0-1-4"})}, "0-1-9"), ma()),
        ("log_rewritten", Memory({"b.000003": Place(9, 7)}, "0-1-9"), ma()),
        ("source_diverged", Memory({"b.000003": Place(9, 7, {4: "0-1-5"})}, "0-1-4"), ma()),
        ("log_rewritten", Memory({}, "0-1-9"), ma()),
        ("other_server", MARIADB, my()),
        # on another server: what its own id has written needs a place that proves whose log this is
        ("other_server", MARIADB, ma("0-1-4", server="t", created=8)),
        ("", MARIADB, ma("0-2-5", server="t", created=8)),
        ("", MARIADB, ma("0-1-4", server="t", created=8, peers=(ma("0-1-5"),))),
        ("other_server", MARIADB, ma("0-1-7", server="t", created=8, peers=(ma("0-1-5"),))),
        ("", MARIADB, ma("", "", 0, "t", 0)),
        ("source_diverged", MARIADB, ma("0-2-10", server="t", created=8)),
        ("unknown_domain", replace(MARIADB, executed="0-2-9,4-2-1"), ma("0-2-5", server="t", created=8)),
        ("", replace(MARIADB, executed="0-2-9,4-2-1"), ma("0-2-5,4-2-1", server="t", created=8)),
        ("", replace(MARIADB, executed="0-1-9,4-2-1"), ma()),
        # the same log under another name: its place stands where it was
        ("", MARIADB, ma(server="t")),
        ("other_server", replace(MARIADB, files=two(o100="0-1-6")), ma(server="t")),
        ("other_server", MARIADB, ma(server="t", created=0)),
        ("other_server", MARIADB, ma(server="t", offset=501)),
        ("other_server", MARIADB, ma(server="t", file="b.000009")),
    ],
)
def test_a_log_of_mariadb_goes_on_from_a_position_or_stops(code: str, memory: Memory, position: Position) -> None:
    assert code == stops(memory, position, flavour="mariadb")


def test_a_log_that_still_begins_with_nothing_holds_everything() -> None:
    assert "" == stops(replace(MARIADB, executed="0-2-9"), ma("0-2-5", "", 0, "t", 0), flavour="mariadb")


def test_offsets_that_the_server_cannot_be_asked_for_are_not_asked_for() -> None:
    """BINLOG_GTID_POS takes 32 bits; the log itself is read for what lies behind."""
    far = 1 << 32
    here = Place(far + 9, 7, {far: "0-1-1", far - 1: "0-1-1"}, {far: "0-1-5", far - 1: "0-1-5"})
    memory = Memory({**two(), "b.000002": here}, "0-1-9")
    assert "" == stops(memory, ma(offset=far), flavour="mariadb")
    assert "log_rewritten" == stops(memory, ma(offset=far - 1), flavour="mariadb")


def test_purged_asks_by_file_where_the_file_is_the_position_s_own() -> None:
    session: Any = Memory({"b.000002": Place(9, 7, {4: "0-1-9"})}, "0-1-9")
    here = Identity(session, session, "mariadb", "s", 1, True)
    assert [False, True, True] == [here.purged(one) for one in (ma(), ma(file="b.000001"), ma(server="t"))]


# -- what proves a position's log


def identity(memory: Memory, *, flavour: Flavour = "mysql", server: str = "s") -> Identity:
    session: Any = memory
    return Identity(session, session, flavour, server, 1, True)


def test_a_position_with_a_place_is_proven_by_the_time_in_its_file_s_header() -> None:
    at = my(created=0)
    assert replace(at, file_created=7) == identity(MYSQL).proven(at)
    assert 3 == identity(MYSQL).proven(my(file="b.000001", created=0)).file_created


def test_a_position_without_a_place_bears_the_head_of_the_newest_file_as_its_peer() -> None:
    """Before its older ones, of which the oldest gives way."""
    at = my(file="", offset=0, created=0)
    head = Position("mysql", "s", at.gtids, "b.000002", 4, 7)
    assert (head,) == identity(MYSQL).proven(at).peers
    older = tuple(my(server=f"old{number}") for number in range(PEERS))
    assert (head, *older[:-1]) == identity(MYSQL).proven(replace(at, peers=older)).peers
    three = {"b.000000": Place(9, 1), **two()}
    assert (head,) == identity(replace(MYSQL, files=three)).proven(at).peers


def test_on_mariadb_the_head_has_the_gtids_that_stand_there() -> None:
    at = ma(file="", offset=0, created=0)
    for files, gtids in ((two(o4="0-1-3"), "0-1-3"), (two(), "")):
        head = Position("mariadb", "s", gtids, "b.000002", 4, 7)
        assert (head,) == identity(replace(MARIADB, files=files), flavour="mariadb").proven(at).peers


def test_a_file_that_goes_just_when_it_was_named_is_a_reason_to_try_again() -> None:
    gone = replace(MYSQL, files=two(created=None))
    for at in (my(), my(file="", offset=0, created=0)):
        with pytest.raises(Retry) as again:
            identity(gone).proven(at)
        assert ("source_lost", "server:3306 b.000002") == (again.value.code, again.value.place)


@pytest.mark.parametrize(("server", "hint"), [("s", module.ANOTHER_SOURCE), ("other", module.BEHIND)])
def test_another_server_may_be_behind_and_none_is_behind_itself(server: str, hint: str) -> None:
    with pytest.raises(Halt) as stop:
        identity(replace(MYSQL, executed=f"{A}:1-4")).check(my(server=server))
    assert ("source_diverged", hint) == (stop.value.code, stop.value.hint)


def test_a_file_beyond_the_newest_one_is_compared_with_that() -> None:
    later = {"b.000005": Place(9), "b.000007": Place(9)}
    assert "" == stops(replace(MYSQL, files=later, purged=f"{A}:1-5"), my(file="b.000006"))
    mixed = {"old.000009": Place(9), **two()}
    assert "" == stops(replace(MYSQL, files=mixed, purged=f"{A}:1-5"), my(file="old.000010"))
    mixed = {"old.000001": Place(9), "b.000004": Place(9)}
    assert "log_rewritten" == stops(replace(MYSQL, files=mixed, purged=f"{A}:1-5"), my(file="b.000005"))


def test_a_server_of_another_name_is_known_by_a_place_at_the_very_end_of_its_file() -> None:
    at = replace(MARIADB, files=two(size=100, o100="0-1-5"))
    assert "" == stops(at, ma(server="old"), flavour="mariadb")
    assert "other_server" == stops(at, ma(server="old", created=8), flavour="mariadb")


def test_domains_that_the_position_lacks_are_none_of_a_server_s_own() -> None:
    own = replace(MARIADB, files=two(o100="0-1-5"), executed="0-1-9,7-2-1")
    assert "" == stops(own, ma(), flavour="mariadb")
    assert "" == stops(
        replace(own, files=two()),
        ma(file="", offset=0, created=0, peers=(ma(gtids="", file="b.000001", offset=4, created=3),)),
        flavour="mariadb",
    )


def test_a_place_before_every_transaction_proves_nothing_once_its_file_is_gone() -> None:
    assert "log_rewritten" == stops(replace(MARIADB, executed="0-1-9"), ma(gtids="", file="gone.000001", offset=4), flavour="mariadb")
