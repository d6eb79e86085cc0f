"""A key that the target refuses late in an oversized transaction keeps the value of the last commit, not one from its middle."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest

from cdc.commands import run as run_command
from cdc.commands.capture import capture
from tests.e2e import oracle
from tests.e2e.inside import inside
from tests.e2e.watch import caught_up, until
from tests.helpers.pipelines import Pipeline
from tests.helpers.servers import SourceDatabase, TargetDatabase

TABLES = ("t", "heap")
WAYS = [("direct", 0), ("kafka", 0), pytest.param("kafka", 2, marks=pytest.mark.slow)]


def _create(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000) NOT NULL)",
        "CREATE TABLE heap (v VARCHAR(40))",
        "INSERT INTO t VALUES (1, 'old'), (2, 'old'), (4, 'old')",
    )


def _transaction(source: SourceDatabase) -> None:
    """Each key is well at first, and refused, or away and refused, in a later piece; the row without a key comes twice."""
    filler = ", ".join(f"({n}, REPEAT('x', 1500))" for n in range(100, 160))
    more = ", ".join(f"({n}, REPEAT('y', 1500))" for n in range(200, 260))
    early = ["UPDATE t SET v = 'half' WHERE id = 1", "INSERT INTO t VALUES (3, 'half')", "DELETE FROM t WHERE id = 4"]
    late = ["UPDATE t SET v = 'bad' WHERE id IN (1, 3)", "INSERT INTO t VALUES (4, 'bad')"]
    source.execute(
        "BEGIN",
        *early,
        "INSERT INTO heap VALUES ('twice')",
        f"INSERT INTO t VALUES {filler}",
        *late,
        "INSERT INTO heap VALUES ('twice')",
        f"INSERT INTO t VALUES {more}",
        "UPDATE t SET v = 'new' WHERE id = 2",
        "COMMIT",
    )


@pytest.mark.parametrize(("way", "shards"), WAYS)
def test_a_key_refused_in_a_later_piece_keeps_the_value_of_the_last_commit(
    way: str,
    shards: int,
    mariadb: SourceDatabase,
    request: pytest.FixtureRequest,
    pipeline: Any,
    postgres: TargetDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cdc.capture.capture.PARTIAL_BYTES", 20_000)
    _create(mariadb)
    brokers = [request.getfixturevalue("kafka")] if way == "kafka" else []
    made = pipeline(mariadb, postgres, *brokers, apply={"shards": shards})
    with _streaming(made, way):
        until(lambda: postgres.execute("SELECT to_regclass('cdc.progress')") != [(None,)], 60, "the copy")
        caught_up(made)
        postgres.execute(
            f"ALTER TABLE {mariadb.name}.t ADD CONSTRAINT good CHECK (v <> 'bad')",
            f"CREATE UNIQUE INDEX once ON {mariadb.name}.heap (v)",
        )
        _transaction(mariadb)
        until(lambda: postgres.execute(f"SELECT 1 FROM {mariadb.name}.t WHERE id = 2 AND v = 'new'"), 90, "the transaction")
        found = postgres.execute(f"SELECT id, v FROM {mariadb.name}.t WHERE id < 100 ORDER BY 1")
        assert [(1, "old"), (2, "new"), (4, "old")] == found
        asked = {"t": [2, 2, 2], "heap": [2]}
        until(lambda: _waiting(postgres) == asked, 60, "what waits for its key in both tables")
        assert [] == postgres.execute(f"SELECT v FROM {mariadb.name}.heap")
        postgres.execute(f"ALTER TABLE {mariadb.name}.t DROP CONSTRAINT good", f"DROP INDEX {mariadb.name}.once")
        assert 4 == made.json("quarantine", "replay")["replayed"]
        mariadb.execute("UPDATE t SET v = 'last' WHERE id = 4", "DELETE FROM heap LIMIT 1")
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, TABLES)


def _waiting(postgres: TargetDatabase) -> dict[str, list[int]]:
    """How many changes wait for each key, by table; shards commit each on their own, and so one table is seen before the other."""
    waiting = postgres.execute('SELECT "table", key FROM cdc.quarantine')
    return {name: sorted(Counter(w for w in waiting if w[0] == name).values()) for name in TABLES}


@contextlib.contextmanager
def _streaming(made: Pipeline, way: str) -> Any:
    """Capture in this process, whose pieces are small; the sink too where both are one."""
    if way == "direct":
        with inside(run_command.run, made):
            yield
        return
    made.json("snapshot")
    with inside(capture, made):
        sink = made.start("apply")
        yield
        assert 0 == sink.stop()
