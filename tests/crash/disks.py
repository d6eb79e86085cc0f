"""A server's disk is full for a while: a file system of its own, in memory, is filled up, and emptied again.

That needs the right to mount. Where the kernel refuses it, the lane says so, by a line of its own in the ledger ("impossible"), and goes
on: what was not done is neither held nor left out silently.
"""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests import run as servers
from tests.crash.arena import BROKER, COMBINATIONS, SOURCE, TARGET, Arena
from tests.crash.lane import Case, Run, beginning, ending
from tests.crash.workload import Habits
from tests.helpers.servers import fresh_name

_DISK_MB = 700
_STILL_SECONDS, _FULL_SECONDS = 2.0, 3.0


class Impossible(Exception):
    """This machine does not allow it."""


def cases() -> Iterator[Case]:
    """The long lane's share: each server on each pair where it is."""
    for victim in (TARGET, SOURCE, BROKER):
        for pair in COMBINATIONS:
            if victim != BROKER or pair[1] == "kafka":
                yield Case(1, *pair, full=victim)


class _SmallDisk(Arena):
    """Servers of its own, one of them on a file system of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__(private=True)
        self._kind, self.disk = kind, servers.folder() / fresh_name()
        self.disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=711", "tmpfs", str(self.disk)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Impossible(done.stderr.strip())

    def _folder(self, kind: str) -> Path:
        return self.disk / "server" if kind == self._kind else super()._folder(kind)

    def close(self) -> None:
        super().close()
        subprocess.run(["umount", "--lazy", str(self.disk)], check=True)


def full(_: Arena, case: Case, folder: Path) -> Run:
    """One server has no room any more, so that something stands still; then there is room, and what ended is started again."""
    kinds = {TARGET: "postgres", SOURCE: case.flavour, BROKER: "kafka"}
    habits = Habits(myisam=case.full != SOURCE)  # rows of MyISAM are on the disk before the log has them: a full one tears the two apart
    with closing(_SmallDisk(kinds[case.full])) as arena:
        with arena.place(case.flavour, case.transport, tls=False) as place, beginning(place, case, folder, habits) as run:
            run.works.load()
            run.works.await_cut()
            ballast, server = arena.disk / "ballast", place.servers[case.full]
            _fill(ballast)
            _await_standstill(run, case.full)
            time.sleep(_FULL_SECONDS)
            run.faults.append(f"{case.full} full, {'alive' if server.process else 'dead'}")
            ballast.unlink()
            if case.full == SOURCE:
                server.kill()  # MySQL looks once a minute whether there is room again
                place.source.close()
            server.start()
            run.works.start_all()
            ending(run)
            run.faults += run.works.ended
            return run


def _fill(ballast: Path) -> None:
    for size in (1 << 20, 1 << 12):
        with ballast.open("ab", buffering=0) as file:
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _await_standstill(run: Run, full: str) -> None:
    """Until nothing is committed there for a while: servers keep some room of their own."""
    patience, seen, since = run.works.patience(120), 0, time.monotonic()
    while time.monotonic() - since < _STILL_SECONDS and not patience.over():
        if (now := run.work.done if full == SOURCE else run.works.cut_no() or seen) != seen:
            seen, since = now, time.monotonic()
        run.works.start_all()
        time.sleep(0.1)
