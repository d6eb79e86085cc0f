"""Ends a stack's processes when the process that owns them is gone:
`python -m cdc.stack.guard MARK PID STARTED [FOLDER]`.

A starter that is killed can clean up nothing. This process watches it and does what it no longer can; with FOLDER it
also removes that folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from cdc.stack import processes

FOREVER_SECONDS = 7 * 86_400.0
GRACE_SECONDS = 15.0


def post(mark: str, owner: processes.Process, folder: Path, removes: bool = False) -> processes.Process:
    """Starts a guard over everything that carries the mark."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        sys.executable,
        "-m",
        "cdc.stack.guard",
        mark,
        str(owner.pid),
        str(owner.started),
        *([str(folder)] if removes else []),
    ]
    guard = processes.spawn(command, log=folder / "guard.log", mark=f"guard of {mark}", environ={"PYTHONPATH": path})
    processes.record(folder / "guard.json", guard)
    return guard


def dismiss(folder: Path) -> None:
    """Ends the guard: the stack shall outlive its starter, or is no more."""
    place = folder / "guard.json"
    if (guard := processes.recorded(place)) is not None:
        processes.end(guard, signal.SIGKILL, 5.0)
        place.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Waits for the owner's end, then ends what it left."""
    mark, pid, started, *folders = arguments
    owner = processes.Process(int(pid), int(started))
    while not processes.gone(owner, FOREVER_SECONDS):
        continue
    processes.sweep(mark, signal.SIGTERM, GRACE_SECONDS)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
