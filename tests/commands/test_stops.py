"""What this version does not follow stops it at its place, by name, with what mends it: made by real servers wherever one can."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cdc.binlog.events import RowsEvent
from cdc.errors import Halt
from tests.binlog.test_statements import verdicts
from tests.helpers.own_servers import mariadb_server, mysql_server  # noqa: F401
from tests.helpers.refusals import ended, error, found, outcome, refused, rows, streaming, untouched
from tests.helpers.servers import SourceDatabase, TargetDatabase
from tests.helpers.source_log import events_since, position

Private = Callable[..., Any]


@pytest.mark.parametrize("own", ["mariadb", pytest.param("mysql", marks=pytest.mark.slow)], indirect=True)
def test_events_that_the_source_lost_stop_by_its_own_word(own: SourceDatabase, postgres: TargetDatabase, pipeline: Any) -> None:
    """A MyISAM table takes more rows than the log's cache holds: they stay in the table, and the server logs an INCIDENT instead."""
    own.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000)) ENGINE=MyISAM", "SET GLOBAL max_binlog_stmt_cache_size = 4096")
    own.close()
    made = pipeline(own, postgres)
    (running,) = streaming(made)
    own.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    many = ", ".join(f"({n}, REPEAT('x', 1500))" for n in range(10, 60))
    with pytest.raises(pymysql.err.MySQLError):
        own.execute(f"INSERT INTO t VALUES {many}")
    assert 2 < own.execute("SELECT COUNT(*) FROM t")[0][0]
    ended(running)
    said = outcome(running)
    assert ("incident", "cdc reset --all, and start again") == (said["code"], said["hint"])
    assert "binlog.0" in said["place"]
    assert [(1, "a"), (2, "b")] == rows(postgres, own.name)
    assert said == error(made, "run", exit_code=1)
    assert [(1, "a"), (2, "b")] == rows(postgres, own.name)


def test_rows_that_are_loaded_or_selected_as_statements_are_written(source: SourceDatabase, tmp_path: Path) -> None:
    source.execute("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)", "INSERT INTO b VALUES (5)")
    data = tmp_path / "rows"
    data.write_text("1\n2\n")
    source.execute("SET GLOBAL local_infile = 1")
    line = SourceDatabase(source.server, source.name)
    with closing(source.connect(local_infile=True)) as line._admin:
        load = f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE a"
        assert ["written"] == verdicts(source, "SET binlog_format = STATEMENT", load, line=line)
        assert ["written"] == verdicts(source, "INSERT INTO a SELECT id FROM b", line=line)
        assert ["written"] == verdicts(source, "SET binlog_format = MIXED", "DELETE FROM a", line=line)
        start = position(source)
        assert [] == verdicts(source, "SET binlog_format = ROW", load, "INSERT INTO a SELECT id FROM b", line=line)
        assert 2 == len([event for event in events_since(source, start) if isinstance(event, RowsEvent)])


@pytest.mark.parametrize("own", ["mariadb"], indirect=True)
@pytest.mark.parametrize("level", ["NO_LOG", "MINIMAL"])
def test_names_that_leave_the_log_are_missed_at_the_next_row(own: SourceDatabase, level: str) -> None:
    own.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    start = position(own)
    own.execute("INSERT INTO t VALUES (1)", f"SET GLOBAL binlog_row_metadata = {level}")
    own.close()
    own.execute("INSERT INTO t VALUES (2)")
    first, second = [event for event in events_since(own, start) if isinstance(event, RowsEvent)]
    assert (("id",), (0,)) == (tuple(column.name for column in first.table.table().columns), first.table.table().key)
    with pytest.raises(Halt) as stopped:
        second.table.table()
    assert ("row_metadata", f"{own.name}.t") == (stopped.value.code, stopped.value.place)


def test_a_table_with_history_rows_is_refused_by_name_and_stops_a_stream_that_it_joins(
    mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    """Its history stands in the log as further rows: an UPDATE adds the old row, a DELETE is an UPDATE of its end."""
    mariadb.execute("CREATE TABLE v (id INT PRIMARY KEY, n INT) WITH SYSTEM VERSIONING", "CREATE TABLE t (id INT PRIMARY KEY, n INT)")
    start = position(mariadb)
    mariadb.execute("INSERT INTO v VALUES (1, 1)", "UPDATE v SET n = 2", "DELETE FROM v")
    logged = [(event.kind, len(event.table.table().columns)) for event in events_since(mariadb, start) if isinstance(event, RowsEvent)]
    assert [("c", 4), ("u", 4), ("c", 4), ("u", 4)] == logged
    said = refused(pipeline(mariadb, postgres), "run")
    assert ("system_versioned", f"{mariadb.name}.v") == (said["code"], said["place"])
    assert "DROP SYSTEM VERSIONING" in said["hint"]
    untouched(postgres)
    made = pipeline(mariadb, postgres, source={"exclude": [f"{mariadb.name}.v"]})
    (running,) = streaming(made)
    mariadb.execute(
        "INSERT INTO v VALUES (2, 2)", "INSERT INTO t VALUES (1, 1)", "ALTER TABLE t ADD SYSTEM VERSIONING", "UPDATE t SET n = 2"
    )
    ended(running)
    stopped = outcome(running)
    assert ("system_versioned", f"{mariadb.name}.t") == (stopped["code"], stopped["place"])
    assert [(1, 1)] == rows(postgres, mariadb.name)
    assert ["system_versioned"] == [one["code"] for one in found(made)]
    assert [(1, 1)] == rows(postgres, mariadb.name)
