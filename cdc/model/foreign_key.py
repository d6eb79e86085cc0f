"""Foreign keys by which InnoDB changes rows itself, without logging it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from cdc.model.table import TableName

Action = Literal["", "cascade", "set null"]
"""What becomes of children: "" is nothing, because the statement fails where there are some."""
Match = Literal["", "pad", "ci", "ci pad"]
"""How values are compared: as they are; without spaces at the end; without case, as far as they are ASCII; both."""


_AS_THEY_ARE: Match = ""


class ForeignKey(NamedTuple):
    """One foreign key with an action."""

    name: str
    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    referenced: tuple[str, ...]
    """The parent's columns, in the order of `columns`."""
    on_delete: Action
    on_update: Action
    match: tuple[Match, ...] = ()
    """Of each column; empty: all of them as they are."""

    @property
    def writes(self) -> bool:
        """Whether children may stay, changed."""
        return self.on_delete == "set null" or self.on_update != ""

    def action(self, op: str) -> Action:
        """What a parent's deletion ("d") or change ("u") does."""
        return self.on_delete if op == "d" else self.on_update

    def compared(self) -> Sequence[Match]:
        """How each column is compared."""
        return self.match or (_AS_THEY_ARE,) * len(self.columns)


def to_json(keys: Iterable[ForeignKey]) -> list[list[object]]:
    """Each as a list of its fields."""
    return [list(key) for key in keys]


def from_json(found: object) -> tuple[ForeignKey, ...]:
    """What `to_json` made; TypeError or ValueError for anything else."""
    if not isinstance(found, Sequence):
        raise TypeError
    return tuple(_key(*one) for one in found)


def _key(
    name: str,
    child: Sequence[str],
    columns: Sequence[str],
    parent: Sequence[str],
    referenced: Sequence[str],
    on_delete: Action,
    on_update: Action,
    match: Sequence[Match],
) -> ForeignKey:
    (db, table), (other, source) = child, parent
    return ForeignKey(
        name, (db, table), tuple(columns), (other, source), tuple(referenced), on_delete, on_update, tuple(match)
    )


def ordered(keys: Iterable[ForeignKey]) -> tuple[ForeignKey, ...]:
    """As InnoDB takes them: by database and name."""
    return tuple(sorted(keys, key=lambda key: (key.child[0], key.name)))


def next_of(keys: Iterable[ForeignKey], key: ForeignKey, op: str) -> list[tuple[ForeignKey, str]]:
    """The keys by which children of its children may change where its parents were deleted ("d") or changed ("u"), and
    what happens to them there."""
    deletes = op == "d" and key.on_delete == "cascade"
    after = "d" if deletes else "u"
    return [
        (one, after)
        for one in keys
        if one.parent == key.child and one.action(after) and (deletes or set(one.referenced) & set(key.columns))
    ]


def below(keys: Sequence[ForeignKey], key: ForeignKey, op: str) -> set[TableName]:
    """The tables of which rows may change because children of this key do."""
    found, new = set[tuple[ForeignKey, str]](), [(key, op)]
    while new:
        new = [one for each in new for one in next_of(keys, *each) if one not in found]
        found |= set(new)
    return {one.child for one, _ in found}
