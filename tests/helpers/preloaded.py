"""Processes of the product, born from one that has read its modules already: half a second of processor time less for each start.

What is born is a process of its own, a child of the asker: the same program with the same arguments, environment and log as one
that was started by name, save that its modules were read before.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Born:
    """A child of ours by adoption, with as much of `subprocess.Popen` as is needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; TimeoutExpired when it goes on."""
        if self.poll() is None:
            watch = select.poll()
            watch.register(self._handle, select.POLLIN)
            watch.poll(None if timeout is None else max(timeout, 0) * 1000)
        found = self.poll()
        if found is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return found

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """One process that reads the product's modules and then does nothing but divide."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        if _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")  # without it what is born would not be ours to wait for
        self._line, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[2])
        whole = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "default", "PYTHONFAULTHANDLER": "1", **environ}
        whole.pop("CRASH_AT", None)
        with theirs:
            command = [sys.executable, "-m", "tests.helpers.preloaded", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=whole)
        self._answers, self._asking = self._line.makefile("r"), threading.Lock()

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path, errors: Path | None = None) -> Born:
        """`cdc ARGUMENTS`, both its streams written to `log`, or the second one to `errors`."""
        logs = [str(log), str(errors or log)]
        for path in logs:  # that the asker may read at once
            Path(path).write_bytes(b"")
        asked = {"arguments": list(arguments), "environ": dict(environ), "logs": logs, "parent": os.getpid()}
        with self._asking:
            self._line.sendall(json.dumps(asked).encode() + b"\n")
            answer = self._answers.readline()
        if not answer:
            raise OSError(f"the nursery ended with {self._process.wait()}")
        return Born(int(answer))

    def close(self) -> None:
        """End it; what it has born lives on."""
        self._answers.close()
        self._line.close()
        self._process.wait()


def shared(environ: Mapping[str, str]) -> Nursery:
    """The one of this process whose children have this in their environment from the very start (`LD_PRELOAD`); it ends with us."""
    return _shared(tuple(sorted(environ.items())))


@cache
def _shared(environ: tuple[tuple[str, str], ...]) -> Nursery:
    return Nursery(dict(environ))


def _serve(line: socket.socket) -> dict[str, Any]:
    """Divide whenever asked; returns in what was born, with its orders."""
    with line, line.makefile("r") as questions:
        for question in questions:
            orders: dict[str, Any] = json.loads(question)
            hear, say = os.pipe()
            between = os.fork()
            if not between:
                if child := os.fork():
                    os.write(say, b"%d" % child)
                    os._exit(0)
                while os.getppid() != orders["parent"]:
                    _sleep(0.001)
                os.close(hear)
                os.close(say)
                return orders
            os.waitpid(between, 0)  # from here on what was born is the asker's child
            line.sendall(os.read(hear, 20) + b"\n")
            os.close(hear)
            os.close(say)
    sys.exit(0)


def _sleep(seconds: float, /) -> None:
    """libfaketime 0.9.10 moves the end of `clock_nanosleep`, by which Python sleeps, beyond what the kernel takes; not that of `poll`."""
    select.poll().poll(seconds * 1000)


def _become(orders: dict[str, Any]) -> None:
    """Be as a process that was started by name."""
    if "LD_PRELOAD" in orders["environ"]:
        time.sleep = _sleep  # type: ignore[assignment]
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.clear()
    os.environ.update(orders["environ"])
    time.tzset()
    for stream, path in enumerate(orders["logs"], 1):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, stream)
        os.close(log)
    sys.argv = ["cdc", *orders["arguments"]]


if __name__ == "__main__":
    import cdc.cli.main
    import cdc.commands.apply
    import cdc.commands.capture
    import cdc.commands.copy
    import cdc.commands.doctor
    import cdc.commands.quarantine
    import cdc.commands.reconcile
    import cdc.commands.run
    import cdc.monitoring.status
    import cdc.monitoring.wait
    from cdc.runtime import clock, crash_points as crash
    from tests.decisions.counter import count_here

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asker's business
    orders = _serve(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _become(orders)
    if text := os.environ.get(crash.VARIABLE):
        crash.point = crash._armed(text)
    clock.now = clock.wrong(os.environ.get(clock.VARIABLE))
    count_here()
    cdc.cli.main.main(orders["arguments"])
