"""`python -m tests.protocol_model [--trace] [--deep] [WORD]`: run what matches WORD and print the table of results."""

from __future__ import annotations

import argparse
import sys

from tests.protocol_model import table
from tests.protocol_model.scenarios import ALL, DEEP


def main() -> int:
    """0 when every run went as expected."""
    about = "Enumerate the protocol's model and print the results."
    parser = argparse.ArgumentParser(prog="python -m tests.protocol_model", description=about)
    parser.add_argument("word", nargs="?", default="", help="only runs whose name or variant contains this")
    parser.add_argument("--trace", action="store_true", help="print the shortest way to each violation")
    parser.add_argument("--deep", action="store_true", help="the larger scopes too: minutes each, gigabytes of memory")
    wanted = parser.parse_args()
    runs = [*ALL, *DEEP] if wanted.deep else ALL
    chosen = [run for run in runs if wanted.word.lower() in f"{run.name} {run.wrong and run.wrong.name}".lower()]
    return 0 if table.show(chosen, wanted.trace) else 1


sys.exit(main())
