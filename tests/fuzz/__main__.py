"""`python -m tests.fuzz`: a campaign of any length, its line in the ledger, and its failures among the kept cases."""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.fuzz import campaign


def main() -> int:
    """Run what the arguments say; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--form", choices=["plain", "asan", "pure"], default="plain", help="compiled, under a sanitizer, uncompiled")
    parser.add_argument("--count", type=float, default=1e6, help="how many images to decode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first iteration; with --count 1, one alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kinds", default="", help="only lanes whose name begins so: json, update, 'copy foreign' ..")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long, and say how far it got")
    parser.add_argument("--ledger", action="store_true", help="append the outcome to tests/fuzz/ledger.jsonl")
    asked = parser.parse_args()
    wanted = campaign.Campaign(asked.form, asked.seed, int(asked.count), asked.first, asked.jobs, asked.kinds, asked.minutes * 60)
    outcome = campaign.run(wanted)
    for failure in outcome.failures:
        print(f"seed {failure['seed']} iteration {failure['iteration']} {failure['lane']}\n{failure['complaint']}", file=sys.stderr)
    if outcome.failures:
        campaign.keep(outcome.failures)
    line = campaign.line(wanted, outcome)
    if asked.ledger:
        with campaign.LEDGER.open("a") as ledger:
            ledger.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
