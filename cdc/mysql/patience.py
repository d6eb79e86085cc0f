"""Answers of the source, waited for as long as the source works on them: after a silence it is asked about it.

A SELECT, a lock or a list of tables may lawfully take long, and a line that swallows what is sent looks the same from
here. So the source says over a second connection whether it still works on the statement, or waits for us while we wait
for it. Docs: docs/decisions/050-silence.md.
"""

from __future__ import annotations

import io
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pymysql.connections import Connection

from cdc.runtime import timing

_SENDING = ("Writing to net", "Sending to client")
"""What MariaDB and MySQL say of a session whose bytes nobody takes."""


class Silence(TimeoutError):
    """No answer came and none will."""


class PatientStream(io.RawIOBase):
    """The bytes of a socket with a time-out, at each of which `why_silent` is asked: it says why no answer will come,
    which becomes Silence, or "" to wait on."""

    def __init__(self, sock: socket.socket, why_silent: Callable[[], str]) -> None:
        self._sock, self._why_silent = sock, why_silent

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                self._demand_work()

    def _demand_work(self) -> None:
        why = self._why_silent()
        if why and not arriving(self._sock):
            raise Silence(f"the source sent nothing for {self._sock.gettimeout():g} s, {why}") from None


def wait_patiently(connection: Connection[Any], why_silent: Callable[[], str]) -> None:
    """Have a connection's answers waited for by `PatientStream`; nothing may be on its way."""
    own: Any = connection
    own._rfile.close()
    own._rfile = io.BufferedReader(PatientStream(own._sock, why_silent))


def why_idle(command: str, state: str | None) -> str:
    """Why a session sends nothing that works on no statement, by what the list of processes says of it; else ""."""
    return "while it waits for us: what was sent is lost on the way" if command == "Sleep" or state in _SENDING else ""


def arriving(sock: socket.socket) -> bool:
    """Whether bytes have come, or do shortly: what was sent before the source was asked may be on its way."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timing.TIMES.answer_grace_seconds * 1000))


def keep_alive(sock: socket.socket, seconds: float) -> None:
    """Have a peer that acknowledges nothing for so long noticed, by an idle connection too, as far as this system
    can."""
    whole = max(1, int(seconds))
    wanted = {"TCP_KEEPIDLE": whole, "TCP_KEEPINTVL": max(1, whole // 3), "TCP_KEEPCNT": 3}
    wanted["TCP_USER_TIMEOUT"] = int(seconds * 1000)
    for name, value in wanted.items():
        with suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
