"""The log's packets: ask for the dump, take packets off the socket in large pieces, turn the server's refusals into
decisions.

https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import uuid
from typing import Any

from pymysql.connections import Connection
from pymysql.constants import COMMAND

from cdc.errors import CdcError, Halt, Malformed, Refused, Retry
from cdc.model.position import Position, mysql_gtids
from cdc.mysql.connection import deciding, socket_of
from cdc.mysql.log_identity import BEHIND, KEEP_LONGER
from cdc.runtime import clock, timing

_RECEIVE = 1 << 18
"""Bytes asked of the socket at once: 256 KiB takes 30 row events of the default size;
larger gained nothing (2026-11)."""
_LONGEST = 0xFFFFFF
"""A packet of this length is continued by the next one."""


class PacketStream:
    """Whole packets from a socket, payloads only, in order."""

    def __init__(
        self, sock: socket.socket, place: str, timeout_seconds: float, quiet_seconds: float, heartbeat_seconds: float
    ) -> None:
        """`quiet_seconds`: more than packets take on their way;
        `heartbeat_seconds`: after so long without an event the server says so."""
        self._sock, self._place, self._quiet_seconds, self._heartbeat_seconds = (
            sock,
            place,
            quiet_seconds,
            heartbeat_seconds,
        )
        sock.settimeout(timeout_seconds)
        self._buffer = b""
        self._at = 0
        self._empty_since: float | None = None
        self._came = clock.monotonic()
        """When bytes came last."""
        self.quiet_at: float | None = None
        """When we last saw (by the clock that never jumps) that nothing had come for a while: the server had nothing to
        send then.

        A packet read later may have been sent at any time after that, if we were busy meanwhile. A silence longer than
        between two heartbeats proves nothing beyond the first of them: the server, or the line, may have stood still,
        with transactions right behind.
        """

    def next(self) -> bytes:
        """The next packet's payload, waiting for it; Retry when the connection breaks or stays silent."""
        at, buffer = self._at, self._buffer
        if len(buffer) - at < 4 or len(buffer) - at - 4 < int.from_bytes(buffer[at : at + 3], "little"):
            self._receive()
            at, buffer = self._at, self._buffer
        length = int.from_bytes(buffer[at : at + 3], "little")
        self._at = end = at + 4 + length
        payload = buffer[at + 4 : end]
        return payload if length < _LONGEST else self._continued(payload)

    def pending(self) -> bool:
        """Whether bytes are at hand without waiting."""
        if len(self._buffer) - self._at >= _needed(self._buffer[self._at : self._at + 4]) or self._readable():
            return True
        if self._at == len(self._buffer):
            self._see_empty(clock.monotonic())
        return False

    def _see_empty(self, since: float) -> None:
        """Nothing is at hand, nor was since then: what comes stays, so none came since that was last seen, either."""
        self._empty_since = since = since if self._empty_since is None else self._empty_since
        now = clock.monotonic()
        if now - since >= self._quiet_seconds:
            self.quiet_at = min(now, self._came + self._heartbeat_seconds)

    def _readable(self) -> bool:
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        return bool(select.select([self._sock], [], [], 0)[0])

    def _continued(self, first: bytes) -> bytes:
        parts = [first]
        while len(parts[-1]) == _LONGEST:
            if len(self._buffer) - self._at < 4 + _LONGEST:
                self._receive()
            length = int.from_bytes(self._buffer[self._at : self._at + 3], "little")
            parts.append(self._buffer[self._at + 4 : self._at + 4 + length])
            self._at += 4 + length
        return b"".join(parts)

    def _receive(self) -> None:
        """Fill the buffer up to at least one whole packet."""
        parts = [self._buffer[self._at :]]
        held, needed = len(parts[0]), _needed(parts[0])
        try:
            while held < needed:
                asked = clock.monotonic()
                part = self._sock.recv(max(_RECEIVE, min(needed - held, 1 << 24)))
                if held == 0 and clock.monotonic() - asked > timing.TIMES.waited_seconds:
                    self._see_empty(asked)
                self._empty_since, self._came = None, clock.monotonic()
                if not part:
                    raise Retry("source_lost", self._place, "the server closed the connection")
                parts.append(part)
                held += len(part)
                if needed == 4:
                    parts = [b"".join(parts)]
                    needed = _needed(parts[0])
        except TimeoutError:
            raise Retry("source_lost", self._place, "the server was silent for longer than three heartbeats") from None
        except (OSError, ValueError) as error:
            raise Retry("source_lost", self._place, f"the connection broke: {type(error).__name__}") from None
        self._buffer, self._at = b"".join(parts), 0


def _needed(held: bytes) -> int:
    """How many bytes the first packet takes, as far as can be told yet."""
    return 4 if len(held) < 4 else 4 + int.from_bytes(held[:3], "little")


