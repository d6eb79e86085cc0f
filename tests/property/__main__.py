"""`python -m tests.property --schemas 2000 --seed 1`: random tables in rounds, on real servers; `--shrink "mysql 1 17"` makes one small.

Prints one line a round and every failure with its seed, and ends with 1 when there was one. A run that was ended goes on by `--seed`
of the round it had come to: a round follows from its number alone.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import run
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, lent
from tests.property import found
from tests.property.kinds import Server
from tests.property.rounds import Halted, Outcome, Plan, plan, play, writes
from tests.property.tables import Case, case


def main() -> int:
    """The lane."""
    arguments = _arguments()
    run.open_run()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.shrink:
            return _shrink(arguments.shrink)
        return _lane(arguments)
    finally:
        run.close_run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.property", description=__doc__)
    parser.add_argument("--schemas", type=int, default=2000, help="how many tables")
    parser.add_argument("--seed", type=int, default=1, help="the first round's")
    parser.add_argument("--round", type=int, default=50, help="tables in a round")
    parser.add_argument("--sources", default="mariadb,mysql,mariadb114,mysql")
    parser.add_argument("--no-brokers", action="store_true", help="no round over Kafka")
    parser.add_argument("--shrink", default="", metavar="'SERVER SEED NUMBER'")
    return parser.parse_args()


def _lane(arguments: argparse.Namespace) -> int:
    sources, done, failed, seed = arguments.sources.split(","), 0, list[str](), arguments.seed
    errors, rows, statements, started = Counter[int](), 0, 0, time.monotonic()
    while done < arguments.schemas:
        kind, doing = sources[seed % len(sources)], plan(seed, brokers=not arguments.no_brokers)
        outcome, failures = survived(kind, seed, arguments.round, doing)
        done, rows, statements, errors = (
            done + outcome.tables,
            rows + outcome.rows,
            statements + outcome.statements,
            errors + outcome.errors,
        )
        failed += failures
        took = time.monotonic() - started
        print(
            f"round {seed} {kind} {doing}: {outcome.tables} tables, {outcome.rows} rows, {len(failures)} failures;",
            f"{done} in {took:.0f} s",
        )
        for failure in failures + [f"not made: {one}" for one in outcome.unmade]:
            print(f"    {failure}", flush=True)
        sys.stdout.flush()
        seed += 1
    print(
        f"{done} tables, {rows} rows, {statements} statements, refused by the sources: {dict(errors.most_common())}; {len(failed)} failures"
    )
    return 1 if failed else 0


@contextmanager
def places(kind: str, way: str) -> Iterator[tuple[SourceDatabase, TargetDatabase, Broker | None, Path]]:
    """Empty databases, a topic prefix where one is wanted, and a folder for files."""
    with ExitStack() as stack:
        source = stack.enter_context(lent(SourceDatabase(run.shared(kind))))  # type: ignore[arg-type]
        target = stack.enter_context(lent(TargetDatabase(run.shared("postgres"))))  # type: ignore[arg-type]
        broker = Broker(run.shared("kafka")) if way == "kafka" else None  # type: ignore[arg-type]
        if broker is not None:
            stack.callback(broker.drop)
        yield source, target, broker, Path(stack.enter_context(tempfile.TemporaryDirectory()))


def survived(kind: str, seed: int, count: int, doing: Plan) -> tuple[Outcome, list[str]]:
    """One round; a table that stops the pipeline is a failure, and the round is played again without it."""
    failures, without = list[str](), set[int]()
    while True:
        with places(kind, doing.way) as (source, target, broker, folder):
            server = Server(source.execute, source.flavour, kind)
            cases = [case(server, seed, number) for number in range(count) if number not in without]
            try:
                outcome = play(cases, seed, doing, source, target, broker, writes(folder))
            except Halted as halt:
                guilty = [one for one in cases if one.shape.name == halt.table]
                failures.append(f"{guilty[0].place if guilty else f'{kind} {seed}'} stopped: {halt.text}")
                if not guilty:
                    return Outcome(), failures
                without.add(guilty[0].number)
                continue
        names = {one.shape.name: one.place for one in cases}
        return outcome, failures + [f"{names[name]} {wrong}" for name, wrong in outcome.failures.items()]


def _shrink(place: str) -> int:
    kind, seed, number = place.split()
    doing = plan(int(seed))
    said: list[str] = []

    def fails(one: Case) -> bool:
        with places(kind, doing.way) as (source, target, broker, folder):
            try:
                outcome = play([one], int(seed), doing, source, target, broker, writes(folder))
            except Halted as halt:
                said.append(halt.text[:300])
                return True
            said.extend(outcome.failures.values())
            return bool(outcome.failures)

    with places(kind, "direct") as (source, *_):
        whole = case(Server(source.execute, source.flavour, kind), int(seed), int(number))
    if not fails(whole):
        print("by itself it does not fail")
        return 1
    print(found.keep(found.shrunk(whole, fails), said[-1]).read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
