"""A source that goes silent: noticed in bounded time, and never mistaken for one that works on a statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from cdc.config.load import ServerUrl, SourceConfig
from cdc.errors import Retry
from cdc.mysql.connection import Session
from cdc.runtime import timing
from tests.crash.proxy import DOWN, Line, Proxy, Watcher
from tests.helpers.servers import SourceDatabase


@pytest.fixture
def proxy(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, answer_grace_seconds=0.2))
    found = Proxy(lambda: source.port)
    yield found
    found.close()


def config(source: SourceDatabase, proxy: Proxy) -> SourceConfig:
    url = ServerUrl("mysql", source.host, proxy.port, source.user, source.password)
    return SourceConfig(url=url, tables=("a.*",), server_id=1, connect_timeout_seconds=1.0, answer_timeout_seconds=0.5)


class Jam(Watcher):
    """Takes nothing more from the server on the line that has brought a million bytes."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def before(self, line: Line, way: str, data: bytes) -> None:
        line.kept["bytes"] = line.kept.get("bytes", 0) + (len(data) if way == DOWN else 0)
        if line.kept["bytes"] > 1_000_000:
            self.over.wait(20)


def test_what_is_swallowed_is_noticed_and_what_the_source_works_on_is_waited_for(source: SourceDatabase, proxy: Proxy):
    source.execute("CREATE TABLE held (n INT)", "LOCK TABLES held WRITE")
    with closing(Session(config(source, proxy))) as session:
        timer = threading.Timer(1.5, lambda: source.execute("UNLOCK TABLES"))
        timer.start()
        began = time.monotonic()
        assert [] == session.all(f"SELECT n FROM `{source.name}`.held")
        assert time.monotonic() - began > 1.3
        timer.join()
        proxy.hush()
        began = time.monotonic()
        with pytest.raises(Retry, match=r"sent nothing for 0\.5 s, while it waits for us") as lost:
            session.one("SELECT 1")
        assert time.monotonic() - began < 3
        assert "source_lost" == lost.value.code


def test_an_answer_that_stands_still_on_its_way_is_noticed(source: SourceDatabase, proxy: Proxy):
    proxy.watcher = jam = Jam()
    with closing(Session(config(source, proxy))) as session:
        with pytest.raises(Retry, match=r"sent nothing for 0\.5 s, while it waits for us"):
            session.all("SELECT REPEAT('x', 1000000) FROM information_schema.columns LIMIT 40")
        jam.over.set()


def test_where_nothing_passes_any_more_a_question_ends_in_bounded_time(mariadb: SourceDatabase):
    proxy = Proxy(lambda: mariadb.port)
    with closing(proxy), closing(Session(config(mariadb, proxy))) as session:
        proxy.swallow()
        began = time.monotonic()
        with pytest.raises(Retry, match="no new connection gets an answer"):
            session.one("SELECT 1")
        assert time.monotonic() - began < 5