def prepare(connection: Connection[Any], start: Position, server_id: int, heartbeat_seconds: float, place: str) -> None:
    """Set the session variables that the server looks at when the dump begins."""
    nanoseconds = int(heartbeat_seconds * 1_000_000_000)
    replica = uuid.uuid5(uuid.NAMESPACE_URL, f"cdc:server_id:{server_id}")
    common = f"SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', \
net_write_timeout = {timing.TIMES.log_write_seconds}, \
@master_heartbeat_period = {nanoseconds}, @source_heartbeat_period = {nanoseconds}, \
@slave_uuid = '{replica}', @replica_uuid = '{replica}'"
    mariadb = (
        f"SET @mariadb_slave_capability = 4, @slave_connect_state = '{start.gtids}', @slave_gtid_strict_mode = 1, \
@slave_gtid_ignore_duplicates = 0"
    )
    with deciding(place), connection.cursor() as cursor:
        cursor.execute(common)
        if start.flavour == "mariadb":
            cursor.execute(mariadb)


def dump(
    connection: Connection[Any],
    start: Position,
    server_id: int,
    place: str,
    timeout_seconds: float,
    heartbeat_seconds: float,
) -> PacketStream:
    """Ask for the log from a position on; from here the connection only sends packets of the log."""
    if start.flavour == "mariadb":
        command, body = (
            COMMAND.COM_BINLOG_DUMP,
            struct.pack("<IHI", 4, 0, server_id),
        )  # where to start is in @slave_connect_state
    elif start.by_file:
        if start.offset >= 1 << 32:
            raise Halt(
                "offset_too_large",
                f"{start.file}:{start.offset}",
                "a place beyond 4 GiB in a file cannot be asked for without GTIDs",
                "set max_binlog_size to at most 1 GiB, or gtid_mode to ON, then cdc reset --all, and start again",
            )
        command, body = (
            COMMAND.COM_BINLOG_DUMP,
            struct.pack("<IHI", max(start.offset, 4), 0, server_id) + start.file.encode(),
        )
    else:
        gtids = encoded_gtids(start.gtids)
        command, body = COMMAND.COM_BINLOG_DUMP_GTID, struct.pack("<HIIQI", 0, server_id, 0, 4, len(gtids)) + gtids
    sock = socket_of(connection)
    try:
        sock.sendall(struct.pack("<IB", len(body) + 1, command) + body)
    except OSError as error:
        raise Retry("source_lost", place, f"the connection broke: {type(error).__name__}") from None
    return PacketStream(
        sock, place, timeout_seconds, min(timing.TIMES.quiet_seconds, heartbeat_seconds / 2), heartbeat_seconds
    )


def encoded_gtids(text: str) -> bytes:
    """A GTID set in the binary form of COM_BINLOG_DUMP_GTID; with tags in the form that MySQL 8.3 brought."""
    sources = mysql_gtids(text)
    tagged = any(":" in source for source in sources)
    # Format 0: the count fills 8 bytes. Format 1 (tags): its first and last byte say 1 and the count is in the six
    # between.
    out = [((len(sources) << 8) | 1 | (1 << 56)).to_bytes(8, "little") if tagged else struct.pack("<Q", len(sources))]
    for source, ranges in sources.items():
        name, _, tag = source.partition(":")
        out.append(uuid.UUID(name).bytes)
        if tagged:
            out.append(bytes([len(tag) << 1]) + tag.encode())
        out.append(
            struct.pack("<Q", len(ranges)) + b"".join(struct.pack("<QQ", first, last + 1) for first, last in ranges)
        )
    return b"".join(out)


def refusal(packet: bytes, place: str) -> CdcError:
    """What an error packet in the stream means. Number 1236 says a dozen things: its text decides, and stays inside."""
    number = int.from_bytes(packet[1:3], "little")
    text = packet[9:].lower()
    if number == 4052 or (number == 1236 and b"same server" in text):
        return Halt(
            "server_id_taken",
            place,
            "another reader connected with the same server_id",
            "one pipeline runs twice, or two pipelines share source.server_id: stop one of them",
        )
    if number == 1236 and (
        b"purged" in text or b"could not find first log" in text or b"could not find gtid state" in text
    ):
        return Halt(
            "log_purged",
            place,
            "the server deleted log files that are still needed",
            KEEP_LONGER,
        )
    if number == 1236 and (b"diverged" in text or b"requested to start from gtid" in text):
        return Halt(
            "source_diverged", place, "the position holds a transaction that this server's log does not", BEHIND
        )
    if number == 29 or (number == 1236 and (b"could not open log file" in text or b"could not find next log" in text)):
        return Halt("log_purged", place, "the server lists a log file that it cannot read", KEEP_LONGER)
    if number in (1227, 1045, 1142):
        return Refused(
            "source_privilege",
            place,
            f"the account may not read the log (error {number})",
            "GRANT REPLICATION SLAVE ON *.* TO it",
        )
    if number in (1053, 1077, 1079, 1158, 1159, 1160, 1161, 1317, 1927, 3168, 2013, 4031):
        return Retry("source_lost", place, f"the server ended the stream (error {number})")
    return Halt("log_refused", place, f"the server cannot continue the log (error {number})", "its error log says why")


def event_of(packet: bytes, place: str) -> bytes:
    """The event in a packet of the stream; an error or the stream's end is raised."""
    if packet[:1] == b"\0":
        return packet[1:]
    if packet[:1] == b"\xff":
        raise refusal(packet, place)
    if packet[:1] == b"\xfe" and len(packet) < 9:
        raise Retry("source_lost", place, "the server ended the stream")
    raise Malformed("packet", place, "a packet of the log has an unknown first byte")
