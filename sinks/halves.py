"""Keys that the target refuses in the midst of a source transaction of which it has written earlier pieces; pure.

What an earlier piece made of such a key no commit of the source ever held. So the open transaction is undone at its end
and done again, and this time all that the source transaction does to the key waits. Docs:
docs/decisions/040-no-half-way-values.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cdc.errors import RowRefused
from cdc.model.table import TableName
from sinks.contract import Plan
from sinks.quarantine import Records, touched

MOST = 200_000
"""So many written keys are remembered, as hashes; beyond, each may have been written.
To be wrong costs doing it again."""


class Foreseen(NamedTuple):
    """All that a source transaction does to a key waits, because a try before has seen it refused late."""

    transaction: bytes
    error: RowRefused


class Halves:
    """Of one open transaction of the target."""

    def __init__(self) -> None:
        self._written: set[int] = set()
        self._more = False
        self.torn = False
        """Whether a refused key holds what an earlier piece of the same source transaction wrote:
        this must not be committed."""
        self.waiting: defaultdict[TableName, set[bytes]] = defaultdict(set)
        """Keys that wait because that was foreseen."""

    def wrote(self, plan: Plan, records: Records) -> None:
        """The target holds these, and of their transactions more may come."""
        if not self._more:
            self._written |= {hash((plan.db, plan.table, *one)) for one in _logged(plan, records)}
            self._more = len(self._written) > MOST

    def tears(
        self,
        plan: Plan,
        records: Records,
        refused: Mapping[bytes, RowRefused],
        known: Mapping[bytes, Foreseen] | None = None,
    ) -> dict[bytes, Foreseen]:
        """The refused keys of these records that an earlier piece has written for the transaction of their first change
        here.

        `known`: keys that wait because they were foreseen, which they do from that change on: it may be of a
        transaction before theirs.
        """
        first: dict[bytes, bytes] = {}
        for identity, transaction in _logged(plan, records) if self._more or self._written else ():
            if identity in refused:
                first.setdefault(identity, transaction)
        foreseen = {identity: one.transaction for identity, one in (known or {}).items()}
        found = {
            identity: Foreseen(transaction, refused[identity])
            for identity, transaction in first.items()
            if foreseen.get(identity) != transaction
            and (self._more or hash((plan.db, plan.table, identity, transaction)) in self._written)
        }
        self.torn = self.torn or bool(found)
        return found

    def come_again(self, plan: Plan, records: Records, known: Mapping[bytes, Foreseen]) -> dict[bytes, RowRefused]:
        """The keys of these records that are to wait from here on, because the transaction is the foreseen one."""
        name = (plan.db, plan.table)
        found = {
            identity: known[identity].error
            for identity, transaction in (_logged(plan, records) if known else ())
            if identity in known and known[identity].transaction == transaction
        }
        self.waiting[name] |= found.keys()
        return found


def _logged(plan: Plan, records: Records) -> Iterator[tuple[bytes, bytes]]:
    """The identity of each change that belongs to a transaction, and the transaction's id.
    A row that was read belongs to none."""
    for key, value, change in zip(records.keys, records.values, records.opened):
        start, end = change.transaction
        if end > start:
            for identity, _ in touched(plan, key, value, change):
                yield identity, value[start:end]
