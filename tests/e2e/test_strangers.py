"""Records in the topics that nobody's base accounts for: they are void, whatever schema they bear."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e import oracle
from tests.e2e.streaming import streaming
from tests.e2e.watch import Metrics, caught_up, listening
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase


@pytest.mark.slow
def test_a_late_record_of_a_schema_that_no_base_names_is_passed_over_and_counted(
    mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """As a capture leaves it whose epoch was over before its base; the sink goes on, and so it does when it begins again below it."""
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    listen = listening()
    with streaming(pipeline, mariadb, postgres, kafka, "kafka", metrics=listen) as works:
        caught_up(works.pipeline)
        [topic] = [one for one in kafka.topics() if one.endswith(f"{mariadb.name}.t")]
        for number in range(2):
            producer = Producer({"bootstrap.servers": kafka.bootstrap})
            producer.produce(topic, value=b"\0" + (4711).to_bytes(4, "big") + b"what nobody can read", key=b"k", partition=0)
            assert 0 == producer.flush(20)
            mariadb.execute("UPDATE t SET v = v + 1", f"INSERT INTO t VALUES ({number + 2}, 0)")
            caught_up(works.pipeline)
            # Not counted where capture has begun another epoch behind it meanwhile: then nobody has to read it.
            assert Metrics(listen["listen"]).value("cdc_void_records_total", reason="schema") <= 1
            works.stop()
            before = works.await_cut(postgres)
            works.start()
            works.await_cut(postgres, before)  # else the next record may lie below where the new epoch begins
        assert {} == oracle.differences(mariadb, postgres, ("t",))
