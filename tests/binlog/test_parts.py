"""Parts of the log's reading that need no server: what is held and undone, offsets beyond 4 GiB, packets in pieces, odd bytes."""

from __future__ import annotations

import socket
import threading
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from cdc.binlog import event_bodies as decode, event_types as kinds, xa
from cdc.binlog.events import LoggedStatement, RowsEvent, TableMap
from cdc.binlog.header import HEADER, LogCursor
from cdc.binlog.packets import PacketStream, dump, encoded_gtids, event_of, refusal
from cdc.binlog.reader import HANDLERS
from cdc.binlog.texts import statement_of, text_of
from cdc.binlog.transaction import TransactionBuffer
from cdc.ddl.classify import Unsupported, classify
from cdc.errors import CdcError, Halt, Malformed, Retry
from cdc.model.position import Position
from cdc.model.table import Table
from cdc.mysql.log_heads import Xid

TABLES = [TableMap(number, "d", f"t{number}", b"", b"", lambda raw: Table("d", "t", ())) for number in range(3)]


def rows(number: int) -> RowsEvent:
    return RowsEvent(TABLES[number % 3], "c", b"%d" % number * 10, 0, 10, 1, "b.000001", number, 7)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 999)),
        st.tuples(st.just("say"), st.integers(0, 9)),
        st.tuples(st.just("mark"), st.sampled_from("abc")),
        st.tuples(st.just("back"), st.sampled_from("abc")),
        st.tuples(st.just("undo"), st.just(0)),
    ),
    max_size=40,
)


def played(steps: list[tuple[str, object]], held_bytes: int) -> list[object]:
    group, marks = TransactionBuffer(held_bytes), set()
    for what, which in steps:
        if what == "add":
            group.add(rows(int(str(which))))
        elif what == "say":
            group.add(LoggedStatement(f"s{which}", "d", "t", 7))
        elif what == "mark":
            group.mark(str(which))
            marks.add(which)
        elif what == "undo":
            group.roll_back()
            marks.clear()
        elif which in marks:
            group.roll_back_to(str(which), "here")
            marks &= set(group._marks)
    return list(group.drain())


def expected(steps: list[tuple[str, object]]) -> list[object]:
    """The same on a plain list."""
    held: list[object] = []
    marks: dict[object, int] = {}
    for what, which in steps:
        if what == "add":
            held.append(rows(int(str(which))))
        elif what == "say":
            held.append(LoggedStatement(f"s{which}", "d", "t", 7))
        elif what == "mark":
            marks.pop(which, None)
            marks[which] = len(held)
        elif what == "undo" or which in marks:
            at = 0 if what == "undo" else marks[which]
            names = list(marks)
            marks = {} if what == "undo" else {name: marks[name] for name in names[: names.index(which) + 1]}
            held = held[:at] + [item for item in held[at:] if isinstance(item, LoggedStatement)]
    return held


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_what_is_held_in_a_file_is_what_would_be_held_in_memory(steps: list[tuple[str, object]]) -> None:
    assert expected(steps) == played(steps, 1 << 30)
    assert expected(steps) == played(steps, 60)


def test_an_unknown_savepoint_stops() -> None:
    with pytest.raises(Halt):
        TransactionBuffer().roll_back_to("s", "here")


