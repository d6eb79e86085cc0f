"""Which keys wait and when refusals stop the pipeline, kept over several batches; changes taken apart and joined again."""

from __future__ import annotations

import hashlib

import pytest

from cdc.codec.records import Opened
from cdc.errors import Halt, RowRefused
from cdc.runtime import timing
from sinks.contract import TableBatch
from sinks.fold import Fold, runs
from sinks.quarantine import (  # fmt: skip
    LEAST,
    HeldKeys,
    QuarantineLimits,
    Records,
    Window,
    copied_again,
    freed,
    joined,
    key_hash,
    queued,
    systemic,
    units,
)
from tests.sinks.postgres.opening import batch
from tests.sinks.postgres.plans import KEYED, KEYLESS, HandPlan, Values

A, B = ("db", "a"), ("db", "b")
WINDOW_SECONDS = timing.TIMES.quarantine_window_seconds
REFUSED = RowRefused("target_value", "db.a", "PostgreSQL says 23514", "", "23514")


def refusals(count: int, first: int = 0) -> dict[bytes, RowRefused]:
    return {b"%d" % n: REFUSED for n in range(first, first + count)}


def keys(*numbers: int) -> set[bytes]:
    return {b"%d" % n for n in numbers}


# -- what is held


def test_what_the_target_holds_takes_the_place_of_what_was_known() -> None:
    held_keys = HeldKeys(QuarantineLimits())
    assert (False, {}, frozenset()) == (bool(held_keys), held_keys.counts(), held_keys.held(A))
    held_keys.replace({A: keys(1, 2), B: keys(3)})
    assert (True, keys(1, 2), keys(3)) == (bool(held_keys), held_keys.held(A), held_keys.held(B))
    held_keys.replace({B: keys(4)})
    assert (True, set(), keys(4)) == (bool(held_keys), held_keys.held(A), held_keys.held(B))
    assert {A: 0, B: 1} == held_keys.counts(), "a table that had one is named"
    held_keys.replace({})
    assert (False, {A: 0, B: 0}) == (bool(held_keys), held_keys.counts())


def test_back_at_the_mark_is_held_what_was_held_then_whatever_was_held_later() -> None:
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.replace({A: keys(1), B: keys(2)})
    held_keys.release(B)
    held_keys.mark()
    held_keys.judge(A, refusals(1, 5), 0, 0.0)
    held_keys.release(A, keys(1))
    held_keys.replace({A: keys(5), B: keys(7)})
    assert (keys(5), keys(7)) == (held_keys.held(A), held_keys.held(B))
    held_keys.back_to_mark()
    assert (keys(1), set()) == (held_keys.held(A), held_keys.held(B))
    held_keys.release(A)
    held_keys.mark()
    held_keys.back_to_mark()
    assert set() == held_keys.held(A), "what is committed is not undone"


def test_keys_are_released_one_by_one_or_all_of_a_table() -> None:
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.replace({A: keys(1, 2, 3), B: keys(4)})
    held_keys.release(A, keys(2, 9))
    assert (keys(1, 3), keys(4)) == (held_keys.held(A), held_keys.held(B))
    held_keys.release(A)
    assert (set(), keys(4), {A: 0, B: 1}) == (held_keys.held(A), held_keys.held(B), held_keys.counts())
    held_keys.release(("db", "unknown"))
    assert keys(4) == held_keys.held(B)


def test_a_batch_that_is_undone_is_judged_again_from_what_was_held_before_it() -> None:
    """As a try with more care does: the keys of the first try are no longer held."""
    held_keys = HeldKeys(QuarantineLimits(keys=5))
    held_keys.replace({A: keys(0)})
    held_keys.mark()
    held_keys.judge(A, refusals(4, 1), 0, 0.0)
    held_keys.back_to_mark()
    assert keys(0) == held_keys.held(A)
    held_keys.judge(A, refusals(4, 1), 0, 0.0)
    assert keys(0, 1, 2, 3, 4) == held_keys.held(A)
    with pytest.raises(Halt):
        held_keys.judge(B, refusals(1), 1000, 0.0)


def test_what_was_counted_since_the_mark_is_undone_and_nothing_from_before_it() -> None:
    """Of refused and of written rows alike, however often it is tried; also what a table that was emptied had counted."""
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.judge(A, refusals(1), 2, 0.0)
    held_keys.mark()
    for _ in range(3):
        held_keys.judge(A, refusals(LEAST - 2, 1), 1000, 0.0)
        held_keys.judge(B, refusals(LEAST - 1), 1000, 0.0)
        held_keys.release(A)
        held_keys.back_to_mark()
    held_keys.judge(A, refusals(LEAST - 2, 1), 0, 0.0)
    with pytest.raises(Halt) as stop:
        held_keys.judge(A, refusals(1, LEAST), 0, 0.0)
    assert f"{LEAST} keys were refused and 2 written" in stop.value.rule
    held_keys.judge(B, refusals(LEAST - 1), 0, 0.0)
    with pytest.raises(Halt) as stop:
        held_keys.judge(B, refusals(1, LEAST), 0, 0.0)
    assert f"{LEAST} keys were refused and 0 written" in stop.value.rule


