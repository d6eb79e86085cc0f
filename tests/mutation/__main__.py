"""Mutation testing of the core: `make mutants`, or `make mutants ARGS='--only sinks/cuts.py'`.

Makes every small wrong change of each module of tests/mutation/plan.toml, one at a time, and runs the module's fast tests on it. Prints
for each module how many were killed, and each that survived as two lines, before and after. What nothing could tell from the module is
listed with its reason in tests/mutation/equivalent.toml. `--record` adds a line for each module to tests/mutation/ledger.jsonl.

Exit code: 0; 1 when a module's tests fail unchanged; 3 when more mutants of a module survive than in its last line of the ledger.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.mutation.plan import HERE, ROOT, Module, equivalents, plan
from tests.mutation.worker import BROKEN, INVALID, KILLED, SURVIVED, TIMEOUT, UNSEEN

LEDGER = HERE / "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class Score:
    """How one module did."""

    module: str
    killed: int
    survived: int
    """Those that no test runs at all included."""
    unseen: int
    equivalent: int
    seconds: float

    @property
    def share(self) -> float:
        """Of the mutants that can be told from the module, those that are."""
        return self.killed / ((self.killed + self.survived) or 1)

    def __str__(self) -> str:
        return (
            f"{self.module:24} {self.share:6.1%}  {self.killed} killed, {self.survived} survived ({self.unseen} are run by no test), "
            f"{self.equivalent} equivalent, {self.seconds:.0f} s"
        )


def main() -> int:
    """Runs what the command line asks for."""
    options = _options()
    code, alive = 0, list[dict[str, Any]]()
    for module in plan().values():
        if options.only and module.name not in options.only:
            continue
        began = time.monotonic()
        lines = run(module, options.workers)
        if broken := [line["test"] for line in lines if line["outcome"] == BROKEN]:
            say(f"{module.name}: its tests fail without any change: {broken[0]}")
            code = code or 1
            continue
        score, left = judged(module, lines, time.monotonic() - began)
        alive += [{"module": module.name, **line} for line in left]
        last = last_score(module.name)
        if last is not None and score.survived > last["survived"]:
            code = code or 3
        say(str(score) + (f" (before: {last['killed']} and {last['survived']})" if last else ""))
        for line in () if options.quiet else left:
            say(f"  {module.name}:{line['line']} {line['function']}{' (run by no test)' if line['outcome'] == UNSEEN else ''}")
            say("\n".join(_beside(line["before"], line["after"])))
        if options.record:
            record(score, options.note)
    if options.survivors:
        options.survivors.write(json.dumps(alive, indent=1))
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation", None, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="MODULE", help="these modules alone")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--record", action="store_true", help="add the scores to the ledger")
    parser.add_argument("--note", default="", help="what the ledger's lines are to say beside the score")
    parser.add_argument("--quiet", action="store_true", help="scores alone")
    parser.add_argument("--survivors", type=argparse.FileType("w"), metavar="FILE", help="write them as JSON too")
    return parser.parse_args()


def _beside(before: str, after: str) -> list[str]:
    """Two texts in one line each, of long ones the part where they differ."""
    same = next((at for at, (a, b) in enumerate(zip(before, after)) if a != b), 0)
    first = max(0, same - 60) if max(len(before), len(after)) > 150 else 0
    return [f"    {sign} {'.. ' if first else ''}{text[first : first + 150]}" for sign, text in (("-", before), ("+", after))]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(module: Module, workers: int) -> list[dict[str, Any]]:
    """What became of each mutant of a module, done by so many processes."""

    def part(number: int) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "tests.mutation.worker", module.name, f"{number}/{workers}"]
        env = {**os.environ, "PYTHONHASHSEED": "0"}  # a seed of tests/simulation says everything with the order of sets alone
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=env)
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(workers) as pool:
        return sorted((line for lines in pool.map(part, range(workers)) for line in lines), key=lambda line: line.get("line", 0))


def judged(module: Module, lines: list[dict[str, Any]], seconds: float) -> tuple[Score, list[dict[str, Any]]]:
    """The score of a module, and its survivors."""
    same = {(one.function, one.before, after) for one in equivalents() if one.module == module.name for after in one.after}
    lines = [line for line in lines if line["outcome"] != INVALID]
    kept = [line for line in lines if (line["function"], line["before"], line["after"]) not in same]
    counts = Counter(line["outcome"] for line in kept)
    alive = [line for line in kept if line["outcome"] in (SURVIVED, UNSEEN)]
    killed = counts[KILLED] + counts[TIMEOUT]
    return Score(module.name, killed, len(alive), counts[UNSEEN], len(lines) - len(kept), round(seconds, 1)), alive


def last_score(module: str) -> dict[str, Any] | None:
    """The module's last line in the ledger."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    found = [line for line in map(json.loads, lines) if line["module"] == module]
    return found[-1] if found else None


def record(score: Score, note: str) -> None:
    """Adds a line to the ledger."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    line = {"at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "revision": revision.stdout.strip()}
    line |= {name: getattr(score, name) for name in score.__slots__} | ({"note": note} if note else {})
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
