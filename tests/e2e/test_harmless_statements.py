"""Statements that change nothing of what is followed, as real servers log them: the stream goes on, and what arrives is equal."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.pipelines import Pipeline, said
from tests.helpers.refusals import ended, outcome, rows, streaming
from tests.helpers.servers import SourceDatabase, TargetDatabase

HARMLESS = (
    "CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS v (id INT)",
    "DROP TABLE IF EXISTS nothing, neither",
    "DROP DATABASE IF EXISTS {db}_nothing",
    "CREATE TEMPORARY TABLE t (a INT)",
    "TRUNCATE TABLE t",
    "DROP TABLE IF EXISTS t, nothing",
    "/*!40000 ALTER TABLE t DISABLE KEYS */",
    "/*!40000 ALTER TABLE t ENABLE KEYS */",
    "ALTER TABLE t COMMENT 'x', AUTO_INCREMENT = 100",
    "ALTER TABLE t FORCE",
    "ALTER TABLE m ENGINE = InnoDB",
    "ALTER TABLE t ADD INDEX i (n), ADD UNIQUE u (b(20))",
    "ALTER TABLE t RENAME INDEX i TO j",
    "DROP INDEX j ON t",
    "OPTIMIZE TABLE t",
    "DROP VIEW IF EXISTS nothing",
)
MARIADB = (
    "ALTER TABLE t ADD UNIQUE hash (b)",
    "INSERT INTO t (n, b) VALUES (7, 'hashed')",
    "DROP INDEX hash ON t",
    "SET SESSION binlog_format = 'MIXED'",
    "CREATE TEMPORARY TABLE scratch (a INT)",
    "ALTER TABLE scratch ADD b INT",
    "TRUNCATE scratch",
    "DROP TABLE scratch",
    "SET SESSION binlog_format = 'ROW'",
)


def test_what_changes_nothing_that_is_followed_stops_nothing_and_what_may_does(
    source: SourceDatabase, postgres: TargetDatabase, pipeline: Callable[..., Pipeline]
) -> None:
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, b TEXT)",
        "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        "CREATE TABLE bare (a INT NOT NULL, b INT NOT NULL, UNIQUE i (a))",
        "CREATE TABLE stored (id INT PRIMARY KEY, n INT, c INT AS (n + 1) STORED)",
        "CREATE VIEW v AS SELECT 1 AS id",
        "INSERT INTO t (n, b) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO bare VALUES (1, 1)",
    )
    made = pipeline(source, postgres)
    (running,) = streaming(made)
    number = 0
    for sql in (*HARMLESS, *(MARIADB if source.flavour == "mariadb" else ())):
        source.execute(sql.format(db=source.name), f"INSERT INTO t (n, b) VALUES ({(number := number + 1)}, 'x{number}')")
    source.execute("INSERT INTO m VALUES (5)")
    assert 0 == made.run("wait", "--timeout", "60").returncode, said(running)
    assert [(5,)] == rows(postgres, source.name, "m")
    made.json("reconcile")
    source.execute("ALTER TABLE bare ADD INDEX k (b)", "INSERT INTO bare VALUES (2, 2)")
    assert 0 == made.run("wait", "--timeout", "60").returncode, said(running)
    source.execute("ALTER TABLE bare DROP INDEX i, ADD UNIQUE j (b)", "INSERT INTO bare VALUES (3, 3)")
    ended(running)
    stopped = outcome(running)
    assert ("statement_unsupported", True) == (stopped["code"], f"{source.name}.bare" in stopped["place"])
    assert 2 == len(rows(postgres, source.name, "bare"))
