"""Where the reader stands in the log, and whether the bytes there are whole: the common header of every event."""

from __future__ import annotations

import struct
import zlib

from cdc.binlog.event_types import FORMAT, HEARTBEAT, HEARTBEAT_V2, ROTATE
from cdc.errors import Malformed

HEADER = struct.Struct("<IBIIIH")
"""Time, type, server id, size, end offset (32 bits), flags."""
ARTIFICIAL, IN_USE = 0x20, 0x01
"""Flags; mysql-replication names none of them."""
UNPLACED = frozenset({ROTATE, FORMAT, HEARTBEAT, HEARTBEAT_V2})
"""Their end offsets mean something else; they are handled where they come."""
_WRAP = 1 << 32


class LogCursor:
    """A file of the log, the offset behind the event that was checked last, and that event's size."""

    __slots__ = ("_checksums", "created", "file", "offset", "size")

    def __init__(self) -> None:
        self.file, self.offset, self.size, self.created = "", 0, 0, 0
        self._checksums: bool | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    @property
    def start(self) -> int:
        """Where the event that was checked last begins."""
        return self.offset - self.size

    def checked(self, event: bytes) -> int:
        """Where the event ends without its checksum; its place is noted. Anything not whole is malformed."""
        if len(event) < HEADER.size:
            raise Malformed("event", str(self), "an event is shorter than its header")
        _, kind, _, size, log_pos, flags = HEADER.unpack_from(event)
        if size != len(event):
            raise Malformed("event", str(self), "an event does not have the length that it claims")
        if kind == FORMAT or flags & ARTIFICIAL or self._checksums is None:
            end = self._verified_alone(event, kind)
        elif not self._checksums:
            end = size
        else:
            end = size - 4
            if zlib.crc32(memoryview(event)[:end]) != int.from_bytes(event[end:], "little"):
                raise Malformed(
                    "checksum",
                    str(self),
                    "the checksum of an event is wrong",
                    "the log or the network is damaged: check the disk",
                )
        self.size = size
        if kind not in UNPLACED and not flags & ARTIFICIAL:
            self.offset = self.widened(log_pos) if log_pos else self.offset + size
        return end

    def widened(self, log_pos: int) -> int:
        """The 32 bits of an end offset as a full offset: the log only goes forward."""
        offset = self.offset - self.offset % _WRAP + log_pos
        return offset + _WRAP if offset < self.offset else offset

    def opened(self, file: str, offset: int) -> None:
        """The server announced a file."""
        self.file, self.offset, self.created = file, offset, 0

    def _verified_alone(self, event: bytes, kind: int) -> int:
        """Events that come before, or tell, which checksum applies: a format description says it, others by trying."""
        end = len(event) - 4
        right = zlib.crc32(memoryview(event)[:end]) == int.from_bytes(event[end:], "little")
        if kind != FORMAT:
            return end if right else len(event)
        algorithm = event[end - 1]
        if algorithm not in (0, 1):
            raise Malformed("checksum", str(self), f"checksum algorithm {algorithm} is not known")
        if algorithm and not right:  # computed while the file was still marked as open
            plain = bytearray(event[:end])
            plain[17] ^= IN_USE
            if zlib.crc32(plain) != int.from_bytes(event[end:], "little"):
                raise Malformed("checksum", str(self), "the checksum of a format description is wrong")
        self._checksums = bool(algorithm)
        return end
