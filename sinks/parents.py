"""The logged changes of parents, as the values that their children hang on, in the order in which they were made.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdc.codec.records import Opened
from cdc.errors import Malformed
from sinks.contract import NamedPlan
from sinks.postgres.cascade_tables import Values
from sinks.postgres.merge import fields
from sinks.steps import TopicChanges


class Changed(NamedTuple):
    """A parent that went (`new` is empty then), or changed."""

    old: Values
    new: Values
    transaction: str


def parents_of(plan: NamedPlan, names: Sequence[str], op: str, changes: TopicChanges, run: slice) -> list[Changed]:
    """Per deleted ("d") or changed ("u") row the values of the columns of these names, source's names, in order.

    A change of a key is two records, of two partitions perhaps; the order within the transaction says which two.
    """
    rows = sorted(
        zip(changes.keys[run], changes.values[run], changes.opened[run], strict=True), key=lambda row: _order(*row[1:])
    )
    olds = [row for row in rows if row[2].op in ("u", "d")]
    transactions = [value[slice(*opened.transaction)].decode() for _, value, opened in olds]
    before = _values(plan, names, [(key, value, opened.before_at) for key, value, opened in olds])
    if op == "d":
        return [Changed(old, {}, at) for old, at in zip(before, transactions, strict=True)]
    news = [row for row in rows if row[2].op in ("u", "c")]
    after = _values(plan, names, [(key, value, opened.after_at) for key, value, opened in news])
    if len(after) != len(before):
        raise Malformed(
            "malformed_record", f"{plan.db}.{plan.table}", "the halves of a changed key do not lie in one mark"
        )
    return [Changed(*one) for one in zip(before, after, transactions, strict=True)]


def _order(value: bytes, opened: Opened) -> int:
    """The record's number in its transaction, which stands behind the transaction's id."""
    at, shift, found = opened.transaction[1], 0, 0
    while value[at] & 0x80:
        found |= (value[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    found |= value[at] << shift
    return (found >> 1) ^ -(found & 1)


def _values(plan: NamedPlan, names: Sequence[str], rows: Sequence[tuple[bytes | None, bytes, int]]) -> list[Values]:
    """Of keys where they have the columns: what else is in the row may have no form in the target."""
    at = plan.places(names)
    if not rows:
        return []
    out = bytearray()
    if set(at) <= set(plan.key):
        places = [list(plan.key).index(one) for one in at]
        plan.copy_keys([key or b"" for key, _, _ in rows], out)
        tuples = fields(out, len(plan.key))
    else:
        places = list(at)
        plan.copy_rows([(value, image) for _, value, image in rows], out)
        tuples = fields(out, len(plan.columns))
    return [{name: one[place] for name, place in zip(names, places, strict=True)} for one in tuples]
