"""Rows of many megabytes, before and after their change in one record: by both transports, in memory that is bounded by the row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

MEGABYTES = 22
COLUMNS = "a", "b"


def _row(number: int, sign: str) -> str:
    """A row of two texts, none above MariaDB's max_allowed_packet of 16 MB: together they are."""
    texts = ", ".join(f"REPEAT('{sign}{column}', {MEGABYTES * 250_000})" for column in COLUMNS)
    return f"REPLACE INTO big VALUES ({number}, {texts})"


def _equal(source: SourceDatabase, target: TargetDatabase) -> None:
    here, there = (", ".join(digest % one for one in COLUMNS) for digest in ("sha2(%s, 256)", "encode(sha256(%s::bytea), 'hex')"))
    held = source.execute(f"SELECT id, {here} FROM big ORDER BY id")
    assert held == target.execute(f'SELECT id, {there} FROM "{source.name}".big ORDER BY id')


def _peak(works: Streaming) -> int:
    """The most memory that one of the processes ever had, in megabytes."""
    texts = [Path(f"/proc/{one.process.pid}/status").read_text() for one in works.processes.values()]
    return max(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) // 1000 for text in texts)


@pytest.mark.parametrize(("source", "way"), [("mariadb", "direct"), ("mysql", "split")], indirect=["source"])
def test_rows_of_many_megabytes_are_copied_and_followed(
    source: SourceDatabase, way: str, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Copied, inserted, changed and deleted; a change weighs twice the row, more than a packet, and than what the transport holds."""
    source.execute("CREATE TABLE big (id INT PRIMARY KEY, a LONGTEXT, b LONGTEXT)", _row(1, "x"), _row(2, "y"))
    with streaming(pipeline, source, postgres, kafka, way) as works:
        source.execute(f"UPDATE big SET a = REPEAT('z', {MEGABYTES * 500_000}) WHERE id = 1", _row(3, "n"), "DELETE FROM big WHERE id = 2")
        caught_up(works.pipeline)
        _equal(source, postgres)
        assert _peak(works) < 120 + 15 * MEGABYTES
    source.execute("FLUSH BINARY LOGS")  # a server looks for a place in a file from the file's beginning
