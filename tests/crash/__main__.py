"""The long lane: crash points, kills of servers at their commits, full disks, lost records, zombies, then seeds after seeds.

python -m tests.crash --minutes 60                                        everything, on from where the ledger ends
python -m tests.crash --only seeds --seeds 300                            until 300 seeds have held at this revision
python -m tests.crash --seed 7 --source mysql --transport kafka           one run again
python -m tests.crash --seed 7 --source mysql --transport kafka --point capture.cut:2
python -m tests.crash --seed 7 --source mysql --transport kafka --kill target:10
python -m tests.crash --seed 7 --source mysql --transport kafka --kill log:5      the broker loses the end of its files
python -m tests.crash --seed 7 --source mysql --transport kafka --kill zombie:4   processes stopped, replaced and woken
python -m tests.crash --only group                                        several sinks that share the partitions: its points and seeds
python -m tests.crash --seed 7 --source mysql --transport kafka --way group
python -m tests.crash --only time --seeds 100     durations are drawn, topics forget, clocks jump, tables come and go, an operator acts
python -m tests.crash --seed 7 --source mysql --transport kafka --way time
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pymysql
from confluent_kafka import KafkaException

from cdc.errors import CdcError
from tests import run as servers
from tests.crash import disks, group, harm, kills, lane, losses, timed, zombies
from tests.crash.arena import BROKER, COMBINATIONS, FLAVOURS, SOURCE, TARGET, TRANSPORTS, Arena
from tests.crash.lane import Case
from tests.crash.points import ORDINALS, SHARD, WAYS, chains
from tests.crash.record import HELD, LEDGER, VIOLATED, Record, revision, story
from tests.crash.storm import storm
from tests.crash.timeplan import TIME
from tests.crash.works import GROUP, Violation

PARTS = ("points", "kills", "disks", "losses", "zombies", "group", "time", "seeds")
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
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="no run begins after that")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--only", choices=PARTS, default="")
    parser.add_argument("--seeds", type=int, default=1_000_000, help="so many are to have held at this revision")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--source", choices=FLAVOURS)
    parser.add_argument("--transport", choices=TRANSPORTS)
    parser.add_argument("--point", action="append", default=[], metavar="NAME:ORDINAL")
    parser.add_argument("--kill", default="", metavar="SERVER:TIMES")
    parser.add_argument("--way", choices=(GROUP, TIME), default="", help="several sinks share the partitions; or the lane of time")
    parser.add_argument("--full", choices=(SOURCE, TARGET, BROKER), default="")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def alone(asked: argparse.Namespace) -> int:
    """One run, again."""
    told = {"points": " ".join(asked.point), "kill": asked.kill, "full": asked.full, "way": asked.way}
    case = case_of({"seed": asked.seed, "source": asked.source or "mariadb", "transport": asked.transport or "direct", **told})
    arena = Arena(private=True)
    try:
        return 0 if _held(arena, case, Record(asked.ledger)) else 1
    finally:
        arena.close()


def together(asked: argparse.Namespace) -> int:
    """Workers beside one another, each with servers of its own, until all is done or the time is over."""
    began, record = time.time(), Record(asked.ledger)
    known = sum(1 for _ in record.entries())
    if not any(Path(place).exists() for place in harm.FAKETIME):
        print("libfaketime is not installed: clocks stay as they are (apt-get install libfaketime)")
    until = time.time() + asked.minutes * 60
    command = [sys.executable, "-m", "tests.crash", "--ledger", str(asked.ledger), "--workers", str(asked.workers), "--until", str(until)]
    command += ["--seeds", str(asked.seeds), *(["--only", asked.only] if asked.only else [])]
    workers = [subprocess.Popen([*command, "--worker", str(number)]) for number in range(asked.workers)]
    with suppress(KeyboardInterrupt):
        for worker in workers:
            worker.wait()
    for worker in workers:
        worker.wait()
    new = list(record.entries(skip=known))
    failed = [entry for entry in new if entry["result"] not in (HELD, "impossible")]
    print(f"{len(new)} runs in {(time.time() - began) / 60:.1f} minutes, {len(failed)} of them not held; ledger: {asked.ledger}")
    for entry in failed:
        print(entry)
    return 1 if failed or any(worker.returncode for worker in workers) else 0


def work(asked: argparse.Namespace) -> int:
    """One worker's part: its share of each part of the lane."""
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
    if asked.only == "time":
        yield from _time_seeds(asked, record)
        return
    done = {str(case_of(entry)) for entry in record.held(revision())}
    parts = {"points": systematic, "kills": kills.cases, "disks": disks.cases, "losses": losses.cases, "zombies": zombies.cases,
             "group": group.cases, "time": timed.cases}  # fmt: skip
    listed = [case for part, cases in parts.items() if asked.only in ("", part) for case in cases()]
    for number, case in enumerate(listed):
        if number % asked.workers == asked.worker and str(case) not in done:
            yield case
    if asked.only in ("", "seeds"):
        yield from _seeds(asked, record)


