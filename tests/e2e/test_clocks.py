"""Lag and freshness while somebody on the source tells the time wrong, and afterwards, while everything is down."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from tests.e2e.bank import create
from tests.e2e.streaming import Streaming, name_of, streaming
from tests.e2e.watch import Metrics, caught_up, listening, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

FRESH_SECONDS = 60.0
"""More than a busy machine is behind, and far less than the years that the session claims."""
YEAR_2033 = 2_000_000_000


def _freshness(target: TargetDatabase) -> tuple[float, float]:
    """Seconds behind, and how many seconds ago `consistent_through` is; the worst of all tables; infinite while none is consistent."""
    [found] = target.execute(
        "SELECT max(seconds_behind), extract(epoch FROM clock_timestamp() - max(consistent_through))::float8 FROM cdc.freshness"
    )
    return tuple(math.inf if one is None else float(one) for one in found)  # type: ignore[return-value]


def _status(works: Streaming) -> float:
    return float(works.pipeline.json("status")["lag_seconds"]["total"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct", "split"])
def test_a_session_that_sets_its_clock_bends_neither_lag_nor_freshness(
    way: str, mariadb: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Into the future: never fresher than it is, and while the pipeline is down older and older. Into the past: never older for long."""
    kafka: Broker | None = None if way == "direct" else request.getfixturevalue("kafka")
    create(mariadb)
    listen = listening() if way == "direct" else {}
    with streaming(pipeline, mariadb, postgres, kafka, way, metrics=listen) as works:
        caught_up(works.pipeline)
        begun = _cut(postgres)
        until(lambda: _cut(postgres) > begun + 2, 60, "heartbeats, whose proof no session takes back", *works.processes.values())
        for number in range(20):
            mariadb.execute(f"SET timestamp = {1 if number % 2 else YEAR_2033}", f"INSERT INTO journal VALUES ('x', {number}, NULL)")
            assert min(_freshness(postgres)) >= 0
            until(lambda: max(_freshness(postgres)) < FRESH_SECONDS, 30, "freshness", *works.processes.values())
        mariadb.execute(f"SET timestamp = {YEAR_2033}", "INSERT INTO journal VALUES ('y', 1, NULL)")
        caught_up(works.pipeline)
        if listen:
            assert 0 <= Metrics(listen["listen"]).value("cdc_lag_seconds", stage="total") < FRESH_SECONDS
        works.kill()
        down = time.monotonic()
        until(lambda: time.monotonic() > down + 3, 10, "time passing")
        stood, lags = time.monotonic() - down, (_status(works), *_freshness(postgres))
        assert all(stood - 1 < lag < stood + FRESH_SECONDS + 20 for lag in lags), (stood, lags)
        mariadb.execute("SET timestamp = DEFAULT")
        _as_an_older_version_left_it(postgres, works)
        assert all(stood - 1 < lag for lag in (_status(works), *_freshness(postgres)))
        works.start()
        until(lambda: _stored(postgres) < time.time() + 1, 60, "the mark that was stored to be mended", *works.processes.values())
        caught_up(works.pipeline)
        until(lambda: max(_status(works), *_freshness(postgres)) < FRESH_SECONDS, 30, "freshness", *works.processes.values())


def _as_an_older_version_left_it(target: TargetDatabase, works: Streaming) -> None:
    """Which stored what the log claimed."""
    target.execute(f"UPDATE cdc.progress SET source_ts = to_timestamp({YEAR_2033}) WHERE pipeline = '{name_of(works.pipeline)}'")


def _cut(target: TargetDatabase) -> int:
    """The last one that is applied; on an idle source a heartbeat makes one."""
    return int(target.execute("SELECT cut_no FROM cdc.progress")[0][0])


def _stored(target: TargetDatabase) -> float:
    return float(target.execute("SELECT extract(epoch FROM source_ts)::float8 FROM cdc.progress")[0][0])
