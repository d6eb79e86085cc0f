"""What the simulation has shown, a line each: tests/simulation/ledger.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.crash.record import revision

LEDGER = Path(__file__).with_name("ledger.jsonl")


def note(what: Mapping[str, object]) -> None:
    """Add a line: when, of which revision, and what."""
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "revision": revision(), **what}
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")
