"""Statements as real servers log them: the reader hands each over, and whether it touches a followed table is told right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cdc.binlog.events import LoggedStatement, RowsEvent
from cdc.ddl.classify import Unsupported, classify
from cdc.model.selection import Selection
from tests.helpers.own_servers import mariadb_server, mysql_server  # noqa: F401
from tests.helpers.servers import SourceDatabase, lent
from tests.helpers.source_log import events_since, position


@pytest.fixture
def other(source: SourceDatabase) -> Iterator[SourceDatabase]:
    """A second database, nothing of which is followed."""
    with lent(SourceDatabase(source.server)) as database:
        yield database


def verdicts(source: SourceDatabase, *statements: str, line: SourceDatabase | None = None) -> list[str]:
    """The reasons to stop that the log of these statements holds; every table of `source` is followed."""
    start = position(source)
    (line or source).execute(*statements)
    wants = Selection([f"{source.name}.*"])
    found = [
        classify(event.sql, event.db, wants, sql_mode=event.sql_mode)
        for event in events_since(source, start, wants=lambda db, table: True)
        if isinstance(event, LoggedStatement)
    ]
    return [verdict.reason for verdict in found if isinstance(verdict, Unsupported)]


def test_what_only_looks_like_a_followed_table_is_harmless(source: SourceDatabase, other: SourceDatabase) -> None:
    source.execute("CREATE TABLE a (id INT PRIMARY KEY, n INT)")
    assert [] == verdicts(
        source,
        f"CREATE TABLE z (a INT COMMENT 'RENAME TO {source.name}.a') COMMENT 'it''s \\', DROP TABLE {source.name}.a'",
        f"ALTER TABLE z /* {source.name}.a */ ADD b INT, ADD `{source.name}.a` INT # {source.name}.a",
        f"/*!50001 CREATE VIEW v AS SELECT * FROM {source.name}.a */",
        f"CREATE TRIGGER tr AFTER INSERT ON z FOR EACH ROW SET @a = 'DROP TABLE {source.name}.a'",
        f"CREATE PROCEDURE p() BEGIN DELETE FROM {source.name}.a; END",
        f"CREATE FUNCTION f() RETURNS INT DETERMINISTIC BEGIN DELETE FROM {source.name}.a; RETURN 1; END",
        f"CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM {source.name}.a",
        f"CREATE TABLE copied LIKE {source.name}.a",
        f"CREATE TABLE selected AS SELECT * FROM {source.name}.a",
        f"CREATE TEMPORARY TABLE {source.name}.t (a INT)",
        f"INSERT INTO {source.name}.t VALUES (1)",
        f"DROP TEMPORARY TABLE {source.name}.t",
        f"ANALYZE TABLE {source.name}.a",
        f"OPTIMIZE TABLE {source.name}.a",
        f"CREATE TABLE {other.name}.`2019_sales` (a INT)",
        f"DROP TABLE {other.name}.2019_sales",
        "DROP VIEW v",
        "DROP PROCEDURE p",
        "FLUSH TABLES",
        line=other,
    )


def test_sequences_are_harmless(mariadb: SourceDatabase) -> None:
    assert [] == verdicts(mariadb, "CREATE SEQUENCE s", "SELECT NEXTVAL(s)", "ALTER SEQUENCE s RESTART 7", "DROP SEQUENCE s")


def test_tablespaces_are_harmless(mysql: SourceDatabase) -> None:
    """Where a followed table's rows lie; the server drops none that holds any."""
    mysql.execute("CREATE TABLE a (id INT PRIMARY KEY)")
    name = mysql.name
    logged = events_said(mysql, f"CREATE TABLESPACE {name} ADD DATAFILE '{name}.ibd'", f"ALTER TABLESPACE {name} RENAME TO {name}_2",
                         f"DROP TABLESPACE {name}_2")  # fmt: skip
    assert ["CREATE TABLESPACE", "ALTER TABLESPACE", "DROP TABLESPACE"] == [" ".join(sql.split()[:2]) for sql in logged]
    assert [] == verdicts(mysql, f"CREATE TABLESPACE {name} ADD DATAFILE '{name}.ibd'", f"DROP TABLESPACE {name}")


def events_said(source: SourceDatabase, *statements: str) -> list[str]:
    """What of these statements the log holds."""
    start = position(source)
    source.execute(*statements)
    return [event.sql for event in events_since(source, start) if isinstance(event, LoggedStatement)]


