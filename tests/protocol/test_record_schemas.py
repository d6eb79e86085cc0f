"""The JSON Schemas that are made from the code: what it writes and reads keeps them, and they say what schemas/json says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cdc.model.position import Position
from cdc.protocol import control, record_schemas, signals
from cdc.protocol.control import Anomaly, Base, Copy, Cut, Followed, Named, Start
from cdc.protocol.copy_progress import Active, Copies, Ended
from tests.helpers.documents import schema

PEER = Position("mysql", "2", "u:1-4", "bin.000001", 4)
AT = Position("mysql", "1", "u:1-5", "bin.000007", 1234, 9, PEER, (PEER,))
COPIES = Copies(1, 2, ("a", "b"), True, Active("i", "r", "a", "b", "whole", ("1",), 7), "c")
PARTITION = ("od.a.b", 0)
FOLLOWED = (Followed("a", "b", "od.a.b", 1, None, 4), Followed("a", "c", "od.a.c", 1, 5, 6))
ENTRIES = [
    Start("x", 1, "od"),
    Base(7, 3, AT, 9, False, {PARTITION: 12}, {PARTITION: Named(11, 6, 8)}, FOLLOWED, COPIES, (("a", "b"),), (("a", "d"),)),
    Cut(7, 4, AT, 9, True, False, {PARTITION: Named(11, 7, 8)}, (Anomaly("a", "b", "c", "nul", 2),), (("a", "b"),), COPIES,
        (Ended("r", "a", "b", "whole", "done", 3), Ended("r", "a", "b", "whole", "refused", 0, "gone", "i"))),
    Cut(7, 4, Position("mariadb", "1"), 9, False, True, {}),
    Copy(7, 4, "a", "b", AT, "x"),
]  # fmt: skip
IDS = [f"{type(entry).__name__.lower()} {number}" for number, entry in enumerate(ENTRIES)]


def faults(made: Any, document: Any) -> list[str]:
    Draft202012Validator.check_schema(made)
    return [error.message for error in Draft202012Validator(made).iter_errors(json.loads(json.dumps(document)))]


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_control_records_keep_the_schema_that_is_made_of_their_types(entry: control.Entry) -> None:
    document = control.to_document(entry)
    assert [] == faults(record_schemas.control(), document)
    assert faults(record_schemas.control(), {**document, "more": 1})
    for name in document:
        without = {key: value for key, value in document.items() if key != name}
        assert faults(record_schemas.control(), without), name
        assert faults(record_schemas.control(), {**document, name: [7.5]}), name


def test_it_has_the_records_and_fields_of_the_one_that_is_kept_by_hand() -> None:
    def fields(document: Any) -> dict[str, tuple[list[str], list[str]]]:
        return {
            kind: (sorted(document["$defs"][kind]["properties"]), sorted(document["$defs"][kind]["required"]))
            for kind in ("start", "base", "cut", "copy")
        }

    made = record_schemas.control()
    assert fields(schema("control")) == fields(made)
    assert schema("position")["properties"].keys() == made["$defs"]["position"]["properties"].keys()
    assert sorted(schema("position")["required"]) == sorted(made["$defs"]["position"]["required"])


@pytest.mark.parametrize(
    "document",
    [
        signals.execute("1", "a.b"),
        signals.execute("1", "a.b", where="x > 1"),
        signals.execute("1", "a.b", keys=(("1", "2"),)),
        signals.execute("1", "a.b", swap=True),
        signals.stop("1", "a.b"),
        {"type": "pause-snapshot"},
        {"type": "execute-snapshot", "data": json.dumps({"data-collections": ["a.*"]})},
    ],
)
def test_signals_that_are_understood_keep_theirs(document: Any) -> None:
    signals.understood(3, b"od", json.dumps(document).encode(), "od", [("a", "b")])
    assert [] == faults(record_schemas.signal(), document)


@pytest.mark.parametrize(
    "document",
    [
        7,
        {},
        {"type": "log"},
        {"type": "execute-snapshot", "data": 7},
        {"type": "execute-snapshot", "data": {"data-collections": []}},
        {"type": "execute-snapshot", "data": {"data-collections": ["a.b"], "type": "BLOCKING"}},
        {"type": "execute-snapshot", "data": {"data-collections": ["a.b"], "keys": [[]]}},
        {"type": "execute-snapshot", "data": {"data-collections": ["a.b"], "additional-conditions": [{"filter": "x"}]}},
    ],
)
def test_signals_that_are_not_obeyed_break_it(document: Any) -> None:
    with pytest.raises(signals.BadSignal):
        signals.understood(3, b"od", json.dumps(document).encode(), "od", [("a", "b")])
    assert faults(record_schemas.signal(), document)
