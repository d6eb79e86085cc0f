"""SIGTERM and SIGINT end every command cleanly within 10 s: while it streams, while it copies, and while it waits for a server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cdc.stack import probe
from tests.e2e import oracle
from tests.e2e.bank import TABLES, Bank, create, create_wide
from tests.e2e.streaming import cut_no, name_of, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.pipelines import Running, said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, lent

SECONDS = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _end_all(processes: list[Running]) -> None:
    """Signal them all, SIGTERM and SIGINT in turn, and see each end with 0 in time."""
    began = time.monotonic()
    for number, process in enumerate(processes):
        assert process.alive, said(process)
        process.process.send_signal(SIGNALS[number % 2])
    for process in processes:
        assert 0 == process.process.wait(3 * SECONDS), said(process)
        assert time.monotonic() - began < SECONDS, said(process)


@pytest.mark.parametrize("way", ["direct", "kafka", "split"])
@pytest.mark.parametrize("order", [1, -1])
def test_streaming_ends(
    order: int, way: str, mariadb: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """In the middle of the work, which goes on where it was left, with nothing lost and nothing doubled."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(mariadb)
    with Bank(mariadb, 1) as bank, streaming(pipeline, mariadb, postgres, kafka, way) as works:
        began = cut_no(postgres, name_of(works.pipeline))
        done = bank.done
        works.await_cut(postgres, beyond=began)
        until(lambda: bank.done > done, 30, "work under way", *works.processes.values())
        _end_all(list(works.processes.values())[::order])
        left_at = cut_no(postgres, name_of(works.pipeline))
        until(lambda: bank.done > done + 20, 30, "work that nobody follows")
        assert left_at == cut_no(postgres, name_of(works.pipeline)), "what has ended writes nothing more"
        works.start()
        bank.close()
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        equal(works.pipeline)


@pytest.mark.parametrize(("command", "number"), [("snapshot", signal.SIGTERM), ("run", signal.SIGINT)])
def test_copying_ends(command: str, number: signal.Signals, mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """In the middle of a copy, which goes on later."""
    create(mariadb)
    create_wide(mariadb)
    made = pipeline(mariadb, postgres, snapshot={"parallel": 1})
    copying = made.start(command)
    until(lambda: _chunks(postgres) > 0, 60, "a chunk", copying)
    began = time.monotonic()
    assert 0 == copying.stop(number), said(copying)
    assert time.monotonic() - began < SECONDS
    assert made.json("snapshot")["complete"] is True


def _chunks(target: TargetDatabase) -> int:
    try:
        return int(target.execute("SELECT count(*) FROM cdc.chunks")[0][0])
    except psycopg.errors.UndefinedTable:
        return 0


def test_waiting_for_a_server_that_is_away_ends(mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """At the start, with the source, the target or the broker away."""
    create(mariadb)
    nobody = f"127.0.0.1:{probe.free_port()}"
    source = {"source": {"url": f"mysql://cdc:${{CDC_SOURCE_PASSWORD}}@{nobody}/"}}
    target = {"target": {"url": f"postgresql://cdc:${{CDC_TARGET_PASSWORD}}@{nobody}/x"}}
    broker = {"transport": {"bootstrap": nobody}}
    waiting = [(None, source, "run"), (None, source, "snapshot"), (None, target, "run"), (None, target, "snapshot"), (kafka, broker, "run"),
               (kafka, broker, "capture"), (kafka, broker, "apply"), (kafka, source, "capture"), (kafka, target, "apply")]  # fmt: skip
    started = [
        pipeline(mariadb, postgres, *([transport] if transport else []), **away).start(command) for transport, away, command in waiting
    ]
    for process in started:
        until(lambda p=process: "unreachable" in p.output(), 30, "a word about the server that is away", process)  # type: ignore[misc]
    _end_all(started)


def test_waiting_for_the_copy_ends(mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """`cdc apply` before there is a copy waits for it, and ends when it is told to."""
    create(mariadb)
    made = pipeline(mariadb, postgres, kafka)
    waiting = made.start("apply")
    until(lambda: "waiting_for_copy" in waiting.output(), 30, "its word that it waits", waiting)
    _end_all([waiting])


def test_waiting_for_a_source_that_hangs_ends(private: Callable[..., Any], kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """The source accepts connections and says nothing any more: to those that stream, that copy, and that start."""
    with lent(SourceDatabase(private("mariadb"))) as source:
        create(source)
        create_wide(source)
        process = source.server.process
        assert process is not None
        with streaming(pipeline, source, postgres, kafka, "split") as works:
            source.execute("INSERT INTO journal VALUES ('x', 1, NULL)")
            caught_up(works.pipeline)
            made = pipeline(source, postgres, pipeline={"name": "other"}, target={"schema": "other"}, snapshot={"parallel": 1})
            copying = made.start("snapshot")
            until(lambda: "copy_started" in copying.output(), 30, "a copy under way", copying)
            source.close()
            os.kill(process.pid, signal.SIGSTOP)
            try:
                starting = made.start("run")
                until(
                    lambda: "source_" in works.processes["capture"].output(),
                    60,
                    "its word that the source is away",
                    works.processes["capture"],
                )
                _end_all([works.processes["capture"], copying, starting])
            finally:
                os.kill(process.pid, signal.SIGCONT)


def test_waiting_for_a_broker_that_hangs_ends(
    mariadb: SourceDatabase, private: Callable[..., Any], pipeline: Any, postgres: TargetDatabase
) -> None:
    """The broker accepts connections and says nothing any more, with commits of the consumer's offsets under way."""
    create(mariadb)
    broker = Broker(private("kafka"))
    process = broker.server.process
    assert process is not None
    with Bank(mariadb, 1) as bank, streaming(pipeline, mariadb, postgres, broker, "split") as works:
        until(lambda: bank.done > 20, 60, "work", *works.processes.values())
        os.kill(process.pid, signal.SIGSTOP)
        try:
            for one in works.processes.values():
                until(lambda p=one: "broker_" in p.output(), 60, "its word that the broker is away", one)  # type: ignore[misc]
            _end_all(list(works.processes.values()))
        finally:
            os.kill(process.pid, signal.SIGCONT)
