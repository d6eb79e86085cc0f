"""Topics keep records for a while: what is gone is no loss where no number is missing, and a stop where one is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cdc.commands.capture import capture
from cdc.runtime import timing
from tests.e2e import oracle
from tests.e2e.foreign import control_records
from tests.e2e.inside import inside
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.refusals import ended, outcome
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase
from tests.transport.test_contract import expire

TABLES = ("idle", "work")


def _create(source: SourceDatabase) -> None:
    source.execute(*(f"CREATE TABLE {name} (a INT PRIMARY KEY)" for name in TABLES), "INSERT INTO idle VALUES (1), (2)")


def _end_sessions(target: TargetDatabase) -> None:
    target.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cdc % apply'")


@pytest.mark.slow
@pytest.mark.parametrize("shards", [0, 2])
def test_an_idle_table_whose_last_records_are_gone_stops_nothing(
    shards: int, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Its last change was a delete: the tombstone behind it is not what is stored, and is gone too."""
    _create(mariadb)
    topic = f"{kafka.prefix}.{mariadb.name}.idle"
    with streaming(pipeline, mariadb, postgres, kafka, "split", apply={"shards": shards}) as works:
        mariadb.execute("DELETE FROM idle WHERE a = 1")
        caught_up(works.pipeline)
        expire(kafka, topic, kafka.watermarks(topic)[1])
        works.kill("apply")
        works.start("apply")
        mariadb.execute("INSERT INTO work VALUES (1)")
        caught_up(works.pipeline)
        _end_sessions(postgres)
        mariadb.execute("INSERT INTO work VALUES (2)")
        caught_up(works.pipeline)
        works.kill()
        works.start()
        mariadb.execute("INSERT INTO idle VALUES (3)", "DELETE FROM idle WHERE a = 2")
        caught_up(works.pipeline)
        works.check()
        assert {} == oracle.differences(mariadb, postgres, TABLES)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [True, False])
def test_records_that_expired_before_they_were_applied_stop_the_sink(
    silent: bool, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the table is silent from then on: the cut that names the last of them is reached, and nobody waits for ever."""
    _create(mariadb)
    made = pipeline(mariadb, postgres, kafka)
    made.json("snapshot")
    topic = f"{kafka.prefix}.{mariadb.name}.idle"
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, full_cut_seconds=0.0))
    with inside(capture, made):
        sink = made.start("apply")
        caught_up(made)
        sink.kill()
        mariadb.execute("INSERT INTO idle VALUES (3)", "DELETE FROM idle WHERE a = 3")
        until(lambda: kafka.watermarks(topic)[1] == 3, 30, "the records")
        expire(kafka, topic, 3)
        mariadb.execute("INSERT INTO work VALUES (1)", *([] if silent else ["INSERT INTO idle VALUES (4)"]))
        last = f"{kafka.prefix}.{mariadb.name}.work:0"
        until(lambda: any(last in one.get("partitions", {}) for one in control_records(kafka)), 30, "the cut")
        sink = made.start("--json", "apply")
        ended(sink)
        assert "offset_gone" == outcome(sink)["code"]
        assert "expired" in outcome(sink)["rule"]
    assert [(1,), (2,)] == postgres.execute(f'SELECT a FROM "{mariadb.name}".idle ORDER BY 1')


@pytest.mark.slow
def test_records_that_expire_by_the_broker_s_own_clock_stop_nothing(
    private: Callable[..., Any], mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """A broker that keeps nothing for longer than a second, and looks twice a second."""
    kafka = Broker(private("kafka", options=("log.retention.check.interval.ms=500", "log.initial.task.delay.ms=100")))
    _create(mariadb)
    topic = f"{kafka.prefix}.{mariadb.name}.idle"
    with streaming(pipeline, mariadb, postgres, kafka, "split") as works:
        mariadb.execute("DELETE FROM idle WHERE a = 1")
        caught_up(works.pipeline)
        kafka.configure(topic, {"retention.ms": "1000", "segment.ms": "1000"})
        until(lambda: kafka.watermarks(topic) == (2, 2), 60, "the end of the records")
        kafka.configure(topic, {"retention.ms": "-1"})
        works.kill("apply")
        works.start("apply")
        mariadb.execute("INSERT INTO work VALUES (1)", "INSERT INTO idle VALUES (3)")
        caught_up(works.pipeline)
        works.check()
        assert {} == oracle.differences(mariadb, postgres, TABLES)


@pytest.mark.slow
def test_a_topic_that_was_made_anew_is_filled_again(
    mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Its offsets begin at 0: what it held is lost to whoever had not read it, so capture goes back to before its first record."""
    _create(mariadb)
    topic = f"{kafka.prefix}.{mariadb.name}.idle"
    with streaming(pipeline, mariadb, postgres, kafka, "split") as works:
        mariadb.execute("INSERT INTO idle VALUES (3)", "DELETE FROM idle WHERE a = 1", "INSERT INTO work VALUES (1)")
        caught_up(works.pipeline)
        works.kill()
        kafka.delete(topic)
        until(lambda: topic not in kafka.topics(), 30, "the topic's end")
        works.start()
        mariadb.execute("INSERT INTO idle VALUES (4)", "INSERT INTO work VALUES (2)")
        caught_up(works.pipeline)
        works.check()
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        assert (0, 4) == kafka.watermarks(topic)
