"""What processes take of this machine, from /proc: CPU seconds, those of their children included, and memory at its highest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cdc import stack

LOOK_SECONDS = 0.2
"""How often memory is looked at."""
_TICKS = os.sysconf("SC_CLK_TCK")


def pids(servers: stack.Stack) -> dict[str, int]:
    """The servers' processes by name; one that an engine runs has none here. The target is PostgreSQL, the broker Kafka."""
    return {server.name: server.process.pid for server in servers.servers if server.process is not None}


def cpu_seconds(pid: int) -> float:
    """Of a process and all that it has started; 0 when it has ended."""
    return sum(sum(_ticks(one)) for one in _family(pid)) / _TICKS


def _ticks(pid: int) -> list[int]:
    """Its own, and those of its children that have ended: each for its own code, and for the kernel's."""
    return [int(field) for field in _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:15]]


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and all that it has started; what they share (PostgreSQL's buffers) counts once."""
    anonymous, shared = 0, [0]
    for one in _family(pid):
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in _status(one)) if name.startswith("Rss")}
        anonymous += sizes.get("RssAnon", 0)
        shared.append(sizes.get("RssShmem", 0) + sizes.get("RssFile", 0))
    return 1024 * (anonymous + max(shared))


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a living process has held. Not `ru_maxrss`: a new program inherits that of the process that starts it."""
    return 1024 * max((int(line.split()[1]) for line in _status(pid) if line.startswith("VmHWM")), default=0)


def _status(pid: int | str) -> list[str]:
    return _read(f"/proc/{pid}/status").splitlines()


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it ended meanwhile
        return
    for thread in threads:
        for child in _read(thread / "children").split():
            yield from _family(int(child))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it ended meanwhile
        return ""


def _busy_seconds() -> float:
    """Of all cores, since the machine's start; waiting for a disk is not work."""
    values = [int(value) for value in _read("/proc/stat").split("\n", 1)[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / _TICKS


class Meter:
    """What each of some processes has used since `begin`; `bench` is the process that measures, whose time is nobody else's."""

    def __init__(self, pids: Mapping[str, int], bench: int) -> None:
        self.pids, self._bench = dict(pids), bench
        self.peaks = dict.fromkeys(pids, 0)
        """The most memory seen, bytes."""
        self.begin()

    def begin(self) -> None:
        """From here on."""
        self.began, self._busy = time.perf_counter(), _busy_seconds()
        self._bench_before = sum(_ticks(self._bench)[:2])
        self._before = {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    def cpu(self) -> dict[str, float]:
        """CPU seconds since then."""
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self.pids.items()}

    def other_load(self, own: float = 0.0) -> float:
        """The share of all cores that went to nobody named here (and not to `own` CPU seconds): other load, and the kernel's threads."""
        elapsed = (time.perf_counter() - self.began) * (os.cpu_count() or 1)
        ours = own + sum(self.cpu().values()) + (sum(_ticks(self._bench)[:2]) - self._bench_before) / _TICKS
        return round(min(1.0, max(0.0, _busy_seconds() - self._busy - ours) / elapsed), 3)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at memory for the length of the block."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                self._look()

        thread = threading.Thread(target=watch)
        self._look()
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._look()

    def _look(self) -> None:
        for name, pid in self.pids.items():
            self.peaks[name] = max(self.peaks[name], memory_bytes(pid))
