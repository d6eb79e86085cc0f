"""Is a server ready? Asked in its own protocol over a plain socket:
a driver belongs to other floors, an open port proves nothing."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable

Probe = Callable[[int], bool]
HOST = "127.0.0.1"


def mysql(port: int) -> bool:
    """True when the server greets: it does so only after it has recovered and run its start-up statements."""
    with socket.create_connection((HOST, port), timeout=2) as line:
        head = _exactly(line, 5)
        return head[4] == 10  # the protocol's version; 255 would be an error


def postgres(port: int) -> bool:
    """True when the server goes on to authentication; while it starts up or shuts down it answers 57P03 instead."""
    names = b"user\0cdc\0database\0postgres\0\0"
    with socket.create_connection((HOST, port), timeout=2) as line:
        line.sendall(struct.pack("!ii", 8 + len(names), 196608) + names)
        kind, size = struct.unpack("!ci", _exactly(line, 5))
        return not (kind == b"E" and b"57P03" in _exactly(line, size - 4))


def kafka(port: int) -> bool:
    """True when the broker counts itself among the cluster's brokers (Metadata request; a fenced broker is not
    listed)."""
    request = struct.pack("!hhih", 3, 0, 1, -1) + struct.pack("!i", 0)
    with socket.create_connection((HOST, port), timeout=2) as line:
        line.sendall(struct.pack("!i", len(request)) + request)
        size, _correlation, brokers = struct.unpack("!iii", _exactly(line, 12))
        return bool(size >= 8 and brokers >= 1)


def _exactly(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = line.recv(size - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    return got


def free_port() -> int:
    """A loopback port nobody listens on, below the range that the kernel gives to outgoing connections."""
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                line.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32000")
