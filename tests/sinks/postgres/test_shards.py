"""Shards of one pipeline: each has one writer, none waits for another, and what is shown is what all of them have applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cdc.errors import CdcError, Halt, Retry, RowSuspected
from cdc.protocol.applied import Progress
from cdc.protocol.copy_progress import NOTHING
from cdc.protocol.table_states import TableState
from cdc.state.shards import shard_of
from sinks.postgres.quarantine import Schemas
from sinks.postgres.quarantine_release import Releaser
from sinks.postgres.shard_target import Moved, furthest, gathering, join
from sinks.quarantine import Queued
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandShard, HandTarget
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, config, cut, rows
from tests.sinks.postgres.plans import KEYED, ONLY_KEY

Sharded = Callable[..., HandShard]


@pytest.fixture
def sharded(postgres: TargetDatabase, opened: Opened) -> Iterator[Sharded]:
    """Opens a shard of pipeline "p", which has applied cut 5 when it is dealt out to two."""
    made: list[HandShard] = []
    generation: list[int] = []

    def start(shard: int) -> HandShard:
        if not generation:
            first = opened(KEYED, ONLY_KEY)
            first.commit(cut(5, t=(6, 5)))
            generation.append(join(config(postgres), "p", 2, 0))
        target = HandShard(config(postgres), "p", shard, 2, generation[0])
        made.append(target)
        target.open()
        return target

    yield start
    for target in made:
        target.close()


HOUR_US = 3_600_000_000


def shown(postgres: TargetDatabase) -> Any:
    return postgres.execute("SELECT cut_no FROM cdc.progress")[0][0]


def places(postgres: TargetDatabase) -> Any:
    return postgres.execute("SELECT cut_no, control_next, waits_at FROM cdc.shard ORDER BY shard")


def test_shards_begin_where_the_one_process_was_each_with_its_partitions(sharded: Sharded) -> None:
    one, other = sharded(0), sharded(1)
    owner = shard_of(("t", 0), 2)
    assert cut(5) == replace(one.read().progress or cut(0), partitions={})
    assert {owner: {("t", 0): (6, 5)}, 1 - owner: {}} == {
        target.share.shard: dict((target.read().progress or cut(0)).partitions) for target in (one, other)
    }


def test_shards_write_one_table_at_once_and_what_is_shown_is_what_both_have(sharded: Sharded, postgres: TargetDatabase) -> None:
    one, other = sharded(0), sharded(1)
    one.write(batch(ONLY_KEY, ("c", None, (1,))))
    one.wire.flush()
    other.write(batch(ONLY_KEY, ("c", None, (2,))))
    other.commit(cut(9))
    assert 5 == shown(postgres)
    one.commit(cut(7))
    assert 7 == shown(postgres)
    one.commit(cut(9))
    assert (9, 2) == (shown(postgres), rows(postgres, ONLY_KEY).total())


def test_what_is_shown_is_no_younger_than_the_shard_that_is_behind(sharded: Sharded, postgres: TargetDatabase) -> None:
    """Also where its moment cannot be true: then it is that of its own commit, not of another shard's."""
    one, other = sharded(0), sharded(1)
    one.commit(replace(cut(6), source_ts_us=2_000_000_000_000_000, clock_offset_us=HOUR_US))
    other.commit(cut(9))
    found = postgres.execute(
        "SELECT round(p.clock_offset_us / 6e7)::int, p.applied_at = s.applied_at FROM cdc.progress p, cdc.shard s WHERE s.shard = 0"
    )
    assert (6, [(60, True)]) == (shown(postgres), found)


