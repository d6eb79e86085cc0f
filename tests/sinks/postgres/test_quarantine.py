"""Batches with rows that the target refuses: all others are written, the refused keys are known, and what waits keeps its order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from cdc.errors import Halt, RowRefused
from cdc.runtime import timing
from sinks.fold import Fold
from sinks.postgres.quarantine import Quarantine, Schemas
from sinks.quarantine import LEAST, HeldKeys, QuarantineLimits, Records, copied_again, freed, key_hash, queued
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, cut, rows, shown
from tests.sinks.postgres.plans import KEYED, KEYLESS, HandPlan, Values, random_row

Change = tuple[str, Values | None, Values | None]
REFUSED = RowRefused("target_value", "app.x", "PostgreSQL says 23514", "", "23514")
SCHEMAS = Schemas(7, None, {"type": "record"})


def records(plan: HandPlan, *changes: Change) -> Records:
    return Records(*map(list, zip(*[plan.change(*change) for change in changes], strict=True)))


def row(number: int, note: str | None = "x") -> Values:
    return number, note, None, 0.5


def held(*values: Values, plan: HandPlan = KEYED) -> set[bytes]:
    return {plan.key_tuple(one) if plan.key else plan.row(one)[0][5:] for one in values}


# -- what waits


def test_all_that_happens_to_a_held_key_waits_in_order_and_nothing_else_does():
    changes = records(KEYED, ("c", None, row(1)), ("u", row(2), row(2, "y")), ("c", None, row(3)), ("d", row(2), None), ("c", None, row(2)))
    waiting = queued(KEYED, changes, held(row(2)), {KEYED.key_tuple(row(2)): REFUSED})
    assert [("u", REFUSED), ("d", None), ("c", None)] == [(one.op, one.error) for one in waiting]
    assert [changes.keys[0], changes.keys[2]] == freed(KEYED, changes, held(row(2))).keys


def test_a_change_without_a_key_waits_by_halves():
    a, b, c = ((n, "x", None, 0.0, n) for n in (1, 2, 3))
    changes = records(KEYLESS, ("c", None, a), ("u", a, b), ("u", b, a), ("u", b, c), ("d", a, None))
    waits = held(a, plan=KEYLESS)
    assert ["c", "d", "c", "d"] == [one.op for one in queued(KEYLESS, changes, waits, {})]
    free = freed(KEYLESS, changes, waits)
    fold = Fold(KEYLESS)
    fold.add(free.keys, free.values, free.opened)
    assert {KEYLESS.row(b)[0][5:]: -1, KEYLESS.row(c)[0][5:]: 1} == {one[0]: one[2] for one in fold.take().balance}
    assert ["c", "d", "u"] == [one[2] for one in free.opened]


def test_a_row_that_a_copy_brings_takes_the_place_of_what_waits():
    changes = records(KEYED, ("u", row(1), row(1)), ("r", None, row(2)), ("r", None, row(3)))
    assert held(row(2)) == copied_again(KEYED, changes, held(row(1), row(2)))


# -- the circuit breaker


def refusals(count: int, first: int = 0) -> dict[bytes, RowRefused]:
    return {b"%d" % n: REFUSED for n in range(first, first + count)}


def test_more_keys_than_allowed_stop():
    held_keys = HeldKeys(QuarantineLimits(keys=5))
    held_keys.replace({("a", "b"): {b"0", b"1"}})
    held_keys.judge(("a", "c"), refusals(3), 1000, 0.0)
    with pytest.raises(Halt) as stop:
        held_keys.judge(("a", "c"), refusals(1, 3), 1000, 0.0)
    assert ("quarantine_limit", True) == (stop.value.code, "quarantine_keys = 5" in stop.value.rule)


@pytest.mark.parametrize(("refused", "written", "stops"), [(LEAST - 1, 0, False), (LEAST, LEAST, False), (LEAST + 1, LEAST, True)])
def test_a_table_most_of_whose_keys_are_refused_stops(refused: int, written: int, stops: bool):
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.judge(("a", "b"), {}, written, 0.0)
    tripped = False
    for n in range(refused):
        try:
            held_keys.judge(("a", "b"), refusals(1, n), 0, 1.0)
        except Halt:
            tripped = True
    assert stops == tripped


def test_what_was_refused_long_ago_does_not_count():
    held_keys = HeldKeys(QuarantineLimits())
    for n in range(3):
        held_keys.judge(("a", "b"), refusals(LEAST - 2, n * 100), 0, n * 3 * timing.TIMES.quarantine_window_seconds)
    assert {("a", "b"): 3 * (LEAST - 2)} == held_keys.counts()


def test_what_an_undone_try_counted_and_held_and_freed_is_undone_with_it():
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.replace({("a", "b"): {b"old"}, ("a", "c"): {b"other"}})
    held_keys.mark()
    for _ in range(5):
        held_keys.back_to_mark()
        held_keys.judge(("a", "b"), refusals(LEAST - 1), 0, 1.0)
        held_keys.release(("a", "b"), [b"old"])
        held_keys.release(("a", "c"))
    assert {("a", "b"): LEAST - 1, ("a", "c"): 0} == held_keys.counts()
    held_keys.back_to_mark()
    assert ({b"old"}, {b"other"}) == (held_keys.held(("a", "b")), held_keys.held(("a", "c")))
    held_keys.judge(("a", "b"), refusals(LEAST - 1), 0, 1.0)
    held_keys.mark()
    with pytest.raises(Halt):
        held_keys.judge(("a", "b"), refusals(1, LEAST), 0, 2.0)


def test_a_table_that_is_emptied_begins_anew():
    """What was refused of its old rows says nothing of the new ones."""
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.judge(("a", "b"), refusals(LEAST - 1), 0, 1.0)
    held_keys.release(("a", "b"))
    held_keys.judge(("a", "b"), refusals(LEAST - 1), 0, 2.0)
    assert {("a", "b"): LEAST - 1} == held_keys.counts()


def test_a_batch_leaves_room_for_a_share_of_its_rows_and_never_for_more_than_is_allowed():
    held_keys = HeldKeys(QuarantineLimits(keys=1000, share=0.5))
    assert (LEAST, 500, 1000) == (held_keys.room(1), held_keys.room(1000), held_keys.room(50_000))
    held_keys.replace({("a", "b"): {b"%d" % n for n in range(990)}})
    assert 10 == held_keys.room(50_000)


# -- the target


def poison(values: Values) -> bool:
    return bool(values[1] == "poison")


def changes_of(plan: HandPlan, chance: random.Random, count: int, table: dict[bytes, Values], numbers: int) -> list[Change]:
    """Changes of a keyed table of which some write a row that the target refuses."""
    found: list[Change] = []
    for _ in range(count):
        values = random_row(plan, chance, numbers)
        key, old = plan.key_tuple(values), table.get(plan.key_tuple(values))
        if chance.random() < 0.03:
            values = (values[0], "poison", *values[2:])
        if old is not None and chance.random() < 0.3:
            found.append(("d", old, None))
            del table[key]
            continue
        found.append(("u", old, values) if old is not None else ("c", None, values))
        table[key] = values
    return found


class Unreadable(HandPlan):
    """Of a row whose note is poison no tuple can be made."""

    def copy_rows(self, rows: Sequence[tuple[bytes, int]], out: bytearray) -> dict[tuple[str, str], int]:
        if any(b"poison" in value for value, _ in rows):
            raise Halt("nul_in_text", "app.Keyed Table", "poison")
        return super().copy_rows(rows, out)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("plan", "sqlstate"), [(KEYED, "23514"), (Unreadable(KEYED.table, KEYED.columns), "")], ids=["server", "codec"])
def test_everything_but_the_refused_keys_is_written_whatever_the_batch(
    postgres: TargetDatabase, opened: Opened, plan: HandPlan, sqlstate: str, seed: int
):
    """Whether the server refuses them, or the codec, in the middle of a COPY that is under way."""
    chance, source = random.Random(seed), dict[bytes, Values]()
    target, held_keys = opened(plan), HeldKeys(QuarantineLimits(keys=10_000))
    if plan is KEYED:
        postgres.execute('ALTER TABLE app."Keyed Table" ADD CHECK ("Note" <> \'poison\')')
    expected: dict[bytes, Values] = {}
    for number in range(1, 16):
        found = records(plan, *changes_of(plan, chance, chance.choice((1, 5, 80, 400)), source, 150))
        waiting = held_keys.held(("app", plan.table))
        free = freed(plan, found, waiting)
        fold = Fold(plan)
        fold.add(free.keys, free.values, free.opened)
        refused = {one.identity: one.error for one in target.write_bisected(fold.take(), 10_000) if one.error}
        assert {(sqlstate, "app.Keyed Table")} >= {(one.sqlstate, one.place) for one in refused.values()}
        held_keys.judge(("app", plan.table), refused, 10_000, 0.0)
        target.commit(cut(number))
        expected = {key: values for key, values in expected.items() if key in held_keys.held(("app", plan.table))}
        expected |= {key: values for key, values in source.items() if key not in held_keys.held(("app", plan.table))}
        assert not any(poison(values) for values in expected.values())
        assert Counter(shown(plan, values) for values in expected.values()) == rows(postgres, plan), f"seed {seed}, batch {number}"
    assert held_keys.held(("app", plan.table))


@pytest.mark.parametrize("size", [1, 70, 500])
def test_equal_rows_without_a_key_are_refused_together(postgres: TargetDatabase, opened: Opened, size: int):
    target = opened(KEYLESS)
    postgres.execute("CREATE UNIQUE INDEX ON app.keyless (b)")
    good: list[Change] = [("c", None, (n, f"{n}", None, 0.0, n % 99)) for n in range(size)]
    twice: Change = ("c", None, (1, "twice", None, 0.0, 1))
    refused = target.write_bisected(batch(KEYLESS, *good, twice, twice), 5)
    target.commit(cut(1))
    assert [key_hash(KEYLESS.row(twice[2] or ())[0][5:])] == [key_hash(one.identity) for one in refused]
    assert size == rows(postgres, KEYLESS).total()


def test_a_constraint_that_is_checked_at_the_commit_is_checked_at_once_where_that_is_asked_for(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    postgres.execute('ALTER TABLE app."Keyed Table" ADD CONSTRAINT one UNIQUE ("Note") DEFERRABLE INITIALLY DEFERRED')
    both = batch(KEYED, ("c", None, row(1)), ("c", None, row(2)), ("c", None, row(3, "other")))
    target.lock()
    assert [] == target.write_bisected(both, 5)
    with pytest.raises(RowRefused):
        target.commit(cut(1))
    target.lock(immediate=True)
    refused = target.write_bisected(both, 5)
    target.commit(cut(1))
    assert ([("23505", KEYED.key_tuple(row(2)))], 2) == (
        [(one.error.sqlstate, one.identity) for one in refused if one.error], rows(postgres, KEYED).total(),
    )  # fmt: skip


def test_more_refusals_than_a_batch_has_room_for_stop_and_undo_it(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    postgres.execute('ALTER TABLE app."Keyed Table" ADD CHECK ("Note" <> \'poison\')')
    with pytest.raises(Halt) as stop:
        target.write_bisected(batch(KEYED, *[("c", None, row(n, "poison" if n % 2 else "fine")) for n in range(100)]), 20)
    assert ("quarantine_limit", True) == (stop.value.code, "23514" in stop.value.rule)
    target.commit(cut(1))
    assert 0 == rows(postgres, KEYED).total()


def test_an_error_that_is_no_row_s_fault_is_never_bisected(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    target.write(batch(KEYED, ("c", None, row(1))))
    target.commit(cut(1))
    postgres.execute('DROP TABLE app."Keyed Table"')
    with pytest.raises(Halt) as stop:
        target.write_bisected(batch(KEYED, ("c", None, row(2)), ("c", None, row(3))), 5)
    assert ("target_denied", "42P01" in stop.value.rule) == (stop.value.code, True)


def waiting_in(postgres: TargetDatabase) -> list[tuple[object, ...]]:
    return postgres.execute('SELECT "table", key_hash, op, reason, sqlstate, seq FROM cdc.quarantine ORDER BY id')


def queue(target: HandTarget, plan: HandPlan, *changes: Change) -> None:
    found = records(plan, *changes)
    identities = {key[5:]: REFUSED for key in found.keys if key}
    target.lock()
    waiting = queued(plan, found, identities, identities)
    target.quarantine(lambda q: q.add(("app", plan.table), SCHEMAS, waiting, at(1)))


def test_queue_rows_are_part_of_the_transaction_and_outlive_the_connection(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    queue(target, KEYED, ("c", None, row(1)), ("u", row(1), row(1, "y")))
    target.rollback()
    assert [] == waiting_in(postgres)
    queue(target, KEYED, ("c", None, row(1)), ("u", row(1), row(1, "y")))
    target.commit(cut(1))
    key = key_hash(KEYED.key_tuple(row(1)))
    assert [("Keyed Table", key, "c", "target_value", "23514", 1), ("Keyed Table", key, "u", "queued_behind", "", 1)] == waiting_in(
        postgres
    )
    target.open()
    assert {("app", "Keyed Table"): held(row(1))} == target.quarantine(Quarantine.held)
    target.quarantine(lambda q: q.drop(("app", "Keyed Table"), held(row(2))))
    assert {("app", "Keyed Table"): held(row(1))} == target.quarantine(Quarantine.held)
    target.rollback()


def test_emptying_a_table_or_loading_it_anew_empties_its_quarantine(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    for again in (lambda: target.empty(("app", KEYED.table)), lambda: target.begin_load(KEYED, at(1), again=True)):
        queue(target, KEYED, ("c", None, row(1)))
        target.commit(cut(1))
        assert 1 == len(waiting_in(postgres))
        again()
        target.commit(cut(2))
        assert [] == waiting_in(postgres)
