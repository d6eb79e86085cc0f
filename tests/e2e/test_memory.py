"""Memory does not grow with a transaction or with what has piled up: what a process held at its most, as the kernel counted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up
from tests.helpers.pipelines import Running
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

ROWS = 700_000
"""Small ones, which weigh most: held whole, as records with their keys, they would take 400 MB and more."""
MOST_BYTES = 300 << 20


_HASHED_HERE = "SUM(CONV(LEFT(SHA2(CONCAT_WS(',', id, note, at), 256), 8), 16, 10))"
_HASHED_THERE = (
    "sum(('x' || left(encode(sha256(convert_to(concat_ws(',', id, note, to_char(at, 'YYYY-MM-DD HH24:MI:SS')), 'UTF8')), 'hex'), 8))"
    "::bit(32)::bigint)"
)
"""A sum over a hash of each row, by each server's own functions: too many rows to be read into a test."""


def _peak_bytes(process: Running) -> int:
    """proc(5), VmHWM: the most memory that was resident at one time."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


@pytest.mark.parametrize(
    ("source", "way"), [pytest.param("mariadb", "direct", marks=pytest.mark.soak), ("mysql", "split")], indirect=["source"]
)
def test_a_large_transaction_and_what_piled_up_behind_it_take_bounded_memory(
    way: str, source: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """One transaction of many rows, and the same rows once more in small ones, wait for a sink that was not there."""
    source.execute(
        "CREATE TABLE big (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, note VARCHAR(20) NOT NULL, at DATETIME NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE digit (d INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO digit VALUES " + ", ".join(f"({n})" for n in range(100)),
    )
    some = "SELECT CONCAT(a.d, ' ', b.d), '2026-11-23 10:00:00' FROM digit a, digit b"
    with streaming(pipeline, source, postgres, kafka, way) as works:
        works.kill()
        source.execute(f"INSERT INTO big (note, at) {some}, digit c WHERE c.d < {ROWS // 10_000}")
        source.execute(*[f"INSERT INTO big (note, at) {some}"] * (ROWS // 10_000))
        for command in works.commands:
            works.start(command)
        caught_up(works.pipeline, 150)
        peaks = {command: _peak_bytes(process) for command, process in works.processes.items()}
        assert {} == {command: peak for command, peak in peaks.items() if peak > MOST_BYTES}
        assert {} == oracle.differences(source, postgres, ("digit",))
        there = postgres.execute(f'SELECT count(*), sum(id), {_HASHED_THERE} FROM "{source.name}".big')
        assert source.execute(f"SELECT COUNT(*), SUM(id), {_HASHED_HERE} FROM big") == [tuple(map(int, there[0]))]
        assert 2 * ROWS == there[0][0]
