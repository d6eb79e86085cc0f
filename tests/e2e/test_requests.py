"""What is asked for is heard, although what was asked for before it has been taken away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.streaming import name_of, streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

ONCE = ("--timeout", "60")


def _copied(works: Any, source: SourceDatabase) -> None:
    done = works.pipeline.json("copy", f"{source.name}.t", *ONCE)
    assert "done" == done["outcome"], done
    caught_up(works.pipeline)


def test_a_request_is_heard_after_the_table_of_requests_was_emptied(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        for _ in range(2):
            _copied(works, mariadb)
            postgres.execute(f"DELETE FROM cdc.request WHERE pipeline = '{name_of(works.pipeline)}'")
        works.kill()
        works.start()
        _copied(works, mariadb)


@pytest.mark.parametrize("running", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_request_is_heard_after_the_topic_of_requests_was_made_anew(
    running: bool, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Its offsets begin at 0 again, below what was read."""
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    topic = f"{kafka.prefix}.signal"
    with streaming(pipeline, mariadb, postgres, kafka, "split") as works:
        _copied(works, mariadb)
        _copied(works, mariadb)
        if not running:
            works.kill("capture")
        kafka.delete(topic)
        until(lambda: topic not in kafka.topics(), 30, "the topic's end")
        if not running:
            works.start("capture")
        _copied(works, mariadb)
        works.kill("capture")
        works.start("capture")
        _copied(works, mariadb)
        works.check()
