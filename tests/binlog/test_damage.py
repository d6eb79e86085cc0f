"""A damaged or unknown log stops: packets of a real server, replayed with one thing wrong."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable

import pytest

from cdc.binlog.events import Event, RowsEvent
from cdc.binlog.header import HEADER
from cdc.errors import Halt, Malformed, Retry
from tests.helpers.servers import SourceDatabase
from tests.helpers.source_log import position, reading


class Recorded:
    """Packets that were taken off the wire before."""

    def __init__(self, packets: list[bytes]) -> None:
        self._packets = iter(packets)

    def next(self) -> bytes:
        for packet in self._packets:
            return packet
        raise Retry("source_lost", "the recording", "has ended")


Replay = tuple[Callable[[list[bytes]], list[Event]], list[bytes]]


def replaying(source: SourceDatabase, *statements: str) -> Replay:
    """A way to have packets read, and those of these statements' one transaction, from the file's announcement to the commit."""
    start = position(source)
    source.execute(*statements)
    with reading(source, start) as reader:
        packets = [reader._packets.next()]
        while kinds(packets)[-1] != 16:
            packets.append(reader._packets.next())

    def read(changed: list[bytes]) -> list[Event]:
        found: list[Event] = []
        with reading(source, start) as again, contextlib.suppress(Retry):
            again._packets = Recorded(changed)  # type: ignore[assignment]
            found.extend(again)
        return found

    return read, packets


@pytest.fixture
def recorded(mariadb: SourceDatabase) -> Replay:
    """A way to read packets, and those of one insert with all that comes before it."""
    mariadb.execute("CREATE TABLE t (a INT)")
    return replaying(mariadb, "INSERT INTO t VALUES (1)")


def kinds(packets: list[bytes]) -> list[int]:
    return [HEADER.unpack_from(packet, 1)[1] for packet in packets]


def test_one_flipped_bit_in_any_packet_stops(recorded: Replay) -> None:
    read, packets = recorded
    first = kinds(packets).index(162)
    for number in range(first, len(packets)):
        for place in (1, 10, 20, len(packets[number]) - 1):
            damaged = bytearray(packets[number])
            damaged[place] ^= 1
            with pytest.raises(Malformed):
                read([*packets[:number], bytes(damaged)])


def test_an_unknown_event_stops(recorded: Replay) -> None:
    read, packets = recorded
    assert 1 == len([event for event in read(packets) if isinstance(event, RowsEvent)])
    rows = bytearray(packets[kinds(packets).index(23)])
    for kind, code in ((26, "incident"), (20, "unknown_event"), (77, "unknown_event"), (172, "row_fragments")):
        rows[5] = kind
        with pytest.raises(Halt) as stopped:
            read([*packets[: kinds(packets).index(162)], resigned(rows)])
        assert code == stopped.value.code


def test_rows_without_a_table_map_stop(recorded: Replay) -> None:
    read, packets = recorded
    with pytest.raises(Halt) as stopped:
        read([packet for packet in packets if HEADER.unpack_from(packet, 1)[1] != 19])
    assert "table_map_missing" == stopped.value.code


def resigned(packet: bytearray) -> bytes:
    """The packet with its checksum made right again."""
    return bytes(packet[:-4]) + zlib.crc32(packet[1:-4]).to_bytes(4, "little")
