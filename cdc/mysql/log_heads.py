"""A log file as mysqlbinlog reads it: as server 0, which ends nobody else's stream. Its header's time, and where
MariaDB's GTIDs stand.

MariaDB tells the GTIDs of a place (`BINLOG_GTID_POS`) only as long as no event before it in its file is above
`max_allowed_packet`, and tells of no place which XA transactions were undecided there. Both are in the heads of the
transactions, which this reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pymysql.constants import COMMAND
from pymysqlreplication.constants import BINLOG

from cdc.config.load import SourceConfig
from cdc.errors import Halt, Malformed, Refused, Retry
from cdc.model.position import log_number, mariadb_gtids, mariadb_text
from cdc.mysql.connection import connect, deciding

_NOT_BLOCKING, _HEADER, _WRAP = 1, 19, 1 << 32
_COUNT = (1 << 28) - 1
"""What of the first word of a list of GTIDs is their number; the rest are flags."""
_ARTIFICIAL = 0x20
_GROUP_ID, _PREPARED_XA, _COMPLETED_XA = 0x02, 0x40, 0x80
_MODES = "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', @mariadb_slave_capability = 4"


class Xid(NamedTuple):
    """The name that the application gave to a transaction; unique among those that are prepared."""

    format: int
    """Its lower 32 bits: the two places of the log spell it with another sign."""
    gtrid: bytes
    bqual: bytes


def xid_of(format_: int | bytes, gtrid: int | bytes, bqual: int | bytes, data: bytes) -> Xid:
    """The name in a row of XA RECOVER."""
    at = int(gtrid)
    return Xid(int(format_) & 0xFFFFFFFF, data[:at], data[at : at + int(bqual)])


def log_created(source: SourceConfig, file: str) -> int | None:
    """The time in a log file's header, seconds since the epoch; None when the server cannot read the file."""
    connection = connect(source, read_timeout=source.connect_timeout_seconds)
    try:
        with deciding(f"{source.url.host}:{source.url.port}"):
            for event in _events(connection, file, 4):
                if event[4] == BINLOG.FORMAT_DESCRIPTION_EVENT:
                    return int.from_bytes(event[0:4], "little")
        return None
    except Halt:
        return None
    finally:
        _break_off(connection)


def gtids_at(source: SourceConfig, file: str, offset: int) -> str | None:
    """MariaDB's GTIDs at a place, from all heads of the file up to there; None when nothing of the log ends there."""
    heads = Heads(source, file, 4, "")
    try:
        heads.to(file, offset)
        return heads.gtids
    except Malformed:
        return None


def _break_off(connection: Any) -> None:
    connection._force_close()  # a goodbye is no command while the log is sent


