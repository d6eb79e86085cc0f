"""SIGTERM and SIGINT as a wish, once: the first asks the work to end, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType

from cdc.errors import CdcError
from cdc.runtime import logs, timing

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(CdcError):
    """A question was broken off before its answer was known."""

    def __init__(self) -> None:
        super().__init__("interrupted", "cdc", "a signal ended the command before it had an answer", "start it again")


class Shutdown:
    """One process's wish to end. Work that streams watches `event`;
    a question, which has no half answer, is broken off."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._asked = self._breaks = self._forces = False

    def listen(self) -> Shutdown:
        """Take over the signals; only the main thread may."""
        for number in _SIGNALS:
            signal.signal(number, self._heard)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="stop", daemon=True).start()
        return self

    def breaks_off(self) -> None:
        """From here on a signal raises Interrupted in the main thread; so does one that came already."""
        self._breaks = True
        if self._asked:
            raise Interrupted

    def forces_an_end(self) -> None:
        """From here on the process ends soon after a signal even while a thread waits for a server that says nothing.

        For work that is as safe from this as from a crash: what it began and did not commit is undone, and done again
        by the next start.
        """
        self._forces = True

    def _watch(self) -> None:
        """Hear of a signal even while the main thread is inside a library, where no handler of ours runs."""
        while self._wake_read.recv(1)[0] not in _SIGNALS:
            pass
        self.event.set()
        if self._forces:
            time.sleep(timing.TIMES.grace_seconds)
            logs.logger("cli").warning(
                "stop_forced", seconds=timing.TIMES.grace_seconds, reason="a server did not answer"
            )
            os._exit(0)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._asked = True
        if self._breaks:
            raise Interrupted
