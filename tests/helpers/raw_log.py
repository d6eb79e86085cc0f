"""The smallest reader of a binary log that shows raw row images, so that the codec is tested without the product's own reader."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pymysql

from tests.helpers.servers import SourceDatabase

WRITE, UPDATE, DELETE = (23, 30), (24, 31), (25, 32)
KINDS = {code: kind for kind, codes in (("c", WRITE), ("u", UPDATE), ("d", DELETE)) for code in codes}


class RawRows(NamedTuple):
    """One rows event: its table and the bytes that hold its images."""

    table: str
    kind: str
    body: bytes
    start: int
    end: int


def position(source: SourceDatabase) -> tuple[str, int]:
    """Where the log ends now."""
    try:
        row = source.execute("SHOW BINARY LOG STATUS")[0]
    except pymysql.err.ProgrammingError:
        row = source.execute("SHOW MASTER STATUS")[0]
    return str(row[0]), int(row[1])


def lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the offset after it."""
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(data[at])
    if width is None:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def events(source: SourceDatabase, start: tuple[str, int]) -> Iterator[tuple[int, bytes]]:
    """Type and body of each event from `start` to the log's end, its checksum cut off (the servers here write CRC32)."""
    line: Any = source.connect()
    with closing(line):
        with line.cursor() as cursor:
            cursor.execute("SET @master_binlog_checksum='CRC32', @source_binlog_checksum='CRC32', @mariadb_slave_capability=4")
        payload = struct.pack("<BIHI", 0x12, start[1], 1, random.randrange(100_000, 2_000_000_000)) + start[0].encode()
        line._write_bytes(struct.pack("<I", len(payload)) + payload)
        line._next_seq_id = 1
        while True:
            packet = line._read_packet().get_all_data()
            if packet[0] == 0xFE and len(packet) < 9:
                return
            yield packet[5], packet[20:-4]


def rows_of(source: SourceDatabase, start: tuple[str, int]) -> Iterator[RawRows]:
    """The rows events of the source's database."""
    tables: dict[int, tuple[str, str]] = {}
    for kind, body in events(source, start):
        if kind == 19:
            name_end = 9 + body[8]
            table_end = name_end + 2 + body[name_end + 1]
            tables[int.from_bytes(body[:6], "little")] = body[9:name_end].decode(), body[name_end + 2 : table_end].decode()
        elif kind in KINDS:
            db, table = tables[int.from_bytes(body[:6], "little")]
            at = 8 + (int.from_bytes(body[8:10], "little") if kind >= 30 else 0)
            count, at = lenenc(body, at)
            at += (count + 7) // 8 * (2 if KINDS[kind] == "u" else 1)
            if db == source.name:
                yield RawRows(table, KINDS[kind], body, at, len(body))


def select_packets(source: SourceDatabase, sql: str) -> bytes:
    """The raw row packets of a SELECT with text in its own character set, up to and with the closing EOF."""
    line: Any = source.connect()
    with closing(line):
        with line.cursor() as cursor:
            cursor.execute("SET time_zone='+00:00', sql_mode='', character_set_results=NULL")
        payload = b"\x03" + sql.encode()
        line._write_bytes(struct.pack("<I", len(payload)) + payload)
        assert _packet(line)[4] != 0xFF
        while not _ends(_packet(line)):
            pass
        block = bytearray()
        while True:
            packet = _packet(line)
            block += packet
            if _ends(packet):
                return bytes(block)


def _packet(line: Any) -> bytes:
    head = line._rfile.read(4)
    return bytes(head + line._rfile.read(int.from_bytes(head[:3], "little")))


def _ends(packet: bytes) -> bool:
    return packet[4] == 0xFE and len(packet) < 13
