"""Stops, rotations and servers that go away: the pipeline goes on by itself, says so while it cannot, and ends equal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.bank import TABLES, Auditor, Bank, create
from tests.e2e.streaming import Streaming, name_of, streaming
from tests.e2e.watch import caught_up, equal, listening, metrics, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, lent


def _agree(works: Streaming, source: SourceDatabase, postgres: TargetDatabase) -> None:
    caught_up(works.pipeline)
    assert {} == oracle.differences(source, postgres, TABLES)
    equal(works.pipeline)


def _work(bank: Bank, transactions: int = 20) -> None:
    done = bank.done
    until(lambda: bank.done > done + transactions, 60, "work")


@pytest.mark.parametrize(("source", "way"), [("mariadb", "direct"), ("mysql", "split")], indirect=["source"])
def test_a_restart_while_idle_and_after_rotations_goes_on(
    way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Stopped and started with nothing to do, with work done meanwhile, and with the log rotated before, between and after."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    with streaming(pipeline, source, postgres, kafka, way) as works:
        caught_up(works.pipeline)
        works.stop()
        works.start()
        caught_up(works.pipeline)
        works.stop()
        source.execute("FLUSH BINARY LOGS")
        with Bank(source, 1) as bank:
            _work(bank)
            source.execute("FLUSH BINARY LOGS")
            works.start()
            _work(bank)
            source.execute("FLUSH BINARY LOGS")
            _work(bank)
        _agree(works, source, postgres)


@contextmanager
def _degrades(listen: str, works: Streaming) -> Iterator[Callable[[], None]]:
    """Watch the states of one process; the block's argument waits until it has been degraded, the end until all of it streams again."""
    seen: list[dict[str, str]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            now = metrics(listen)
            if now is not None:
                seen.append(now.states())

    thread = threading.Thread(target=look)
    thread.start()
    processes = tuple(works.processes.values())
    try:
        yield lambda: _await(lambda: any("degraded" in states.values() for states in seen), "a degraded state", processes)
        _await(lambda: bool(seen) and set(seen[-1].values()) <= {"streaming", "stopped"}, "streaming again", processes)
    finally:
        stop.set()
        thread.join()
        print([states for states, before in zip(seen, [None, *seen], strict=False) if states != before])


def _await(condition: Callable[[], bool], what: str, processes: Any) -> None:
    until(condition, 60, what, *processes)


def test_a_source_that_restarts_is_waited_for(
    request: pytest.FixtureRequest, private: Callable[..., Any], pipeline: Any, postgres: TargetDatabase
) -> None:
    """The source is stopped and started beneath a running pipeline; the work goes on as soon as it is back."""
    with lent(SourceDatabase(private("mariadb"))) as source:
        create(source)
        listen = listening()
        with streaming(pipeline, source, postgres, None, "direct", metrics=listen) as works, Bank(source, 2) as bank:
            with Auditor(postgres, name_of(works.pipeline), source.name):
                _work(bank)
                with _degrades(listen["listen"], works) as degraded:
                    source.close()
                    source.server.stop()
                    degraded()
                    source.server.start()
                    _work(bank)
                bank.close()
                _agree(works, source, postgres)


def test_a_source_that_crashes_is_waited_for(private: Callable[..., Any], kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """MySQL is killed and recovers; capture reads on from its own position."""
    with lent(SourceDatabase(private("mysql", durable=True))) as source:
        create(source)
        with streaming(pipeline, source, postgres, kafka, "split") as works, Bank(source, 2) as bank:
            _work(bank)
            source.close()
            source.server.kill()
            source.server.start()
            _work(bank)
            bank.close()
            _agree(works, source, postgres)


def test_a_sink_whose_backend_is_ended_goes_on(mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """pg_terminate_backend in the middle of the work, three times: an unknown outcome is read back, never guessed."""
    create(mariadb)
    listen = listening()
    with streaming(pipeline, mariadb, postgres, None, "direct", metrics=listen) as works, Bank(mariadb, 4) as bank:
        with Auditor(postgres, name_of(works.pipeline), mariadb.name):
            for _ in range(3):
                works.await_cut(postgres, works.await_cut(postgres))
                with _degrades(listen["listen"], works) as degraded:
                    until(lambda: _end_backends(postgres), 10, "a backend of the sink")
                    degraded()
            _work(bank)
            bank.close()
            _agree(works, mariadb, postgres)


def _end_backends(postgres: TargetDatabase) -> int:
    sql = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'cdc % apply'"
    )
    with postgres.connect("postgres") as line:
        row = line.execute(sql.encode()).fetchone()
    return int(row[0]) if row else 0


def test_a_broker_that_restarts_is_waited_for(
    mysql: SourceDatabase, private: Callable[..., Any], pipeline: Any, postgres: TargetDatabase
) -> None:
    """The broker is stopped and started beneath capture and apply."""
    create(mysql)
    broker = Broker(private("kafka"))
    listen = listening()
    with streaming(pipeline, mysql, postgres, broker, "kafka", metrics=listen) as works, Bank(mysql, 6) as bank:
        with Auditor(postgres, name_of(works.pipeline), mysql.name):
            _work(bank)
            with _degrades(listen["listen"], works) as degraded:
                broker.server.stop()
                degraded()
                broker.server.start()
            _work(bank)
            bank.close()
            _agree(works, mysql, postgres)
