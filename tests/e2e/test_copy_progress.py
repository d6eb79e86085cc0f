"""How far a copy is that is made while the log is followed: told from the target alone, whoever lives."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from cdc.cli.bars import _Bars, _RowsColumn
from cdc.config.load import load
from cdc.monitoring.status import status
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up, until
from tests.helpers.documents import faults
from tests.helpers.servers import SourceDatabase, TargetDatabase

ROWS = 4000


def _status(works: Streaming) -> dict[str, Any]:
    document = status(load(works.pipeline.path, works.pipeline.environ))
    assert [] == faults("status", document)
    return document


def _under_way(works: Streaming, beyond: int = 0) -> dict[str, Any]:
    """The document of a moment at which a copy moves and has brought more rows than that."""

    def moving() -> Any:
        document = _status(works)
        whole = document["copying"]
        return document if whole and whole["rows"] > beyond and whole["rows_per_second"] else None

    found: dict[str, Any] = until(moving, 60, f"more than {beyond} rows", *works.processes.values())
    return found


def test_status_tells_how_far_a_copy_is_before_and_after_a_restart(mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Rows are those that the target holds of it; rate and remaining time are of the last minute; nothing is told when it is over."""
    mysql.execute(
        "CREATE TABLE wide (id int PRIMARY KEY, body varchar(100)) ENGINE=MyISAM",
        "CREATE TABLE number (n int PRIMARY KEY)",
        "INSERT INTO number VALUES " + ", ".join(f"({n})" for n in range(100)),
        f"INSERT INTO wide SELECT a.n * 100 + b.n, 'x' FROM number a, number b WHERE a.n < {ROWS // 100}",
    )
    name = f"{mysql.name}.wide"
    with streaming(pipeline, mysql, postgres, None, "direct", snapshot={"max_rows_per_second": 2000}) as works:
        caught_up(works.pipeline)
        assert (None, [None, None]) == (_status(works)["copying"], [table["copying"] for table in _status(works)["tables"]])
        works.pipeline.json("copy", name, "--no-wait")
        document = _under_way(works)
        [table] = [one for one in document["tables"] if one["copying"]]
        going, whole = table["copying"], document["copying"]
        assert (name, "copying", "whole", going["rows"]) == (table["source"], table["state"], going["kind"], table["rows_loaded"])
        assert (going["rows"], ROWS, False) == (whole["rows"], whole["rows_estimated"], whole["paused"])
        assert going["remaining_seconds"] == pytest.approx((ROWS - going["rows"]) / going["rows_per_second"])

        works.kill()
        [(held,)] = postgres.execute(f"SELECT count(*) FROM {name}")
        [table] = [one for one in _status(works)["tables"] if one["copying"]]
        assert (held, held) == (table["copying"]["rows"], table["rows_loaded"])
        assert 0 < held < ROWS
        works.start()
        _under_way(works, held)
        until(lambda: _status(works)["copying"] is None, 60, "the copy", *works.processes.values())
        assert ROWS == next(one["rows_loaded"] for one in _status(works)["tables"] if one["source"] == name)

        works.pipeline.json("copy", name, "--where", "id < 3000", "--no-wait")
        document = _under_way(works)
        [table] = [one for one in document["tables"] if one["copying"]]
        assert ("consistent", "where", ROWS) == (table["state"], table["copying"]["kind"], table["rows_loaded"])
        assert (None, None) == (table["copying"]["remaining_seconds"], document["copying"]["remaining_seconds"])
        until(lambda: _status(works)["copying"] is None, 60, "the copy", *works.processes.values())


def test_a_bar_of_a_copy_whose_rows_nobody_has_counted_shows_rows_and_no_end() -> None:
    """`cdc copy --where`: how many rows meet a condition is known when they are read."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress("{task.description}", _RowsColumn(), console=console, auto_refresh=False) as bars:
        shown = _Bars(bars)
        shown("a.b", 10, -1)
        shown("a.b", 70, -1)
        [task] = bars.tasks
        assert ("a.b", 70, None, False) == (task.description, task.completed, task.total, task.finished)
        assert _RowsColumn().render(task).plain.startswith("70 rows")
        shown("a.b", 80, 80)
        assert [("1 of 1 tables", 80, 80)] == [(one.description, one.completed, one.total) for one in bars.tasks]
