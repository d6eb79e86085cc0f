"""Servers that go silent under a pipeline: noticed, shown where they are, and everything is there once afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.crash.proxy import Proxy
from tests.e2e import watch
from tests.helpers.pipelines import Running
from tests.helpers.servers import SourceDatabase, TargetDatabase

PATIENCE = {"answer_timeout_seconds": 1.0}


def lags_until_told(listen: str, code: str, running: Running, write: Callable[[], object]) -> dict[str, float]:
    """The lags of the stages when the whole was latest, from a silence on until it is told by a reason code."""
    worst: dict[str, float] = {"total": 0.0}

    def told() -> bool:
        found = watch.metrics(listen)
        if found is None:
            return False
        lags = {stage: found.value("cdc_lag_seconds", stage=stage) for stage in ("read", "publish", "apply", "total")}
        if lags["total"] > worst["total"]:
            worst.update(lags)
        return found.value("cdc_retries_total", code=code) > before

    before = watch.Metrics(listen).value("cdc_retries_total", code=code)
    write()
    watch.until(told, 30, f"{code} is told", running)
    return worst


def test_each_silence_is_shown_where_it_is_and_ends_in_equal_tables(mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any):
    listen = watch.listening()
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20))", "INSERT INTO t (v) VALUES ('a'), ('b')")
    with closing(Proxy(lambda: mariadb.port)) as source, closing(Proxy(lambda: postgres.port)) as target:
        made = pipeline(
            mariadb,
            postgres,
            source={"url": mariadb.url.replace(f":{mariadb.port}/", f":{source.port}/"), **PATIENCE},
            target={"url": postgres.url.replace(f":{postgres.port}/", f":{target.port}/"), **PATIENCE},
            metrics=listen,
        )
        running = made.start("run")
        watch.caught_up(made)
        for silenced, stage in ((target, "apply"), (source, "read")):

            def silence(silenced: Proxy = silenced) -> None:
                silenced.hush()
                mariadb.execute("INSERT INTO t (v) VALUES ('c'), ('d')", "UPDATE t SET v = 'e' WHERE id = 1")

            lags = lags_until_told(listen["listen"], f"{'target' if silenced is target else 'source'}_lost", running, silence)
            assert lags["total"] > 1.5
            assert lags[stage] > 0.7 * lags["total"], lags
            watch.caught_up(made)
        watch.equal(made)
        assert 0 == running.stop()
