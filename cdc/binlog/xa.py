"""XA transactions that are prepared and not decided: their rows wait here, because another session may log the outcome
days later.

The log holds the rows of an XA transaction at its PREPARE, in a group with a GTID of its own; `XA COMMIT` or
`XA ROLLBACK` is another group. Positions go on in between. So each position carries a *floor*: where a reader has to
begin to find the rows of everything that is prepared there. A reader that begins at a floor reads twice what lies
between it and the position, and says none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cdc.binlog.event_bodies import HEADER
from cdc.binlog.events import LoggedStatement, RowsEvent
from cdc.binlog.transaction import HELD_BYTES, TransactionBuffer
from cdc.errors import Halt, Malformed
from cdc.model.position import Position, Tracker
from cdc.mysql.log_heads import Xid
from cdc.runtime import crash_points as crash

_SAID = re.compile(
    rb"XA (START|BEGIN|END|COMMIT|ROLLBACK) X'((?:[0-9a-f]{2})*)',X'((?:[0-9a-f]{2})*)',(-?\d+)( ONE PHASE)?\s*",
    re.IGNORECASE,
)


class Said(NamedTuple):
    """A logged XA statement."""

    verb: bytes
    """START, BEGIN, END, COMMIT or ROLLBACK."""
    xid: Xid
    one_phase: bool


def prepare_event(event: bytes, end: int) -> tuple[Xid, bool]:
    """XA_PREPARE_LOG_EVENT: whose transaction ends here, and whether it is committed at once (ONE PHASE)."""
    body = event[HEADER:end]
    gtrid, bqual = int.from_bytes(body[5:9], "little"), int.from_bytes(body[9:13], "little")
    if len(body) < 13 or not 0 < gtrid <= 64 or bqual > 64 or len(body) < 13 + gtrid + bqual:
        raise Malformed("xa_event", "XA prepare event", "has an impossible length")
    names = body[13 : 13 + gtrid], body[13 + gtrid : 13 + gtrid + bqual]
    return Xid(int.from_bytes(body[1:5], "little"), *names), bool(body[0])


def statement(sql: bytes, place: str) -> Said:
    """A logged statement that begins with XA; servers write the transaction's name in hexadecimal."""
    found = _SAID.fullmatch(sql)
    if found is None:
        raise Halt(
            "xa_statement",
            place,
            "an XA statement is not spelled as servers log it",
            "report this: the log is not understood",
        )
    verb, gtrid, bqual, number, one_phase = found.groups()
    name = Xid(int(number) & 0xFFFFFFFF, bytes.fromhex(gtrid.decode()), bytes.fromhex(bqual.decode()))
    return Said(verb.upper(), name, one_phase is not None)


@dataclass(slots=True)
class _Held:
    group: TransactionBuffer
    before: Position


class PreparedTransactions:
    """What is prepared and not decided, in the order of the log."""

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._limit = held_bytes
        self._held: dict[Xid, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, xid: Xid, group: TransactionBuffer, before: Position, place: str) -> None:
        """Keep a group, read just behind `before`. What exceeds the limit together lies in files."""
        if xid in self._held:
            raise Halt(
                "xa_repeated", place, "an XA transaction is prepared twice", "report this: the log is not understood"
            )
        if group.size + sum(held.group.size for held in self._held.values()) > self._limit:
            group.spill()
        self._held[xid] = _Held(group, before.bare)
        crash.point("xa.held")

    def names(self) -> frozenset[Xid]:
        """The names of the transactions that are prepared."""
        return frozenset(self._held)

    def floor(self) -> Position | None:
        """The position before the oldest of them; None when there is none."""
        return next((held.before for held in self._held.values()), None)

    def decide(
        self, said: Said, transaction: str, ts_us: int, *, known: bool
    ) -> Iterator[RowsEvent | LoggedStatement] | None:
        """What becomes true by a COMMIT or a ROLLBACK, as a part of `transaction`; None for one that was not prepared
        here.

        Nothing, if the position holds it already (`known`).
        """
        held = self._held.pop(said.xid, None)
        if held is None:
            return None
        crash.point("xa.decided")
        if known:
            held.group.clear()
        elif said.verb == b"ROLLBACK":
            held.group.roll_back()
        return _restamped(held.group, transaction, ts_us)

    def clear(self) -> None:
        """Forget everything, and give up its files."""
        for held in self._held.values():
            held.group.clear()
        self._held.clear()


def _restamped(group: TransactionBuffer, transaction: str, ts_us: int) -> Iterator[RowsEvent | LoggedStatement]:
    for item in group.drain():
        item.ts_us = ts_us
        if isinstance(item, LoggedStatement):
            item.transaction = transaction
        yield item


class Reread:
    """The way from a floor to the position that it belongs to:
    what the position holds is read again and not said again."""

    def __init__(self, position: Position, floor: Position) -> None:
        self._position = position
        self._tracker = Tracker(floor)

    def holds(self, transaction: str) -> bool:
        """Whether it is included in the position."""
        return self._position.contains(transaction)

    def reached(self) -> Position:
        """The end of the last transaction that was read."""
        return self._tracker.position()

    def add(self, gtid: str, file: str, offset: int, created: int) -> bool:
        """A transaction was read. Whether that was the end of the way."""
        self._tracker.move(file, offset, created)
        self._tracker.add(gtid, file, offset)
        over = self.reached().covers(self._position)
        if over:
            crash.point("xa.again")
        return over
