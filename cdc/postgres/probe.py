"""Why a PostgreSQL server turns a connection away, by SQLSTATE: the driver keeps only the text of such an answer.

Asks with a start-up message and reads the first answer. Sends no password, checks no certificate, keeps nothing.
"""

from __future__ import annotations

import socket
import ssl
import struct

from cdc.config.values import ServerUrl
from cdc.runtime import timing

_SSL_REQUEST = struct.pack(">ii", 8, 80877103)
_VERSION = 3 << 16


def refusal(url: ServerUrl) -> str:
    """The SQLSTATE of the server's refusal; "08001" when nothing answers, "" when it asks for credentials first."""
    try:
        with socket.create_connection((url.host, url.port), timing.TIMES.target_probe_seconds) as plain:
            return _ask(plain, url)
    except OSError:
        return "08001"


def _ask(plain: socket.socket, url: ServerUrl) -> str:
    if url.options.get("sslmode") == "disable":
        return _first_answer(plain, url)
    plain.sendall(_SSL_REQUEST)
    answer = plain.recv(1)
    if answer != b"S":
        return _first_answer(plain, url) if answer == b"N" else "08001"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(plain) as line:
        return _first_answer(line, url)


def _first_answer(line: socket.socket, url: ServerUrl) -> str:
    names = b"\0".join(part.encode() for part in ("user", url.user, "database", url.database, "", ""))
    line.sendall(struct.pack(">ii", 8 + len(names), _VERSION) + names)
    kind, size = struct.unpack(">ci", _exactly(line, 5))
    if kind != b"E":
        return ""
    fields = _exactly(line, size - 4).split(b"\0")
    return next((field[1:].decode("ascii", "replace") for field in fields if field[:1] == b"C"), "")


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data
