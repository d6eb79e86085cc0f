"""Which control records count, and where capture may begin again; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdc.model.foreign_key import ForeignKey
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.control import Base, Copy, Cut, Entry, Named, Start


@dataclass(slots=True)
class Ledger:
    """Which control records count, as they come in order. `epoch` is the newest one that is known to have started."""

    epoch: int = -1
    _bases: list[Base] = field(default_factory=list)

    def add(self, offset: int, entry: Entry) -> bool:
        """Take the next record; False when it is void already, because a later epoch has started."""
        if isinstance(entry, Start):
            self.epoch = max(self.epoch, offset)
        elif entry.epoch < self.epoch:
            return False
        elif isinstance(entry, Base):
            self._bases.append(entry)
        return True

    def went_below(self, entry: Base | Cut | Copy) -> bool:
        """Whether a base of a later epoch goes on from before this record."""
        return any(base.epoch > entry.epoch and base.cut_no < entry.cut_no for base in self._bases)


@dataclass(frozen=True, slots=True)
class Point:
    """Where capture may begin again."""

    entry: Base | Cut
    named: Mapping[Partition, Named]
    """Per partition the last record that counts."""
    followed: frozenset[TableName]
    """The tables that are followed and copied there."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    """By which rows of them change without being logged."""
    undone: frozenset[TableName] | None = None
    """None: nothing lies above it that a sink could have applied. Else the tables that a copy above it empties."""


def restart_point(records: Iterable[tuple[int, Entry]], holds: Callable[[Partition, Named], bool]) -> Point | None:
    """The newest whole cut (or base) that counts and whose named records are still held; None: there is none.

    Older ones are tried when a broker lost acknowledged records. The records may begin anywhere: a cut serves only
    behind a base or a full cut, because it names what changed since.
    """
    ledger = Ledger()
    known = list(records)
    counting = [(at, entry) for at, (offset, entry) in enumerate(known) if ledger.add(offset, entry)]
    points: list[tuple[int, Point]] = []
    for at, entry in counting:
        if isinstance(entry, Base) and not ledger.went_below(entry):
            points.append((at, Point(entry, entry.named, entry.copied, entry.foreign_keys)))
        elif isinstance(entry, Cut) and not entry.partial and not ledger.went_below(entry):
            points += [(at, point) for point in _behind(points[-1][1] if points else None, entry)]
    held = _newest_held(points, holds)
    return held and _above(held[1], [entry for _, entry in known[held[0] + 1 :]])


def _newest_held(
    points: Sequence[tuple[int, Point]], holds: Callable[[Partition, Named], bool]
) -> tuple[int, Point] | None:
    """The newest point all of whose records are held. The partition that failed one is asked first of the next.

    A topic that was lost fails every point there is, perhaps days of them: the others need not be asked for each.
    """
    lost: Partition | None = None
    for at, point in reversed(points):
        if lost is not None and lost in point.named and not holds(lost, point.named[lost]):
            continue
        lost = next((partition for partition, named in point.named.items() if not holds(partition, named)), None)
        if lost is None:
            return at, point
    return None


def _above(point: Point, later: Sequence[Entry]) -> Point:
    """The point with what lies above it, void or not, because a sink may have gone by it.

    By a base: then a table that it leaves out was stopped, and one that it has as uncopied does not count any more. By
    a cut: then every copy begun there has begun.
    """
    for base in (entry for entry in later if isinstance(entry, Base)):
        point = replace(point, followed=point.followed & (base.copied | set(base.gone)))
    if not any(isinstance(entry, Cut) and not entry.partial for entry in later):
        return point
    return replace(
        point,
        undone=frozenset((entry.db, entry.table) for entry in later if isinstance(entry, Copy) and not entry.swap),
    )


def _behind(last: Point | None, cut: Cut) -> list[Point]:
    if cut.full:
        return [Point(cut, cut.partitions, frozenset(cut.followed), cut.foreign_keys)]
    if last is None:
        return []
    return [Point(cut, {**last.named, **cut.partitions}, last.followed, last.foreign_keys)]
