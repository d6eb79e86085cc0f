"""What the verifier counts, how it narrows down and groups, and who has the last word; in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from cdc.errors import Refused
from cdc.model.digest import Digest, Key, KeySpan, key_hash
from cdc.model.table import Table
from snapshot.reconcile import compare as module
from snapshot.reconcile.compare import NARROW_ROWS, SIGHTINGS, Kind, Result, Verdict, _groups, _Sighting, _Tally, verify
from snapshot.reconcile.sides import Rows
from tests.snapshot.reconcile.memory import INTEGERS, KEYLESS, TEXTS, Content, MemorySide


def content(rows: int = 1000) -> Content:
    return {7 * k: f"row {k}" for k in range(rows)}


def nothing() -> None:
    """The target has everything."""


class Told(MemorySide):
    """Notes what it is asked."""

    def __init__(self, content: Content, looked: Callable[[], None] = nothing, piece: int = 100) -> None:
        super().__init__(content, looked, piece)
        self.asked: list[str] = []

    def digest(self, span: KeySpan) -> Digest:
        self.asked.append("digest")
        return super().digest(span)

    def middle(self, span: KeySpan, skip: int) -> int | None:
        self.asked.append(f"middle {skip}")
        return super().middle(span, skip)

    def rows(self, span: KeySpan) -> Rows:
        found = super().rows(span)
        self.asked.append(f"rows {len(found)}")
        return found

    def bucket_rows(self, count: int, chosen: frozenset[int]) -> dict[Key, str]:
        self.asked.append(f"bucket_rows {len(chosen)}")
        return super().bucket_rows(count, chosen)

    def columns_of(self, keys: Iterable[Key]) -> dict[Key, tuple[str | None, ...]]:
        named = list(keys)
        self.asked.append(f"columns_of {len(named)}")
        return super().columns_of(named)


def test_everything_that_is_known_of_a_comparison_is_told() -> None:
    ticks = iter([100.0, 103.5])
    target = {**content(), 7: "x", 700: "y", 6993: "z", 1: "extra"}
    result = verify(INTEGERS, MemorySide(content()), MemorySide(target), nothing, clock=lambda: next(ticks))
    assert (INTEGERS, "memory", Verdict.DIFFERENT, "spans", "", "") == (
        result.table, result.target, result.state, result.method, result.reason, result.detail,
    )  # fmt: skip
    assert (1000, 1001, 11, 3, 4, 0, True, 3.5) == (
        result.rows_source, result.rows_target, result.pieces, result.pieces_different, result.rechecked, result.unsettled,
        result.complete, result.seconds,
    )  # fmt: skip
    assert {("7",): Kind.DIFFERENT, ("700",): Kind.DIFFERENT, ("6993",): Kind.DIFFERENT, ("1",): Kind.EXTRA} == {
        one.key: one.kind for one in result.differences
    }
    assert [key_hash(one.key) for one in result.differences] == [one.key_hash for one in result.differences]


@pytest.mark.parametrize(("table", "method"), [(INTEGERS, "spans"), (TEXTS, "buckets"), (KEYLESS, "whole")])
def test_the_method_is_that_of_the_key(table: Table, method: str) -> None:
    assert method == verify(table, MemorySide(content(3)), MemorySide(content(3)), nothing).method


def test_a_result_says_nothing_that_was_not_found() -> None:
    empty = Result(INTEGERS, "t", Verdict.EQUAL, "spans")
    assert ("", "", 0, 0, 0, 0, 0, 0, (), True, 0.0) == (
        empty.reason, empty.detail, empty.rows_source, empty.rows_target, empty.pieces, empty.pieces_different, empty.rechecked,
        empty.unsettled, empty.differences, empty.complete, empty.seconds,
    )  # fmt: skip
    tally = _Tally()
    assert (0, 0, 0, True, (Verdict.EQUAL, "")) == (
        tally.pieces_different, tally.rechecked, tally.unsettled, tally.complete, tally.verdict(),
    )  # fmt: skip


def test_a_refusal_says_which_rule() -> None:
    def refuse() -> None:
        raise Refused("target_missing", "db.t", "there is no such table")

    result = verify(INTEGERS, MemorySide(content()), MemorySide(content(), refuse), nothing)
    assert ("target_missing", "there is no such table", "none") == (result.reason, result.detail, result.method)


# -- sightings


def test_a_difference_at_rest_counts_up_and_a_change_of_either_side_begins_twice_as_long_anew() -> None:
    sighting = _Sighting(3)
    assert [False, False, True] == [sighting.confirmed("a", "b", "a") for _ in range(3)]
    sighting = _Sighting(2)
    assert not sighting.confirmed("a", "b", "a")
    assert not sighting.confirmed("a", "c", "a"), "the target has another value than when it was seen before"
    assert (4, 1) == (sighting.needed, sighting.seen)
    assert [False, False, True] == [sighting.confirmed("a", "c", "a") for _ in range(3)]
    sighting = _Sighting(2)
    assert not sighting.confirmed("a", "b", "a")
    assert not sighting.confirmed("a", "b", "z"), "the source moved between its readings"
    assert (4, 0) == (sighting.needed, sighting.seen)
    assert [False, False, False, True] == [sighting.confirmed("z", "b", "z") for _ in range(4)]


def test_a_round_in_which_the_source_moves_never_confirms() -> None:
    sighting = _Sighting(0)
    assert not sighting.confirmed("a", "b", "c")


# -- spans


def test_a_span_with_few_rows_is_read_row_by_row_and_a_larger_one_is_halved() -> None:
    source, target = Told(content(NARROW_ROWS), piece=10_000), Told({**content(NARROW_ROWS), 7: "x"})
    verify(INTEGERS, source, target, nothing)
    assert [f"rows {NARROW_ROWS}"] == [asked for asked in source.asked if asked.startswith("rows")]
    source, target = Told(content(NARROW_ROWS + 1), piece=10_000), Told({**content(NARROW_ROWS + 1), 7: "x"})
    verify(INTEGERS, source, target, nothing)
    half = (NARROW_ROWS + 1) // 2
    assert f"middle {half}" in source.asked
    assert [f"rows {half + 1}"] == [asked for asked in source.asked if asked.startswith("rows")]


def test_the_fuller_side_is_asked_for_the_middle() -> None:
    """A half of the emptier one might hold all that the other has too much."""
    source, target = Told(content(10), piece=10_000), Told(content(500))
    verify(INTEGERS, source, target, nothing)
    assert "middle 250" in target.asked
    assert [] == [asked for asked in source.asked if asked.startswith("middle") and asked != "middle 9999"]
    source, target = Told(content(500), piece=10_000), Told(content(10))
    verify(INTEGERS, source, target, nothing)
    assert "middle 250" in source.asked


def test_rows_that_agree_are_never_suspects() -> None:
    result = verify(INTEGERS, MemorySide(content(50)), MemorySide({**content(50), 7: "x"}), nothing)
    assert 1 == result.rechecked


# -- buckets


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([5], [[0]]),
        ([11], [[0]]),
        ([5, 5], [[0, 1]]),
        ([5, 6], [[0], [1]]),
        ([3, 3, 3, 3, 3], [[0, 1, 2], [3, 4]]),
        ([11, 11, 1], [[0], [1], [2]]),
        ([9, 1, 1, 9], [[0, 1], [2, 3]]),
    ],
)
def test_differing_buckets_are_read_in_groups_that_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch, rows: list[int], expected: list[list[int]]
) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 10)
    assert expected == [sorted(group) for group in _groups(dict(enumerate(rows)))]


def test_a_bucket_s_size_is_that_of_its_fuller_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 300)
    source, target = Told(content(1000)), Told({})
    result = verify(TEXTS, source, target, nothing, most_differences=10_000)
    assert (1000, 4) == (len(result.differences), len([asked for asked in source.asked if asked.startswith("bucket_rows")]))


# -- the limit


@pytest.mark.parametrize(("most", "found", "complete"), [(64, 64, False), (65, 70, True), (6, 64, False)])
def test_reading_stops_at_the_limit_of_differences(most: int, found: int, complete: bool) -> None:
    result = verify(INTEGERS, MemorySide(content(70)), MemorySide({}), nothing, most_differences=most)
    assert (found, complete) == (len(result.differences), complete)
    assert complete == result.complete


def test_what_differs_is_asked_for_of_rows_that_both_sides_have() -> None:
    source, target = Told(content(30)), Told({**content(30), 7: "x", 1: "extra"})
    del target.content[14]
    result = verify(INTEGERS, source, target, nothing)
    assert {("7",): ("v",), ("1",): (), ("14",): ()} == {one.key: one.columns for one in result.differences}
    assert ["columns_of 1"] == [asked for asked in source.asked if asked.startswith("columns")]
    equal = Told(content(30))
    verify(INTEGERS, equal, Told(content(29)), nothing)
    assert [] == [asked for asked in equal.asked if asked.startswith("columns")]


def test_rows_that_never_rest_are_counted_over_all_batches() -> None:
    source, target = content(200), dict.fromkeys(content(200), "late")

    def write() -> None:
        for key in source:
            source[key] += "."

    result = verify(INTEGERS, MemorySide(source, write), MemorySide(target), nothing, rounds=2)
    assert (Verdict.UNSETTLED, 200, 200) == (result.state, result.unsettled, result.rechecked)


# -- the judge


def judging(*equal: str, asked: list[list[Key]] | None = None) -> Callable[[Iterable[Key]], frozenset[Key]]:
    """A judge who finds these keys equal, and notes what it is asked."""

    def judge(keys: Iterable[Key]) -> frozenset[Key]:
        named = list(keys)
        if asked is not None:
            asked.append(named)
        return frozenset(key for key in named if key[0] in equal)

    return judge


def test_rows_that_the_judge_calls_equal_are_and_those_that_it_does_not_are_different() -> None:
    asked: list[list[Key]] = []
    target = {**content(30), 7: "other spelling", 14: "planted"}
    result = verify(INTEGERS, MemorySide(content(30)), MemorySide(target), nothing, judge=judging("7", asked=asked))
    assert [("14",)] == [one.key for one in result.differences]
    assert [[("7",), ("14",)], [("14",)]] == asked, "again when a difference would be reported"


def test_a_row_that_the_judge_calls_equal_at_last_is_not_reported() -> None:
    asked: list[list[Key]] = []

    def judge(keys: Iterable[Key]) -> frozenset[Key]:
        asked.append(list(keys))
        return frozenset(asked[-1]) if len(asked) > 1 else frozenset()

    result = verify(INTEGERS, MemorySide(content(30)), MemorySide({**content(30), 7: "x"}), nothing, judge=judge)
    assert (Verdict.UNSETTLED, ()) == (result.state, result.differences)


def test_a_row_whose_source_moves_while_the_judge_is_asked_is_looked_at_again() -> None:
    source, target = content(30), {**content(30), 7: "planted"}
    asked = []

    def judge(keys: Iterable[Key]) -> frozenset[Key]:
        asked.append(list(keys))
        if len(asked) == 2:
            source[7] = "moved"
        return frozenset()

    result = verify(INTEGERS, MemorySide(source), MemorySide(target), nothing, judge=judge)
    assert (Verdict.DIFFERENT, [("7",)]) == (result.state, [one.key for one in result.differences])
    assert 2 < len(asked)


def test_the_judge_is_not_asked_of_a_row_that_the_source_has_not() -> None:
    asked: list[list[Key]] = []
    result = verify(INTEGERS, MemorySide(content(30)), MemorySide({**content(30), 1: "x"}), nothing, judge=judging("never", asked=asked))
    assert [Kind.EXTRA] == [one.kind for one in result.differences]
    assert [[("1",)]] == asked


def test_a_table_without_a_key_that_the_judge_would_have_to_look_at_is_refused() -> None:
    result = verify(KEYLESS, MemorySide(content(3)), MemorySide(content(2)), nothing, judge=judging())
    assert (Verdict.REFUSED, "policy_unverifiable") == (result.state, result.reason)
    assert Verdict.EQUAL is verify(KEYLESS, MemorySide(content(3)), MemorySide(content(3)), nothing, judge=judging()).state


# -- without a key


def test_a_table_without_a_key_is_looked_at_as_often_as_a_row() -> None:
    settles: list[int] = []
    result = verify(KEYLESS, MemorySide(content(3)), MemorySide(content(2)), lambda: settles.append(1))
    assert (Verdict.DIFFERENT, 3, 2, 1, 1, SIGHTINGS) == (
        result.state, result.rows_source, result.rows_target, result.pieces, result.pieces_different, result.rechecked,
    )  # fmt: skip
    assert SIGHTINGS + 1 == len(settles)


def test_a_table_without_a_key_that_arrives_late_is_equal() -> None:
    """The target has what the source had at the first of two readings, or at the second."""
    source, target = content(3), content(3)
    looks = iter(range(100))

    def write() -> None:
        if next(looks) in (0, 1, 2):
            source[1] = source.get(1, "") + "."

    def settle() -> None:
        target.update(source)

    assert Verdict.EQUAL is verify(KEYLESS, MemorySide(source, write), MemorySide(target), settle).state


def test_a_table_without_a_key_that_never_rests_is_unsettled_with_what_was_last_read() -> None:
    source = content(3)

    def write() -> None:
        source[1] = source.get(1, "") + "."

    result = verify(KEYLESS, MemorySide(source, write), MemorySide(content(2)), nothing, rounds=4)
    assert (Verdict.UNSETTLED, "rows_moving", 1, 4, 4, 2) == (
        result.state, result.reason, result.unsettled, result.rechecked, result.rows_source, result.rows_target,
    )  # fmt: skip
