"""The old form of each fault that the simulation was made for, planted anew: one that it does not find it would not have found.

python -m tests.simulation.mutants                every one, until the first violation or ten minutes
python -m tests.simulation.mutants HALF_WAY       one

Each is made in a copy of the tree; how long it took, and the seed, go into tests/simulation/ledger.jsonl.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crash.planted import Change, Mutant
from tests.crash.record import ROOT
from tests.simulation.record import note

SECONDS = 600
OLD: dict[str, tuple[str, Change]] = {
    "PLACES_OF_THE_LAST_CUT": (
        "a commit stores only the partitions that its last cut names",
        Change(
            "sinks/cuts.py",
            "        self._move_to(cut)\n",
            "        self._move_to(cut)\n        self.at.moved = {p: at for p, at in self.at.moved.items() if p in cut.partitions}\n",
        ),
    ),
    "REFUSED_GOES_ON": (
        "a table that the target refused goes on with the copy that capture carries over",
        Change(
            "sinks/table_states.py",
            "        if meant and active is not None and self.bears(name, active.id):\n            return\n",
            "        if meant:\n            if state != TableState.COPYING:\n                self.renew(name)\n"
            "                self.happen(name, TableEvent.COPY_STARTED, ceiling=None)\n            return\n",
        ),
    ),
    "TAKEN_FOR_OURS": (
        "a table that was refused, left the selection and came back is copied into somebody's rows",
        Change("sinks/copies.py", "        if not tables[name].ours:", "        if tables[name].state == TableState.REFUSED:"),
    ),
    "EXPIRED_STOPS": (
        "an offset that retention has taken stops, whether a number is missing or not",
        Change(
            "cdc/transport/kafka/reader.py",
            "            if partition[0] == self.control_topic:\n",
            "            if partition[0] == self.control_topic or offset < low:\n",
        ),
    ),
    "CLAIMS_BELIEVED": (
        "whatever a session says of the time is believed",
        Change(
            "cdc/runtime/moments.py",
            "    return min(claim_us if 0 < claim_us <= now_us + MICROS else known_us, now_us)\n",
            "    return claim_us or known_us\n",
        ),
    ),
    "BACKLOG_PASSED_OVER": (
        "a table that is created in a backlog concerns nobody",
        Change(
            "cdc/capture/followed_tables.py",
            "        if self.listed_at is None or not self.listed_at.contains(transaction):\n",
            "        if self.listed_at is None:\n",
        ),
    ),
    "DEFERRED_ENDS": (
        "a deferred refusal of what came in pieces ends the sink",
        Change("sinks/apply.py", "                if cares == (WITH_CARE,):\n", "                if not cares:\n"),
    ),
    "HALF_WAY": (
        "a key that is refused late in a transaction keeps what an earlier piece wrote",
        Change("sinks/apply.py", "        if opened.halves.torn:\n", "        if opened.halves.torn and not self:\n"),
    ),
    "LAST_OFFSET_ALONE": (
        "a writer looks only where its last record landed",
        Change(
            "cdc/transport/kafka/writer.py",
            "            if last - self._sent[partition] + 1 < self._ends.get(partition, 0):\n",
            "            if last < self._ends.get(partition, 0) - 1:\n",
        ),
    ),
    "SKIP_FORGOTTEN": (
        "behind a base what the target has already is applied again",
        Change(
            "sinks/cuts.py", "            known = self._since is not None and self._since.contains(text)\n", "            known = False\n"
        ),
    ),
    "UNCOPIED_FORGOTTEN": (
        "a copy whose barrier a sink may have passed counts as not begun",
        Change("cdc/capture/restart.py", "        emptied |= point.undone\n", "        emptied |= frozenset()\n"),
    ),
    "SHOWN_TOO_EARLY": (
        "a window reads before the server shows what its log holds",
        Change("cdc/capture/incremental_snapshot.py", "        if not self._is_shown(at):\n", "        if not at:\n"),
    ),
}


def main() -> int:
    """0 when each is found."""
    alive = [name for name in sys.argv[1:] or OLD if not hunted(name)]
    return 1 if alive else 0


def hunted(name: str) -> bool:
    """Whether the simulation finds the mutant; its line goes into the ledger."""
    from tests.crash.mutants import planted  # it imports the servers of the crash lane

    meaning, change = OLD[name]
    with TemporaryDirectory() as folder:
        planted(Mutant((change,), ()), Path(folder))
        started = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seeds", "100000", "--years", "0.03", "--stop", "--seconds", str(SECONDS)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
    found = next((line for line in run.stdout.splitlines() if line.startswith("seed ")), "")
    note({"mutant": name, "meaning": meaning, "found": found[:200], "seconds": round(seconds, 1)})
    sys.stdout.write(f"{name}: {found[:160] or 'ALIVE ' + run.stderr[-300:]} after {seconds:.0f} s\n")
    sys.stdout.flush()
    return bool(found)


if __name__ == "__main__":
    assert ROOT.is_dir()
    sys.exit(main())
