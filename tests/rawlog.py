"""The smallest reader of a binary log that shows raw row images, so that the codec is tested without the product's own reader."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pymysql
from pymysql.connections import Connection

WRITE, UPDATE, DELETE = (23, 30), (24, 31), (25, 32)
KINDS = {code: kind for kind, codes in (("c", WRITE), ("u", UPDATE), ("d", DELETE)) for code in codes}


class RawRows(NamedTuple):
    """One rows event: its table and the bytes that hold its images."""

    db: str
    table: str
    kind: str
    body: bytes
    start: int
    end: int


def connect(port: int, **more: object) -> Connection:
    """A connection as the product's reads use it: UTC, no sql_mode, text in the column's own character set."""
    connection: Connection = pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True, **more)
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone='+00:00', sql_mode=''")
    return connection


def position(connection: Connection) -> tuple[str, int]:
    """Where the log ends now."""
    with connection.cursor() as cursor:
        try:
            cursor.execute("SHOW BINARY LOG STATUS")
        except pymysql.err.ProgrammingError:
            cursor.execute("SHOW MASTER STATUS")
        row = cursor.fetchone()
    assert row is not None
    return str(row[0]), int(row[1])


def lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the offset after it."""
    first = data[at]
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if width is None:
        return first, at + 1
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def events(port: int, start: tuple[str, int]) -> Iterator[tuple[int, bytes]]:
    """Type and body of each event from `start` to the log's end, its checksum cut off (the servers here write CRC32)."""
    connection = connect(port)
    with connection.cursor() as cursor:
        cursor.execute("SET @master_binlog_checksum='CRC32', @source_binlog_checksum='CRC32', @mariadb_slave_capability=4")
    file, at = start
    payload = struct.pack("<BIHI", 0x12, at, 1, random.randrange(100_000, 2_000_000_000)) + file.encode()
    connection._write_bytes(struct.pack("<I", len(payload)) + payload)  # type: ignore[attr-defined]
    connection._next_seq_id = 1  # type: ignore[attr-defined]
    while True:
        packet = connection._read_packet().get_all_data()  # type: ignore[attr-defined]
        if packet[0] == 0xFE and len(packet) < 9:
            break
        yield packet[5], packet[20:-4]
    connection.close()


def rows_of(port: int, start: tuple[str, int], db: str) -> Iterator[RawRows]:
    """The rows events of one database."""
    tables: dict[int, tuple[str, str]] = {}
    for kind, body in events(port, start):
        if kind == 19:
            name_end = 9 + body[8]
            table_end = name_end + 2 + body[name_end + 1]
            names = body[9:name_end].decode(), body[name_end + 2 : table_end].decode()
            tables[int.from_bytes(body[:6], "little")] = names
        elif kind in KINDS:
            found = tables[int.from_bytes(body[:6], "little")]
            if found[0] != db:
                continue
            at = 8 + (int.from_bytes(body[8:10], "little") if kind >= 30 else 0)
            count, at = lenenc(body, at)
            size = (count + 7) // 8
            maps = 2 if KINDS[kind] == "u" else 1
            assert all(byte for byte in body[at : at + size - 1]), "a full image was expected"
            yield RawRows(*found, KINDS[kind], body, at + size * maps, len(body))


def select_packets(connection: Connection, sql: str) -> bytes:
    """The raw row packets of a SELECT with text in its own character set, up to and with the closing EOF."""
    with connection.cursor() as cursor:
        cursor.execute("SET character_set_results=NULL")
    payload = b"\x03" + sql.encode()
    connection._write_bytes(struct.pack("<I", len(payload)) + payload)  # type: ignore[attr-defined]
    connection._next_seq_id = 1  # type: ignore[attr-defined]
    first = _packet(connection)
    assert first[4] != 0xFF, first
    ends = 0
    while ends == 0:  # column definitions, closed by an EOF
        packet = _packet(connection)
        ends += packet[4] == 0xFE and len(packet) < 13
    block = b""
    while True:
        packet = _packet(connection)
        block += packet
        if packet[4] == 0xFE and len(packet) < 13:
            break
    with connection.cursor() as cursor:
        cursor.execute("SET character_set_results=utf8mb4")
    return block


def _packet(connection: Connection) -> bytes:
    head = connection._rfile.read(4)  # type: ignore[attr-defined]
    body = connection._rfile.read(int.from_bytes(head[:3], "little"))  # type: ignore[attr-defined]
    connection._next_seq_id = (head[3] + 1) % 256  # type: ignore[attr-defined]
    return bytes(head + body)
