"""What doctor, and every start, say of records that a source can hold and its broker would not take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cdc.checks.source import Examined
from cdc.checks.topics import TopicsCheck
from cdc.model.table import Column, Table
from cdc.transport.kafka.record_limits import LARGE, RecordLimit, RecordLimits

PACKET = 64 << 20
KEY, NARROW = Column("id", "int"), Column("name", "varchar", length=40, charset="utf8mb4")


def _table(name: str, *types: str) -> Table:
    return Table("db", name, (KEY, NARROW, *(Column(kind, kind) for kind in types)), (0,))


def _warnings(tables: list[Table], requests: int = 1 << 30, **topics: int) -> list[tuple[str, str]]:
    limits = SimpleNamespace(
        client=RecordLimits(None, {}).client,  # type: ignore[arg-type]
        request=lambda: [RecordLimit(requests, "the broker's limit", "raise it")],
        topics=lambda _: {f"p.db.{name}": RecordLimit(size, "its limit", f"raise {name}") for name, size in topics.items()},
    )
    broker: Any = SimpleNamespace(prefix="p", limits=limits)
    found = TopicsCheck(broker, "", "p").large_rows(Examined("mysql", "8.4.0", tables, PACKET))
    assert {("warning", "record_limit")} >= {(one.level, one.code) for one in found}
    return [(one.place, one.hint_sql) for one in found]


@pytest.mark.parametrize("kind", ["longtext", "longblob", "json", "geometry"])
def test_a_table_that_can_hold_more_than_a_request_takes_is_named(kind: str) -> None:
    """A change has the row twice, and a row is as large as a packet; a narrow table can hold none."""
    tables = [_table("narrow"), _table("wide", kind), _table("wider", kind, kind)]
    assert [("topic p.db.wide and 1 more", "-- raise it")] == _warnings(tables, requests=100 << 20)
    assert [] == _warnings(tables, requests=129 << 20)


def test_a_topic_that_was_there_with_a_smaller_limit_is_named_with_what_raises_it() -> None:
    """One finding for all of one limit; a topic takes a batch of small records at least, and what its columns can hold at most."""
    tables = [_table("narrow"), _table("medium", "mediumtext"), _table("wide", "longtext")]
    assert [] == _warnings(tables, narrow=LARGE, medium=33 << 20, wide=129 << 20)
    assert [("topic p.db.narrow", "-- raise narrow")] == _warnings(tables, narrow=LARGE - 1)
    small = {"medium": 32 << 20, "wide": 32 << 20}
    assert [("topic p.db.medium and 1 more", "-- raise medium")] == _warnings(tables, **small)


def test_what_our_own_client_takes_is_told_with_the_setting_that_limits_it() -> None:
    limits = RecordLimits(None, {"message.max.bytes": "5000000"})  # type: ignore[arg-type]
    assert (5_000_000, "transport.kafka message.max.bytes") == limits.client()[:2]