# -- the circuit breaker


def test_refusals_add_up_over_batches_although_the_target_is_read_again_between_them() -> None:
    held_keys = HeldKeys(QuarantineLimits())
    half = LEAST // 2
    held_keys.replace({A: keys(999)})
    held_keys.judge(A, refusals(half), half, 1.0)
    held_keys.replace({A: keys(999) | set(refusals(half))})
    with pytest.raises(Halt) as stop:
        held_keys.judge(A, refusals(half, half), half - 1, 2.0)
    assert ("quarantine_limit", "db.a") == (stop.value.code, stop.value.place)
    assert f"{2 * half} keys were refused and {2 * half - 1} written within 10 minutes" in stop.value.rule


@pytest.mark.parametrize(
    ("refused", "written", "stops"), [(LEAST, 0, True), (LEAST - 1, 0, False), (LEAST, LEAST - 1, True), (LEAST, LEAST, False)]
)
def test_few_refusals_stop_nothing_and_many_only_above_their_share(refused: int, written: int, stops: bool) -> None:
    held_keys = HeldKeys(QuarantineLimits())
    held_keys.judge(A, {}, written, 0.0)
    if not stops:
        held_keys.judge(A, refusals(refused), 0, 0.0)
        return
    with pytest.raises(Halt):
        held_keys.judge(A, refusals(refused), 0, 0.0)


def test_a_batch_without_refusals_never_stops() -> None:
    held_keys = HeldKeys(QuarantineLimits(keys=2))
    held_keys.replace({A: keys(1, 2, 3)})
    held_keys.judge(A, {}, 1, 0.0)


def test_as_many_keys_as_are_allowed_may_wait_in_all_tables_together() -> None:
    held_keys = HeldKeys(QuarantineLimits(keys=3))
    held_keys.judge(A, refusals(2), 100, 0.0)
    held_keys.judge(B, refusals(1), 100, 0.0)
    with pytest.raises(Halt) as stop:
        held_keys.judge(B, refusals(1, 1), 100, 0.0)
    assert "apply.quarantine_keys = 3" in stop.value.rule


def test_a_share_of_another_size_is_kept() -> None:
    held_keys = HeldKeys(QuarantineLimits(share=0.25))
    held_keys.judge(A, refusals(LEAST), 3 * LEAST, 0.0)
    with pytest.raises(Halt):
        held_keys.judge(A, refusals(1, LEAST), 2, 0.0)


def test_the_room_of_a_batch() -> None:
    held_keys = HeldKeys(QuarantineLimits(keys=100, share=0.5))
    assert [LEAST, LEAST, LEAST + 1, 100] == [held_keys.room(rows) for rows in (1, 2 * LEAST, 2 * LEAST + 2, 5000)]
    held_keys.replace({A: keys(*range(60)), B: keys(*range(30))})
    assert 10 == held_keys.room(5000)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((0.0, WINDOW_SECONDS), [(3, 5), (5, 12)]),
        ((0.0, WINDOW_SECONDS + 1), [(3, 5), (5, 12)]),
        ((0.0, 2 * WINDOW_SECONDS - 1), [(3, 5), (5, 12)]),
        ((0.0, 2 * WINDOW_SECONDS), [(3, 5), (2, 7)]),
        ((0.0, 5000 * WINDOW_SECONDS), [(3, 5), (2, 7)]),
        ((WINDOW_SECONDS, 2 * WINDOW_SECONDS), [(3, 5), (2, 7)]),  # a window begins where the one before it was found to be over
        ((WINDOW_SECONDS + 1, 2 * WINDOW_SECONDS + 2, 3 * WINDOW_SECONDS + 2), [(3, 5), (5, 12), (6, 23)]),
        ((WINDOW_SECONDS + 1, 2 * WINDOW_SECONDS + 2, 3 * WINDOW_SECONDS + 3), [(3, 5), (5, 12), (3, 18)]),
    ],
)
def test_what_was_done_counts_for_one_to_two_windows_of_time(seconds: tuple[float, ...], expected: list[tuple[int, int]]) -> None:
    window = Window()
    did = [(3, 5), (2, 7), (1, 11)]
    assert expected == [window.add(refused, written, now) for (refused, written), now in zip(did, seconds)]


