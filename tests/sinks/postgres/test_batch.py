"""The fold: last write per key, balance per keyless row."""

from __future__ import annotations

import pytest

from cdc.errors import Malformed
from sinks.fold import Fold
from tests.sinks.postgres.opening import batch
from tests.sinks.postgres.plans import COMPOSITE, KEYED, KEYLESS, ONLY_KEY


def test_the_last_write_of_a_key_wins_and_knows_whether_the_batch_created_it():
    again = [("d", (2,), None), ("c", None, (2,))]
    found = batch(ONLY_KEY, ("c", None, (1,)), ("u", (1,), (1,)), *again, ("u", (3,), (3,)), ("r", None, (4,)))
    assert [ONLY_KEY.framed((n,)) for n in (1, 2, 3, 4)] == found.keys
    assert [True, False, False, False] == found.new
    assert [] == found.deletes


def test_a_row_that_is_created_and_deleted_in_one_batch_is_still_deleted():
    """It may be in the target already: a copy reads rows that the log creates later."""
    found = batch(ONLY_KEY, ("c", None, (1,)), ("d", (1,), None))
    assert ([ONLY_KEY.framed((1,))], []) == (found.deletes, found.upserts)


def test_the_upsert_is_the_newest_row_at_its_place_in_the_value():
    found = batch(KEYED, ("u", (1, "old", None, 0.0), (1, "mid", None, 0.0)), ("u", (1, "mid", None, 0.0), (1, "new", None, 0.0)))
    out = bytearray()
    KEYED.copy_rows(found.upserts, out)
    assert KEYED.packed((1, "new", None, 0.0)) == bytes(out)


def test_one_key_framed_with_two_schema_ids_is_one_key():
    fold = Fold(ONLY_KEY)
    key, value, told = ONLY_KEY.change("c", None, (1,))
    assert key is not None
    fold.add([key, b"\0\0\0\0\x09" + key[5:]], [value, value], [told, told])
    assert 1 == len(fold.take())


def test_keyless_rows_are_balanced_by_their_bytes():
    one, two = (1, "x", None, 0.0, 150), (1, "x", None, -0.0, 150)
    found = batch(KEYLESS, ("c", None, one), ("c", None, one), ("u", one, two), ("d", two, None), ("d", two, None), ("d", two, None))
    assert [KEYLESS.row(one)[0][5:]] == [value[offset : offset + len(KEYLESS.row(one)[0]) - 5] for value, offset in found.adds]
    assert [2] == [count for _, count in found.removes]


def test_taking_leaves_nothing_behind():
    fold = Fold(COMPOSITE)
    key, value, told = COMPOSITE.change("c", None, (1, "a", 2))
    fold.add([key], [value], [told])
    assert (1, 1, 0, 0) == (fold.changes, len(fold.take()), len(fold.take()), fold.changes)


def test_a_record_without_a_key_in_a_table_with_one_stops():
    _, value, told = ONLY_KEY.change("c", None, (1,))
    with pytest.raises(Malformed):
        Fold(ONLY_KEY).add([None], [value], [told])