TOUCHING = {
    "a digit at the start of a name": (["CREATE TABLE `2019_sales` (a INT)", "DROP TABLE {db}.2019_sales"], ["created", "dropped"]),
    "one of several dropped tables": (["CREATE TABLE {other}.x (a INT)", "DROP TABLE {other}.x, {db}.a"], ["dropped"]),
    "a comment in the midst": (["ALTER /* gh-ost */ TABLE {db}./**/a ADD x INT"], ["changed"]),
    "a conditional comment": (["/*!40101 ALTER */ TABLE {db}.a ADD x INT"], ["changed"]),
    "a rename out of the database": (["RENAME TABLE {db}.a TO {other}.a"], ["renamed"]),
    "a rename by ALTER into it": (["CREATE TABLE {other}.x (a INT)", "ALTER TABLE {other}.x ADD y INT, RENAME TO {db}.x"], ["changed"]),
    "a truncated partition": (
        ["CREATE TABLE p (a INT) PARTITION BY HASH (a) PARTITIONS 2", "ALTER TABLE p TRUNCATE PARTITION p0"],
        ["created", "changed"],
    ),
    "an exchanged partition": (
        [
            "CREATE TABLE {other}.p (id INT PRIMARY KEY, n INT) PARTITION BY HASH (id) PARTITIONS 2",
            "ALTER TABLE {other}.p EXCHANGE PARTITION p0 WITH TABLE {db}.a",
        ],
        ["changed"],
    ),
    "names in double quotes": (["SET SESSION sql_mode = 'ANSI_QUOTES'", 'ALTER TABLE "{db}"."a" ADD x INT'], ["changed"]),
    "a backslash that is none": (
        [
            "CREATE TABLE {other}.x (a INT)",
            "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
            "ALTER TABLE {other}.x COMMENT '\\', RENAME TO {db}.b -- '",
        ],
        ["changed"],
    ),
    "an insert as a statement": (["SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO a VALUES (1, 1)"], ["written"]),
    "an update of two tables": (
        ["CREATE TABLE {other}.x (a INT)", "SET SESSION binlog_format = 'STATEMENT'", "UPDATE {other}.x, {db}.a SET n = 1"],
        ["written"],
    ),
    "a replace": (["SET SESSION binlog_format = 'STATEMENT'", "REPLACE INTO a VALUES (1, 1)"], ["written"]),
    "a delete": (["SET SESSION binlog_format = 'STATEMENT'", "DELETE FROM a WHERE n = 5--1"], ["written"]),
}


@pytest.mark.parametrize("kind", TOUCHING)
def test_what_touches_a_followed_table_stops(source: SourceDatabase, other: SourceDatabase, kind: str) -> None:
    source.execute("CREATE TABLE a (id INT PRIMARY KEY, n INT)")
    statements, reasons = TOUCHING[kind]
    assert reasons == verdicts(source, *[sql.format(db=source.name, other=other.name) for sql in statements])


TOUCHING_MARIADB = {
    "a database made anew": (["CREATE OR REPLACE DATABASE {db}"], ["database"]),
    "a table that becomes a partition": (
        [
            "CREATE TABLE {other}.p (id INT PRIMARY KEY, n INT) PARTITION BY RANGE (id) (PARTITION p9 VALUES LESS THAN (9))",
            "ALTER TABLE {other}.p CONVERT TABLE {db}.a TO PARTITION p10 VALUES LESS THAN (10)",
        ],
        ["changed"],
    ),
    "a partition that becomes a table": (
        [
            "CREATE TABLE {other}.p (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p9 VALUES LESS THAN (9), "
            "PARTITION p10 VALUES LESS THAN (10))",
            "ALTER TABLE {other}.p CONVERT PARTITION p9 TO TABLE {db}.made",
        ],
        ["changed"],
    ),
    "a statement with settings of its own": (["SET STATEMENT lock_wait_timeout=9 FOR ALTER TABLE {db}.a ADD x INT"], ["changed"]),
    "an analyzed update": (["SET SESSION binlog_format = 'STATEMENT'", "ANALYZE UPDATE a SET n = 1"], ["written"]),
    "a dropped table that somebody waits for": (["ALTER TABLE a NOWAIT ADD x INT", "DROP TABLE a WAIT 5"], ["changed", "dropped"]),
}


@pytest.mark.parametrize("kind", TOUCHING_MARIADB)
def test_what_touches_a_followed_table_of_mariadb_stops(mariadb: SourceDatabase, kind: str) -> None:
    mariadb.execute("CREATE TABLE a (id INT PRIMARY KEY, n INT)", "INSERT INTO a VALUES (9, 9)")
    statements, reasons = TOUCHING_MARIADB[kind]
    with lent(SourceDatabase(mariadb.server)) as other:
        assert reasons == verdicts(mariadb, *[sql.format(db=mariadb.name, other=other.name) for sql in statements])


def test_a_table_made_of_a_query_is_a_statement_before_its_rows(source: SourceDatabase) -> None:
    """MySQL and MariaDB log CREATE TABLE .. SELECT as the statement without its SELECT, and the rows behind it."""
    source.execute("CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1), (2)")
    start = position(source)
    source.execute("CREATE TABLE b AS SELECT * FROM a")
    said = [event for event in events_since(source, start) if isinstance(event, LoggedStatement | RowsEvent)]
    assert ["LoggedStatement", "RowsEvent"] == [type(event).__name__ for event in said]
    assert "SELECT" not in next(event.sql.upper() for event in said if isinstance(event, LoggedStatement))


def test_a_memory_table_that_a_restart_emptied_stops(private: Callable[..., Any]) -> None:
    """Its rows are gone with the server's memory; the server says so in the log, as a statement, when the table is first opened."""
    server = private("mariadb")
    with lent(SourceDatabase(server)) as source:
        source.execute("CREATE TABLE m (a INT PRIMARY KEY) ENGINE=MEMORY", "INSERT INTO m VALUES (1)")
        start = position(source)
        source.close()
        server.stop()
        server.start()
        assert [] == source.execute("SELECT * FROM m")
        wants = Selection([f"{source.name}.*"])
        said = [event for event in events_since(source, start) if isinstance(event, LoggedStatement)]
        verdicts = [classify(event.sql, event.db, wants, sql_mode=event.sql_mode) for event in said]
        assert ["truncated"] == [verdict.reason for verdict in verdicts if isinstance(verdict, Unsupported)]
