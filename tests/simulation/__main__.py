"""`python -m tests.simulation --seed 7`: one life, and what was said in it; `--seeds 100`: as many, those that fail by their seeds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.life import YEAR, live
from tests.simulation.record import note


def main() -> None:
    """Live many lives, or one aloud."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a part of what a seed decides
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--years", type=float, default=0.25)
    parser.add_argument("--transport", default="", choices=["", "kafka", "direct", "scaled"])
    parser.add_argument("--lines", type=int, default=60)
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--stop", action="store_true", help="at the first violation")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most")
    parser.add_argument("--ledger", action="store_true", help="add a line to tests/simulation/ledger.jsonl")
    given = parser.parse_args()
    acts = dict.fromkeys(given.without, 0.0)
    if given.seed is not None:
        lived = live(given.seed, given.years, given.transport, acts)
        sys.stdout.write("\n".join([*lived.said[-given.lines :], str(lived.acts), str(Counter(code for *_, code in lived.halts)),

            f"seed {lived.seed} {lived.transport}: {lived.violation or 'held'}; "
            f"{lived.seconds / YEAR:.2f} years in {lived.real_seconds:.2f} s, "
            f"{lived.commits} commits, {lived.steps} steps", ""]))  # fmt: skip
        return
    years = real = 0.0
    began, bad, lives = time.monotonic(), list[int](), 0
    for seed in range(given.first, given.first + given.seeds):
        lived = live(seed, given.years, given.transport, acts)
        years, real, lives = years + lived.seconds / YEAR, real + lived.real_seconds, lives + 1
        if lived.violation:
            bad.append(seed)
            sys.stdout.write(f"seed {seed} {lived.transport}: {lived.violation[:300]}\n")
            sys.stdout.flush()
        if (bad and given.stop) or time.monotonic() - began > given.seconds:
            break
    sys.stdout.write(f"{lives} lives, {len(bad)} violations, {years:.1f} years in {real:.1f} s\n")
    if given.ledger:
        note(
            {
                "first": given.first,
                "lives": lives,
                "years": round(years, 2),
                "seconds": round(real, 1),
                "transport": given.transport,
                "violated": bad,
            }
        )


if __name__ == "__main__":
    main()
