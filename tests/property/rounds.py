"""A round: many random tables in one database, one pipeline, copied while they change, streamed, restarted, and judged."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pymysql

from tests.e2e.streaming import Streaming, cut_no, name_of
from tests.e2e.watch import until
from tests.helpers import pipelines
from tests.helpers.pipelines import said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase
from tests.property.judge import Judge
from tests.property.tables import Case, Group, Shape

_LAST = "the last row"
_PATIENCE = 600.0
_GONE = (2006, 2013, 2014, 2055)


@dataclass
class Plan:
    """What a round does beside its tables; all of it follows from its seed."""

    way: str = "direct"
    early: bool = True
    """Whether the tables change while they are copied."""
    restart: str = "kill"
    """kill, stop or nothing, halfway through the changes."""
    plant: bool = True
    """Whether one row of the target is bent at the end, to see that `reconcile` finds it."""


def plan(seed: int, *, brokers: bool = True) -> Plan:
    """The plan of a round."""
    random = Random(f"plan {seed}")
    way = "kafka" if brokers and random.random() < 0.25 else "direct"
    return Plan(way, random.random() < 0.6, random.choice(["kill", "stop", ""]), random.random() < 0.5)


@dataclass
class Outcome:
    """What came of a round."""

    failures: dict[str, str] = field(default_factory=dict)
    """By table's name."""
    tables: int = 0
    rows: int = 0
    statements: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    """Statements that the source refused, by its number: random changes may."""
    unmade: list[str] = field(default_factory=list)


class Halted(Exception):
    """The pipeline ended by itself: with which table's name in its reason, and what it said."""

    def __init__(self, table: str, text: str) -> None:
        self.table, self.text = table, text
        super().__init__(text)


@dataclass
class Table:
    """A table that exists on the source, with its changes as SQL."""

    name: str
    first: list[list[str]]
    later: list[list[str]]
    ddl: str = ""
    """To be made by; empty when it is there."""


class Writer:
    """Runs random statements; what the server refuses is counted."""

    def __init__(self, source: SourceDatabase, outcome: Outcome) -> None:
        self._line, self._outcome = source.connect(ssl_disabled=True), outcome

    def run(self, statements: Sequence[str]) -> bool:
        """Whether all of them were accepted."""
        fine = True
        with self._line.cursor() as cursor:
            for statement in statements:
                self._outcome.statements += 1
                try:
                    cursor.execute(statement)
                except pymysql.err.MySQLError as error:
                    if not error.args or error.args[0] in _GONE:
                        raise
                    self._outcome.errors[error.args[0]] += 1
                    fine = False
        return fine

    def close(self) -> None:
        self._line.close()


def made(case: Case, writer: Writer, outcome: Outcome) -> Table | None:
    """Create the table, less the columns that this server would not have beside the others."""
    shape: Shape | None = case.shape
    writer.run(["SET sql_mode = ''"])
    while shape is not None:
        if writer.run([shape.ddl]):
            return Table(shape.name, _sql(shape, case.first), _sql(shape, case.later))
        spare = [one.name for one in shape.columns if one.name not in shape.key]
        shape = shape.without(spare[-1]) if spare else None
    outcome.unmade.append(case.place)
    return None


def _there(table: Table, writer: Writer) -> Table:
    assert writer.run(["SET sql_mode = ''", table.ddl]), f"{table.name} cannot be made"
    return table


def _sql(shape: Shape, groups: Sequence[Group]) -> list[list[str]]:
    return [group.sql(shape) for group in groups]


def interleaved(random: Random, lists: Sequence[Sequence[list[str]]]) -> list[list[str]]:
    """All groups in one order that keeps each table's own; some go into one transaction with those of other tables."""
    turns = [at for at, groups in enumerate(lists) for _ in groups]
    random.shuffle(turns)
    nexts, out = [iter(groups) for groups in lists], list[list[str]]()
    for turn in turns:
        group = next(nexts[turn])
        if out and random.random() < 0.15 and "START TRANSACTION" not in out[-1] + group:
            out[-1] = ["START TRANSACTION", *out[-1], *group, "COMMIT"]
        else:
            out.append(group)
    return out


Make = Callable[..., pipelines.Pipeline]


