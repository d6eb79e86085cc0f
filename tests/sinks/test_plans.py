"""What the sink makes of schemas: those that bases named, those that nobody did, those that are gone, and two registered at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cdc import codec
from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.record import Document
from cdc.model.table import Column, Table
from cdc.transport.schema_registry import TopicRegistry
from sinks.cuts import UNREAD
from sinks.plans import Plans, frame_of

TABLE = Table("d", "t", (Column("id", "int", False),), (0,))
SCHEMA = envelope.value_schema("p", TABLE, "mariadb")


class CompactedLog:
    """Keeps the newest record of each key, and lets somebody else append just before it does."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[int, bytes]] = {}
        self.end = 0
        self.before: list[Callable[[], object]] = []

    def append(self, key: str, value: bytes) -> int:
        if self.before:
            self.before.pop()()
        self.records[key] = (self.end, value)
        self.end += 1
        return self.end - 1

    def held(self) -> Iterator[tuple[int, bytes]]:
        return iter(sorted(self.records.values()))


def plans(schema: Callable[[int], Document]) -> Plans:
    return Plans(schema, None, lambda plan: None)


def gone(number: int) -> Document:
    raise Halt("schema_unknown", f"schema id {number}", "the schemas topic holds no such record")


def test_values_of_schemas_that_no_base_names_or_that_are_gone_are_unread() -> None:
    """And asked for once: a topic is not read anew for each of them."""
    asked = []

    def schema(number: int) -> Document:
        asked.append(number)
        return gone(number)

    found = plans(schema)
    known = found.know(None, 7)
    values = [known + b"x", frame_of(8) + b"y", known + b"z", b"", b"\0"]
    for _ in range(2):
        assert [UNREAD] * 5 == found.open(values)
    assert [7, 8] == asked
    with pytest.raises(Halt, match="no base names this schema"):
        found[frame_of(8)]


def test_a_schema_that_is_named_at_last_is_read() -> None:
    found = plans(lambda number: SCHEMA)
    assert [UNREAD] == found.open([frame_of(7) + b"x"])
    assert isinstance(found[found.know(None, 7)], codec.ValuePlan)


def test_a_schema_of_some_columns_is_known_by_what_it_says_itself() -> None:
    """No base names it: which columns are known differs from statement to statement. Its table's key tells which rows."""
    two = Table("d", "t", (Column("id", "int", False), Column("a", "int"), Column("b", "int")), (0,))
    part = envelope.some_columns(two, (0, 2))
    schemas = {
        0: envelope.key_schema("p", two),
        7: envelope.value_schema("p", two, "mysql"),
        9: envelope.partial_schema("p", part, "mysql", 0),
        11: envelope.value_schema("p", two, "mysql"),
    }
    asked: list[codec.ValuePlan] = []
    found = Plans(lambda number: schemas[number] or {}, None, asked.append)
    found.know(0, 7)
    assert [UNREAD] == found.open([frame_of(11) + b"x"])
    with pytest.raises(Halt, match="byte 5"):  # read by it, and no record
        found.open([frame_of(9)])
    plan = found[frame_of(9)]
    assert (True, ["id", "b"], (0,), (0, 9)) == (plan.partial, [one.name for one in plan.columns], plan.key, found.ids(frame_of(9)))
    assert [found[frame_of(7)]] == asked, "policies are those of the whole table"
    assert not found[frame_of(7)].partial


def test_of_two_captures_that_register_one_schema_at_once_each_finds_its_own_for_ever() -> None:
    """Compaction keeps both records: a later one of the same key would have taken the first one's place, and its data with it."""
    log = CompactedLog()
    one, other = TopicRegistry(log), TopicRegistry(log)
    ids: list[int] = []
    log.before.append(lambda: ids.append(one.register("t-value", SCHEMA)))
    ids.append(other.register("t-value", SCHEMA))
    assert [0, 1] == ids
    assert [SCHEMA, SCHEMA] == [TopicRegistry(log).schema(number) for number in ids]
