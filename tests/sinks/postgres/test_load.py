"""The initial load: a chunk's rows and its ledger row are in the target together, once, or not at all."""

from __future__ import annotations

import pytest

from cdc.errors import Halt, Retry
from cdc.protocol.applied import LedgerChunk
from cdc.protocol.table_states import TableState
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, rows
from tests.sinks.postgres.plans import ONLY_KEY


def tuples(first: int, last: int) -> bytes:
    return b"".join(ONLY_KEY.packed((number,)) for number in range(first, last))


def test_a_load_copies_chunks_and_ends_with_floor_ceiling_and_count(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    for number in range(3):
        with loader.chunk(load, LedgerChunk(number, low=[number * 1000], high=[number * 1000 + 1000])) as chunk:
            chunk.write(tuples(number * 1000, number * 1000 + 400))
            chunk.write(tuples(number * 1000 + 400, number * 1000 + 1000))
    loader.close()
    state = target.finish_load(load, at(9))
    assert (TableState.CATCHING_UP, at(2), at(9), 3000) == (state.state, state.floor, state.ceiling, state.rows_loaded)
    assert state == target.open().tables["app", "only_key"]
    assert 3000 == rows(postgres, ONLY_KEY).total()


def test_a_restart_finds_the_chunks_that_are_in(opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    with loader.chunk(load, LedgerChunk(4, low=[0])) as chunk:
        chunk.write(tuples(0, 10))
        chunk.high = [9]
    loader.close()
    again = opened()
    found = again.begin_load(ONLY_KEY, at(5))
    assert (load.number, (LedgerChunk(4, [0], [9], 10),), at(2)) == (found.number, found.done, found.state.floor)


def test_an_error_in_a_chunk_undoes_it_and_the_connection_goes_on(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    with pytest.raises(ZeroDivisionError), loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(tuples(0, 10))
        raise ZeroDivisionError
    with loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(tuples(5, 8))
    loader.close()
    assert {("5",), ("6",), ("7",)} == set(rows(postgres, ONLY_KEY))


def test_a_chunk_is_never_in_twice(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    with loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(tuples(0, 1))
    with pytest.raises(Halt) as stop, loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(tuples(1, 2))
    loader.close()
    assert "chunk_repeated" == stop.value.code
    assert {("0",)} == set(rows(postgres, ONLY_KEY))


def test_a_load_that_starts_again_begins_empty_and_takes_no_late_chunk(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    first, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    with loader.chunk(first, LedgerChunk(1)) as chunk:
        chunk.write(tuples(0, 10))
    second = target.begin_load(ONLY_KEY, at(7), again=True)
    with pytest.raises(Halt) as stop, loader.chunk(first, LedgerChunk(2)) as chunk:
        chunk.write(tuples(10, 20))
    assert "chunk_repeated" == stop.value.code
    assert (at(7), (), first.number + 1, 0) == (second.state.floor, second.done, second.number, rows(postgres, ONLY_KEY).total())
    with pytest.raises(Halt) as over:
        target.finish_load(first, at(9))
    assert "load_over" == over.value.code
    with loader.chunk(second, LedgerChunk(1)) as chunk:
        chunk.write(tuples(0, 3))
    loader.close()
    assert 3 == target.finish_load(second, at(9)).rows_loaded


def test_a_table_read_at_an_exact_position_has_it_as_floor_and_ceiling(opened: Opened):
    target = opened(ONLY_KEY)
    state = target.finish_load(target.begin_load(ONLY_KEY, at(2)), at(5), floor=at(5))
    assert (at(5), at(5), 0) == (state.floor, state.ceiling, state.rows_loaded)


def test_a_loader_whose_connection_is_cut_says_retry_and_leaves_nothing(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    load, loader = target.begin_load(ONLY_KEY, at(2)), target.loader()
    with pytest.raises(Retry), loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(tuples(0, 10))
        postgres.execute(f"SELECT pg_terminate_backend({loader.connection.info.backend_pid}, 5000)")
        chunk.write(tuples(10, 100_000))
    loader.close()
    assert ((), 0) == (target.begin_load(ONLY_KEY, at(2)).done, rows(postgres, ONLY_KEY).total())