def _events(connection: Any, file: str, offset: int) -> Iterator[bytes]:
    with connection.cursor() as cursor:
        cursor.execute(_MODES)
    connection._execute_command(COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", offset, _NOT_BLOCKING, 0) + file.encode())
    while len(event := connection._read_packet().get_all_data()[1:]) >= _HEADER:  # else it is the log's end
        yield event


class Heads:
    """The heads of MariaDB's transactions from a place on, whose GTIDs are known."""

    def __init__(
        self, source: SourceConfig, file: str, offset: int, gtids: str, undecided: frozenset[Xid] = frozenset()
    ) -> None:
        """`offset` 4 is the beginning of a file, which names its GTIDs itself. `undecided`:
        XA transactions, prepared there."""
        self.file, self.offset = file, offset
        self.undecided = set(undecided)
        """Those that the log holds prepared and not decided;
        of those that were prepared before the beginning, the ones that were told."""
        self.decided = file, 0
        """Where the last XA transaction was decided since the beginning."""
        self._domains = dict(mariadb_gtids(gtids))
        self._source, self._checked = source, False

    @property
    def gtids(self) -> str:
        """Of the place that was reached."""
        return mariadb_text(self._domains)

    def to(self, file: str, offset: int) -> None:
        """Read on to a place that the log has reached and that does not lie behind; stops when no event ends there."""
        wanted = log_number(file), offset
        if self._at < wanted:
            self._read(wanted)
        if self._at != wanted:
            raise Malformed(
                "log_order",
                f"{file}:{offset}",
                "no event of the log ends where the server says that a transaction does",
            )

    @property
    def _at(self) -> tuple[tuple[str, int], int]:
        return log_number(self.file), self.offset

    def _read(self, wanted: tuple[tuple[str, int], int]) -> None:
        place = f"{self._source.url.host}:{self._source.url.port} {self.file}:{self.offset}"
        if self.offset >= _WRAP:
            raise Refused(
                "offset_too_large", place, "a place beyond 4 GiB in a file cannot be asked for", "FLUSH BINARY LOGS"
            )
        connection = connect(self._source, read_timeout=self._source.connect_timeout_seconds)
        try:
            with deciding(place):
                for event in _events(connection, self.file, self.offset):
                    self._take(event)
                    if self._at >= wanted:
                        return
        finally:
            _break_off(connection)
        raise Retry("source_lost", place, "the server ended the stream")

    def _take(self, event: bytes) -> None:
        kind, said, flags = event[4], int.from_bytes(event[13:17], "little"), int.from_bytes(event[17:19], "little")
        if kind == BINLOG.ROTATE_EVENT:
            if flags & _ARTIFICIAL:  # the name of the file that follows; else the end of this one
                self.file, self.offset = (
                    _whole(event)[27:].decode("utf-8", "replace"),
                    int.from_bytes(event[19:27], "little"),
                )
        elif kind == BINLOG.FORMAT_DESCRIPTION_EVENT:
            self._checked = event[-5] == 1
            self.offset = said or self.offset
        elif not flags & _ARTIFICIAL:
            wrapped = (
                self.offset - self.offset % _WRAP + said
            )  # the log only goes forward, and says 32 bits of where it is
            self.offset = wrapped + _WRAP * (wrapped < self.offset) if said else self.offset + len(event)
            if kind in (BINLOG.MARIADB_GTID_EVENT, BINLOG.MARIADB_GTID_GTID_LIST_EVENT):
                self._head(kind, self._verified(event))

    def _verified(self, event: bytes) -> bytes:
        if self._checked and len(_whole(event)) == len(event):
            raise Malformed(
                "checksum", f"{self.file}:{self.offset}", "the checksum of an event is wrong", "check the disk"
            )
        return event

    def _head(self, kind: int, event: bytes) -> None:
        if kind == BINLOG.MARIADB_GTID_GTID_LIST_EVENT:
            for at in range(_HEADER + 4, _HEADER + 4 + 16 * (int.from_bytes(event[19:23], "little") & _COUNT), 16):
                domain, server, number = struct.unpack_from("<IIQ", event, at)
                self._domains[domain] = server, number
            return
        number, domain, flags = struct.unpack_from("<QIB", event, _HEADER)
        self._domains[domain] = int.from_bytes(event[5:9], "little"), number
        if flags & (_PREPARED_XA | _COMPLETED_XA):
            xid = _xid(event, _HEADER + 13 + 8 * bool(flags & _GROUP_ID))
            if flags & _PREPARED_XA:
                self.undecided.add(xid)
            else:
                self.undecided.discard(xid)
                self.decided = self.file, self.offset


def _whole(event: bytes) -> bytes:
    """The event without its checksum, if it bears a right one."""
    return event[:-4] if zlib.crc32(event[:-4]) == int.from_bytes(event[-4:], "little") else event


def _xid(event: bytes, at: int) -> Xid:
    gtrid, bqual = event[at + 4], event[at + 5]
    name = event[at + 6 : at + 6 + gtrid + bqual]
    return Xid(int.from_bytes(event[at : at + 4], "little"), name[:gtrid], name[gtrid:])
