"""Where each table of the sink stands, and what copies, bases and whole cuts make of that; pure but for the tables that it has made.

A change becomes durable with the commit that it is handed to (`take`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cdc.control import Base, Copy, Followed
from cdc.copies import DONE, REFUSED, WHOLE, Ended
from cdc.errors import Halt
from cdc.lifecycle import FOLLOWED, Event, State, follow
from cdc.position import Position
from cdc.progress import REMAKE, TableState
from sinks.contract import Plan, demand_same_policies, policies_kept

Name = tuple[str, str]
SHADOW = "shadow"
"""In a table's `schema`: the id of the copy that fills its second table."""
LEFT = "left the selection"
_TO_NEW = {State.REFUSED: Event.ALLOWED, State.STOPPED: Event.ALLOWED}


class Standings:
    """The states of a pipeline's tables, by database and name."""

    def __init__(self, states: Mapping[Name, TableState]) -> None:
        self._states = dict(states)
        self._dirty: set[Name] = set()
        self._mark: tuple[dict[Name, TableState], set[Name]] = ({}, set())

    def mark(self) -> None:
        """Remember this, for a batch that may have to be written again."""
        self._mark = dict(self._states), set(self._dirty)

    def back_to_mark(self) -> None:
        """Stand as at the last mark."""
        self._states, self._dirty = dict(self._mark[0]), set(self._mark[1])

    def __getitem__(self, name: Name) -> TableState:
        return self._states[name]

    def __iter__(self) -> Iterator[TableState]:
        return iter(list(self._states.values()))

    def get(self, name: Name) -> TableState | None:
        return self._states.get(name)

    def change(self, name: Name, **fields: Any) -> None:
        """Set these fields of a table."""
        self._states[name] = replace(self._states[name], **fields)
        self._dirty.add(name)

    def happen(self, name: Name, event: Event, **fields: Any) -> None:
        """A transition, and these fields with it."""
        self.change(name, state=follow(".".join(name), self._states[name].state, event), **fields)

    def dirty(self) -> list[TableState]:
        """What is to be stored with the next commit."""
        return [self._states[name] for name in self._dirty]

    def stored(self) -> None:
        """It is."""
        self._dirty.clear()

    def takes(self, name: Name) -> bool:
        """Whether changes of the table belong into it: not before its copy, and not where it cannot be followed."""
        return self._states[name].state in FOLLOWED

    def shadow(self, name: Name) -> str:
        """The id of the copy that fills the table's second table; "" without one."""
        return str(self._states[name].schema.get(SHADOW, ""))

    # -- policies -----------------------------------------------------------------------------------------------------

    def check_policies(self, plan: Plan) -> None:
        """Stop where these records and what the table holds were made by different policies; remember what holds from now on."""
        name = (plan.db, plan.table)
        state = self._states.get(name)
        if state is not None and state.state != State.REFUSED:
            demand_same_policies(state, plan, Halt)
            if state.schema.get("policies", {}) != plan.chosen:
                self._states[name] = policies_kept(state, plan)
                self._dirty.add(name)

    # -- whole cuts ---------------------------------------------------------------------------------------------------

    def pass_ceilings(self, at: Position | None, held: Callable[[Name], int], copying: bool) -> None:
        """A whole cut is applied; `copying`: it ends the initial copy through the topics."""
        for name, state in list(self._states.items()):
            if state.state == State.COPYING and copying:
                self.happen(name, Event.COPIED, ceiling=at)
        self._hold(held)
        for name, state in list(self._states.items()):
            if state.state == State.CATCHING_UP and state.ceiling is not None and at is not None and at.covers(state.ceiling):
                self.happen(name, Event.CEILING_PASSED)

    def _hold(self, held: Callable[[Name], int]) -> None:
        """A table is quarantined for as long as keys of it are held; afterwards the next ceiling shows it as consistent."""
        for name, state in [(name, one.state) for name, one in self._states.items()]:
            count = held(name)
            if count and state in (State.CATCHING_UP, State.CONSISTENT):
                self.happen(name, Event.KEY_QUARANTINED)
            elif not count and state == State.QUARANTINED:
                self.happen(name, Event.KEYS_RELEASED)

    # -- copies while streaming ----------------------------------------------------------------------------------------

    def begin(self, copy: Copy) -> None:
        """A copy's barrier: the table is being copied from here on."""
        name = (copy.db, copy.table)
        self.renew(name)
        self.happen(name, Event.COPY_STARTED, floor=copy.position, ceiling=None, rows_loaded=0, reason="")

    def renew(self, name: Name, reason: str = "") -> None:
        """What the table holds does not count any more."""
        state = self._states[name].state
        if state != State.NEW:
            self.happen(name, _TO_NEW.get(state, Event.WITHDRAWN), reason=reason)

    def shade(self, name: Name, id_: str) -> None:
        """A second table takes the copy with this id; "": there is none any more."""
        rest = {key: value for key, value in self._states[name].schema.items() if key != SHADOW}
        self.change(name, schema=rest | ({SHADOW: id_} if id_ else {}))

    def end(self, ended: Ended, at: Position | None) -> None:
        """A copy's last cut; a table that it did not empty stays as it is shown."""
        name = (ended.db, ended.table)
        known = self._states.get(name)
        if known is None or ended.kind != WHOLE or self.shadow(name) or known.state not in (State.NEW, State.COPYING):
            return
        if ended.outcome == REFUSED:
            self.happen(name, Event.REFUSED, reason=ended.reason)
        elif known.state == State.COPYING and ended.outcome == DONE:
            self.happen(name, Event.COPIED, ceiling=at, rows_loaded=ended.rows)
        elif known.state == State.COPYING:
            self.renew(name, "its copy was stopped: cdc copy begins another")

    # -- epochs -------------------------------------------------------------------------------------------------------

    def enter(self, base: Base, schema: Callable[[Followed], Mapping[str, object]], create: Callable[[Followed], TableState]) -> None:
        """An epoch's base says which tables are followed, and which of them are still to be copied."""
        for followed in base.tables:
            name = (followed.db, followed.table)
            found = schema(followed)
            if name not in self._states or REMAKE in self._states[name].schema:
                self._states[name] = _created(base, followed, create)
            self.change(name, schema={**self._states[name].schema, **found})
            if base.copying and self._states[name].state == State.NEW:
                self.happen(name, Event.COPY_STARTED, floor=base.position)
            elif not base.copying:
                self._stand(base, name, name in base.uncopied)
        self._leave({(one.db, one.table) for one in base.tables} | set(base.gone))

    def _stand(self, base: Base, name: Name, uncopied: bool) -> None:
        state, active = self._states[name].state, base.copies.active
        if uncopied and active is not None and (active.db, active.table, active.kind) == (*name, WHOLE):
            if state != State.COPYING:
                self.renew(name)
                self.happen(name, Event.COPY_STARTED, ceiling=None)
        elif uncopied and state != State.REFUSED:
            self.renew(name)
        elif not uncopied and state in (State.NEW, State.STOPPED):
            raise Halt("table_not_copied", ".".join(name), "is followed by capture, which takes it for copied, and is not",
                       f"cdc copy {'.'.join(name)}")  # fmt: skip

    def _leave(self, followed: set[Name]) -> None:
        for name, state in list(self._states.items()):
            if name not in followed and state.state != State.STOPPED:
                self.happen(name, Event.STOPPED, reason=LEFT)


def _created(base: Base, followed: Followed, create: Callable[[Followed], TableState]) -> TableState:
    name = (followed.db, followed.table)
    if not base.copying and name not in base.uncopied:
        raise Halt("table_not_copied", ".".join(name), "is followed by capture, which takes it for copied, and is not here",
                   f"cdc copy {'.'.join(name)}")  # fmt: skip
    return create(followed)
