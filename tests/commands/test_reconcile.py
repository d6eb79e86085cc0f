"""`cdc reconcile` tells what it found whatever ends it: a signal, a server that is lost, a defect, a full disk."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cdc.cli.call import judged
from cdc.commands import copy as copy_command, reconcile as command
from cdc.errors import CdcError, Refused, Retry
from cdc.model.position import Position
from cdc.model.table import Column, Table
from cdc.runtime.shutdown import Interrupted
from snapshot.reconcile.compare import Difference, Kind, Result, Verdict
from tests.helpers.documents import faults

TABLES = [Table("db", name, (Column("id", "int"),), key=(0,)) for name in ("a", "b", "c")]
LOST = Retry("source_lost", "127.0.0.1:3306", "the connection was lost", "bring it back")
CONFIG: Any = SimpleNamespace(
    source=None, pipeline=SimpleNamespace(name="od"), policies=SimpleNamespace(policies=None),
    target=SimpleNamespace(schema_="{db}"), apply=SimpleNamespace(max_delay_seconds=0.2),
)  # fmt: skip


class Store:
    """The target's state."""

    def __init__(self) -> None:
        self.kept, self.error = list[Any](), None

    def version(self) -> int:
        return 1

    def table(self, db: str, name: str) -> None:
        return None

    def store_reconciliation(self, *found: Any) -> None:
        if self.error is not None:
            raise self.error
        self.kept.append(found)


@pytest.fixture
def store(monkeypatch):
    """The command over tables whose comparisons are answers of a list."""
    made = Store()
    catalog = SimpleNamespace(
        log=SimpleNamespace(written_position=lambda: Position("mariadb", "1", file="b.1", offset=4)), flavour="mariadb",
        engine=lambda table: "InnoDB", row_estimate=lambda table: 0,
    )  # fmt: skip
    monkeypatch.setattr(command, "Catalog", lambda source: nullcontext(catalog))
    monkeypatch.setattr(command, "StateStore", lambda target, name: nullcontext(made))
    monkeypatch.setattr(command, "selected_tables", lambda *_: TABLES)
    for name in ("connect", "connect_target"):
        monkeypatch.setattr(command, name, lambda *_, **__: SimpleNamespace(close=lambda: None))
    for name in ("SourceSide", "PostgresSide", "judge_for"):
        monkeypatch.setattr(command, name, lambda *_, **__: None)
    return made


def answers(monkeypatch: Any, *found: Result | BaseException) -> None:
    left = iter(found)

    def verify(table: Table, *_: Any, **__: Any) -> Result:
        one = next(left)
        if isinstance(one, BaseException):
            raise one
        return one

    monkeypatch.setattr(command, "verify", verify)


def result(table: Table, state: Verdict = Verdict.EQUAL) -> Result:
    rows = (Difference(Kind.MISSING, ("1",)),) if state is Verdict.DIFFERENT else ()
    return Result(table, table.qualified, state, "spans", rows_source=1, rows_target=1, differences=rows)


def judgement(document: Any) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and of each table its state and why."""
    document = json.loads(json.dumps(document))
    assert [] == faults("reconcile", document)
    shown = [(one["source"], one["state"], one["reason"]) for one in document["tables"]]
    return judged("reconcile", document).exit_code, sorted(shown)


@pytest.mark.parametrize("error", [Interrupted(), LOST, KeyError("row-value-4711")], ids=lambda one: type(one).__name__)
def test_what_was_compared_before_it_was_ended_is_told_and_what_was_not(store, monkeypatch, error, tmp_path):
    answers(monkeypatch, result(TABLES[0]), error)
    found = command.reconcile(CONFIG, (), False, tmp_path)
    code = error.code if isinstance(error, CdcError) else "internal"
    assert (1, [("db.a", "equal", ""), ("db.b", "refused", code), ("db.c", "refused", code)]) == judgement(found)
    assert code == found["ended"]["code"]
    assert [] == store.kept
    (page,) = tmp_path.glob("*.html")
    assert "did not come to its end" in page.read_text()
    assert "4711" not in str(found) + page.read_text()


def test_a_difference_that_was_found_before_is_told_by_the_exit_code_too(store, monkeypatch):
    answers(monkeypatch, result(TABLES[0], Verdict.DIFFERENT), LOST)
    assert 3 == judgement(command.reconcile(CONFIG, (), False, None))[0]


def test_what_ends_it_before_the_first_table_is_compared_is_an_error(store, monkeypatch):
    answers(monkeypatch, LOST)
    with pytest.raises(Retry):
        command.reconcile(CONFIG, (), False, None)


def test_a_verdict_that_cannot_be_kept_is_told_all_the_same(store, monkeypatch, tmp_path):
    every = [result(table) for table in TABLES]
    answers(monkeypatch, *every)
    assert (0, 1) == (judgement(command.reconcile(CONFIG, (), False, None))[0], len(store.kept))
    store.error = Retry("target_lost", "cdc.reconciliation", "the connection is lost", "")
    answers(monkeypatch, *every)
    found = command.reconcile(CONFIG, (), False, tmp_path)
    assert (1, "target_lost") == (judgement(found)[0], found["ended"]["code"])
    assert 2 == len(list(tmp_path.iterdir()))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    answers(monkeypatch, *every)
    found = command.reconcile(CONFIG, (), False, tmp_path)
    assert (1, "directory") == (judgement(found)[0], found["ended"]["code"])
    assert "No space left" in found["ended"]["rule"]


def test_a_directory_that_cannot_be_written_into_is_refused_before_anything_is_compared(store, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused) as refused:
        command.reconcile(CONFIG, (), False, tmp_path / "file" / "report")
    assert "directory" == refused.value.code


def test_a_repair_that_nobody_does_is_waited_for_once(store, monkeypatch):
    waits = list[float]()

    def read_again(config: Any, table: Table, keys: Any, timeout: float, told: Any) -> tuple[str, str]:
        waits.append(timeout)
        return copy_command.WAITING, "no process has done it in time"

    monkeypatch.setattr(copy_command, "read_again", read_again)
    answers(monkeypatch, *(result(table, Verdict.DIFFERENT) for table in TABLES))
    found = command.reconcile(CONFIG, (), True, None, timeout=30)
    assert (3, [30, 0.1, 0.1], 3) == (judgement(found)[0], waits, len(found["repairs"]))


def test_it_tells_how_far_it_is(store, monkeypatch):
    told = list[tuple[int, int]]()
    answers(monkeypatch, *(result(table) for table in TABLES))
    command.reconcile(CONFIG, (), False, None, told=lambda compared, tables, doing, rows: told.append((compared, tables)))
    assert [(1, 3), (2, 3), (3, 3)] == told
