"""Which refused keys an earlier piece of the same source transaction has written, and which wait from its first change on."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.errors import RowRefused
from sinks import halves
from sinks.halves import Foreseen, Halves
from sinks.quarantine import Records
from tests.sinks.postgres.plans import KEYED, KEYLESS, HandPlan

REFUSED = RowRefused("target_value", "app.x", "PostgreSQL says 23514", "", "23514")


def change(plan: HandPlan, number: int, transaction: bytes, op: str = "c") -> tuple[bytes | None, bytes, Any]:
    """A record of a row, whose value ends in the transaction's id."""
    row = (number, "x", None, 0.5, 100)[: len(plan.columns)]
    key, value, opened = plan.change(op, None, row)
    return key, value + transaction, opened._replace(transaction=(len(value), len(value) + len(transaction)))


def records(plan: HandPlan, *changes: tuple[bytes | None, bytes, Any]) -> Records:
    return Records(*map(list, zip(*changes, strict=True)))


def identity(plan: HandPlan, number: int) -> bytes:
    key, value, opened = change(plan, number, b"")
    return key[5:] if key else value[opened[5] : opened[6]]


@pytest.mark.parametrize("plan", [KEYED, KEYLESS])
@pytest.mark.parametrize(
    ("written", "later", "torn"),
    [
        ([(1, b"T", "c")], [(1, b"T", "c")], True),
        ([(1, b"S", "c")], [(1, b"T", "c")], False),
        ([(2, b"T", "c")], [(1, b"T", "c")], False),
        ([(1, b"", "r")], [(1, b"T", "c")], False),
        ([(1, b"S", "c")], [(1, b"S", "c"), (1, b"T", "c")], True),
        ([(1, b"T", "c")], [(2, b"T", "c")], False),
    ],
    ids=["its own", "another transaction's", "another key", "a row that was read", "the first counts", "not refused"],
)
def test_a_key_is_torn_where_an_earlier_piece_wrote_it_for_the_same_transaction(
    plan: HandPlan, written: list[tuple[int, bytes, str]], later: list[tuple[int, bytes, str]], torn: bool
) -> None:
    open_, key = Halves(), identity(plan, 1)
    open_.wrote(plan, records(plan, *(change(plan, *one) for one in written)))
    found = open_.tears(plan, records(plan, *(change(plan, *one) for one in later)), {key: REFUSED})
    assert (torn, {key: Foreseen(later[0][1], REFUSED)} if torn else {}) == (open_.torn, found)


def test_beyond_what_is_remembered_each_key_may_have_been_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """To do a transaction again in which nothing was torn costs time and changes nothing."""
    monkeypatch.setattr(halves, "MOST", 2)
    open_ = Halves()
    open_.wrote(KEYED, records(KEYED, *(change(KEYED, n, b"T") for n in range(3))))
    assert open_.tears(KEYED, records(KEYED, change(KEYED, 7, b"T")), {identity(KEYED, 7): REFUSED})


def test_a_foreseen_key_waits_from_its_transaction_on_and_not_before() -> None:
    open_, key = Halves(), identity(KEYED, 1)
    known = {key: Foreseen(b"T", REFUSED)}
    assert {} == open_.come_again(KEYED, records(KEYED, change(KEYED, 1, b"S"), change(KEYED, 2, b"T")), known)
    assert {key: REFUSED} == open_.come_again(KEYED, records(KEYED, change(KEYED, 2, b"T"), change(KEYED, 1, b"T")), known)
    assert {key} == open_.waiting[KEYED.db, KEYED.table]


@pytest.mark.parametrize(
    ("written", "later", "torn"),
    [
        ([b"S"], [b"S", b"T"], b"S"),
        ([b"S"], [b"T"], None),
        ([b"R"], [b"S", b"T"], None),
        ([b"T"], [b"T", b"U"], None),
    ],
    ids=["begun before", "ended before", "another before", "its own"],
)
def test_a_foreseen_key_that_waits_from_a_transaction_before_its_own_on_is_torn_where_that_was_begun(
    written: list[bytes], later: list[bytes], torn: bytes | None
) -> None:
    """All its changes of a piece wait together; a piece may hold the end of one transaction and the beginning of the next (seed 1209)."""
    open_, key = Halves(), identity(KEYED, 1)
    open_.wrote(KEYED, records(KEYED, *(change(KEYED, 1, one) for one in written)))
    here = records(KEYED, *(change(KEYED, 1, one) for one in later))
    found = open_.tears(KEYED, here, {key: REFUSED}, {key: Foreseen(b"T", REFUSED)})
    assert ({} if torn is None else {key: Foreseen(torn, REFUSED)}) == found
    assert (torn is not None) == open_.torn
