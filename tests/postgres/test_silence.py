"""A target that goes silent: noticed in bounded time, whatever a commit's outcome, and never mistaken for one that works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from cdc.errors import Retry
from cdc.postgres.connection import connect
from cdc.postgres.errors import guarded
from cdc.protocol.applied import LedgerChunk
from cdc.runtime import timing
from cdc.state.store import StateStore
from tests.crash.proxy import DOWN, UP, Line, Proxy, Watcher
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.opening import at, batch, config, cut, rows
from tests.sinks.postgres.plans import KEYED

QUICK = replace(timing.TIMES, answer_grace_seconds=0.2, target_connect_seconds=2, target_probe_seconds=0.5)
"""psycopg gives a connection two seconds at least."""


@pytest.fixture
def proxy(postgres: TargetDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(timing, "TIMES", QUICK)
    found = Proxy(lambda: postgres.port)
    yield found
    found.close()


class AtTheCommit(Watcher):
    """Swallows the COMMIT, or its answer."""

    def __init__(self, way: str) -> None:
        self.way = way

    def before(self, line: Line, way: str, data: bytes) -> None:
        if way == UP and b"COMMIT" in data:
            line.muted = frozenset({self.way})


@pytest.mark.parametrize(("way", "done"), [(UP, False), (DOWN, True)])
def test_a_commit_that_gets_no_answer_is_told_by_the_positions(postgres: TargetDatabase, proxy: Proxy, way: str, done: bool):
    with closing(HandTarget(config(postgres), "p")) as earlier:
        earlier.open()
        earlier.create_table(KEYED)
    with closing(HandTarget(config(postgres, proxy.port, answer_timeout_seconds=0.5), "p")) as target:
        target.open()
        target.write(batch(KEYED, *[("c", None, (n, "", None, 0.0)) for n in range(200)]))
        proxy.watcher = AtTheCommit(way)
        began = time.monotonic()
        with pytest.raises(Retry, match=r"sent nothing for 0\.5 s, while it waits for us") as lost:
            target.commit(cut(1, t=(5, 4)))
        assert 0.5 < time.monotonic() - began < 3
        proxy.watcher = Watcher()
        assert ("target_lost", "the commit") == (lost.value.code, lost.value.place)
        assert (cut(1, t=(5, 4)) if done else None) == target.open().progress
        assert (200 if done else 0) == rows(postgres, KEYED).total()
        target.commit(cut(2, t=(6, 5)))
        assert cut(2, t=(6, 5)) == target.read().progress


def test_where_nothing_passes_any_more_a_question_ends_in_bounded_time(postgres: TargetDatabase, proxy: Proxy):
    with StateStore(config(postgres, proxy.port, answer_timeout_seconds=0.5), "p") as state:
        proxy.swallow()
        began = time.monotonic()
        with pytest.raises(Retry, match="no new connection gets an answer") as lost:
            state.read()
        assert time.monotonic() - began < 6
        assert ("target_lost", "schema cdc") == (lost.value.code, lost.value.place)
        with pytest.raises(Retry, match="the connection to PostgreSQL is lost"):
            state.read()


def test_a_statement_that_the_server_works_on_is_waited_for(postgres: TargetDatabase, proxy: Proxy):
    """Here it waits for a lock, for longer than an answer may take."""
    postgres.execute("CREATE TABLE held (n int)")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connect() as line, line.transaction():
            line.execute("LOCK TABLE held")
            held.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    timer = threading.Timer(1.5, over.set)
    with closing(connect(config(postgres, proxy.port, answer_timeout_seconds=0.5))) as line:
        began = time.monotonic()
        timer.start()
        line.execute("TRUNCATE public.held")
        assert time.monotonic() - began > 1.3
        assert (1,) == line.execute("SELECT 1").fetchone()
    holder.join()


def test_a_copy_that_the_server_holds_still_is_waited_for(postgres: TargetDatabase, proxy: Proxy):
    """Its first row naps for longer than an answer may take, and the server reads nothing meanwhile."""
    nap = "BEGIN PERFORM pg_sleep(CASE WHEN NEW.v = 'first' THEN 2 ELSE 0 END); RETURN NEW; END"
    postgres.execute(
        "CREATE TABLE slow (v text)",
        f"CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $${nap}$$",
        "CREATE TRIGGER nap BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION nap()",
    )
    with closing(connect(config(postgres, answer_timeout_seconds=0.5))) as line:
        with line.cursor() as cursor, cursor.copy("COPY public.slow FROM STDIN") as copy:
            copy.write(b"first\n")
            for _ in range(200):
                copy.write(b"x" * 60_000 + b"\n")
        assert (201,) == line.execute("SELECT count(*) FROM public.slow").fetchone()


def test_a_session_that_somebody_ended_beyond_a_silent_line_is_told(postgres: TargetDatabase, proxy: Proxy):
    with closing(connect(config(postgres, proxy.port, answer_timeout_seconds=0.5))) as line:
        proxy.hush()
        postgres.execute(f"SELECT pg_terminate_backend({line.info.backend_pid})")
        with pytest.raises(Retry, match="the session is gone there"):
            guarded("here")(line.execute)("SELECT 1")
        assert line.closed


def test_a_chunk_that_fell_silent_does_not_hold_up_its_owner(postgres: TargetDatabase, proxy: Proxy):
    """Its session waits in a COPY, in which no time-out of PostgreSQL ends it, and holds the owner's row."""
    with closing(HandTarget(config(postgres, proxy.port, answer_timeout_seconds=0.5), "p")) as target:
        target.open()
        target.create_table(KEYED)
        load, loader = target.begin_load(KEYED, at(1)), target.loader()
        with pytest.raises(Retry, match=r"sent nothing for 0\.5 s"), loader.chunk(load, LedgerChunk(1)) as chunk:
            proxy.hush()
            chunk.write(KEYED.packed((1, "", None, 0.0)))
        began = time.monotonic()
        assert target.open().progress is None
        assert time.monotonic() - began < 5
        assert [] == list(target.begin_load(KEYED, at(1)).done)
