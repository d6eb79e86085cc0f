"""Which changes wait behind a refused row, and when refusals are no longer single rows: pure, no driver, no clock.

A row is named by its *identity*: the Avro bytes of its key without the frame, or of the whole row where the table has
no key. Once the target refuses a row, all that happens to its identity queues in order, in the transactions that move
the positions; nothing is applied around it. A change of a table without a key is two: the row that goes, and the row
that comes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cdc.codec.records import Opened
from cdc.errors import Halt, RowRefused
from cdc.model.digest import short_hash
from cdc.model.table import TableName
from cdc.runtime import timing
from sinks.contract import Plan, TableBatch
from sinks.fold import FRAME

LEAST = 20
"""Fewer refused keys of a table never look systemic, whatever their share:
a handful of bad rows may come alone in a quiet night."""


def key_hash(identity: bytes) -> str:
    """How a row is named where no value may be shown."""
    return short_hash(identity)


@dataclass(frozen=True, slots=True)
class Records:
    """Changes of one table and one schema in the order of their partition."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    opened: Sequence[Opened]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Queued:
    """A change that waits. `op` is c, u, d or r; of a table without a key, c is the row after and d the row before."""

    identity: bytes
    op: str
    value: bytes
    epoch: int
    seq: int
    transaction: str
    ts_us: int
    error: RowRefused | None = None
    """Why, of the change that was refused; None behind it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """All that a folded batch does to one identity: it is applied whole or not at all."""

    identity: bytes
    batch: TableBatch
    error: RowRefused | None = None


def units(batch: TableBatch) -> list[Unit]:
    """A batch taken apart, deletes first, as they are applied."""

    def one(**fields: object) -> TableBatch:
        return replace(TableBatch(batch.plan, batch.db, batch.table), **fields)  # type: ignore[arg-type]

    found = [Unit(key[FRAME:], one(deletes=[key])) for key in batch.deletes]
    found += [
        Unit(key[FRAME:], one(upserts=[row], keys=[key], new=[new]))
        for key, row, new in zip(batch.keys, batch.upserts, batch.new)
    ]
    for identity, row, count in batch.balance:
        found.append(Unit(identity, one(adds=[row] * count) if count > 0 else one(removes=[(row, -count)])))
    return found


def joined(parts: Sequence[Unit]) -> TableBatch:
    """The batch that these units make up."""
    first = parts[0].batch
    batch = TableBatch(first.plan, first.db, first.table)
    for part in parts:
        for name in ("upserts", "keys", "new", "deletes", "adds", "removes"):
            getattr(batch, name).extend(getattr(part.batch, name))
    return batch


def queued(plan: Plan, records: Records, held: Container[bytes], errors: Mapping[bytes, RowRefused]) -> list[Queued]:
    """The changes that wait, in order. `held` holds their identities;
    the first change of one in `errors` bears its reason."""
    left, found = dict(errors), []
    for key, value, change in zip(records.keys, records.values, records.opened):
        for identity, op in touched(plan, key, value, change):
            if identity in held:
                epoch, seq, *_, (start, end), ts_us = change
                transaction = value[start:end].decode(errors="replace")
                found.append(Queued(identity, op, value, epoch, seq, transaction, ts_us, left.pop(identity, None)))
    return found


class Aside(NamedTuple):
    """What of some changes waits, and what does not."""

    waiting: Sequence[Queued]
    rest: Records
    again: Set[bytes]
    """Held identities of which a copy has brought a row in place of all that waited: they are free."""


def set_aside(
    plan: Plan, records: Records, held: Set[bytes], errors: Mapping[bytes, RowRefused], kept: Set[bytes]
) -> Aside:
    """Part the changes of held identities from the rest; `errors`: those that are held from here on, `kept`:
    those that no copy frees."""
    again = copied_again(plan, records, held) - kept
    held = held - again if again else held
    return Aside(queued(plan, records, held, errors), freed(plan, records, held), again)


def freed(plan: Plan, records: Records, held: Container[bytes]) -> Records:
    """The records without what waits: of a table without a key, the half of a change that does not is left."""
    kept = [one for one in zip(records.keys, records.values, records.opened) if not _waits(plan, *one, held)]
    if plan.key:
        return Records(*_columns(kept))
    return Records(*_columns([(key, value, _half(value, change, held)) for key, value, change in kept]))


def copied_again(plan: Plan, records: Records, held: Container[bytes]) -> set[bytes]:
    """The held identities that a copy has brought anew: what waited before is no longer needed."""
    if not plan.key:
        return set()
    return {
        key[FRAME:]
        for key, change in zip(records.keys, records.opened)
        if change.op == "r" and key and key[FRAME:] in held
    }


def touched(plan: Plan, key: bytes | None, value: bytes, change: Opened) -> list[tuple[bytes, str]]:
    """Each identity that a record changes, and what happens to it."""
    op = change.op
    if plan.key:
        return [((key or b"")[FRAME:], op)]
    before, after = value[change.before_at : change.before_end], value[change.after_at : change.after_end]
    return ([(before, "d")] if op in ("u", "d") else []) + ([(after, "r" if op == "r" else "c")] if op != "d" else [])


def _waits(plan: Plan, key: bytes | None, value: bytes, change: Opened, held: Container[bytes]) -> bool:
    return all(identity in held for identity, _ in touched(plan, key, value, change))


def _half(value: bytes, change: Opened, held: Container[bytes]) -> Opened:
    """An update of a keyless row of which one half waits becomes the other half."""
    if change.op != "u":
        return change
    if value[change.before_at : change.before_end] in held:
        return change._replace(op="c")
    return change._replace(op="d") if value[change.after_at : change.after_end] in held else change


def _columns(
    rows: Sequence[tuple[bytes | None, bytes, Opened]],
) -> tuple[list[bytes | None], list[bytes], list[Opened]]:
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """When the pipeline stops instead of quarantining on; `keys` = 0: at the first refusal."""

    keys: int = 1000
    share: float = 0.5


@dataclass(slots=True)
class Window:
    """Of one table: which keys are held, and how many were refused and written in this window of time and the one
    before it."""

    held: set[bytes] = field(default_factory=set)
    since: float = 0.0
    refused: int = 0
    written: int = 0
    before: tuple[int, int] = (0, 0)

    def add(self, refused: int, written: int, now: float) -> tuple[int, int]:
        """Take in what one batch did; refused and written of the last one to two windows."""
        if now - self.since > timing.TIMES.quarantine_window_seconds:
            self.before = (
                (self.refused, self.written)
                if now - self.since < 2 * timing.TIMES.quarantine_window_seconds
                else (0, 0)
            )
            self.since, self.refused, self.written = now, 0, 0
        self.refused += refused
        self.written += written
        return self.refused + self.before[0], self.written + self.before[1]


class HeldKeys:
    """The identities that are held, table by table, and the circuit breaker over them."""

    def __init__(self, limits: QuarantineLimits) -> None:
        self.limits = limits
        self._tables: dict[TableName, Window] = {}
        self._before: dict[TableName, Window] = {}
        """As they were at the mark, the windows that have changed since."""

    def mark(self) -> None:
        """What is held and counted by now is committed."""
        self._before.clear()

    def back_to_mark(self) -> None:
        """What was held, freed and counted since the mark is undone."""
        self._tables |= self._before
        self._before = {}

    def _changing(self, name: TableName) -> Window:
        window = self._tables.setdefault(name, Window())
        if name not in self._before:
            self._before[name] = replace(window, held=set(window.held))
        return window

    def replace(self, held: Mapping[TableName, Iterable[bytes]]) -> None:
        """Take what the target holds."""
        for name in {*self._tables, *held}:
            if self.held(name) != (now := set(held.get(name, ()))):
                self._changing(name).held = now

    def held(self, name: TableName) -> Set[bytes]:
        """The identities of a table that are held."""
        window = self._tables.get(name)
        return window.held if window is not None else frozenset()

    def counts(self) -> dict[TableName, int]:
        """How many keys of each table are held; a table that had one is named even when it has none now."""
        return {name: len(window.held) for name, window in self._tables.items()}

    def __bool__(self) -> bool:
        return any(window.held for window in self._tables.values())

    def release(self, name: TableName, identities: Iterable[bytes] | None = None) -> None:
        """These are free again; None: all of the table, which is emptied,
        and what was counted of its rows says nothing any more."""
        window = self._changing(name)
        if identities is None:
            window.held, window.refused, window.written, window.before = set(), 0, 0, (0, 0)
        else:
            window.held -= set(identities)

    def room(self, rows: int) -> int:
        """How many keys of a batch of so many may be refused before it cannot but look systemic."""
        return min(self.limits.keys - sum(self.counts().values()), max(LEAST, int(rows * self.limits.share)))

    def judge(self, name: TableName, refused: Mapping[bytes, RowRefused], written: int, now: float) -> None:
        """Hold the refused keys of a batch, of which others were written; Halt when the refusals look systemic.

        `now` is any clock in seconds. What a process saw is forgotten by the next one: what is held is not.
        """
        window, new = self._changing(name), refused.keys()
        window.held |= new
        bad, good = window.add(len(new), written, now)
        if not new:
            return
        if sum(self.counts().values()) > self.limits.keys:
            raise systemic(
                name,
                f"more than apply.quarantine_keys = {self.limits.keys} keys would be quarantined",
                refused.values(),
            )
        if bad >= LEAST and bad > self.limits.share * (bad + good):
            minutes = timing.TIMES.quarantine_window_seconds / 60
            raise systemic(
                name, f"{bad} keys were refused and {good} written within {minutes:.0f} minutes", refused.values()
            )


def systemic(name: TableName, rule: str, errors: Iterable[RowRefused]) -> Halt:
    """What the circuit breaker says."""
    reasons = "; ".join(sorted({error.rule for error in errors})[:3])
    return Halt("quarantine_limit", ".".join(name), f"{rule} ({reasons}): that is not a row, it looks like the table",
                "mend the target's definition and start again: nothing of this transaction is applied. cdc quarantine "
                "list names the keys"
                " that wait already; apply.quarantine_keys and apply.quarantine_share are the limits")  # fmt: skip