def test_a_temporary_directory_without_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no defect, and nothing is lost: the transaction is read again from its beginning."""
    monkeypatch.setattr("tempfile.TemporaryFile", lambda prefix: Path("/dev/full").open("w+b"))  # noqa: SIM115 - closed by clear
    group = TransactionBuffer(15)
    with pytest.raises(Retry) as full:
        for number in range(9):
            group.add(rows(number))
    assert ("no_room", True) == (full.value.code, "No space left" in full.value.rule)
    group.clear()
    assert [] == list(group.drain())


def test_a_drained_group_is_empty() -> None:
    group = TransactionBuffer(15)
    for number in range(10):
        group.add(rows(number))
    assert 10 == len(list(group.drain()))
    assert [] == list(group.drain())


# Kinds of events


@pytest.mark.parametrize("kind", [*range(43), *range(160, 173)])
def test_every_kind_of_event_is_handled_or_known_harmless_or_fatal_with_a_reason(kind: int) -> None:
    said = kinds.fatal(kind, "here")
    fatal = kind not in HANDLERS
    assert fatal == (kind in kinds.FATAL)
    assert not (fatal and kind in kinds.HARMLESS)
    assert kind in kinds.NAMES
    assert not fatal or (said.code in ("unknown_event", "incident", "row_image", "row_fragments") and said.rule and said.hint)


@pytest.mark.parametrize("kind", [43, 100, 159, 173, 255])
def test_a_kind_that_nobody_has_heard_of_stops(kind: int) -> None:
    assert kind not in HANDLERS
    assert ("unknown_event", True) == (kinds.fatal(kind, "here").code, str(kind) in kinds.fatal(kind, "here").rule)


# XA


def test_an_xid_is_the_same_in_both_places_of_the_log() -> None:
    def prepare_of(number: int) -> bytes:
        return bytes(19) + b"\0" + number.to_bytes(4, "little") + b"\x02\0\0\0\x01\0\0\0" + b"\x00'" + b"b"

    for number, spelled in ((1, b"1"), (4711, b"4711"), (0xFFFFFFFF, b"-1"), (0xFFFFFFFF, b"18446744073709551615")):
        name = Xid(number, b"\x00'", b"b")
        assert (name, False) == xa.prepare_event(prepare_of(number), len(prepare_of(number)))
        assert name == xa.statement(b"XA COMMIT X'0027',X'62'," + spelled, "here").xid
    good = prepare_of(1)
    for damaged in (good[:-1], good[:24], good[:24] + bytes(4) + good[28:], good[:28] + b"\x63\0\0\0" + good[32:]):
        with pytest.raises(Malformed):
            xa.prepare_event(damaged, len(damaged))
    for odd in (b"XA COMMIT 'x'", b"XA COMMIT X'6',X'',1", b"XA RECOVER", b"XA COMMIT X'61',X'',1; DROP"):
        with pytest.raises(Halt):
            xa.statement(odd, "here")


# Places


def event(kind: int, body: bytes = b"", end: int = 0, flags: int = 0) -> bytes:
    head = HEADER.pack(1_700_000_000, kind, 1, HEADER.size + len(body) + 4, end, flags) + body
    return head + zlib.crc32(head).to_bytes(4, "little")


def at(offset: int) -> LogCursor:
    place = LogCursor()
    place.opened("b.000001", offset)
    place.checked(event(15, b"\x04\0" + bytes(54) + b"\x13" + bytes(40) + b"\x01"))
    return place


def test_offsets_go_on_beyond_4_gib() -> None:
    place = at((1 << 32) - 100)
    for end, reached in (((1 << 32) - 50, (1 << 32) - 50), (20, (1 << 32) + 20), (90, (1 << 32) + 90)):
        place.checked(event(2, end=end))
        assert reached == place.offset
    assert "b.000001:4294967386" == str(place)


def test_a_place_beyond_4_gib_cannot_be_asked_for_without_gtids() -> None:
    nobody: Any = None
    with pytest.raises(Halt) as stopped:
        dump(nobody, Position("mysql", "s", "", "b.000001", 1 << 32), 1, "here", 5.0, 0.5)
    assert ("offset_too_large", "b.000001:4294967296", True) == (stopped.value.code, stopped.value.place, "gtid_mode" in stopped.value.hint)


def test_events_without_an_end_count_by_their_size() -> None:
    """MariaDB from 11.4 on, inside transactions."""
    place = at(1000)
    place.checked(event(162, end=1050))
    place.checked(event(19, b"x" * 77))
    assert (1050 + 100, 1050) == (place.offset, place.start)


def test_artificial_events_move_nothing() -> None:
    place = at(1000)
    place.checked(event(163, end=77, flags=0x20))
    assert 1000 == place.offset


# Packets


def packet(payload: bytes, number: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def sent(pieces: list[bytes], packets: int) -> list[bytes]:
    """What a reader makes of pieces that arrive one after another."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: deque(map(theirs.sendall, pieces), maxlen=0))
        sender.start()
        reader = PacketStream(ours, "here", 5.0, 0.5, 1.0)
        found = [reader.next() for _ in range(packets)]
        sender.join()
        assert not reader.pending()
    return found


@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, 1000, 100_000])
def test_packets_come_whole_in_whatever_pieces_they_arrive(size: int) -> None:
    payloads = [b"a", b"b" * 300, b"", b"c" * 2000, b"d"]
    stream = b"".join(packet(payload, number) for number, payload in enumerate(payloads))
    assert payloads == sent([stream[at : at + size] for at in range(0, len(stream), size)], len(payloads))


def test_bytes_at_hand_are_pending() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = PacketStream(ours, "here", 5.0, 0.5, 1.0)
        assert not reader.pending()
        theirs.sendall(packet(b"a") + packet(b"b", 1))
        assert reader.pending()
        assert b"a" == reader.next()
        assert reader.pending()
        assert b"b" == reader.next()
        assert not reader.pending()


