"""Processes are killed at random moments of the work; nothing is lost, nothing doubled, and no reader ever sees a torn state.

The moments follow from a seed, which a failing test prints; CDC_TEST_SEED sets it.
"""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.bank import KEYLESS, TABLES, Auditor, Bank, create, create_wide
from tests.e2e.streaming import Streaming, cut_no, name_of, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.seeds import seed
from tests.helpers.servers import SourceDatabase, TargetDatabase

KILLS = 4


def _kill_at_random(works: Streaming, rng: Random, target: TargetDatabase, victims: tuple[str, ...]) -> None:
    """One crash and a new start: often right at the start or in the middle of it, else some while after a cut."""
    pause = threading.Event().wait
    if rng.random() < 0.7:
        works.await_cut(target, beyond=cut_no(target, name_of(works.pipeline)))
    pause(rng.random() * 1.5)
    chosen = [victim for victim in victims if rng.random() < 0.7] or [rng.choice(victims)]
    for victim in chosen:
        works.kill(victim)
        if rng.random() < 0.5:
            pause(rng.random())
    works.start(*chosen)


@pytest.mark.parametrize(
    ("flavour", "way"),
    [
        pytest.param("mariadb", "direct", marks=pytest.mark.soak),
        ("mysql", "direct"),
        ("mariadb", "split"),
        pytest.param("mysql", "split", marks=pytest.mark.soak),
        ("mysql", "kafka"),
    ],
)
def test_kills_in_the_middle_of_the_work_lose_and_double_nothing(
    flavour: str, way: str, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """`kill -9` of run, or of capture and apply, again and again, beside work and beside a reader of the target."""
    source = request.getfixturevalue(flavour)
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    drawn = seed()
    rng = Random(drawn)
    create(source)
    with (
        Bank(source, drawn) as bank,
        streaming(pipeline, source, postgres, kafka, way, transport={"partitions": rng.choice((1, 3))}) as works,
    ):
        with Auditor(postgres, name_of(works.pipeline), source.name) as auditor:
            for _ in range(KILLS):
                _kill_at_random(works, rng, postgres, works.commands)
            done = bank.done
            until(lambda: bank.done > done + 20, 30, "work after the last kill")
            bank.close()
            caught_up(works.pipeline)
            until(lambda polls=auditor.polls: auditor.polls > polls + 1, 10, "a last look")  # type: ignore[misc]
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(works.pipeline)
        print(f"{bank.done} transactions, {auditor.polls} looks")


_LEDGER = 'SELECT "table", load_no, chunk_no, rows, xmin::text FROM cdc.chunks ORDER BY 1, 2, 3'
_FLOORS = "SELECT DISTINCT floor::text FROM cdc.tables WHERE state = 'copying'"


def _ledger(target: TargetDatabase, table: str = "") -> set[tuple[Any, ...]]:
    if target.execute("SELECT to_regclass('cdc.chunks')") == [(None,)]:
        return set()
    return {row for row in target.execute(_LEDGER) if table in ("", row[0])}


@pytest.mark.parametrize(("source", "command", "way"), [("mariadb", "snapshot", "split"), ("mysql", "run", "direct")], indirect=["source"])
def test_a_copy_that_was_killed_goes_on_at_its_ledger(
    command: str, way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Twice killed after a chunk was committed: what the ledger holds is not written again, and the copy begins at the same position."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    create_wide(source)
    made = pipeline(source, postgres, *([kafka] if kafka else []), snapshot={"parallel": 1})
    with Bank(source, 5) as bank:
        floors: set[tuple[Any, ...]] = set()
        before: set[tuple[Any, ...]] = set()
        for chunks in (1, 2):
            copying = made.start(command)
            until(lambda n=chunks: len(_ledger(postgres, "wide")) >= n, 60, f"{chunks} chunks", copying)  # type: ignore[misc]
            copying.kill()
            floors |= set(postgres.execute(_FLOORS))
            assert before <= _ledger(postgres)
            before = {row for row in _ledger(postgres) if row[0] not in KEYLESS}  # those are read anew as long as they are not finished
        works = Streaming(made, way)
        if command == "snapshot":
            assert made.json("snapshot")["complete"] is True
        works.start()
        works.await_cut(postgres)
        bank.close()
        caught_up(made)
        assert before <= _ledger(postgres)
        assert {(2048,)} == {(sum(row[3] for row in _ledger(postgres, "wide")),)}
        assert 1 == len(floors)
        assert {} == oracle.differences(source, postgres, (*TABLES, "wide"))
        equal(made)
        works.stop()


@pytest.mark.parametrize("way", ["direct", "split"])
def test_rows_and_position_are_one_commit(
    way: str, mariadb: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """While the position cannot be stored no row is seen; killed right there, the sink does the rows again, once."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(mariadb)
    with streaming(pipeline, mariadb, postgres, kafka, way) as works:
        caught_up(works.pipeline)
        before = oracle.target_rows(postgres, mariadb.name, "journal")
        with postgres.connect() as line, line.transaction():
            line.execute("SELECT 1 FROM cdc.progress FOR UPDATE")
            mariadb.execute("INSERT INTO journal VALUES ('once', 1, NULL), ('once', 1, NULL)")
            until(lambda: _waits_for_lock(postgres), 30, "the sink at its commit", *works.processes.values())
            mariadb.execute("INSERT INTO journal VALUES ('once', 1, NULL)")
            assert before == oracle.target_rows(postgres, mariadb.name, "journal")
            works.kill(works.commands[-1])
        works.start(works.commands[-1])
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        equal(works.pipeline)


def _waits_for_lock(target: TargetDatabase) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%cdc.progress%'"
    return bool(target.execute(sql))
