"""The verifier's judgement, in a world made of dictionaries: lag is never reported, differences always are.

So they are also where the target falls behind half-way: what was found until then stays found.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdc.errors import Refused
from cdc.model.digest import Key
from cdc.model.table import Table
from snapshot.reconcile.compare import BATCH_KEYS, MOST_BUCKETS, SIGHTINGS, Kind, Result, Verdict, bucket_count, verify
from tests.snapshot.reconcile.memory import INTEGERS, KEYLESS, TEXTS, Clinic, Content, MemorySide

KEYED = pytest.mark.parametrize("table", [INTEGERS, TEXTS], ids=["spans", "buckets"])
EVERY = pytest.mark.parametrize("table", [INTEGERS, TEXTS, KEYLESS], ids=["spans", "buckets", "whole"])


def compared(table: Table, source: Content, target: Content, most_differences: int = 100) -> Result:
    return verify(table, MemorySide(source), MemorySide(target), lambda: None, most_differences=most_differences)


def found(result: Result) -> dict[Key, Kind]:
    return {d.key: d.kind for d in result.differences}


def content(rows: int = 1000) -> Content:
    return {7 * k: f"row {k}" for k in range(rows)}


@EVERY
def test_equal_tables_are_equal(table):
    result = compared(table, content(), content())
    assert (Verdict.EQUAL, 1000, 1000, ()) == (result.state, result.rows_source, result.rows_target, result.differences)


@EVERY
def test_empty_tables_are_equal(table):
    assert compared(table, {}, {}).state is Verdict.EQUAL


@KEYED
def test_each_kind_of_difference_is_named_with_its_key_and_column(table):
    target = content()
    del target[70]
    target[71] = "nobody"
    target[700] = "row 101"
    result = compared(table, content(), target)
    assert Verdict.DIFFERENT is result.state
    assert {("70",): Kind.MISSING, ("71",): Kind.EXTRA, ("700",): Kind.DIFFERENT} == found(result)
    assert {("v",)} == {d.columns for d in result.differences if d.kind is Kind.DIFFERENT}


@KEYED
@pytest.mark.parametrize("key", [-5, 0, 6993, 10**15], ids=["before the first", "first", "last", "beyond the last"])
def test_a_difference_at_the_edges_of_the_key_is_found(table, key):
    assert {(str(key),)} == set(found(compared(table, content(), {**content(), key: "planted"})))


@KEYED
def test_a_row_missing_from_an_empty_side_is_found(table):
    assert {("1",): Kind.MISSING} == found(compared(table, {1: "a"}, {}))
    assert {("1",): Kind.EXTRA} == found(compared(table, {}, {1: "a"}))


def test_a_keyless_table_that_differs_is_different_without_named_rows():
    result = compared(KEYLESS, content(), {**content(), 7: "row 2"})
    assert (Verdict.DIFFERENT, ()) == (result.state, result.differences)


@KEYED
def test_reading_stops_at_the_limit_of_differences_and_says_so(table):
    result = compared(table, content(), {}, most_differences=100)
    assert (Verdict.DIFFERENT, False) == (result.state, result.complete)
    assert 100 <= len(result.differences) < 200


def test_one_difference_costs_about_twice_its_piece_and_not_the_table():
    source, target = MemorySide(content(6400), piece=640), MemorySide({**content(6400), 7: "x"})
    verify(INTEGERS, source, target, lambda: None)
    assert source.statements < 50


@KEYED
def test_a_busy_source_and_a_late_target_never_yield_a_difference(table):
    for seed in range(60):
        clinic = Clinic(seed, lag=(0, 10, 200)[seed % 3])
        result = verify(table, *clinic.sides(), clinic.settle)
        assert () == result.differences
        assert result.state in (Verdict.EQUAL, Verdict.UNSETTLED)


@EVERY
def test_rows_that_flip_between_two_values_never_yield_a_difference(table):
    for seed in range(60):
        clinic = Clinic(seed, rows=30, lag=20, togglers=3, writes=6)
        assert verify(table, *clinic.sides(), clinic.settle).state is not Verdict.DIFFERENT


def test_a_single_sighting_would_report_rows_that_flip():
    clinics = [Clinic(seed, rows=30, lag=20, togglers=3, writes=6) for seed in range(60)]
    states = [verify(INTEGERS, *c.sides(), c.settle, sightings=1).state for c in clinics]
    assert Verdict.DIFFERENT in states


@KEYED
def test_a_late_target_never_hides_a_difference(table):
    for seed in range(60):
        clinic = Clinic(seed, lag=(10, 200)[seed % 2])
        clinic.still.update({30, 31, 60})
        del clinic.target[30]
        clinic.target[31] = "planted"
        clinic.target[60] = "planted"
        result = verify(table, *clinic.sides(), clinic.settle)
        assert {("30",): Kind.MISSING, ("31",): Kind.EXTRA, ("60",): Kind.DIFFERENT} == found(result)


def test_a_difference_in_a_table_without_a_key_is_never_called_equal_by_lag():
    for seed in range(20):
        clinic = Clinic(seed, lag=20, writes=1)
        clinic.still.add(31)
        clinic.target[31] = "planted"
        assert verify(KEYLESS, *clinic.sides(), clinic.settle).state is not Verdict.EQUAL


@EVERY
def test_changes_that_only_a_settle_carries_over_are_lag(table):
    source, target = content(), content()
    looks = iter(range(10**6))

    def change() -> None:
        if next(looks) == 1:
            source.update({7: "changed", 8: "new"})
            del source[14]

    def settle() -> None:
        target.clear()
        target.update(source)

    assert Verdict.EQUAL is verify(table, MemorySide(source, change), MemorySide(target), settle).state


def settles_until_different(write: Callable[[Content, int], None]) -> int:
    """How often a difference is looked at while `write` changes the source at each settle."""
    source, settled = content(), [0]

    def settle() -> None:
        settled[0] += 1
        write(source, settled[0])

    assert Verdict.DIFFERENT is verify(INTEGERS, MemorySide(source), MemorySide({**content(), 7: "planted"}), settle).state
    return settled[0] - 1


def test_a_row_that_was_seen_to_change_is_looked_at_twice_as_often():
    def change_once(source: Content, settled: int) -> None:
        if settled == 2:
            source[7] = "changed"

    assert SIGHTINGS == settles_until_different(lambda source, settled: None)
    assert 2 * SIGHTINGS < settles_until_different(change_once)


@EVERY
def test_a_row_that_never_rests_is_unsettled_and_not_equal(table):
    source, target = content(10), content(10)

    def write() -> None:
        source[7] += "."

    result = verify(table, MemorySide(source, write), MemorySide(target), lambda: None)
    assert (Verdict.UNSETTLED, "rows_moving", 1) == (result.state, result.reason, result.unsettled)


def never() -> None:
    raise TimeoutError


@EVERY
def test_a_target_that_never_arrives_leaves_the_table_unsettled(table):
    result = verify(table, MemorySide(content()), MemorySide({**content(), 7: "late"}), never)
    assert (Verdict.UNSETTLED, "target_behind", False) == (result.state, result.reason, result.complete)


@EVERY
def test_a_target_that_never_arrives_and_agrees_is_equal(table):
    """What has changed at the source since the target stood still has not changed this table."""
    result = verify(table, MemorySide(content()), MemorySide(content()), never)
    assert (Verdict.EQUAL, "", True, len(content())) == (result.state, result.reason, result.complete, result.rows_target)


def late_from(settled: int) -> Callable[[], None]:
    """A settle that gives up when it is asked for the so manyth time."""
    left = iter(range(settled - 1))

    def settle() -> None:
        if next(left, None) is None:
            raise TimeoutError

    return settle


@KEYED
def test_a_target_that_falls_behind_hides_no_difference_that_was_found(table):
    """Beside it, in the same batch of keys, a row that never rests keeps the verifier waiting."""
    source, target = content(), {**content(), 7: "planted", 14: "also"}
    beside = {**target, 21: "late"}

    def write() -> None:
        source[21] += "."

    found_until = 1 + SIGHTINGS  # one settle before anything is read
    result = verify(table, MemorySide(source, write), MemorySide(beside), late_from(found_until + 1))
    assert (Verdict.DIFFERENT, "", False) == (result.state, result.reason, result.complete)
    assert {("7",): Kind.DIFFERENT, ("14",): Kind.DIFFERENT} == found(result)
    assert {("v",)} == {each.columns for each in result.differences}
    early = verify(table, MemorySide(source, write), MemorySide(beside), late_from(found_until))
    assert (Verdict.UNSETTLED, "target_behind", False, ()) == (early.state, early.reason, early.complete, early.differences)


def test_a_target_that_falls_behind_hides_no_difference_of_an_earlier_batch():
    target = dict.fromkeys(content(), "planted")
    result = verify(INTEGERS, MemorySide(content()), MemorySide(target), late_from(1 + SIGHTINGS + 1))
    assert (Verdict.DIFFERENT, False, BATCH_KEYS) == (result.state, result.complete, len(result.differences))


def test_a_keyless_table_that_was_seen_to_differ_too_seldom_is_unsettled_when_the_target_falls_behind():
    result = verify(KEYLESS, MemorySide(content()), MemorySide({}), late_from(SIGHTINGS))
    assert (Verdict.UNSETTLED, "target_behind", False) == (result.state, result.reason, result.complete)


def test_a_table_that_a_side_refuses_is_refused_with_the_reason():
    def refuse() -> None:
        raise Refused("target_missing", "db.t", "there is no such table")

    result = verify(INTEGERS, MemorySide(content()), MemorySide(content(), refuse), lambda: None)
    assert (Verdict.REFUSED, "target_missing", "none") == (result.state, result.reason, result.method)


def test_a_difference_shows_no_key():
    assert "4711" not in repr(compared(INTEGERS, {4711: "a"}, {}).differences)


@pytest.mark.parametrize(("rows", "buckets"), [(0, 1), (256, 1), (257, 2), (1000, 4), (1025, 8), (10**12, MOST_BUCKETS)])
def test_buckets_are_a_power_of_two_and_bounded(rows, buckets):
    assert buckets == bucket_count(rows)
