"""One writer per pipeline: whoever opens last is it, and nothing that an earlier one holds can still happen."""

from __future__ import annotations

import time

import pytest

from cdc.errors import CdcError, Halt, Retry
from cdc.protocol.applied import LedgerChunk
from sinks.postgres.load import ChunkLoader
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, config, cut, rows
from tests.sinks.postgres.plans import KEYED, ONLY_KEY


def test_a_new_owner_ends_the_old_one_and_the_old_one_stays_out(postgres: TargetDatabase, opened: Opened):
    old = opened(ONLY_KEY)
    old.write(batch(ONLY_KEY, ("c", None, (1,))))
    old.commit(cut(1))
    new = opened()
    assert cut(1) == new.open().progress
    with pytest.raises(Retry):
        old.commit(cut(2))
    with pytest.raises(Halt) as stop:
        old.open()
    assert "fenced" == stop.value.code
    new.commit(cut(3))
    assert cut(3) == new.open().progress


@pytest.mark.parametrize("count", [1, 200])
def test_an_open_transaction_of_a_stopped_owner_is_undone_before_positions_are_read(postgres: TargetDatabase, opened: Opened, count: int):
    old = opened(KEYED)
    old.write(batch(KEYED, *[("c", None, (n, "", None, 0.0)) for n in range(count)]))
    old.wire.flush()  # the rows are there, under the lock, and the process says nothing more
    began = time.monotonic()
    new = opened()
    assert time.monotonic() - began < 5
    assert new.open().progress is None
    with pytest.raises(Retry):
        old.commit(cut(1))
    assert 0 == rows(postgres, KEYED).total()


def test_a_stopped_loader_cannot_hold_up_or_outlive_its_owner(postgres: TargetDatabase, opened: Opened):
    old = opened(ONLY_KEY)
    load = old.begin_load(ONLY_KEY, at(1))
    loader = old.loader()
    with pytest.raises(Retry), loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(ONLY_KEY.packed((1,)))
        new = opened()
        chunk.write(ONLY_KEY.packed((2,)) * 100_000)
    loader.close()
    assert [] == list(new.begin_load(ONLY_KEY, at(1)).done)
    assert 0 == rows(postgres, ONLY_KEY).total()


@pytest.mark.parametrize("count", [1, 200])
def test_every_transaction_checks_the_number_itself(postgres: TargetDatabase, opened: Opened, count: int):
    target = opened(KEYED)
    postgres.execute("UPDATE cdc.pipeline SET fence = fence + 1")  # as if the takeover could not reach this connection
    with pytest.raises(Halt) as stop:
        target.write(batch(KEYED, *[("c", None, (n, "", None, 0.0)) for n in range(count)]))
        target.commit(cut(1))
    assert ("fenced", 0) == (stop.value.code, rows(postgres, KEYED).total())


def test_a_late_connection_with_an_old_number_writes_nothing(postgres: TargetDatabase, opened: Opened):
    old = opened(ONLY_KEY)
    load, number = old.begin_load(ONLY_KEY, at(1)), old.fence
    opened()
    late = ChunkLoader(config(postgres), "p", number)
    with pytest.raises(Halt) as stop, late.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(ONLY_KEY.packed((1,)))
    late.close()
    assert "fenced" == stop.value.code
    assert 0 == rows(postgres, ONLY_KEY).total()


def test_an_owner_that_opens_again_keeps_its_number_and_ends_its_earlier_loaders(opened: Opened):
    target = opened(ONLY_KEY)
    load, number, earlier = target.begin_load(ONLY_KEY, at(1)), target.fence, target.loader()
    target.open()
    with pytest.raises(Retry), earlier.chunk(load, LedgerChunk(1)):
        pass
    loader = target.loader()
    with loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(ONLY_KEY.packed((1,)))
    loader.close()
    assert number == target.fence
    assert [LedgerChunk(1, rows=1)] == list(target.begin_load(ONLY_KEY, at(1)).done)


def test_loaders_work_beside_one_another(opened: Opened):
    target = opened(ONLY_KEY)
    load = target.begin_load(ONLY_KEY, at(1))
    one, two = target.loader(), target.loader()
    with one.chunk(load, LedgerChunk(1)) as first, two.chunk(load, LedgerChunk(2)) as second:
        first.write(ONLY_KEY.packed((1,)))
        second.write(ONLY_KEY.packed((2,)))
    one.close()
    two.close()
    assert 2 == len(target.begin_load(ONLY_KEY, at(1)).done)


def test_other_pipelines_are_left_alone(opened: Opened):
    other = opened(KEYED, pipeline="other")
    opened()
    opened()
    other.commit(cut(1))
    assert cut(1) == other.open().progress


def test_making_a_table_in_the_midst_of_a_batch_is_an_error(opened: Opened):
    target = opened(ONLY_KEY)
    target.write(batch(ONLY_KEY, ("c", None, (1,))))
    with pytest.raises(CdcError) as error:
        target.create_table(KEYED)
    assert "transaction_open" == error.value.code


def test_after_a_failover_that_lost_a_takeover_two_owners_never_have_one_number(postgres: TargetDatabase, opened: Opened):
    """The replica knows neither the number of the one that took over last nor that it was given."""
    opened(ONLY_KEY)
    known = postgres.execute("SELECT fence FROM cdc.pipeline")[0][0]
    lost = opened()
    lost.close()
    postgres.execute(f"UPDATE cdc.pipeline SET fence = {known}")
    new = opened()
    with pytest.raises(Halt) as stop:
        lost.open()
    assert "fenced" == stop.value.code
    new.commit(cut(1))
