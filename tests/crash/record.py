"""The ledger of runs: one JSON line each, appended, never changed; by it a run that was broken off goes on."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def revision() -> str:
    """The commit that is tested, with a + when files differ from it."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=False, capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain"], check=False, capture_output=True, text=True)
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
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every run so far."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                yield json.loads(line)

    def passed(self, at: str) -> set[str]:
        """What passed at this revision, and need not be done again."""
        return {entry["what"] for entry in self.entries() if entry["revision"] == at and entry["result"] == "held"}
