"""`python -m bench`: every figure of the performance page, one run each, on servers of its own."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.chain import PROCESSES
from bench.parts import PARTS, measured
from bench.results import FOLDER, Results, conditions
from bench.stages import STAGES
from bench.tables import DATABASE, SHAPES
from cdc import stack
from cdc.errors import CdcError
from cdc.runtime import logs

STAGE_NAMES = list(dict.fromkeys([*STAGES, *PROCESSES, "takeover", "load_pgloader", "latency"]))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--source", choices=sorted(stack.SOURCES), default="mariadb")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=[], help="these parts, not all")
    parser.add_argument("--tables", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="narrow has 17 columns; default: all")
    parser.add_argument("--stages", nargs="+", choices=STAGE_NAMES, default=[], help="of these parts only these stages")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the narrow table; the others, whose rows are larger, get a part"
    )
    parser.add_argument("--large", type=int, default=5_000_000, help="rows of the one large transaction")
    parser.add_argument("--history", type=int, default=1_000_000, help="rows whose cost is compared with that of nine times as many more")
    parser.add_argument("--deep", type=int, default=20_000_000, help="rows of the deep backlog")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each measurement of latency")
    parser.add_argument("--rate", type=float, default=20.0, help="changes a second whose latency is measured")
    parser.add_argument("--peers", action="store_true", help="install pgloader and Debezium and measure them too")
    parser.add_argument("--profile", choices=list(STAGES), help="this stage alone, in `insert` or --only, under cProfile; no figure kept")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where the JSON lines go")
    found = parser.parse_args(arguments)
    if found.profile:
        found.stages, found.only = [found.profile], found.only or ["load" if found.profile == "load" else "insert"]
    return found


def main() -> int:
    arguments = parse(sys.argv[1:])
    logs.configure(level=logging.WARNING)
    results = Results(arguments.results, conditions(arguments.source, arguments.rows))
    results.begin()
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        place = Path(folder)
        place.chmod(0o711)  # PostgreSQL runs as another user
        try:
            with stack.lent(place / "stack", source=arguments.source, kafka=True, databases=(DATABASE,)) as servers:
                failed = list(measured(servers, place, [SHAPES[label] for label in arguments.tables], arguments, results))
        except CdcError as error:
            print(error, file=sys.stderr)
            return 1
    results.end()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