def test_a_window_that_is_over_leaves_nothing_behind_in_the_next_but_one() -> None:
    window = Window()
    assert [(1, 2), (2, 4), (2, 4), (2, 4)] == [window.add(1, 2, at * (WINDOW_SECONDS + 1)) for at in range(4)]
    assert (1, 2) == window.add(1, 2, 9 * WINDOW_SECONDS)
    assert (2, 4) == window.add(1, 2, 9 * WINDOW_SECONDS)


def test_the_breaker_names_few_reasons_in_order_and_the_table() -> None:
    error = systemic(A, "too many", [RowRefused("c", "p", rule) for rule in ("d", "b", "a", "c", "a")])
    assert ("quarantine_limit", "db.a") == (error.code, error.place)
    assert "too many (a; b; c): " in error.rule


def test_a_key_is_shown_by_a_short_hash() -> None:
    assert hashlib.sha256(b"secret").hexdigest()[:16] == key_hash(b"secret")


# -- batches taken apart


def row(number: int, note: str = "x") -> Values:
    return number, note, None, 0.5


def keyless(number: int) -> Values:
    return number, "x", None, 0.0, number


def parts(one: TableBatch) -> tuple[object, ...]:
    return one.plan, one.db, one.table, one.upserts, one.keys, one.new, one.deletes, one.adds, one.removes


def test_a_batch_with_a_key_is_taken_apart_into_deletes_and_then_rows_and_joined_again() -> None:
    whole = batch(KEYED, ("c", None, row(1)), ("u", row(2), row(2, "y")), ("d", row(3), None), ("d", row(4), None))
    found = units(whole)
    assert [KEYED.key_tuple(row(n)) for n in (3, 4, 1, 2)] == [unit.identity for unit in found]
    assert [(0, 1), (0, 1), (1, 0), (1, 0)] == [(len(unit.batch.upserts), len(unit.batch.deletes)) for unit in found]
    assert [True, False] == [new for unit in found for new in unit.batch.new]
    assert [None] * 4 == [unit.error for unit in found]
    assert parts(whole) == parts(joined(found))
    assert parts(joined(found[2:])) == parts(batch(KEYED, ("c", None, row(1)), ("u", row(2), row(2, "y"))))


def test_a_batch_without_a_key_is_taken_apart_by_rows_that_come_and_rows_that_go() -> None:
    changes = [("c", None, keyless(1)), ("c", None, keyless(1)), ("d", keyless(2), None), ("d", keyless(2), None), ("c", None, keyless(3))]
    whole = batch(KEYLESS, *changes, ("d", keyless(3), None))
    found = units(whole)
    assert [KEYLESS.row(keyless(n))[0][5:] for n in (1, 2)] == [unit.identity for unit in found]
    assert [(2, []), (0, [2])] == [(len(unit.batch.adds), [count for _, count in unit.batch.removes]) for unit in found]
    assert parts(whole) == parts(joined(found))


# -- what waits of a run of records


def records(plan: HandPlan, *changes: tuple[str, Values | None, Values | None]) -> Records:
    made = Records(*map(list, zip(*[plan.change(*change) for change in changes], strict=True)))
    assert len(changes) == len(made)
    return made


def identities(plan: HandPlan, *rows: Values) -> set[bytes]:
    return {plan.key_tuple(one) if plan.key else plan.row(one)[0][5:] for one in rows}


def test_what_is_queued_says_when_and_in_which_transaction_it_happened() -> None:
    key, value, _ = KEYED.change("c", None, row(1))
    value += b"0-1-7"
    told = Opened(4, 9, "c", -1, -1, 5, len(value) - 5, (len(value) - 5, len(value)), 1234)
    (one,) = queued(KEYED, Records([key], [value], [told]), identities(KEYED, row(1)), {})
    assert (KEYED.key_tuple(row(1)), "c", value, 4, 9, "0-1-7", 1234, None) == (
        one.identity, one.op, one.value, one.epoch, one.seq, one.transaction, one.ts_us, one.error,
    )  # fmt: skip


def test_the_first_change_of_a_refused_key_bears_the_reason_and_only_it() -> None:
    changes = records(KEYED, ("c", None, row(1)), ("c", None, row(2)), ("u", row(1), row(1)))
    errors = {KEYED.key_tuple(row(1)): REFUSED}
    waiting = queued(KEYED, changes, identities(KEYED, row(1), row(2)), errors)
    assert [("c", REFUSED), ("c", None), ("u", None)] == [(one.op, one.error) for one in waiting]
    assert [REFUSED] == list(errors.values()), "what the caller holds is left as it is"


