"""Key ranges of a table are handed out once each, also when an earlier attempt left some out in the middle."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from cdc.mysql.key_range import Bound
from cdc.protocol.applied import LedgerChunk
from snapshot.load.spans import NUMBERS, Span, SpanAllocator, as_stored


def up_to(*ends: str) -> Callable[[Bound | None], Bound | None]:
    """A scout whose spans end at these keys, and the last one nowhere."""
    left = iter(ends)
    return lambda after: (end,) if (end := next(left, None)) else None


def chunk(number: int, low: str | None, high: str | None) -> LedgerChunk:
    return LedgerChunk(number, low and [low], high and [high])


def spans(walk: SpanAllocator, scout: Callable[[Bound | None], Bound | None]) -> list[tuple[int, Bound | None, Bound | None]]:
    found = iter(lambda: walk.claim(scout), None)
    return [(span.number, span.after, span.upto) for span in found]


def test_a_new_table_is_walked_from_open_end_to_open_end():
    assert [(0, None, ("5",)), (NUMBERS, ("5",), ("9",)), (2 * NUMBERS, ("9",), None)] == spans(SpanAllocator(), up_to("5", "9"))


def test_what_is_missing_comes_first_and_finds_numbers_between_those_that_are_there():
    done = [chunk(0, None, "2"), chunk(1, "2", "3"), chunk(2 * NUMBERS, "7", "9")]
    walk = SpanAllocator(done)
    gap = walk.claim(up_to())
    assert gap == Span(2, 2 * NUMBERS - 1, ("3",), ("7",))
    assert [(3 * NUMBERS, ("9",), None)] == spans(walk, up_to())


def test_the_beginning_may_be_missing_and_the_end_may_be_there():
    walk = SpanAllocator([chunk(NUMBERS, "4", "6"), chunk(2 * NUMBERS, "6", None)])
    assert [(0, None, ("4",))] == spans(walk, up_to())
    assert not walk.left


def test_a_ledger_of_one_prefix_goes_on_after_it():
    assert [(NUMBERS, ("8",), None)] == spans(SpanAllocator([chunk(0, None, "4"), chunk(1, "4", "8")]), up_to())


def test_a_table_that_is_all_in_hands_out_nothing():
    assert not SpanAllocator([chunk(0, None, None)]).left
    assert [] == spans(SpanAllocator([chunk(0, None, None)]), up_to())


def test_the_table_is_settled_once_the_last_span_that_was_claimed_is_in():
    walk, scout = SpanAllocator(), up_to("5")
    assert walk.claim(scout)
    assert walk.claim(scout)
    assert not walk.settled()
    assert walk.settled()


@pytest.mark.parametrize("seed", range(40))
def test_every_key_is_copied_once_however_often_workers_are_lost(seed: int) -> None:
    """Spans of random lengths, split into random chunks by random workers, of whom random ones never commit."""
    rng, keys, copied, ledger = Random(seed), 200, [0] * 200, dict[int, LedgerChunk]()

    def scout(after: Bound | None) -> Bound | None:
        end = (int(after[0]) if after else -1) + rng.randrange(1, 12)
        return (str(end),) if end < keys - 1 else None

    def work(span: Span) -> None:
        left: Span | None = span
        while left is not None and rng.random() < 0.8:
            low, high = int(left.after[0]) if left.after else -1, int(left.upto[0]) if left.upto else keys - 1
            reached = left.upto if not left.divisible or low >= high - 1 else (str(rng.randrange(low + 1, high)),)
            for key in range(low + 1, (int(reached[0]) if reached else keys - 1) + 1):
                copied[key] += 1
            assert left.number not in ledger
            ledger[left.number] = LedgerChunk(left.number, as_stored(left.after), as_stored(reached))
            left = left.rest(reached)

    for _ in range(400):
        walk = SpanAllocator([ledger[number] for number in sorted(ledger)])
        if not walk.left:
            break
        for _ in range(rng.randrange(1, 6)):
            span = walk.claim(scout)
            if span is not None:
                work(span)
    assert [1] * keys == copied


def test_a_span_is_divided_until_its_last_number_which_takes_all_that_is_left() -> None:
    span: Span | None = Span(4, 6, ("a",), ("d",))
    seen = []
    for reached in (("b",), ("c",), ("d",)):
        assert span is not None
        seen.append((span.number, span.divisible))
        left = span.rest(reached)
        assert (left is None) == (reached == ("d",))
        assert left is None or (span.last, reached, ("d",)) == (left.last, left.after, left.upto)
        span = left
    assert [(4, True), (5, True), (6, False)] == seen


def test_a_table_is_not_settled_while_spans_are_left_to_be_claimed() -> None:
    walk, scout = SpanAllocator(), up_to("5")
    assert walk.claim(scout)
    assert not walk.settled()
    assert walk.claim(scout)
    assert walk.settled()
