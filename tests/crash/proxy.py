"""A TCP proxy between the product and one server, which can cut, refuse, stall, swallow, slow down, reset and flip bits.

Threads, not a loop: two for each connection, so that one direction can stand still while the other goes on.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cdc.stack.probe import HOST

UP, DOWN = "up", "down"
"""From the product to the server, and back."""
_PIECE = 64 << 10
_LINGER_NOT = struct.pack("ii", 1, 0)  # close sends RST: what is under way is lost on both sides


@dataclass
class Weather:
    """What happens to bytes now; every connection looks before it passes some on."""

    refuses: bool = False
    stalled: frozenset[str] = frozenset()
    swallows: bool = False
    delay_seconds: float = 0.0
    piece: int = _PIECE
    """At most so many bytes at a time, with the delay between them."""
    flips: int = 0
    """So many bits are still to be turned over, in the direction from the server."""
    flip_after: int = 0
    """Bytes that pass unharmed before each."""


class Watcher:
    """Sees what passes, piece by piece, and may do something before or after; `Line.kept` is its own to write on."""

    def before(self, line: Line, way: str, data: bytes) -> None:
        """A piece has come and is not passed on yet."""

    def after(self, line: Line, way: str, data: bytes) -> None:
        """It was passed on."""


@dataclass(eq=False)
class Line:
    """One connection: its two sockets, and what it is."""

    client: socket.socket
    server: socket.socket
    streams: bool = False
    """It asked MySQL for the log: from there on the server sends events that bear checksums, and nothing else."""
    sent: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})

    muted: frozenset[str] = frozenset()
    """What goes in these directions is acknowledged and thrown away, a goodbye too, for as long as the connection lives."""
    torn: bool = False
    """It was reset: nobody is to say goodbye."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What a watcher knows of it."""

    def reset(self) -> None:
        self.torn = True
        for one in (self.client, self.server):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                one.shutdown(socket.SHUT_RD)  # wakes who reads there, and tells the peer nothing
            one.close()

    def close(self) -> None:
        for one in (self.client, self.server):
            self._end(one)

    @staticmethod
    def _end(one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            one.close()


class Proxy:
    """Listens on a port of its own from the start; `upstream` may be set later."""

    def __init__(self, upstream: Callable[[], int]) -> None:
        self._upstream = upstream
        self.weather = Weather()
        self.watcher = Watcher()
        self.flipped = 0
        """How many bits were turned over so far."""
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        self._door = socket.create_server((HOST, 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._listen, name=f"proxy-{self.port}", daemon=True).start()

    # -- faults ------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Close every connection in order and let no new one in."""
        self.weather.refuses = True
        self._each(Line.close)

    def reset(self) -> None:
        """Tear every connection with what is under way on it; new ones are welcome."""
        self._each(Line.reset)

    def stall(self, *ways: str) -> None:
        """Nothing passes in these directions (both, when none is named), nobody is told."""
        self.weather.stalled = frozenset(ways or (UP, DOWN))

    def hush(self, *ways: str) -> None:
        """Swallow what goes in these directions (both, when none is named) on the connections that are open now; new ones pass."""
        with self._lock:
            for line in self._lines:
                line.muted = frozenset(ways or (UP, DOWN))

    def swallow(self) -> None:
        """Swallow everything, on new connections too."""
        self.weather.swallows = True
        self.hush()

    def slow(self, seconds: float, piece: int = _PIECE) -> None:
        """Bytes pass in pieces of this size, each so late."""
        self.weather.delay_seconds, self.weather.piece = seconds, piece

    def flip(self, count: int, after_bytes: int) -> None:
        """Turn over one bit in each of the next so many places, that far apart, of what the server sends."""
        self.weather.flip_after, self.weather.flips = after_bytes, count

    def heal(self) -> None:
        """Fair weather; connections that stood still go on, those whose bytes were swallowed stay as they are."""
        self.weather = Weather()

    def close(self) -> None:
        """Listen no more."""
        self._door.close()
        self._each(Line.close)

    def _each(self, do: Callable[[Line], None]) -> None:
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            do(line)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._welcome, args=(client,), daemon=True).start()

    def _welcome(self, client: socket.socket) -> None:
        try:
            if self.weather.refuses:
                raise ConnectionRefusedError
            server = socket.create_connection((HOST, self._upstream()), 5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(client, server, muted=frozenset((UP, DOWN) if self.weather.swallows else ()))
        with self._lock:
            self._lines.add(line)
        back = threading.Thread(target=self._pass, args=(line, DOWN, server, client), daemon=True)
        back.start()
        self._pass(line, UP, client, server)
        back.join()
        line.close()
        with self._lock:
            self._lines.discard(line)

    def _pass(self, line: Line, way: str, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(self.weather.piece):
                while way in self.weather.stalled:
                    time.sleep(0.02)
                if self.weather.delay_seconds:
                    time.sleep(self.weather.delay_seconds)
                self.watcher.before(line, way, data)
                if way in line.muted:
                    continue
                target.sendall(self._weathered(line, way, data))
                self.watcher.after(line, way, data)
            if not line.torn and way not in line.muted:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            line.close()

    def _weathered(self, line: Line, way: str, data: bytes) -> bytes:
        if way == UP:
            line.streams = line.streams or (data[3:5] in (b"\0\x12", b"\0\x1e"))  # COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID
            return data
        line.sent[way] += len(data)
        if not self.weather.flips or line.sent[way] < self.weather.flip_after or not self.harms(line):
            return data
        line.sent[way] = 0
        self.weather.flips -= 1
        self.flipped += 1
        place = self.weather.flip_after * 7919 % len(data)
        return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]

    def harms(self, line: Line) -> bool:
        """Whether bits of this connection may be flipped: where a checksum covers them. Set `everywhere` where TLS does."""
        return self.everywhere or line.streams

    everywhere = False