def test_a_payload_of_16_mib_goes_on_in_the_next_packet() -> None:
    whole = b"x" * 0xFFFFFF + b"tail"
    assert [whole, b"next"] == sent([packet(whole[:0xFFFFFF]), packet(b"tail", 1), packet(b"next", 2)], 2)


def test_a_silent_or_closed_connection_is_a_lost_source() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with pytest.raises(Retry, match="silent"):
            PacketStream(ours, "here", 0.05, 0.5, 1.0).next()
        theirs.sendall(b"\x05\x00")
        theirs.close()
        with pytest.raises(Retry, match="closed"):
            PacketStream(ours, "here", 5.0, 0.5, 1.0).next()


REFUSALS = [
    ("server_id_taken", 4052, b"A slave with the same server_uuid/server_id as this slave has connected to the master"),
    (
        "server_id_taken",
        1236,
        b"A replica with the same server_uuid/server_id as this replica has connected to the source; the first event",
    ),
    ("log_purged", 1236, b"Could not find first log file name in binary log index file"),
    ("log_purged", 1236, b"Cannot replicate because the source purged required binary logs."),
    ("log_refused", 1236, b"something secret else"),
    ("log_refused", 9999, b""),
    ("source_lost", 1053, b"Server shutdown in progress"),
    ("source_privilege", 1227, b"Access denied"),
]


@pytest.mark.parametrize(("code", "number", "text"), REFUSALS)
def test_each_refusal_is_told_apart(code: str, number: int, text: bytes) -> None:
    found: CdcError = refusal(b"\xff" + number.to_bytes(2, "little") + b"#HY000" + text, "here")
    assert code == found.code
    assert "secret" not in str(found)


def test_the_streams_end_and_nonsense() -> None:
    with pytest.raises(Retry):
        event_of(b"\xfe\0\0\0\0", "here")
    with pytest.raises(Malformed):
        event_of(b"\x07abc", "here")
    assert b"abc" == event_of(b"\0abc", "here")


def test_gtid_sets_in_their_binary_forms() -> None:
    source = "01020304-0506-0708-090a-0b0c0d0e0f10"
    plain = encoded_gtids(f"{source}:1-5:7")
    assert (1).to_bytes(8, "little") + bytes(range(1, 17)) + b"".join(n.to_bytes(8, "little") for n in (2, 1, 6, 7, 8)) == plain
    tagged = encoded_gtids(f"{source}:1-5,{source}:ab:3")
    assert bytes([1, 2, 0, 0, 0, 0, 0, 1]) == tagged[:8]
    assert bytes(range(1, 17)) + b"\x04ab" in tagged
    assert bytes(8) == encoded_gtids("")


# Bytes


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_of_variable_length(number: int) -> None:
    extra = next(n for n in range(9) if n == 8 or number < 1 << (7 * (n + 1)))
    value = (number << 8 | 0xFF) if extra == 8 else (number << (extra + 1) | ((1 << extra) - 1))
    data = value.to_bytes(extra + 1, "little")
    assert (number, len(data) + 1) == decode.varlen(b"x" + data + b"y", 1)


def test_damaged_compression_is_malformed() -> None:
    good = b"\x82" + (5).to_bytes(2, "big") + zlib.compress(b"hello")
    assert b"hello" == decode.inflated(b"xx" + good, 2)
    for bad in (
        b"\x02" + good[1:],
        b"\x92" + good[1:],
        b"\x82\x00\x04" + good[3:],
        b"\x82\x00\x06" + good[3:],
        good[:5] + b"zz" + good[7:],
    ):
        with pytest.raises(Malformed):
            decode.inflated(bad, 0)


def test_text_is_read_in_its_character_set() -> None:
    for charset, raw in (("latin1", b"caf\xe9\x80"), ("utf8mb4", "café€".encode()), ("utf16", "café€".encode("utf-16-be"))):
        assert "café€" == text_of(charset, raw)
    assert text_of("utf8mb4", b"\xff") is None
    assert text_of("klingon", b"a") is None


def test_a_statement_with_bytes_that_are_no_text_is_read_where_they_hide_no_quote() -> None:
    """In gbk a character may end with a backslash: where one is none, the next quote may be read as part of the string."""
    assert "DEFAULT '\ufffd', DROP c" == statement_of("utf8mb4", b"DEFAULT '\xff', DROP c")
    assert "COMMENT '縗', DROP c" == statement_of("gbk", b"COMMENT '\xbf\x5c', DROP c")
    hidden = statement_of("gbk", b"ALTER TABLE x.t COMMENT '\xff\x7f\xbf\x5c', RENAME TO od.a")
    assert Unsupported("unknown") == classify(hidden, "x", lambda db, table: db == "od")
