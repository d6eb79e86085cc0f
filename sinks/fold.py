"""Fold ordered changes to what remains to be done: the last write of each key, or the balance of each keyless row.

Pure: no driver, no clock. This runs once per record, so its two loops hold no call that they can do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc.codec.records import Opened
from cdc.errors import Malformed
from sinks.contract import Plan, Row, TableBatch

FRAME = 5  # magic byte and schema id: the same key may be framed with two ids


class Fold:
    """The changes of one table since the last commit. `add` them in partition order, `take` what is left of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._last: dict[bytes, tuple[bytes, bytes, int, bool]] = {}
        """Key identity -> framed key, value, offset of the row (-1: deleted),
        whether the batch saw it being created."""
        self._balance: dict[bytes, int] = {}
        self._sample: dict[bytes, Row] = {}
        self.changes = 0

    def add(self, keys: Sequence[bytes | None], values: Sequence[bytes], opened: Sequence[Opened]) -> None:
        """Take in changes (no tombstones) in the order of their partition;
        records of one key all come from one partition."""
        self.changes += len(values)
        if self.plan.key:
            self._keyed(keys, values, opened)
        else:
            self._keyless(values, opened)

    def _keyed(self, keys: Sequence[bytes | None], values: Sequence[bytes], opened: Sequence[Opened]) -> None:
        last = self._last
        known = last.get
        for key, value, change in zip(keys, values, opened):
            if key is None:
                raise Malformed(
                    "record_key", f"{self.plan.db}.{self.plan.table}", "a record of a table with a key has none"
                )
            identity = key[FRAME:]
            op = change.op
            before = known(identity)
            last[identity] = (
                key,
                value,
                -1 if op == "d" else change.after_at,
                op == "c" if before is None else before[3],
            )

    def _keyless(self, values: Sequence[bytes], opened: Sequence[Opened]) -> None:
        balance, sample = self._balance, self._sample
        for value, (_, _, op, before_at, before_end, after_at, after_end, _, _) in zip(values, opened):
            if op in ("u", "d"):
                row = value[before_at:before_end]
                balance[row] = balance.get(row, 0) - 1
                sample[row] = (value, before_at)
            if op != "d":
                row = value[after_at:after_end]
                balance[row] = balance.get(row, 0) + 1
                sample[row] = (value, after_at)

    def take(self) -> TableBatch:
        """What remains to be done; the fold is empty afterwards."""
        batch = TableBatch(self.plan, self.plan.db, self.plan.table)
        upserts = [one for one in self._last.values() if one[2] >= 0]
        batch.upserts = [(value, at) for _, value, at, _ in upserts]
        batch.keys = [one[0] for one in upserts]
        batch.new = [one[3] for one in upserts]
        batch.deletes = [one[0] for one in self._last.values() if one[2] < 0]
        batch.balance = [(row, self._sample[row], count) for row, count in self._balance.items() if count]
        for row, count in self._balance.items():
            if count > 0:
                batch.adds += [self._sample[row]] * count
            elif count < 0:
                batch.removes.append((self._sample[row], -count))
        self._last, self._balance, self._sample, self.changes = {}, {}, {}, 0
        return batch


def runs(values: Sequence[bytes]) -> Iterator[slice]:
    """Slices of values that bear one schema's frame; almost always one slice."""
    start = 0
    if len({value[:5] for value in values}) > 1:
        for end in range(1, len(values)):
            if values[end][:5] != values[start][:5]:
                yield slice(start, end)
                start = end
    if values:
        yield slice(start, len(values))
