"""The ledger of runs: one short JSON line each, appended, never changed; by it a lane that was broken off goes on.

A line says what was run (seed, source, transport, points or kills), what came of it, how long it took and on which revision. It is kept
in the repository: what was proven, on what. The long story of a run that failed goes into a folder of this machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "tests" / "crash" / "ledger.jsonl"
STORIES = ROOT / ".cdc" / "crash-stories"
_JUDGED = ("cdc", "sinks", "snapshot", "tests")
HELD, VIOLATED = "held", "violated"


def revision() -> str:
    """The last commit that changed the product or its tests, with a + when files differ from it; lines of the ledger change nothing."""
    git, places = ["git", "-C", str(ROOT)], [*_JUDGED, f":(exclude){LEDGER.relative_to(ROOT)}"]
    found = subprocess.run([*git, "log", "-1", "--format=%h", "--abbrev=12", "--", *places], check=False, capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", *places], check=False, capture_output=True, text=True)
    return (found.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


class Record:
    """The file; several workers may append to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, entry: dict[str, Any]) -> None:
        """One more run."""
        with self.path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self, skip: int = 0) -> Iterator[dict[str, Any]]:
        """Every run so far, but the first `skip`."""
        if self.path.exists():
            for line in self.path.read_text().splitlines()[skip:]:
                yield json.loads(line)

    def held(self, at: str) -> list[dict[str, Any]]:
        """What held at this revision, and need not be done again."""
        return [entry for entry in self.entries() if entry["revision"] == at and entry["result"] == HELD]


def story(name: str, text: str) -> Path:
    """Keep what a run that failed has to say; where."""
    STORIES.mkdir(parents=True, exist_ok=True)
    place = STORIES / f"{name.replace(' ', '_').replace('/', '_')[:120]}.log"
    place.write_text(text)
    return place
