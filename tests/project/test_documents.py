"""The JSON Schemas: valid, strict, and kept by what the code makes."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cdc.checks.findings import document as found_document
from cdc.cli import main as cli
from cdc.cli.reserved import RESERVED
from cdc.config.load import ConfigRefused, Problem
from cdc.errors import Halt, Malformed
from cdc.model.finding import Finding
from cdc.model.position import Position
from cdc.protocol import control, table_states
from cdc.protocol.control import Base, Copy, Cut, Followed, Named, Start
from tests.helpers.documents import faults, kinds, schema

AT = Position("mariadb", "1", "0-1-5", "bin.000007", 1234)
PARTITION = ("od.a.b", 0)
ENTRIES = [
    Start("x", 1),
    Base(7, 3, AT, 9, False, {PARTITION: 12}, {PARTITION: Named(11, 6, 8)}, (Followed("a", "b", "od.a.b", 1, None, 4),)),
    Cut(7, 4, AT, 9, True, False, {PARTITION: Named(11, 7, 8)}),
    Copy(7, 4, "a", "b", AT, "x"),
]
TABLE = {
    "source": "a.b", "target": "a.b", "state": "consistent", "rows_loaded": 3, "rows_estimated": 3, "floor": AT.to_json(),
    "ceiling": AT.to_json(), "consistent_through": "2026-01-02T03:04:05.678901+00:00", "quarantined": 0, "reason": "",
    "copying": {"kind": "whole", "rows": 1, "rows_per_second": 0.5, "remaining_seconds": 4.0},
}  # fmt: skip
HALF = {
    "half": "apply", "runs": False, "unowned_shards": [1],
    "processes": [{"process": "h:1", "command": "run", "since": "2026-01-02T03:04:05Z", "heard_seconds": 0.5, "state": "streaming",
                   "reason": None, "shards": [0]}],
    "stopped": {"at": None, "process": "h:2", "command": "run", "code": "fenced", "place": "p", "rule": "r", "hint": ""},
}  # fmt: skip
STATUS: dict[str, Any] = {
    "pipeline": "od", "running": True, "halves": [HALF], "reset": None, "transport": "direct", "codec": "compiled",
    "source": {"flavour": "mariadb", "version": "10.11.8", "position": AT.to_json(), "continues": True, "reason": ""},
    "captured": {"position": None},
    "applied": {"cut_no": 4, "position": AT.to_json(), "source_ts": "2026-01-02T03:04:05Z"},
    "lag_seconds": {"read": 0.1, "publish": None, "apply": 0, "total": 0.1},
    "copying": None, "tables": [TABLE],
}  # fmt: skip


@pytest.mark.parametrize("kind", kinds())
def test_every_schema_is_one_and_names_itself(kind):
    Draft202012Validator.check_schema(schema(kind))
    assert f"{kind}.schema.json" == schema(kind)["$id"]


def test_every_command_that_works_has_a_schema():
    working = {command.name or getattr(command.callback, "__name__", "") for command in cli.cli.registered_commands} - set(RESERVED)
    assert set() == (working | {"error", "version", "help", "control", "position"}) - set(kinds())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__.lower())
def test_control_records_keep_their_schema_and_come_back_equal(entry):
    document = control.to_document(entry)
    assert [] == faults("control", document)
    assert entry == control.from_document(document, 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__.lower())
def test_control_records_with_a_field_more_or_less_break_their_schema(entry):
    document = control.to_document(entry)
    assert faults("control", {**document, "more": 1})
    for name in document:
        assert faults("control", {key: value for key, value in document.items() if key != name}), name


@pytest.mark.parametrize(
    "error",
    [
        Halt("row_image", "bin.000001:4", "not full"),
        Malformed("checksum", "x", "y", "z"),
        ConfigRefused("p.toml", [Problem("a.b", "'x'", "is wrong")]),
    ],
)
def test_errors_keep_their_schema(error):
    assert [] == faults("error", error.document())


def test_a_doctor_s_document_has_errors_first_and_counts_them():
    findings = [Finding("warning", "no_key", "a.b", "has no key"), Finding("error", "log_off", "h:1", "no log", "SET x")]
    document = found_document(findings, {"flavour": "mysql", "version": "9.7"}, None, ["a.b"], "pure")
    assert [] == faults("doctor", document)
    assert (1, 1, ["log_off", "no_key"]) == (document["errors"], document["warnings"], [one["code"] for one in document["findings"]])


def test_the_status_has_the_promised_shape():
    assert [] == faults("status", STATUS)
    for section in ("source", "captured", "applied", "lag_seconds"):
        for name in STATUS[section]:
            assert faults("status", {**STATUS, section: {key: value for key, value in STATUS[section].items() if key != name}})
    for name in HALF:
        assert faults("status", {**STATUS, "halves": [{key: value for key, value in HALF.items() if key != name}]})
    for name in TABLE:
        assert faults("status", {**STATUS, "tables": [{key: value for key, value in TABLE.items() if key != name}]})


def test_the_states_of_a_table_are_those_of_its_life():
    listed = schema("status")["properties"]["tables"]["items"]["properties"]["state"]["enum"]
    assert [str(state) for state in table_states.TableState] == listed