def test_a_table_is_consistent_when_every_shard_has_passed_its_ceiling_and_no_key_waits(sharded: Sharded, postgres: TargetDatabase) -> None:
    one, other = sharded(0), sharded(1)
    postgres.execute(
        "UPDATE cdc.tables SET state = 'catching_up', ceiling = (SELECT jsonb_set(jsonb_set(position, '{offset}', '800'), '{gtids}',"
        " '\"0-1-8\"') FROM cdc.progress) WHERE \"table\" = 'only_key'"
    )

    def state() -> Any:
        return postgres.execute("SELECT state FROM cdc.tables WHERE \"table\" = 'only_key'")[0][0]

    one.commit(cut(9))
    assert TableState.CATCHING_UP == state()
    other.commit(cut(8))
    assert TableState.CONSISTENT == state()
    one.write(batch(ONLY_KEY, ("c", None, (1,))))
    one.hold([("app", "only_key")])
    one.commit(cut(10))
    assert TableState.CONSISTENT == state(), "no key waits there"
    postgres.execute("UPDATE cdc.tables SET state = 'catching_up' WHERE \"table\" = 'only_key'")
    waits = Queued(b"k", "c", b"v", 1, 1, "0-1-1", 0)
    one.quarantine(lambda waiting: waiting.add(("app", "only_key"), Schemas(1, None, {}), [waits], None))
    one.commit(cut(11))
    assert TableState.QUARANTINED == state(), "of a key that was refused while the table was copied nobody else says so"


def test_a_member_whose_shard_was_given_to_another_writes_nothing_and_the_other_shard_goes_on(
    sharded: Sharded, postgres: TargetDatabase
) -> None:
    late, other = sharded(0), sharded(1)
    late.write(batch(ONLY_KEY, ("c", None, (1,))))
    late.wire.flush()
    new = sharded(0)
    with pytest.raises(Retry):
        late.commit(cut(9))
    other.write(batch(ONLY_KEY, ("c", None, (2,))))
    other.commit(cut(6))
    new.write(batch(ONLY_KEY, ("c", None, (3,))))
    new.commit(cut(6))
    assert {("2",): 1, ("3",): 1} == rows(postgres, ONLY_KEY)


def test_every_transaction_of_a_shard_checks_its_fence_and_its_place(sharded: Sharded, postgres: TargetDatabase) -> None:
    target = sharded(0)
    postgres.execute("UPDATE cdc.shard SET control_next = control_next + 1")  # as the leader of a meeting does
    with pytest.raises(Moved):
        target.write(batch(ONLY_KEY, ("c", None, (1,))))
        target.commit(cut(9))
    target.rollback()
    target.read()
    postgres.execute("UPDATE cdc.shard SET fence = fence + 1")  # as if the takeover could not reach this connection
    with pytest.raises(Retry) as lost:
        target.write(batch(ONLY_KEY, ("c", None, (1,))))
        target.commit(cut(9))
    assert ("shard_taken", 0, 5) == (lost.value.code, rows(postgres, ONLY_KEY).total(), shown(postgres))


def test_all_move_beyond_a_record_at_once_and_only_when_all_wait_there(sharded: Sharded, postgres: TargetDatabase) -> None:
    leader, other = sharded(0), sharded(1)
    leader.wait_at(20)
    leader.commit(cut(6))
    assert (True, False) == leader.waiting(20)
    leader.lead()
    with pytest.raises(Moved):
        leader.lock_all(leader.transaction, 20)
    leader.rollback()
    other.wait_at(20)
    other.commit(cut(7))
    assert (True, True) == leader.waiting(20)
    tables = leader.lead()
    assert [at(6), at(7)] == leader.lock_all(leader.transaction, 20)
    leader.empty(("app", "only_key"))
    leader.move_all(leader.transaction, (21, "mark"), NOTHING, {("new", 0): (3, 2)}, [replace(tables["app", "only_key"], reason="met")])
    assert [(6, 21, None), (7, 21, None)] == places(postgres)
    assert (False, False) == other.waiting(20)
    assert "met" == other.read().tables["app", "only_key"].reason
    assert [(3, 2)] == postgres.execute("SELECT next_offset, seq FROM cdc.partition WHERE topic = 'new'")


def test_one_process_that_takes_over_ends_the_members_and_brings_the_shards_together(
    sharded: Sharded, opened: Opened, postgres: TargetDatabase
) -> None:
    one, other = sharded(0), sharded(1)
    one.commit(cut(9))
    other.write(batch(ONLY_KEY, ("c", None, (1,))))
    other.wire.flush()
    alone: HandTarget = opened()
    assert 2 == gathering(alone)
    for member in (one, other):
        with pytest.raises(CdcError):
            member.commit(cut(10))
        with pytest.raises(Halt) as fenced:
            member.open()
        assert "fenced" == fenced.value.code
    assert 10 == furthest(alone)
    postgres.execute("UPDATE cdc.shard SET control_next = 10")
    assert 11 == furthest(alone), "at one place, and not with one position"
    postgres.execute("UPDATE cdc.shard s SET (cut_no, position) = (SELECT cut_no, position FROM cdc.shard o WHERE o.shard = 0)")
    assert furthest(alone) is None
    assert (9, 0) == (shown(postgres), gathering(alone))
    assert 9 == (alone.open().progress or cut(0)).cut_no
    assert 0 == rows(postgres, ONLY_KEY).total()


