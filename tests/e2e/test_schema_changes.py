"""Statements that change followed tables in the middle of the work: the process goes on, and both sides end equal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
import pytest

from tests.e2e import oracle
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up
from tests.helpers.pipelines import said
from tests.helpers.servers import SourceDatabase, TargetDatabase

FIRST = [
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT, w VARCHAR(20)) ENGINE={engine}",
    "INSERT INTO t (v, w) SELECT a.n * 10 + b.n, 'x' FROM (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) a, "
    "(SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) b",
    "CREATE TABLE side (a INT, b INT) ENGINE={engine}",
    "INSERT INTO side VALUES (1, 1), (1, 1), (2, 2)",
]
NIGHT = {
    "added": ["ALTER TABLE t ADD c DECIMAL(8,2) DEFAULT 1.5", "UPDATE t SET c = 2 WHERE id < 4"],
    "dropped and renamed in one": ["ALTER TABLE t DROP c, CHANGE w c VARCHAR(20)"],
    "retyped": ["ALTER TABLE t MODIFY v BIGINT UNSIGNED", "INSERT INTO t (v) VALUES (18446744073709551615)"],
    "another key": ["ALTER TABLE t MODIFY id INT, DROP PRIMARY KEY, ADD k INT, ADD PRIMARY KEY (id, v)"],
    "truncated": ["TRUNCATE TABLE side", "INSERT INTO side VALUES (3, 3), (3, 3)"],
    "created and altered": ["CREATE TABLE n (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES (1), (2)",
                            "ALTER TABLE n ADD x INT", "UPDATE n SET x = id"],
    "swapped": ["CREATE TABLE _t_new LIKE t", "ALTER TABLE _t_new ADD s INT", "INSERT INTO _t_new SELECT t.*, 1 FROM t",
                "RENAME TABLE t TO _t_old, _t_new TO t", "DROP TABLE _t_old"],
    "dropped": ["DROP TABLE n"],
    "created again": ["CREATE TABLE n (k VARCHAR(9) PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES ('a')"],
    "of a select": ["CREATE TABLE m ENGINE={engine} AS SELECT 1 AS a UNION SELECT 2", "INSERT INTO m VALUES (3)"],
}  # fmt: skip


@contextmanager
def writing(source: SourceDatabase) -> Iterator[None]:
    """Somebody who writes single rows into a table of whatever shape it has, until the block ends."""
    over = threading.Event()

    def write() -> None:
        with source.connect() as line, line.cursor() as cursor:
            while not over.wait(0.005):
                with suppress(pymysql.err.MySQLError):
                    cursor.execute("INSERT INTO side VALUES (FLOOR(RAND() * 5), 9)")
                    cursor.execute("DELETE FROM side WHERE b = 9 LIMIT 1")
                    line.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


@pytest.mark.slow
@pytest.mark.parametrize(("flavour", "way", "engine"), [("mariadb", "direct", "MyISAM"), ("mysql", "split", "InnoDB")])
def test_a_night_of_schema_changes_needs_nobody(
    flavour: str, way: str, engine: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    source: SourceDatabase = request.getfixturevalue(flavour)
    source.execute(*(one.format(engine=engine) for one in FIRST))
    broker = None if way == "direct" else request.getfixturevalue("kafka")
    with streaming(pipeline, source, postgres, broker, way) as works:
        for name, statements in NIGHT.items():
            with writing(source):
                source.execute(*(one.format(engine=engine) for one in statements))
            caught_up(works.pipeline)
            assert {} == oracle.differences(source, postgres, oracle.source_tables(source)), name
            works.check()
        states = dict(postgres.execute('SELECT "table", state FROM cdc.tables'))
        left = {table for table, state in states.items() if state == "stopped"}
        assert left <= {"_t_old", "_t_new"}, states
        assert {"consistent"} == {state for table, state in states.items() if table not in left}, states
        works.stop()
        assert "tables_changed" in said(*works.processes.values())
