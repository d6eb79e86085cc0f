"""Reading a test's own database from the log: builders of one line, and a clock on everything that waits."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from cdc.binlog.events import Begin, Commit, Event, Heartbeat, LoggedStatement, RowsEvent
from cdc.binlog.reader import BinlogReader
from cdc.config.load import ServerUrl, SourceConfig
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from tests.helpers.servers import PASSWORD

WAIT_SECONDS = 60.0


def config(place: Any, *tables: str, user: str = "cdc", password: str = PASSWORD, **more: Any) -> SourceConfig:
    """The source section for a server; by default all of a test's database is selected."""
    url = ServerUrl("mysql", "127.0.0.1", place.port, user, password)
    name = getattr(place, "name", "*")
    return SourceConfig(url=url, tables=tables or (f"{name}.*",), server_id=random.randint(100_000, 2_000_000_000), **more)


def position(place: Any) -> Position:
    """Where the log is safely read from now."""
    with Catalog(config(place)) as catalog:
        return catalog.log.visible_position()


@contextlib.contextmanager
def reading(place: Any, start: Position, wants: Callable[[str, str], bool] | None = None, **more: Any) -> Iterator[BinlogReader]:
    """A reader of the test's database, closed at the end."""
    source = config(place, **more)
    reader = BinlogReader(source, source.server_id, start, heartbeat_seconds=0.1, wants=wants or (lambda db, table: db == place.name))
    try:
        yield reader
    finally:
        reader.close()


def until(reader: BinlogReader, reached: Position) -> list[Event]:
    """All events up to a position, heartbeats left out; fails when it is not reached in time."""
    found: list[Event] = []
    deadline = time.monotonic() + WAIT_SECONDS
    for event in reader:
        if isinstance(event, Heartbeat | Commit):
            at = event.at if isinstance(event, Heartbeat) else event.position
            if not isinstance(event, Heartbeat):
                found.append(event)
            if at.covers(reached):
                return found
            assert time.monotonic() < deadline, f"{at} does not reach {reached}"
        else:
            found.append(event)
    raise AssertionError("the reader ended")


def events_since(place: Any, start: Position, **more: Any) -> list[Event]:
    """Everything from a position to the end of the log as it is now."""
    with Catalog(config(place)) as catalog:
        end = catalog.log.written_position()
    with reading(place, start, **more) as reader:
        return until(reader, end)


def said(events: list[Event]) -> list[tuple[object, ...]]:
    """Events without places and times, other databases' empty transactions left out: what a test compares."""
    plain: list[tuple[object, ...]] = []
    for event in events:
        if isinstance(event, Begin):
            plain.append(("begin", event.transaction))
        elif isinstance(event, RowsEvent):
            plain.append((event.kind, event.table.name, event.body[event.start : event.end]))
        elif isinstance(event, LoggedStatement):
            plain.append(("statement", event.sql, event.db))
        elif isinstance(event, Commit):
            if plain and plain[-1] == ("begin", event.transaction):
                plain.pop()
            else:
                plain.append(("commit", event.transaction))
    return plain
