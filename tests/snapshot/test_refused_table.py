"""A table that cannot be copied does not stop the others, and nothing of it is shown as if it could."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.helpers.pipelines import Pipeline
from tests.helpers.servers import SourceDatabase, TargetDatabase


def test_a_refused_table_says_why_and_the_others_go_on(
    source: SourceDatabase, postgres: TargetDatabase, pipeline: Callable[..., Pipeline]
) -> None:
    """Its changes are counted as void; they are neither applied to a table without its rows, nor do they stop the sink."""
    source.execute(
        "CREATE TABLE good (id INT PRIMARY KEY, x INT)",
        "CREATE TABLE odd (f FLOAT PRIMARY KEY, x INT)",
        "INSERT INTO good VALUES (1, 1)",
        "INSERT INTO odd VALUES (1.5, 1), (2.5, 2)",
    )
    line = pipeline(source, postgres)
    running = line.start("run")
    schema = source.name
    _until(lambda: postgres.execute(f"SELECT to_regclass('{schema}.good') IS NOT NULL") == [(True,)], running.output)
    _until(lambda: postgres.execute(f"SELECT count(*) FROM {schema}.good") == [(1,)], running.output)
    source.execute("INSERT INTO odd VALUES (3.5, 3)", "UPDATE odd SET x = 9 WHERE x = 1", "INSERT INTO good VALUES (2, 2)")
    _until(lambda: postgres.execute(f"SELECT count(*) FROM {schema}.good") == [(2,)], running.output)
    states = {table["source"]: table for table in line.json("status")["tables"]}
    assert ("consistent", "refused") == (states[f"{schema}.good"]["state"], states[f"{schema}.odd"]["state"])
    assert "float" in states[f"{schema}.odd"]["reason"]
    assert [(0,)] == postgres.execute(f"SELECT count(*) FROM {schema}.odd")
    assert 0 == running.stop()


def _until(holds: Callable[[], bool], told: Callable[[], str], seconds: float = 60.0) -> None:
    """Poll until it holds; fails with what the process said."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, told()
        time.sleep(0.05)
