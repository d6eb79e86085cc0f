"""What people read: a line a table, what is wrong alone, what is to be copied unbroken, at 80 columns and in a pipe."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cdc.checks import findings
from cdc.cli import layout
from cdc.cli.words import duration, said
from cdc.errors import Halt, Retry
from cdc.model.finding import Finding
from cdc.model.table import Column, Table
from snapshot.reconcile import report
from snapshot.reconcile.compare import Difference, Kind, Result, Verdict

WIDTH = 80
STARTED = datetime(2026, 11, 23, tzinfo=UTC)


def shown(kind: str, document: Any, everything: bool = False) -> list[str]:
    """The lines as they come out of a pipe."""
    out = io.StringIO()
    layout.show(Console(file=out, width=WIDTH), kind, document, everything)
    return out.getvalue().splitlines()


def table(number: int) -> Table:
    return Table("opendental", f"table_{number:03}", (Column("id", "int"), Column("LName", "varchar", length=9)), key=(0,))


def compared(*results: Result, ended: Any = None) -> Any:
    return report.document("od", results, STARTED, STARTED + timedelta(seconds=200), ended=ended)


EQUAL = [Result(table(n), f"opendental.table_{n:03}", Verdict.EQUAL, "spans", rows_source=1000, rows_target=1000) for n in range(440)]
ROWS = (Difference(Kind.DIFFERENT, ("4711",), ("LName",)), Difference(Kind.MISSING, ("4712",)))
DIFFERENT = Result(table(440), "opendental.table_440", Verdict.DIFFERENT, "spans", differences=ROWS)
BEHIND = [Result(table(n), f"opendental.table_{n:03}", Verdict.UNSETTLED, "spans", reason="target_behind") for n in range(441, 481)]


def test_equal_tables_are_one_line_in_all_and_one_each_when_asked():
    assert ["EQUAL: 440 tables, 440,000 rows, compared in 3 min 20 s"] == shown("reconcile", compared(*EQUAL))
    every = shown("reconcile", compared(*EQUAL), everything=True)
    assert (441, "equal  opendental.table_000  1,000 rows") == (len(every), every[0])


def test_what_differs_is_a_line_a_table_and_the_sql_that_finds_it_is_unbroken():
    document = compared(*EQUAL, DIFFERENT, *BEHIND)
    lines = shown("reconcile", document)
    assert "different  opendental.table_440  rows: 1 different, 1 missing in target" == lines[0]
    queries = next(one for one in document["tables"] if one["find"])["find"]
    assert {f"    {query}" for query in queries.values()} <= set(lines)
    assert lines[-1].startswith("DIFFERENT: of 481 tables 1 different, 40 not settled, 440 equal")
    assert re.match(r" +\.\. and \d+ more unsettled \(target_behind\): --all lists them", lines[-2])
    assert len(lines) < 24
    assert len(EQUAL) + len(BEHIND) < len(shown("reconcile", document, everything=True))
    assert "4711" not in str(lines)


def test_what_was_not_compared_is_told_with_what_ended_it():
    ended = Retry("source_lost", "127.0.0.1:3306", "the connection was lost", "bring it back")
    left = [Result(table(n), "x", Verdict.REFUSED, "none", reason="source_lost", detail="it ended before") for n in range(400)]
    lines = shown("reconcile", compared(*EQUAL, *left, ended=ended))
    assert "not finished [source_lost] 127.0.0.1:3306: the connection was lost" == lines[-3]
    assert "NOT PROVEN: of 840 tables 400 not compared, 440 equal; 3 min 20 s" == lines[-1]
    assert len(lines) < 24


def examined(*found: Finding) -> Any:
    return findings.document(found, {"flavour": "mariadb", "version": "10.11"}, "15.3", ["d.a", "d.b"], "compiled")


def test_the_doctor_ends_with_a_verdict_and_shows_sql_on_lines_of_its_own():
    mend = "ALTER TABLE `opendental`.`securitylog` " + "ADD PRIMARY KEY (...), " * 9
    keyless = [Finding("warning", "no_key", f"d.t{n}", "has no primary key", mend) for n in range(20)]
    lines = shown("doctor", examined(*keyless))
    assert (3, 1) == (lines.count(f"    {mend}"), sum("and 17 more of [no_key]: cdc doctor --all" in one for one in lines))
    assert "READY: nothing stands in the way of a start, 20 warnings" == lines[-1]
    assert 20 == shown("doctor", examined(*keyless), everything=True).count(f"    {mend}")
    wrong = shown("doctor", examined(Finding("error", "source_auth", "h:1", "no", "check the password"), *keyless))
    assert ["error [source_auth] h:1: no", "    hint: check the password"] == wrong[:2]
    assert "NOT READY: 1 error to mend before a start, 20 warnings" == wrong[-1]


def test_an_error_s_sql_is_on_a_line_of_its_own_and_nothing_is_folded():
    rule = "a rule that is longer than any terminal is wide, " * 5
    lines = shown("error", Halt("c", "p", rule, "GRANT SELECT ON `a`.* TO 'b'@'%'").document()["error"])
    assert [f"error [c] p: {rule}", "hint:", "    GRANT SELECT ON `a`.* TO 'b'@'%'"] == lines


def followed(number: int, **more: Any) -> dict[str, Any]:
    name = f"opendental.table_{number:03}"
    usual = {"state": "consistent", "rows_loaded": 1000, "copying": None, "quarantined": 0, "reason": ""}
    return {"source": name, "target": name, **usual, **more}


def test_tables_that_are_as_they_shall_be_are_counted_and_the_others_named():
    going = {"kind": "whole", "rows": 300, "rows_per_second": 20.2, "remaining_seconds": 133.0}
    tables = [*map(followed, range(440)), followed(440, state="copying", copying=going), followed(441, state="refused", reason="no_key")]
    nobody: dict[str, Any] = {"halves": [], "reset": None, "running": False}
    document = {"pipeline": "od", **nobody, "codec": "compiled", "lag_seconds": {"read": None, "total": 0.4123}, "tables": tables}
    who, *lines = shown("status", document)
    assert "nothing runs of pipeline od" == who
    assert ["pipeline     od", "codec        compiled", "lag_seconds  total 412 ms"] == [*lines[:2], lines[2].replace("0.4 s", "412 ms")]
    assert "copying  opendental.table_440  300 rows  kind whole  rows_per_second 20  remaining_seconds 2 min 13 s" == lines[3]
    assert ["refused  opendental.table_441  1,000 rows  no_key", "440 of 442 tables copied and followed; --all lists them"] == lines[4:]
    assert 1 + 3 + 442 + 1 == len(shown("status", document, everything=True))


def test_a_key_in_quarantine_is_named_with_what_waits_and_why():
    key = {"table": "opendental.patient", "key": "0123456789abcdef", "changes": 3, "bytes": 120, "first_at": "2026-12-01T15:00:55.1Z",
           "last_at": "2026-12-01T15:00:56Z", "reason": "target_value", "sqlstate": "22001", "rule": "PostgreSQL says 22001"}  # fmt: skip
    assert [
        "opendental.patient  0123456789abcdef  3 changes since 2026-12-01 15:00:55Z",
        "    [target_value] PostgreSQL says 22001",
        "1 key in quarantine, 3 changes",
    ] == shown("quarantine_list", {"pipeline": "od", "total_keys": 1, "total_changes": 3, "keys": [key]})


def test_rows_of_any_document_are_a_line_each_however_wide():
    wide = "x" * 200
    lines = shown("down", {"purged": True, "stopped": [], "servers": [{"name": "a", "host": wide, "port": 3306}, {"name": "b"}]})
    assert ["purged   yes", "stopped  -", "servers"] == lines[:3]
    assert f"  a     {wide}  3306" == lines[4]
    assert 6 == len(lines)


def test_markup_and_control_characters_in_names_stay_text():
    [line, *_] = shown("error", Halt("c", "[red]t\x1b[31m", "[/]", "").document()["error"])
    assert "error [c] [red]t[31m: [/]" == line


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 ms"), (0.0412, "41 ms"), (0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"),
    (3599.7, "1 h"), (7500, "2 h 5 min"), (172_799, "47 h 59 min"), (273_600, "3 d 4 h"),
])  # fmt: skip
def test_durations_are_rounded_to_what_a_person_reads(seconds, text):
    assert text == duration(seconds)


def test_values_are_said_by_their_names():
    assert ["3306", "1,234,567", "21", "2026-12-01 15:00:55Z", "-", "b.1:4"] == [
        said("port", 3306), said("rows", 1_234_567), said("rows_per_second", 20.7), said("first_at", "2026-12-01T15:00:55.123456Z"),
        said("reason", None), said("position", {"file": "b.1", "offset": 4}),
    ]  # fmt: skip
