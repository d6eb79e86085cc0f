"""What random tables have found: each kept as the shrunk table's own SQL, so that it stays what it was when the generator changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.property.rounds import Table
from tests.property.tables import Case, Group

FOLDER = Path(__file__).parent / "seeds"
MOST_TRIES = 60


def kept(flavour: str) -> list[Table]:
    """The tables that once failed on this source, to be made by `ddl`."""
    documents = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return [_named(f"found {number}", one) for number, one in enumerate(documents) if flavour in one["flavours"]]


def _named(name: str, one: dict[str, Any]) -> Table:
    def put(groups: list[list[str]]) -> list[list[str]]:
        return [[statement.replace("`@`", f"`{name}`") for statement in group] for group in groups]

    return Table(name, put(one["first"]), put(one["later"]), f"CREATE TABLE `{name}` {one['columns']}")


def keep(case: Case, what: str) -> Path:
    """Write a failing case down."""
    shape = replace(case.shape, name="@")
    document = {
        "seed": case.place,
        "found": what,
        "flavours": [case.kind.removesuffix("114")],
        "columns": shape.ddl.removeprefix("CREATE TABLE `@` "),
        "first": [group.sql(shape) for group in case.first],
        "later": [group.sql(shape) for group in case.later],
    }
    path = FOLDER / f"{case.place.replace(' ', '-')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")
    return path


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that still fails: whole groups, statements and columns are taken away for as long as it does."""
    tries = 0
    while True:
        for smaller in _smaller(case):
            tries += 1
            if tries > MOST_TRIES:
                return case
            if fails(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    if case.later:
        yield replace(case, later=case.later[: len(case.later) // 2])
        yield replace(case, later=case.later[len(case.later) // 2 :]) if len(case.later) > 1 else replace(case, later=())
    if case.first:
        yield replace(case, first=())
    for column in case.shape.columns:
        if (shape := case.shape.without(column.name)) is not None:
            yield replace(case, shape=shape)
    for at, group in enumerate(case.later):
        for less in _fewer(group):
            yield replace(case, later=(*case.later[:at], less, *case.later[at + 1 :]))


def _fewer(group: Group) -> Iterator[Group]:
    for at, change in enumerate(group.changes):
        if len(group.changes) > 1:
            yield replace(group, changes=group.changes[:at] + group.changes[at + 1 :], savepoint=None)
        if len(change.rows) > 1:
            half = replace(change, rows=change.rows[: len(change.rows) // 2])
            yield replace(group, changes=(*group.changes[:at], half, *group.changes[at + 1 :]))
