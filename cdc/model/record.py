"""Records on their way through topics, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One record on its way into a topic; `value is None` is a tombstone. Headers are rare (key changes)."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None


class Message(NamedTuple):
    """One record read back from a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


RECORD_BYTES = 600
"""About what a record takes in memory beside its value: its key, its place, and what was read of its envelope."""


def weight(messages: Sequence[Message]) -> int:
    """About how many bytes of memory these take; memory is bounded by it."""
    return sum([len(message[4] or b"") for message in messages]) + RECORD_BYTES * len(messages)


Partition = tuple[str, int]
"""A topic's name and a partition's number."""

Document = dict[str, Any]
"""A control record, as in schemas/json/control.schema.json."""
