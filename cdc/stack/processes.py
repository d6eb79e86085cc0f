"""Processes that are ours: each in its own session, known again by id *and* start time, and ended by id only.

Every process also carries a mark in its environment, so that one which was started but never recorded (the starter was
killed between the two) can still be found; no other process carries that mark.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = "CDC_STACK"
_children: dict[int, subprocess.Popen[bytes]] = {}  # ours to reap: a zombie is no orphan, but it is no clean end either


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this machine: an id alone may be given to a stranger later, id and start time may not."""

    pid: int
    started: int
    """Clock ticks since the machine's boot, from /proc."""

    def alive(self) -> bool:
        """True while this very process runs (a zombie does not)."""
        return _running(self.pid) == self.started


def this() -> Process:
    """The process that asks."""
    return Process(os.getpid(), _running(os.getpid()))


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    mark: str,
    user: str = "",
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Process:
    """Starts a program that outlives its starter, its output appended to `log`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, **(environ or {}), MARK: mark},
            **_credentials(user),
        )
    _children[child.pid] = child
    return Process(child.pid, _running(child.pid))


def finish(
    command: Sequence[str | Path],
    *,
    log: Path,
    mark: str,
    user: str = "",
    text: str = "",
    environ: Mapping[str, str] | None = None,
) -> int:
    """Runs a program to its end in its own session and returns its exit code; its output goes to `log`."""
    with log.open("ab") as output:
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            input=text.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environ or {}), MARK: mark},
            **_credentials(user),
        )
    return done.returncode


def _credentials(user: str) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def end(process: Process, first: signal.Signals, grace_seconds: float) -> bool:
    """Ends a process and its group; True when it went by itself on the first signal."""
    if not process.alive():
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, first)
    if gone(process, grace_seconds):
        return True
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
    gone(process, 10.0)
    return False


def gone(process: Process, timeout_seconds: float) -> bool:
    """Waits for the end of any process, ours by birth or not; True when it ended in time."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            watch = select.poll()
            watch.register(handle, select.POLLIN)
            if (
                process.alive() or process.pid in _children
            ):  # a leader may be gone before its threads are, and its id is still taken
                watch.poll(timeout_seconds * 1000)
        finally:
            os.close(handle)
    _reap(process.pid)
    return not process.alive()


def _reap(pid: int) -> None:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def marked(mark: str) -> Iterator[Process]:
    """Every running process that carries this mark."""
    wanted = f"{MARK}={mark}".encode()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in place.read_bytes().split(b"\0"):
                pid = int(place.parent.name)
                yield Process(pid, _running(pid))


def sweep(mark: str, first: signal.Signals = signal.SIGKILL, grace_seconds: float = 10.0) -> int:
    """Ends what still carries the mark, all at once, and returns how many processes that were."""
    found = [process for process in marked(mark) if process.pid != os.getpid()]
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, first)
    deadline = time.monotonic() + grace_seconds
    for process in found:
        if not gone(process, max(deadline - time.monotonic(), 0.0)):
            end(process, signal.SIGKILL, 10.0)
    return len(found)


def record(place: Path, process: Process) -> None:
    """Writes down a process, whole or not at all."""
    draft = place.with_suffix(".new")
    draft.write_text(json.dumps(asdict(process)))
    draft.replace(place)


def recorded(place: Path) -> Process | None:
    """The process written down at `place`, running or not."""
    try:
        return Process(**json.loads(place.read_text()))
    except FileNotFoundError:
        return None


def _running(pid: int) -> int:
    """The start time of a running process, -1 for none and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])
