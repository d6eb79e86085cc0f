"""Which decisions of the core the lanes take, and how often.

python -m tests.decisions --seconds 600                     lives of the simulation, counted; then the list
python -m tests.decisions --counts FILE --seconds 0         the list alone, of what has been counted in a file

Processes of the crash lane count in the file that CDC_DECISIONS names: `CDC_DECISIONS=/tmp/d python -m tests.crash --minutes 20`.

Prints every way on from a line with more than one that was taken less than ten times, with the reason that
tests/decisions/elsewhere.toml gives for it. Exit code 1 when one has none.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.decisions.branches import Module, Way, modules
from tests.decisions.counter import Counter
from tests.simulation.life import live

LEAST = 10
ELSEWHERE = Path(__file__).with_name("elsewhere.toml")
Named = tuple[str, str, str]


def main() -> int:
    """Counts, and prints what is seldom."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # as the simulation has it
        os.execve(sys.executable, [sys.executable, "-m", "tests.decisions", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.decisions")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--years", type=float, default=0.03)
    parser.add_argument("--counts", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        counter = Counter(asked.counts or Path(folder) / "counts")
        if asked.seconds:
            counter.install()
            _live(asked.first, asked.years, asked.seconds)
            sys.settrace(None)
        return _tell(dict(counter.counts()))


def _live(seed: int, years: float, seconds: float) -> None:
    until, first = time.monotonic() + seconds, seed
    while time.monotonic() < until:
        live(seed, years)
        seed += 1
    sys.stdout.write(f"{seed - first} lives\n")


def _tell(counts: dict[Way, int]) -> int:
    reasons, unexplained = elsewhere(), 0
    for module in modules().values():
        for way in module.ways:
            if counts[way] < LEAST:
                reason = reasons.get(named(module, way), "")
                unexplained += not reason
                sys.stdout.write(f"{way.module}:{way.line} -> {way.to}  {counts[way]}  {' => '.join(named(module, way)[1:])}  # {reason}\n")
    taken = sum(count >= LEAST for count in counts.values())
    sys.stdout.write(f"{len(counts)} ways, {taken} taken at least {LEAST} times, {unexplained} seldom and without a reason\n")
    return int(unexplained > 0)


def named(module: Module, way: Way) -> Named:
    """A way by the texts of its lines, which outlive changes of other lines."""
    return module.name, module.text(way.line), "the end" if way.to < 0 else module.text(way.to)


def elsewhere() -> dict[Named, str]:
    """Why a way is seldom taken in these lanes, and who takes it instead."""
    listed = tomllib.loads(ELSEWHERE.read_text())["way"]
    return {(one["module"], one["line"], one["to"]): str(one["reason"]) for one in listed}


if __name__ == "__main__":
    sys.exit(main())
