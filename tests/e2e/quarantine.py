"""A pipeline whose target refuses rows: tables, what waits of them, and the commands, none of which may show a value."""

from __future__ import annotations

import itertools
import json
from typing import Any

from cdc.commands.quarantine import discarded, listed, replayed, shown
from cdc.config.load import load
from cdc.monitoring.status import status
from tests.e2e.streaming import Streaming
from tests.e2e.watch import until
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline
from tests.helpers.servers import SourceDatabase, TargetDatabase

KEY, VALUE, NUMBER = "patient-Zaphod", "diagnosis-Beeblebrox", "4711471147"
PLANTED = ("zaphod", "beeblebrox", NUMBER)
TABLES = ("t", "bare", "mark")
_marks = itertools.count(1)


def create(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, v VARCHAR(60), n BIGINT)",
        "CREATE TABLE bare (v VARCHAR(60), n BIGINT)",
        "CREATE TABLE mark (id INT PRIMARY KEY)",
        f"INSERT INTO t VALUES ('{KEY}1', '{VALUE}', 1), ('{KEY}2', '{VALUE}', 2)",
    )


def settle(source: SourceDatabase, target: TargetDatabase, works: Streaming) -> None:
    """All that was committed before is applied or waits: commits keep the source's order."""
    mark = next(_marks)
    source.execute(f"INSERT INTO mark VALUES ({mark})")
    until(lambda: target.execute(f"SELECT 1 FROM {source.name}.mark WHERE id = {mark}"), 60, "the mark", *works.processes.values())


ACTS = {"list": listed, "show": shown, "replay": replayed}


def asked(pipeline: Pipeline, act: str, table: str = "", key: str = "", everything: bool = False) -> Any:
    """What the command's function answers, without the second that a process takes to start."""
    config = load(pipeline.path, pipeline.environ)
    document = discarded(config, table, key, everything) if act == "discard" else ACTS[act](config, table, key)
    assert [] == faults(f"quarantine_{act}", document)
    silent(json.dumps(document))
    return document


def said_by(pipeline: Pipeline, *words: str, exit_code: int = 0) -> Any:
    """The document of a command, which keeps its schema; what it says to people shows no value either."""
    done = pipeline.run("--json", *words)
    assert exit_code == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout)
    kind = "_".join(words[:2]) if words[0] == "quarantine" else words[0]
    assert [] == faults("error" if exit_code == 2 else kind, document)
    silent(done.stdout, done.stderr)
    return document


def silent(*texts: str) -> None:
    assert [] == [(value, text[:2000]) for text in texts for value in PLANTED if value in text.lower()]


def tables(pipeline: Pipeline) -> dict[str, tuple[str, int]]:
    """State and held keys of each table."""
    document = status(load(pipeline.path, pipeline.environ))
    assert [] == faults("status", document)
    silent(json.dumps(document))
    return {one["source"].partition(".")[2]: (one["state"], one["quarantined"]) for one in document["tables"]}


def ids(target: TargetDatabase, schema: str) -> dict[str, str]:
    """The numbers of the keys in the target's table, with the end of their value."""
    return {key.removeprefix(KEY): value.removeprefix(VALUE) for key, value, _ in target.execute(f"SELECT * FROM {schema}.t")}


def insert(number: object, value: str = "", n: object = 1) -> str:
    return f"INSERT INTO t VALUES ('{KEY}{number}', {value or repr(VALUE)}, {n})"
