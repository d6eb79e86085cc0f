"""Bodies of single events: GTIDs, statements, compressed payloads. Pure; bytes in, values out.

Offsets count from the event's first byte; the common header takes 19 bytes.
"""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import zstandard
from pymysqlreplication.constants import STATUS_VAR_KEY as codes

from cdc.errors import Malformed

HEADER = 19
_LONGEST_PAYLOAD = 1 << 30
"""MySQL and MariaDB write no event longer than 1 GiB; more is not their doing."""


class Gtid(NamedTuple):
    """The head of a transaction in MySQL's log; `end` is how many bytes it takes, this event included."""

    gtid: str
    ts_us: int
    length: int


def mysql_gtid_event(event: bytes, end: int) -> Gtid:
    """GTID_LOG_EVENT and ANONYMOUS_GTID_LOG_EVENT (gtid "") of 8.0.2 and later."""
    number = int.from_bytes(event[36:44], "little", signed=True)
    source = str(uuid.UUID(bytes=event[20:36])) if number else ""
    at = 44 + 1 + 16  # behind the logical clock
    if at + 7 >= end:
        raise Malformed("gtid_event", "GTID event", "has no commit time; servers before 8.0.2 are too old")
    immediate = int.from_bytes(event[at : at + 7], "little")
    at += 7
    committed = immediate & ~(1 << 55)
    if immediate >> 55 & 1:
        committed = int.from_bytes(event[at : at + 7], "little")
        at += 7
    length, at = lenenc(event, at)
    return Gtid(f"{source}:{number}" if source else "", committed, length)


def tagged_gtid_event(event: bytes, end: int) -> Gtid:
    """GTID_TAGGED_LOG_EVENT of 8.3 and later: self-describing fields, numbers in a variable-length form.

    https://dev.mysql.com/doc/dev/mysql-server/latest/PageLibsMysqlSerialization.html
    """
    at = HEADER
    for _ in range(3):  # format version, size of the message, last field that must be understood
        _, at = varlen(event, at)
    fields: dict[int, int | bytes] = {}
    while at < end:
        field, at = varlen(event, at)
        if field == 1:
            octets = []
            for _ in range(16):
                octet, at = varlen(event, at)
                octets.append(octet)
            fields[field] = bytes(octets)
        elif field == 3:
            size, at = varlen(event, at)
            fields[field] = event[at : at + size]
            at += size
        else:
            fields[field], at = varlen(event, at)
    source, tag = fields.get(1, b""), fields.get(3, b"")
    if (
        not isinstance(source, bytes)
        or len(source) != 16
        or not isinstance(tag, bytes)
        or 2 not in fields
        or 8 not in fields
    ):
        raise Malformed("gtid_event", "tagged GTID event", "lacks a field that it must have")
    number = int(fields[2]) >> 1  # signed: the lowest bit is the sign
    name = f"{uuid.UUID(bytes=source)}:{tag.decode()}" if tag else str(uuid.UUID(bytes=source))
    return Gtid(f"{name}:{number}", int(fields.get(7, fields.get(6, 0))), int(fields[8]))


def varlen(data: bytes, at: int) -> tuple[int, int]:
    """A number of MySQL's serialization library (the low ones of its first byte count further bytes),
    and where it ends."""
    first = data[at]
    extra = 8 if first == 0xFF else (~first & (first + 1)).bit_length() - 1
    value = int.from_bytes(data[at : at + 1 + extra], "little")
    return value >> (8 if extra == 8 else extra + 1), at + 1 + extra


def lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}.get(first)
    if size is None:
        raise Malformed("number", "event", "holds no length-encoded number where one must be")
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


class MariadbGtid(NamedTuple):
    """The head of a group in MariaDB's log."""

    gtid: str
    standalone: bool
    """A single statement without a commit of its own follows."""


def mariadb_gtid_event(event: bytes) -> MariadbGtid:
    """MARIADB_GTID_EVENT; the server id stands in the common header."""
    number, domain, flags = struct.unpack_from("<QIB", event, HEADER)
    server = int.from_bytes(event[5:9], "little")
    return MariadbGtid(f"{domain}-{server}-{number}", bool(flags & 1))


class Query(NamedTuple):
    """A logged statement: raw text, the database it ran in, and what of its session matters to read it."""

    sql: bytes
    db: str
    collation: int
    """Of the client's character set; 0 when not logged."""
    sql_mode: int
    """Of its session; 0 when not logged."""


def query_event(event: bytes, end: int, *, compressed: bool = False, extra: int = 0) -> Query:
    """QUERY_EVENT, QUERY_COMPRESSED and, with the `extra` bytes of its own header, EXECUTE_LOAD_QUERY."""
    db_length, status_length = event[27], int.from_bytes(event[30:32], "little")
    at = 32 + extra
    collation, sql_mode = _session(event[at : at + status_length])
    at += status_length
    db = event[at : at + db_length].decode("utf-8", "surrogateescape")
    body = event[at + db_length + 1 : end]
    return Query(inflated(body, 0) if compressed else body, db, collation, sql_mode)


