"""Records of one topic are applied run by run: each run bears one schema, and no record is left out or taken twice."""

from __future__ import annotations

import pytest

from sinks import batch

OLD, NEW = b"\0\0\0\0\1", b"\0\0\0\0\2"


@pytest.mark.parametrize(
    ("runs", "frames"),
    [
        ([], []),
        ([slice(0, 1)], [OLD]),
        ([slice(0, 3)], [OLD, OLD, OLD]),
        ([slice(0, 2), slice(2, 3)], [OLD, OLD, NEW]),
        ([slice(0, 1), slice(1, 2), slice(2, 4)], [OLD, NEW, OLD, OLD]),
    ],
)
def test_a_run_ends_where_the_schema_changes(runs, frames):
    assert runs == list(batch.runs([frame + b"row" for frame in frames]))
