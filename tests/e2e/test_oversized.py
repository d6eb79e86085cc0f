"""A transaction larger than a piece passes in pieces, arrives in one commit, and survives kills in its middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.e2e import oracle
from tests.e2e.foreign import control_records
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

ROWS, STEP = 1280, 128
"""Of 64 kB each: 80 MB, more than two pieces of 32 MB and more than the in-process transport holds."""


def _create(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE big (id INT NOT NULL PRIMARY KEY, body MEDIUMTEXT NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE heap (id INT NOT NULL, body VARCHAR(40) NOT NULL) ENGINE=InnoDB",
        "INSERT INTO heap VALUES (0, 'first')",
    )


def _transaction(source: SourceDatabase) -> None:
    """Rows with a key and rows without, in one transaction; a row changes again in a later piece, and one is gone at the end."""
    steps = []
    for first in range(0, ROWS, STEP):
        numbers = range(first, first + STEP)
        steps.append("INSERT INTO big VALUES " + ", ".join(f"({n}, REPEAT(LPAD({n}, 8, 'x'), 8192))" for n in numbers))
        steps.append("INSERT INTO heap VALUES " + ", ".join(f"({n % 7}, 'equal')" for n in numbers))
    last = ["UPDATE big SET body = 'short' WHERE id = 1", "DELETE FROM big WHERE id = 2", "DELETE FROM heap WHERE id = 3 LIMIT 5"]
    source.execute("BEGIN", *steps, *last, "COMMIT")


@contextmanager
def _looking(target: TargetDatabase, schema: str) -> Iterator[set[tuple[Any, ...]]]:
    """Every state of the two tables that a reader ever sees."""
    seen: set[tuple[Any, ...]] = set()
    stop = threading.Event()

    def look() -> None:
        with target.connect() as line:
            while not stop.wait(0.02):
                try:
                    seen.update(
                        line.execute(f'SELECT (SELECT count(*) FROM "{schema}".big), (SELECT count(*) FROM "{schema}".heap)'.encode())
                    )
                except psycopg.errors.UndefinedTable:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _check(works: Streaming, source: SourceDatabase, target: TargetDatabase, seen: set[tuple[Any, ...]]) -> None:
    works.check()
    caught_up(works.pipeline)
    until(lambda: (ROWS - 1, ROWS - 4) in seen, 10, "the reader's look at the end")
    assert {(0, 1), (ROWS - 1, ROWS - 4)} == seen
    assert {} == oracle.differences(source, target, ("big", "heap"))
    equal(works.pipeline)


def _writing(target: TargetDatabase) -> bool:
    """The sink is in the middle of a transaction that has written."""
    return bool(
        target.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_xid IS NOT NULL AND application_name LIKE 'cdc % apply'"
        )
    )


def test_it_passes_in_process(source: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """In process: one commit for a reader of the target; killed in the middle, and equal afterwards."""
    _create(source)
    with streaming(pipeline, source, postgres, None, "direct") as works, _looking(postgres, source.name) as seen:
        _transaction(source)
        until(lambda: _writing(postgres), 60, "the first piece", *works.processes.values())
        works.kill()
        assert {(0, 1)} == seen
        works.start()
        _check(works, source, postgres, seen)


@pytest.mark.parametrize(
    ("source", "victim"), [pytest.param("mariadb", "capture", marks=pytest.mark.soak), ("mysql", "apply")], indirect=["source"]
)
def test_it_passes_through_kafka(victim: str, source: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """Through topics: partial cuts between the pieces; capture or apply is killed after the first of them."""
    _create(source)
    with streaming(pipeline, source, postgres, kafka, "split") as works, _looking(postgres, source.name) as seen:
        if victim == "apply":
            works.kill("apply")
        _transaction(source)
        until(lambda: _partial_cuts(kafka) > 0, 60, "a partial cut", works.processes["capture"])
        if victim == "capture":
            works.kill("capture")
        else:
            works.start("apply")
            until(lambda: _writing(postgres), 60, "the first piece", works.processes["apply"])
            works.kill("apply")
        works.start(victim)
        _check(works, source, postgres, seen)
        pieces = _partial_cuts(kafka)
        assert pieces >= 2
        source.execute("INSERT INTO heap SELECT b.id % 7, 'equal' FROM big b CROSS JOIN heap h LIMIT 150000")  # 3 MB of log
        caught_up(works.pipeline)
        assert _partial_cuts(kafka) > pieces, "many small rows weigh more than their bytes"
        assert {} == oracle.differences(source, postgres, ("heap",))


def _partial_cuts(kafka: Broker) -> int:
    return sum(1 for record in control_records(kafka) if record["type"] == "cut" and record["partial"])