def test_members_that_start_at_once_deal_out_once_and_end_the_one_process(opened: Opened, postgres: TargetDatabase) -> None:
    alone = opened(ONLY_KEY)
    with pytest.raises(Halt) as early:
        join(config(postgres), "p", 2, 0)
    assert "not_loaded" == early.value.code
    alone = opened()
    alone.commit(cut(5))
    first, second = (join(config(postgres), "p", 2, 0) for _ in range(2))
    assert first == second == join(config(postgres), "p", 2, first)
    with pytest.raises(CdcError):
        alone.commit(cut(6))
    with pytest.raises(Halt) as fenced:
        alone.open()
    assert "fenced" == fenced.value.code
    with pytest.raises(CdcError) as other:
        join(config(postgres), "p", 3, 0)
    assert "shards_differ" == other.value.code
    assert [(5, 6, None)] * 2 == places(postgres)
    with closing(HandTarget(config(postgres), "p")) as later:
        later.open()
        with pytest.raises(Halt):
            join(config(postgres), "p", 2, first)


def test_a_release_from_quarantine_waits_for_every_shard_and_each_hears_of_it(sharded: Sharded, postgres: TargetDatabase) -> None:
    one, other = sharded(0), sharded(1)
    heard = one.lock(), other.lock()
    one.rollback()
    other.rollback()
    with closing(Releaser(config(postgres), "p", lambda value, key: KEYED)) as releaser:
        assert 0 == releaser.discard(("app", "keyed"), "0" * 16)
    assert (heard[0] + 1, heard[1] + 1) == (one.lock(), other.lock())


def test_a_place_says_its_position_and_when_the_source_was_there(sharded: Sharded, postgres: TargetDatabase) -> None:
    one, other = sharded(0), sharded(1)
    for target in (one, other):
        target.commit(cut(8))
    found = postgres.execute("SELECT position->>'gtids', (extract(epoch FROM source_ts) * 1000000)::bigint FROM cdc.progress")
    assert [("0-1-8", cut(8).source_ts_us)] == found
    assert isinstance(one.read().progress, Progress)


def test_after_a_failover_that_lost_a_takeover_two_members_never_have_one_number(sharded: Sharded, postgres: TargetDatabase) -> None:
    """What the member that lost its connection would find is a number that was given once more."""
    first = sharded(0)
    known = first.fence
    lost = sharded(0)
    lost.close()
    postgres.execute(f"UPDATE cdc.shard SET fence = {known} WHERE shard = 0")
    assert sharded(0).fence != lost.fence


def test_a_shard_finds_the_row_that_a_function_of_the_target_refuses(sharded: Sharded, postgres: TargetDatabase) -> None:
    """By a class of its own, which is no row's before the statement has passed without one."""
    shard = sharded(0)
    postgres.execute(
        "CREATE FUNCTION app.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.\"Note\" = 'bad' THEN RAISE 'no' USING ERRCODE = '45000'; END IF; RETURN NEW; END $$",
        'CREATE TRIGGER guard BEFORE INSERT ON app."Keyed Table" FOR EACH ROW EXECUTE FUNCTION app.guard()',
    )
    both = batch(KEYED, ("c", None, (1, "good", None, 0.5)), ("c", None, (2, "bad", None, 0.5)))
    shard.write(both)
    with pytest.raises(RowSuspected):
        shard.commit(cut(6, t=(7, 6)))
    refused = shard.write_bisected(both, 5)
    shard.commit(cut(6, t=(7, 6)))
    assert [(KEYED.key_tuple((2,)), "45000")] == [(one.identity, one.error.sqlstate) for one in refused if one.error]
    assert 1 == rows(postgres, KEYED).total()