def test_rows_that_a_copy_brings_to_a_table_without_a_key_wait_as_such() -> None:
    waiting = queued(KEYLESS, records(KEYLESS, ("r", None, keyless(1))), identities(KEYLESS, keyless(1)), {})
    assert ["r"] == [one.op for one in waiting]


def test_of_a_table_without_a_key_nothing_is_copied_again() -> None:
    """A row of its that comes is one more, not another in its place."""
    assert set() == copied_again(KEYLESS, records(KEYLESS, ("r", None, keyless(1))), identities(KEYLESS, keyless(1)))
    changes = records(KEYED, ("r", None, row(1)), ("c", None, row(2)), ("r", None, row(3)))
    assert identities(KEYED, row(1)) == copied_again(KEYED, changes, identities(KEYED, row(1), row(2)))


def test_what_does_not_wait_is_left_as_it_is() -> None:
    changes = records(KEYED, ("c", None, row(1)), ("u", row(2), row(2)))
    left = freed(KEYED, changes, identities(KEYED, row(9)))
    assert (changes.keys, changes.values, changes.opened) == (left.keys, left.values, left.opened)
    left = freed(KEYED, changes, identities(KEYED, row(1)))
    assert (changes.keys[1:], changes.values[1:], changes.opened[1:]) == (left.keys, left.values, left.opened)


def test_of_an_update_without_a_key_the_half_that_does_not_wait_is_done() -> None:
    a, b, c, d = map(keyless, range(4))
    changes = records(KEYLESS, ("u", a, b), ("u", b, a), ("u", c, d), ("c", None, d), ("d", d, None), ("u", a, a))
    left = freed(KEYLESS, changes, identities(KEYLESS, a))
    assert ["c", "d", "u", "c", "d"] == [one[2] for one in left.opened]
    assert [one[3:] for one in changes.opened[:5]] == [one[3:] for one in left.opened]
    fold = Fold(KEYLESS)
    fold.add(left.keys, left.values, left.opened)
    assert {KEYLESS.row(c)[0][5:]: -1, KEYLESS.row(d)[0][5:]: 1} == {one[0]: one[2] for one in fold.take().balance}


# -- the fold


def test_changes_are_counted_until_they_are_taken() -> None:
    fold = Fold(KEYED)
    for number in (1, 2):
        changes = records(KEYED, ("c", None, row(number)), ("u", row(number), row(number)))
        fold.add(changes.keys, changes.values, changes.opened)
    assert (4, 2, 0) == (fold.changes, len(fold.take()), fold.changes)
    assert 0 == len(fold.take())


def test_a_key_that_is_deleted_and_comes_again_is_a_row_that_may_be_there() -> None:
    found = batch(KEYED, ("d", row(1), None), ("c", None, row(1)), ("c", None, row(2)), ("d", row(2), None), ("c", None, row(2)))
    assert ([False, True], [], 2) == (found.new, found.deletes, len(found.upserts))


def test_rows_without_a_key_that_come_and_go_alike_leave_nothing() -> None:
    found = batch(KEYLESS, ("c", None, keyless(1)), ("d", keyless(1), None), ("u", keyless(2), keyless(2)), ("c", None, keyless(3)))
    assert ([], 1, [(KEYLESS.row(keyless(3))[0][5:], 1)]) == (found.removes, len(found.adds), [(b[0], b[2]) for b in found.balance])


def test_where_a_row_without_a_key_lies_is_known_of_both_halves_of_an_update() -> None:
    found = batch(KEYLESS, ("u", keyless(1), keyless(2)), ("c", None, keyless(3)), ("c", None, keyless(3)))
    size = {n: len(KEYLESS.row(keyless(n))[0]) - 5 for n in (1, 2, 3)}
    assert [KEYLESS.row(keyless(n))[0][5:] for n in (2, 3, 3)] == [v[at : at + size[2]] for v, at in found.adds]
    assert [(KEYLESS.row(keyless(1))[0][5:], 1)] == [(v[at : at + size[1]], count) for (v, at), count in found.removes]
    assert [found.removes[0][0], found.adds[0], found.adds[1]] == [place for _, place, _ in found.balance]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [("", []), ("a", ["a"]), ("aaa", ["aaa"]), ("ab", ["a", "b"]), ("aabba", ["aa", "bb", "a"]), ("abc", ["a", "b", "c"])],
)
def test_values_come_in_runs_of_one_schema(frames: str, expected: list[str]) -> None:
    """Frames are five bytes; what is behind them does not matter."""
    values = [b"\0\0\0\0" + frame.encode() + b"%d" % at for at, frame in enumerate(frames)]
    assert [[v[4:5].decode() for v in values[run]] for run in runs(values)] == [list(each) for each in expected]
