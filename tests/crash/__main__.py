"""The long lane: every crash point at its first three passings on every pair of source and transport, then random seeds.

python -m tests.crash --minutes 60                                        goes on where the ledger ends
python -m tests.crash --seed 7 --source mysql --transport kafka           one run again
python -m tests.crash --seed 7 --source mysql --transport kafka --point capture.cut:2
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pymysql
from confluent_kafka import KafkaException

from cdc.errors import CdcError
from tests import run as servers
from tests.crash import harm, lane
from tests.crash.arena import COMBINATIONS, FLAVOURS, TRANSPORTS, Arena
from tests.crash.lane import Case
from tests.crash.points import WAYS
from tests.crash.record import Record, revision
from tests.crash.storm import storm

LEDGER = Path(__file__).resolve().parents[2] / ".cdc" / "crash-ledger.jsonl"
ORDINALS = (1, 2, 3)
_FAILED = (AssertionError, CdcError, OSError, ArithmeticError, LookupError, ValueError, psycopg.Error, pymysql.err.Error,
           subprocess.SubprocessError, KafkaException)  # fmt: skip


def main() -> int:
    """0 when nothing that was run violated anything."""
    asked = _arguments()
    if asked.worker is not None:
        return work(asked)
    os.environ.setdefault("CDC_REQUIRE_SERVERS", "1")
    servers.open_run()
    try:
        return alone(asked) if asked.seed is not None else together(asked)
    finally:
        servers.close_run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--only", choices=("points", "seeds"), default="")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--source", choices=FLAVOURS)
    parser.add_argument("--transport", choices=TRANSPORTS)
    parser.add_argument("--point", action="append", default=[], metavar="NAME:ORDINAL")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def alone(asked: argparse.Namespace) -> int:
    """One run, again."""
    points = tuple((name, int(ordinal)) for name, _, ordinal in (text.partition(":") for text in asked.point))
    case = Case(asked.seed, asked.source or "mariadb", asked.transport or "direct", points)
    arena = Arena(private=True)
    try:
        return 0 if _held(arena, case, Record(asked.ledger)) else 1
    finally:
        arena.close()


def together(asked: argparse.Namespace) -> int:
    """Workers beside one another, each with servers of its own, until the time is over."""
    began, record = time.time(), Record(asked.ledger)
    if not any(Path(place).exists() for place in harm.FAKETIME):
        print("libfaketime is not installed: clocks stay as they are (apt-get install libfaketime)")
    until = time.time() + asked.minutes * 60
    command = [sys.executable, "-m", "tests.crash", "--ledger", str(asked.ledger), "--workers", str(asked.workers), "--until", str(until)]
    command += ["--only", asked.only] if asked.only else []
    workers = [subprocess.Popen([*command, "--worker", str(number)]) for number in range(asked.workers)]
    with suppress(KeyboardInterrupt):
        for worker in workers:
            worker.wait()
    for worker in workers:
        worker.wait()
    new = [entry for entry in record.entries() if entry["at"] >= began]
    failed = [entry for entry in new if entry["result"] != "held"]
    print(f"{len(new)} runs in {(time.time() - began) / 60:.1f} minutes, {len(failed)} of them not held; ledger: {asked.ledger}")
    for entry in failed:
        print(entry["what"])
    return 1 if failed or any(worker.returncode for worker in workers) else 0


def work(asked: argparse.Namespace) -> int:
    """One worker's part: its share of the points, then seeds of its own."""
    record, arena = Record(asked.ledger), Arena(private=True)
    try:
        for case in _cases(asked, record):
            if time.time() > asked.until:
                break
            _held(arena, case, record)
    except KeyboardInterrupt:
        return 1
    finally:
        arena.close()
    return 0


def _cases(asked: argparse.Namespace, record: Record) -> Iterator[Case]:
    done = record.passed(revision())
    if asked.only != "seeds":
        for number, case in enumerate(systematic()):
            if number % asked.workers == asked.worker and str(case) not in done:
                yield case
    while asked.only != "points":
        seed = secrets.randbelow(1 << 32)
        yield Case(seed, *Random(f"combination {seed}").choice(COMBINATIONS))


def systematic() -> Iterator[Case]:
    """Every point at every ordinal on every pair; the seed only chooses the work beside it."""
    for ordinal in ORDINALS:
        for name, way in WAYS.items():
            for flavour, transport in COMBINATIONS:
                if transport in way.transports:
                    yield Case(ordinal, flavour, transport, ((name, ordinal),))


def _held(arena: Arena, case: Case, record: Record) -> bool:
    """Run a case and write down what came of it."""
    began, folder = time.time(), Path(tempfile.mkdtemp(prefix="run-", dir=servers.folder()))
    entry: dict[str, Any] = {"at": began, "what": str(case), "seed": case.seed, "source": case.flavour, "transport": case.transport}
    try:
        run = (lane.crashes if case.points else storm)(arena, case, folder)
        entry |= {"result": "held", "faults": run.faults, "ended": run.works.ended, "done": run.work.done, "looks": run.poller.whole}
    except _FAILED as error:
        entry |= {"result": type(error).__name__, "why": str(error)[-6000:]}
    shutil.rmtree(folder, ignore_errors=True)
    entry |= {"seconds": round(time.time() - began, 1), "revision": revision()}
    record.add(entry)
    print(f"{entry['result']:>10} {entry['seconds']:6.1f} s  {case}", flush=True)
    if entry["result"] != "held":
        print(entry["why"], flush=True)
    return bool(entry["result"] == "held")


if __name__ == "__main__":
    sys.exit(main())
