"""The place of every partition is stored in the commit that applies it, whichever of the commit's cuts named it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdc.commands.capture import capture
from cdc.runtime import timing
from tests.e2e import oracle
from tests.e2e.foreign import control_records
from tests.e2e.inside import inside
from tests.e2e.watch import caught_up, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase


def _named(kafka: Broker, topic: str, number: int, *, full: bool) -> bool:
    """Whether a cut of this kind names the partition at this number."""
    cuts = [one for one in control_records(kafka) if one["type"] == "cut" and one["full"] == full]
    return any(one["partitions"].get(f"{topic}:0", [0, 0, 0])[2] == number for one in cuts)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [0, 2])
def test_a_batch_that_spans_a_full_cut_stores_every_partition_that_it_moved(
    shards: int, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cuts name what changed since the full cut before: the last cut of a batch need not name what an earlier one of it did."""
    mariadb.execute("CREATE TABLE heap (a INT)", "CREATE TABLE other (a INT PRIMARY KEY)", "INSERT INTO heap VALUES (1), (1), (1)")
    made = pipeline(mariadb, postgres, kafka, apply={"shards": shards})
    made.json("snapshot")
    heap, other = (f"{kafka.prefix}.{mariadb.name}.{table}" for table in ("heap", "other"))
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, full_cut_seconds=1000.0))
    with inside(capture, made):
        sink = made.start("apply")
        caught_up(made)
        sink.kill()
        mariadb.execute("INSERT INTO heap VALUES (2)", "DELETE FROM heap WHERE a = 1 LIMIT 1")
        monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, full_cut_seconds=0.0))
        until(lambda: _named(kafka, heap, 2, full=True), 30, "a full cut")
        monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, full_cut_seconds=1000.0))
        mariadb.execute("INSERT INTO other VALUES (1)")
        until(lambda: _named(kafka, other, 1, full=False), 30, "a cut of the other table")
        sink = made.start("apply")
        caught_up(made)
        sink.kill()
        sink = made.start("apply")
        mariadb.execute("INSERT INTO other VALUES (2)")
        caught_up(made)
        mariadb.execute("INSERT INTO heap VALUES (3)", "DELETE FROM heap WHERE a = 1 LIMIT 1")
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, ("heap", "other"))
        assert 0 == sink.stop()
