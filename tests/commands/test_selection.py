"""A name that is none of the pipeline's tables: no command answers for nothing, and calls it equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pipelines import Pipeline
from tests.helpers.servers import SourceDatabase, TargetDatabase


@pytest.fixture
def copied(source: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> Pipeline:
    """Of two tables and one that is excluded."""
    for name in ("patient", "appointment", "excluded"):
        source.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY)", f"INSERT INTO {name} VALUES (1)")
    made: Pipeline = pipeline(source, postgres, source={"exclude": [f"{source.name}.excluded"]})
    made.json("snapshot")
    return made


def _refused(made: Pipeline, arguments: Sequence[str], *words: str) -> None:
    done = made.run(*arguments)
    assert 2 == done.returncode, done.stdout + done.stderr
    assert all(word in done.stderr for word in ("not_selected", *words)), done.stderr


def test_what_is_no_followed_table_is_refused_by_each_command(source: SourceDatabase, copied: Pipeline, tmp_path: Path) -> None:
    db = source.name
    export = ["schemas", "export", str(tmp_path), "--tables"]
    commands = (["reconcile", "--tables"], ["reconcile", "--repair", "--tables"], export, ["copy"])
    for command in commands:
        _refused(copied, [*command, f"{db}.patiennt"], f"{db}.patiennt", f"did you mean {db}.patient?")
        _refused(copied, [*command, f"{db}.excluded"], f"{db}.excluded")
    for patterns in ([f"{db}.x*"], [f"{db}.patient", f"{db}.x*"], ["*.Patient?"]):
        _refused(copied, ["reconcile", "--tables", ",".join(patterns)], patterns[-1], "cdc status")


def test_what_names_some_of_them_compares_these(source: SourceDatabase, copied: Pipeline) -> None:
    whole = copied.json("reconcile", "--timeout", "1")
    assert ["appointment", "patient"] == sorted(one["source"].rpartition(".")[2] for one in whole["tables"])
    some = copied.json("reconcile", "--timeout", "1", "--tables", f"{source.name}.pat*")
    assert [f"{source.name}.patient"] == [one["source"] for one in some["tables"]]
