"""The model's wrong variants, planted in the product: a lane that finds nothing there would find nothing anywhere.

python -m tests.crash.mutants                     every mutant, one after the other
python -m tests.crash.mutants NO_FENCE ROWS_FIRST
python -m tests.crash.mutants --innocent          the cases that caught them, on the product itself: each must hold

A mutant of tests/crash/planted.py is made in a copy of the tree. Each has its hunting ground: the cases, in turn, of which one has to
see a violation.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests import run as servers
from tests.crash.__main__ import case_of, entry_of, run_case
from tests.crash.arena import Arena
from tests.crash.patience import Patience
from tests.crash.planted import MUTANTS, NOT_PLANTED, Change, Mutant
from tests.crash.record import HELD, LEDGER, ROOT, VIOLATED, Record, revision
from tests.crash.works import Violation, Works
from tests.protocol_model.wrong import Wrong

CAUGHT, ALIVE = "caught", "alive"


def planted(mutant: Mutant, folder: Path) -> None:
    """The tree with the mutant in it, made in `folder`."""
    ignored = shutil.ignore_patterns(".git", ".venv", ".cdc", "build", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "report")
    shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)
    for change in mutant.changes:
        change_in(folder / change.path, change)


def change_in(path: Path, change: Change) -> None:
    """Replace the text that is there exactly once."""
    text = path.read_text()
    if text.count(change.old) != 1:
        raise LookupError(f"{change.path} has {text.count(change.old)} times, not once: {change.old!r}")
    path.write_text(text.replace(change.old, change.new))


def main() -> int:
    """0 when every mutant is caught."""
    chosen = sys.argv[1:]
    if chosen[:1] == ["--hunt"]:
        return hunt(MUTANTS[Wrong[chosen[1]]], Path(chosen[2]))
    os.environ.setdefault("CDC_REQUIRE_SERVERS", "1")
    servers.open_run()
    if chosen[:1] == ["--innocent"]:
        return innocent(chosen[1:])
    try:
        alive = [wrong.name for wrong in MUTANTS if (not chosen or wrong.name in chosen) and not _caught(wrong)]
    finally:
        servers.close_run()
    print(f"alive: {', '.join(alive) or 'none'}; not planted: {len(NOT_PLANTED)}")
    return 1 if alive else 0


def _caught(wrong: Wrong) -> bool:
    """Plant it in a copy, let the copy run its own lane, and write down the case that caught it."""
    began = time.time()
    with TemporaryDirectory(prefix="mutant-") as folder:
        copy, found = Path(folder) / "tree", Path(folder) / "found.json"
        planted(MUTANTS[wrong], copy)
        command = [sys.executable, "-m", "tests.crash.mutants", "--hunt", wrong.name, str(found)]
        print(f"{wrong.name}: {wrong.value}", flush=True)
        subprocess.run(command, check=False, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)})
        entry: dict[str, Any] = (
            json.loads(found.read_text()) if found.exists() else {"seed": 0, "source": "", "transport": "", "result": ALIVE}
        )
    entry |= {"mutant": wrong.name, "seconds": round(time.time() - began, 1), "revision": revision()}
    Record(LEDGER).add(entry)
    print(f"{entry['result']:>10} {entry['seconds']:6.1f} s  {wrong.name}", flush=True)
    return bool(entry["result"] == CAUGHT)


def hunt(mutant: Mutant, found: Path) -> int:
    """Run the cases until one sees a violation, which is written to `found`; done by the copy itself."""
    _be_short()
    arena = Arena(private=True)
    try:
        for case in mutant.cases:
            why, _ = run_case(arena, case, found.parent / f"run-{time.monotonic_ns()}")
            print(f"  {why.partition(chr(10))[0][:200] if why else HELD}  {case}", flush=True)
            if why.startswith(Violation.__name__):
                found.write_text(json.dumps({**entry_of(case), "result": CAUGHT, "why": why.partition("\n")[0][:300]}))
                return 0
    finally:
        arena.close()
    return 1


def innocent(chosen: Sequence[str]) -> int:
    """0 when the product itself holds in every case that caught a mutant, with the same short patience: else it was not the mutant."""
    record, arena = Record(LEDGER), Arena(private=True)
    caught = {entry["mutant"]: entry for entry in record.entries() if entry["result"] == CAUGHT}
    guilty = []
    _be_short()
    try:
        for name in chosen or caught:
            began, case = time.time(), case_of(caught[name])
            with TemporaryDirectory(prefix="innocent-") as folder:
                why, _ = run_case(arena, case, Path(folder) / "run")
            result = VIOLATED if why else HELD
            record.add(
                {**entry_of(case), "control": name, "result": result, "seconds": round(time.time() - began, 1), "revision": revision()}
            )
            print(f"{result:>10}  {name}  {case}  {why.partition(chr(10))[0][:200]}", flush=True)
            guilty += [name] if why else []
    finally:
        arena.close()
        servers.close_run()
    return 1 if guilty else 0


def _be_short() -> None:
    """A standstill is to be seen soon: most mutants show by one."""
    Works.patience = lambda works, seconds: Patience(min(seconds, 40), works._pids)  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    sys.exit(main())