def _seeds(asked: argparse.Namespace, record: Record) -> Iterator[Case]:
    """Numbers that nobody has run, in turn, until enough have held."""
    first = max((entry["seed"] for entry in record.entries() if _is_seed(entry) and entry["seed"] < 1 << 20), default=0) // 100 * 100 + 101
    for seed in range(first + asked.worker, 1 << 20, asked.workers):
        if sum(map(_is_seed, record.held(revision()))) >= asked.seeds:
            return
        yield Case(seed, *Random(f"combination {seed}").choice(COMBINATIONS))


def _time_seeds(asked: argparse.Namespace, record: Record) -> Iterator[Case]:
    """The same for the lane of time."""
    first = max((entry["seed"] for entry in record.entries() if entry.get("way") == TIME), default=0) // 100 * 100 + 101
    for seed in range(first + asked.worker, 1 << 20, asked.workers):
        if sum(entry.get("way") == TIME for entry in record.held(revision())) >= asked.seeds:
            return
        yield timed.case_of(seed)


def _is_seed(entry: dict[str, Any]) -> bool:
    return not entry.keys() & {"points", "kill", "full", "mutant", "way"}


def systematic() -> Iterator[Case]:
    """Every point at every ordinal on every pair where it can be; the seed only chooses the work beside it."""
    for ordinal in ORDINALS:
        for flavour, transport in COMBINATIONS:
            for names in chains(transport, ordinal):
                if WAYS[names[0]].group == SHARD:  # in part "group"
                    continue
                yield Case(ordinal, flavour, transport, tuple((name, ordinal) for name in names))


def entry_of(case: Case) -> dict[str, Any]:
    """A case in the ledger's words."""
    entry: dict[str, Any] = {"seed": case.seed, "source": case.flavour, "transport": case.transport}
    points = {"points": " ".join(f"{name}:{ordinal}" for name, ordinal in case.points)} if case.points else {}
    kill = {"kill": f"{case.victim}:{case.times}"} if case.victim else {}
    return entry | points | kill | ({"full": case.full} if case.full else {}) | ({"way": case.chosen} if case.chosen else {})


def case_of(entry: dict[str, Any]) -> Case:
    points = tuple((name, int(ordinal)) for name, _, ordinal in (text.partition(":") for text in entry.get("points", "").split()))
    victim, _, times = entry.get("kill", "").partition(":")
    return Case(
        entry["seed"], entry["source"], entry["transport"], points, victim, int(times or 0), entry.get("full", ""), entry.get("way", "")
    )


def _held(arena: Arena, case: Case, record: Record) -> bool:
    """Run a case and write down what came of it."""
    began, folder, entry = time.time(), Path(tempfile.mkdtemp(prefix="run-", dir=servers.folder())), entry_of(case)
    why, faults = run_case(arena, case, folder)
    shutil.rmtree(folder, ignore_errors=True)
    impossible = not why and faults[0].startswith("impossible")
    entry["result"] = (VIOLATED if why.startswith(Violation.__name__) else "broken") if why else "impossible" if impossible else HELD
    entry |= {"why": why.partition("\n")[0][:300]} if why else {}
    entry |= {"seconds": round(time.time() - began, 1), "revision": revision()}
    record.add(entry)
    print(f"{entry['result']:>10} {entry['seconds']:6.1f} s  {case}  {', '.join(faults)}", flush=True)
    if why:
        print(f"{why[:3000]}\n-> {story(str(case), why)}", flush=True)
    return not why


def run_case(arena: Arena, case: Case, folder: Path) -> tuple[str, list[str]]:
    """Why it did not hold, a violation or something that broke; "" and what was done when it did."""
    try:
        run = _way(case)(arena, case, folder)
    except disks.Impossible as error:
        return "", [f"impossible here: {error}"]
    except _FAILED as error:
        return f"{type(error).__name__}: {error}", []
    return "", run.faults


def _way(case: Case) -> Callable[[Arena, Case, Path], lane.Run]:
    if case.victim:
        special = {losses.LOG: losses.losses, zombies.ZOMBIE: zombies.zombies, group.MEMBER: group.members}
        return special.get(case.victim, kills.kills)
    if case.chosen == TIME:
        return timed.timed
    return lane.crashes if case.points else disks.full if case.full else storm


if __name__ == "__main__":
    sys.exit(main())