_ALTER_FLAGS, _CHARSET_PAIRS = 130, 131
"""MariaDB's (10.9 and later), which mysql-replication does not know."""
_STATUS_SIZES: Mapping[int, int] = {
    codes.Q_FLAGS2_CODE: 4, codes.Q_SQL_MODE_CODE: 8, codes.Q_AUTO_INCREMENT: 4, codes.Q_CHARSET_CODE: 6,
    codes.Q_LC_TIME_NAMES_CODE: 2, codes.Q_CHARSET_DATABASE_CODE: 2, codes.Q_TABLE_MAP_FOR_UPDATE_CODE: 8,
    codes.Q_MASTER_DATA_WRITTEN_CODE: 4, codes.Q_MICROSECONDS: 3, codes.Q_EXPLICIT_DEFAULTS_FOR_TIMESTAMP: 1,
    codes.Q_DDL_LOGGED_WITH_XID: 8, codes.Q_DEFAULT_COLLATION_FOR_UTF8MB4: 2, codes.Q_SQL_REQUIRE_PRIMARY_KEY: 1,
    codes.Q_DEFAULT_TABLE_ENCRYPTION: 1, codes.Q_HRNOW: 3, codes.Q_XID: 8,
}  # fmt: skip
"""Bytes of each status variable that has as many always."""


def _session(status: bytes) -> tuple[int, int]:
    """(client collation, sql_mode) from a query's status variables;
    the rest is passed over, unknown ones end the search."""
    at, collation, sql_mode = 0, 0, 0
    while at < len(status):
        code = status[at]
        at += 1
        if code == codes.Q_SQL_MODE_CODE:
            sql_mode = int.from_bytes(status[at : at + 8], "little")
        elif code == codes.Q_CHARSET_CODE:
            collation = int.from_bytes(status[at : at + 2], "little")
        size = _status_size(code, status, at)
        if size is None:
            break
        at += size
    return collation, sql_mode


def _status_size(code: int, status: bytes, at: int) -> int | None:
    if at >= len(status):
        return None
    if code in (codes.Q_CATALOG_CODE, codes.Q_TIME_ZONE_CODE, codes.Q_CATALOG_NZ_CODE):
        return 1 + status[at] + int(code == codes.Q_CATALOG_CODE)  # the old one ends with a NUL
    if code == codes.Q_INVOKER:  # user and host
        return 2 + status[at] + status[at + 1 + status[at]]
    if code == codes.Q_UPDATED_DB_NAMES:
        return _names_size(status, at)
    if code == _ALTER_FLAGS:  # of an ALTER in two phases, and the number of its first one
        return 1 + (8 if status[at] & 0x0C else 0)
    if code == _CHARSET_PAIRS:  # pairs of character set and collation
        return 1 + 4 * status[at]
    return _STATUS_SIZES.get(code)


def _names_size(status: bytes, at: int) -> int:
    end = at + 1
    for _ in range(status[at] if status[at] < 254 else 0):
        end = status.index(0, end) + 1
    return end - at


def inflated(data: bytes, at: int) -> bytes:
    """What MariaDB compressed from `at` on: one byte (0x80, algorithm, size of the length), the length, big-endian,
    and zlib."""
    head = data[at]
    size = head & 7
    if not head & 0x80 or head & 0x70:
        raise Malformed("compression", "compressed event", "names an unknown algorithm")
    length = int.from_bytes(data[at + 1 : at + 1 + size], "big")
    if length > _LONGEST_PAYLOAD:
        raise Malformed("compression", "compressed event", "claims to hold more than 1 GiB")
    try:
        found = zlib.decompressobj().decompress(data[at + 1 + size :], length + 1)
    except zlib.error:
        raise Malformed("compression", "compressed event", "is not valid zlib data") from None
    if len(found) != length:
        raise Malformed("compression", "compressed event", "does not have the length that it claims")
    return found


def payload_events(event: bytes, end: int) -> Iterator[bytes]:
    """The events (no checksums of their own) in a TRANSACTION_PAYLOAD of MySQL, one at a time:
    only one is in memory."""
    compression, size, at = 0, 0, HEADER
    while True:
        kind, at = lenenc(event, at)
        if kind == 0:
            break
        length, at = lenenc(event, at)
        if kind in (1, 2):
            value, _ = lenenc(event, at)
            size, compression = (value, compression) if kind == 1 else (size, value)
        at += length
    if at + size != end or compression not in (0, 255):
        raise Malformed("payload", "transaction payload", "has another length, or another compression than zstd")
    return _inner_events(io.BytesIO(event[at:end]), compressed=compression == 0)


def _inner_events(raw: io.BytesIO, *, compressed: bool) -> Iterator[bytes]:
    # MySQL's levels go to 22, whose window is 128 MiB: without a limit of ours the library refuses those.
    stream = (
        zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(raw, read_across_frames=True)
        if compressed
        else raw
    )
    try:
        while header := _exactly(stream, HEADER, or_nothing=True):
            length = int.from_bytes(header[9:13], "little")
            if not HEADER <= length <= _LONGEST_PAYLOAD:
                raise Malformed("payload", "transaction payload", "holds an event of impossible length")
            yield header + _exactly(stream, length - HEADER)
    except zstandard.ZstdError:
        raise Malformed("payload", "transaction payload", "is not valid zstd data") from None


def _exactly(stream: io.BytesIO | zstandard.ZstdDecompressionReader, size: int, *, or_nothing: bool = False) -> bytes:
    parts: list[bytes] = []
    missing = size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing and not (or_nothing and missing == size):
        raise Malformed("payload", "transaction payload", "ends within an event")
    return b"".join(parts)