def play(
    tables: Sequence[Case | Table],
    seed: int,
    doing: Plan,
    source: SourceDatabase,
    target: TargetDatabase,
    broker: Broker | None,
    make: Make,
) -> Outcome:
    """Let a round happen on empty databases. Raises Halted when the pipeline stops by itself."""
    random, outcome = Random(f"round {seed}"), Outcome()
    with closing(Writer(source, outcome)) as writer:
        there = [_there(one, writer) if isinstance(one, Table) else made(one, writer, outcome) for one in tables]
        ready = [one for one in there if one is not None]
        assert writer.run([f"CREATE TABLE `{_LAST}` (id int PRIMARY KEY)"])
        outcome.tables = len(ready)
        for group in interleaved(random, [one.first for one in ready]):
            writer.run(group)
        groups = interleaved(random, [one.later for one in ready])
        works = Streaming(_pipeline(make, source, target, broker), doing.way)
        try:
            _stream(works, groups, doing, writer, target)
            _judge(works, ready, outcome, source, target, random if doing.plant else None)
            works.stop()
        except AssertionError as error:
            raise _halted(works, ready, str(error)) from None
        finally:
            works.pipeline.end()
    return outcome


def _pipeline(make: Make, source: SourceDatabase, target: TargetDatabase, broker: Broker | None) -> pipelines.Pipeline:
    """Without TLS: it costs more than all the rest, and other tests are about it."""
    brokers = [] if broker is None else [broker]
    return make(source, target, *brokers, source={"ssl_mode": "disabled"}, target={"url": f"{target.url}?sslmode=disable"})


def _stream(works: Streaming, groups: list[list[str]], doing: Plan, writer: Writer, target: TargetDatabase) -> None:
    half = len(groups) // 2
    works.start()
    if not doing.early:
        _await_copy(works, target)
    for group in groups[:half]:  # while the process starts and copies, or after that
        writer.run(group)
    _await_copy(works, target)
    if doing.restart:
        if doing.restart == "kill":
            works.kill()
        else:
            works.stop()
        works.start()
    for group in groups[half:]:
        writer.run(group)
    _await_all(works, writer, target)


def _await_copy(works: Streaming, target: TargetDatabase) -> None:
    until(lambda: cut_no(target, name_of(works.pipeline)), _PATIENCE, "a first cut", *works.processes.values())


def _await_all(works: Streaming, writer: Writer, target: TargetDatabase) -> None:
    """A row that is written last is there: the target has everything, as it shows the source's order."""
    assert writer.run([f"INSERT INTO `{_LAST}` VALUES (1)"])
    there = f'SELECT 1 FROM "{name_of(works.pipeline)}"."{_LAST}"'
    until(lambda: target.execute(there), _PATIENCE, "the last row", *works.processes.values())


def _judge(
    works: Streaming,
    tables: Sequence[Table],
    outcome: Outcome,
    source: SourceDatabase,
    target: TargetDatabase,
    random: Random | None,
) -> None:
    with closing(Judge(source, target)) as judge:
        for table in tables:
            rows, wrong = judge.difference(table.name)
            outcome.rows += rows
            if wrong:
                outcome.failures[table.name] = wrong
        _reconciled(works, source, outcome, set(outcome.failures))
        if random is not None and not outcome.failures:
            bent = next((one.name for one in random.sample(tables, len(tables)) if judge.bend(one.name, random)), None)
            _reconciled(works, source, outcome, {bent} if bent else set())


def _reconciled(works: Streaming, source: SourceDatabase, outcome: Outcome, unequal: set[str]) -> None:
    """The product's own verdict is the judge's."""
    done = works.pipeline.run("--json", "reconcile", timeout_seconds=_PATIENCE)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    for entry in json.loads(done.stdout)["tables"]:
        name = entry["source"].removeprefix(f"{source.name}.")
        if (entry["state"] == "equal") == (name in unequal):
            outcome.failures[name] = f"reconcile says {entry['state']} {entry.get('reason', '')}; " + outcome.failures.get(name, "")


def _halted(works: Streaming, tables: Sequence[Table], text: str) -> Halted:
    text = text + "\n" + said(*works.processes.values())
    schema = name_of(works.pipeline)
    for table in sorted(tables, key=lambda one: -len(one.name)):
        if re.search(re.escape(json.dumps(f"{schema}.{table.name}", ensure_ascii=False)[1:-1]) + r"(?![0-9])", text):
            return Halted(table.name, text[-3000:])
    return Halted("", text[-6000:])


def writes(folder: Path) -> Make:
    """Pipelines with files below a folder."""

    def make(*places: Any, **sections: Any) -> pipelines.Pipeline:
        return pipelines.write(folder / f"pipeline{len(list(folder.glob('pipeline*')))}", *places, **sections)

    return make
