"""A dental practice at work is replicated by every way of running, from both sources, and two judges agree that nothing is missing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cdc.demo import opendental
from tests.e2e import oracle
from tests.e2e.bank import TABLES, Bank, create
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.documents import faults
from tests.helpers.servers import PASSWORD, SourceDatabase, TargetDatabase

SIZE, RATE, ACTS = 0.02, 150.0, 130
"""A deck of acts is about 120 cards: every kind comes up."""


def _account(source: SourceDatabase) -> dict[str, Any]:
    return {"host": source.host, "port": source.port, "user": "root", "password": PASSWORD}


@pytest.mark.parametrize(("flavour", "way", "engine"), [
    ("mariadb", "direct", "MyISAM"), pytest.param("mysql", "split", "MyISAM", marks=pytest.mark.soak),
    pytest.param("mariadb", "kafka", "MyISAM", marks=pytest.mark.soak),
    ("mysql", "direct", "InnoDB"),
])  # fmt: skip
def test_a_practice_at_work_arrives_whole(
    flavour: str, way: str, engine: str, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """People work from before the copy until after the stream has begun; then every table is equal, by checksums and by plain reading."""
    source = request.getfixturevalue(flavour)
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    opendental.create(_account(source), source.name, engine)
    opendental.load(_account(source), source.name, size=SIZE, seed=7)
    practice = opendental.Workload(_account(source), source.name, RATE, 7, engine)
    closing = threading.Event()
    worker = threading.Thread(target=practice.run, args=(closing,))
    worker.start()
    try:
        with streaming(pipeline, source, postgres, kafka, way) as works:
            until(lambda: sum(practice.report().acts.values()) >= ACTS or not worker.is_alive(), 120, "a whole deck of acts")
            closing.set()
            worker.join()
            _agree(works, source, postgres)
    finally:
        closing.set()
        worker.join()


def _agree(works: Streaming, source: SourceDatabase, postgres: TargetDatabase) -> None:
    works.check()
    caught_up(works.pipeline)
    tables = oracle.source_tables(source)
    assert {} == oracle.differences(source, postgres, tables)
    document = equal(works.pipeline)
    assert {f"{source.name}.{table}" for table in tables} == {entry["source"] for entry in document["tables"]}
    status = works.pipeline.json("status")
    assert [] == faults("status", status)
    assert {"consistent"} == {table["state"] for table in status["tables"]}


@pytest.mark.parametrize("way", ["direct", "split"])
def test_odd_values_arrive_as_they_are(
    way: str, source: SourceDatabase, pipeline: Any, postgres: TargetDatabase, request: pytest.FixtureRequest
) -> None:
    """NULL beside 'NULL', sentinel and zero dates, the largest unsigned numbers, emoji, bits; keyed and not, copied and streamed."""
    create(source)
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    with Bank(source, 3) as bank, streaming(pipeline, source, postgres, kafka, way) as works:
        until(lambda: bank.done > 150, 60, "150 transactions")
        bank.close()
        caught_up(works.pipeline)
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(works.pipeline)
