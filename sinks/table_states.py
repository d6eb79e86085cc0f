"""Where each table of the sink stands, and what copies, bases and whole cuts make of that; pure but for the tables that
it has made.

A change becomes durable with the commit that it is handed to (`take`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.table import TableName
from cdc.protocol.applied import REMAKE, TableProgress
from cdc.protocol.control import Base, Copy, Followed
from cdc.protocol.copy_progress import DONE, REFUSED, WHOLE, Active, Ended
from cdc.protocol.table_states import FOLLOWED, TableEvent, TableState, follow
from sinks.contract import Plan, demand_same_policies, policies_kept

SHADOW, COPY, REFUSAL = "shadow", "copy", "refusal"
"""In a table's `schema`: the id of the copy that fills its second table; or of the one that began with it, and why that
may change nothing here, if it may not. Only the copy that a table bears so goes on in it, or ends in it."""
_BORNE = (SHADOW, COPY, REFUSAL)
_COPIED = (TableState.CATCHING_UP, TableState.CONSISTENT, TableState.QUARANTINED)
LEFT = "left the selection, or was dropped at the source"
_UNBEGUN = "its copy goes on without its first rows: cdc copy begins another"
_UNENDED = "capture takes it for copied, and its copy never ended here: cdc copy begins another"
_UNSEEN = "the target has not seen it begin"
_TO_NEW = {TableState.REFUSED: TableEvent.ALLOWED, TableState.STOPPED: TableEvent.ALLOWED}


class TableStates:
    """The states of a pipeline's tables, by database and name."""

    def __init__(self, states: Mapping[TableName, TableProgress]) -> None:
        self._states = dict(states)
        self._dirty: set[TableName] = set()
        self._mark: tuple[dict[TableName, TableProgress], set[TableName]] = ({}, set())

    def learn(self, states: Mapping[TableName, TableProgress]) -> None:
        """Somebody else has stored these."""
        self._states, self._dirty = dict(states), set()

    def counts(self) -> Mapping[str, int]:
        """How many tables are in each state."""
        return Counter(str(state.state) for state in self)

    def mark(self) -> None:
        """Remember this, for a batch that may have to be written again."""
        self._mark = dict(self._states), set(self._dirty)

    def back_to_mark(self) -> None:
        """Stand as at the last mark."""
        self._states, self._dirty = dict(self._mark[0]), set(self._mark[1])

    def __getitem__(self, name: TableName) -> TableProgress:
        return self._states[name]

    def __iter__(self) -> Iterator[TableProgress]:
        return iter(list(self._states.values()))

    def get(self, name: TableName) -> TableProgress | None:
        return self._states.get(name)

    def change(self, name: TableName, **fields: Any) -> None:
        """Set these fields of a table."""
        self._states[name] = replace(self._states[name], **fields)
        self._dirty.add(name)

    def happen(self, name: TableName, event: TableEvent, **fields: Any) -> None:
        """A transition, and these fields with it."""
        self.change(name, state=follow(".".join(name), self._states[name].state, event), **fields)

    def dirty(self) -> list[TableProgress]:
        """What is to be stored with the next commit."""
        return [self._states[name] for name in self._dirty]

    def stored(self) -> None:
        """Call after the commit: nothing is left to be stored."""
        self._dirty.clear()

    def takes(self, name: TableName) -> bool:
        """Whether changes of the table belong into it: not before its copy, and not where it cannot be followed."""
        return self._states[name].state in FOLLOWED

    def shadow(self, name: TableName) -> str:
        """The id of the copy that fills the table's second table; "" without one."""
        return str(self._states[name].schema.get(SHADOW, ""))

    # -- policies -----------------------------------------------------------------------------------------------------

    def check_policies(self, plan: Plan) -> None:
        """Stop where these records and what the table holds were made by different policies;
        remember what holds from now on."""
        name = (plan.db, plan.table)
        state = self._states.get(name)
        if state is not None and state.state != TableState.REFUSED:
            demand_same_policies(state, plan, Halt)
            if state.schema.get("policies", {}) != plan.chosen:
                self._states[name] = policies_kept(state, plan)
                self._dirty.add(name)

    # -- whole cuts ---------------------------------------------------------------------------------------------------

    def pass_ceilings(self, at: Position | None, held: Callable[[TableName], int], copying: bool) -> None:
        """A whole cut is applied; `copying`: it ends the initial copy through the topics."""
        for name, state in list(self._states.items()):
            if state.state == TableState.COPYING and copying:
                self.happen(name, TableEvent.COPIED, ceiling=at)
                self.shade(name, "")
        self._hold(held)
        for name, state in list(self._states.items()):
            if (
                state.state == TableState.CATCHING_UP
                and state.ceiling is not None
                and at is not None
                and at.covers(state.ceiling)
            ):
                self.happen(name, TableEvent.CEILING_PASSED)

    def _hold(self, held: Callable[[TableName], int]) -> None:
        """A table is quarantined for as long as keys of it are held;
        afterwards the next ceiling shows it as consistent."""
        for name, state in [(name, one.state) for name, one in self._states.items()]:
            count = held(name)
            if count and state in (TableState.CATCHING_UP, TableState.CONSISTENT):
                self.happen(name, TableEvent.KEY_QUARANTINED)
            elif not count and state == TableState.QUARANTINED:
                self.happen(name, TableEvent.KEYS_RELEASED)

    # -- copies while streaming ----------------------------------------------------------------------------------------

    def shown(self, name: TableName) -> bool:
        """Whether readers have something of the table that a copy may keep until it ends."""
        return self._states[name].state in _COPIED

    def begin(self, copy: Copy) -> None:
        """A copy's barrier, and the table is empty: it is being copied from here on."""
        name = (copy.db, copy.table)
        self.renew(name)
        self.happen(name, TableEvent.COPY_STARTED, floor=copy.position, ceiling=None, rows_loaded=0, reason="")
        self._bear(name, **{COPY: copy.id})

    def shade(self, name: TableName, id_: str) -> None:
        """A second table takes the copy with this id; "": there is none any more."""
        self._bear(name, **({SHADOW: id_} if id_ else {}))

    def refuse(self, copy: Copy, reason: str) -> None:
        """A copy's barrier that the target cannot obey: the table stays as it is where that can be known,
        else it cannot be followed."""
        name = (copy.db, copy.table)
        if (
            self.shown(name) and not copy.exact
        ):  # behind an exact one changes are left out, which its rows would have held
            self._bear(name, **{COPY: copy.id, REFUSAL: reason})
        else:
            self.renew(name)
            self.happen(name, TableEvent.REFUSED, reason=reason)

    def is_refused(self, name: TableName) -> bool:
        """Whether the rows of the table's copy are to be left out."""
        return REFUSAL in self._states[name].schema

    def bears(self, name: TableName, id_: str | None) -> bool:
        """Whether this copy began with the table here; None: whichever is under way."""
        state = self._states[name]
        own = state.schema.get(SHADOW) or state.schema.get(COPY)
        if state.state not in FOLLOWED or id_ == "":
            return False
        return id_ in (None, own) if own is not None else state.state == TableState.COPYING

    def _bear(self, name: TableName, **borne: str) -> None:
        rest = {key: value for key, value in self._states[name].schema.items() if key not in _BORNE}
        self.change(name, schema=rest | borne)

    def renew(self, name: TableName, reason: str = "") -> None:
        """What the table holds does not count any more."""
        state, shadow = self._states[name].state, self.shadow(name)
        if state != TableState.NEW:
            self.happen(name, _TO_NEW.get(state, TableEvent.WITHDRAWN), reason=reason)
        elif reason:
            self.change(name, reason=reason)
        self.shade(name, shadow)

    def orphans(self, active: Active | None) -> list[TableName]:
        """The tables whose second table no copy fills any more."""
        return [
            one.name
            for one in self
            if self.shadow(one.name) and (active is None or not self.bears(one.name, active.id))
        ]

    def end(self, ended: Ended, at: Position | None) -> Ended:
        """A copy's last cut, and what became of it here; a table that it did not empty stays as it is shown."""
        name = (ended.db, ended.table)
        known = self._states.get(name)
        if known is None or ended.kind != WHOLE:
            return ended if known is None or self.takes(name) else self._not_here(known, ended)
        if not self.bears(name, ended.copy):
            if known.state == TableState.NEW and ended.outcome == REFUSED:
                self.happen(name, TableEvent.REFUSED, reason=ended.reason)
            return self._not_here(known, ended)
        refusal = str(known.schema.get(REFUSAL, ""))
        if known.state == TableState.COPYING:
            self._end_in_place(name, ended, at)
        self.shade(name, "")
        return ended._replace(outcome=REFUSED, reason=refusal) if refusal and ended.outcome == DONE else ended

    def _end_in_place(self, name: TableName, ended: Ended, at: Position | None) -> None:
        if ended.outcome == REFUSED:
            self.happen(name, TableEvent.REFUSED, reason=ended.reason)
        elif ended.outcome == DONE:
            self.happen(name, TableEvent.COPIED, ceiling=at, rows_loaded=ended.rows)
        else:
            self.renew(name, "its copy was stopped: cdc copy begins another")

    def _not_here(self, known: TableProgress, ended: Ended) -> Ended:
        """What is done for capture is not done here where the table could not take it."""
        if ended.outcome != DONE or ended.copy is None:
            return ended
        return ended._replace(outcome=REFUSED, reason=known.reason if known.state not in FOLLOWED else _UNSEEN)

    # -- epochs -------------------------------------------------------------------------------------------------------

    def enter(
        self,
        base: Base,
        schema: Callable[[Followed], Mapping[str, object]],
        create: Callable[[Followed], TableProgress],
    ) -> None:
        """An epoch's base says which tables are followed, and which of them are still to be copied."""
        for followed in base.tables:
            name = (followed.db, followed.table)
            found = schema(followed)
            if name not in self._states or REMAKE in self._states[name].schema:
                self._states[name] = _created(base, followed, create)
            self.change(name, schema={**self._states[name].schema, **found})
            if base.copying and name not in base.uncopied and self._states[name].state == TableState.NEW:
                self.happen(name, TableEvent.COPY_STARTED, floor=base.position)
            elif not base.copying:
                self._stand(base, name)
        self._leave({(one.db, one.table) for one in base.tables} | set(base.gone))

    def _stand(self, base: Base, name: TableName) -> None:
        """What capture takes a table for, and what it is here:
        where the two differ, nothing of it is shown as consistent."""
        state, active, uncopied = self._states[name].state, base.copies.active, name in base.uncopied
        meant = active is not None and (active.db, active.table, active.kind) == (*name, WHOLE)
        if meant and active is not None and self.bears(name, active.id):
            return
        if not self.shadow(name) and state != TableState.COPYING:
            self._bear(name)  # a copy that was refused here is over
        if uncopied and state != TableState.REFUSED:
            self.renew(name, _UNBEGUN if meant else "")
        elif not uncopied and state == TableState.COPYING:
            self.renew(
                name, _UNENDED
            )  # what it holds is not what changes belong to: a row of a table without a key would be missing
        elif not uncopied and (
            state == TableState.STOPPED or (state == TableState.NEW and not self._states[name].reason)
        ):
            raise Halt("table_not_copied", ".".join(name), "is followed by capture, which takes it for copied, "
                                                           "and is not",
                       f"cdc copy {'.'.join(name)}")  # fmt: skip

    def _leave(self, followed: set[TableName]) -> None:
        for name, state in list(self._states.items()):
            if name not in followed and state.state != TableState.STOPPED:
                self.happen(name, TableEvent.STOPPED, reason=LEFT)
                self.shade(name, self.shadow(name))


def _created(base: Base, followed: Followed, create: Callable[[Followed], TableProgress]) -> TableProgress:
    name = (followed.db, followed.table)
    if not base.copying and name not in base.uncopied:
        raise Halt("table_not_copied", ".".join(name), "is followed by capture, which takes it for copied, "
                                                       "and is not here",
                   f"cdc copy {'.'.join(name)}")  # fmt: skip
    return create(followed)
