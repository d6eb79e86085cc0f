"""What a target must be given: plans, batches and positions, as plain values without any driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cdc.errors import CdcError
from cdc.model.policies import Chosen, mixed
from cdc.model.record import Partition
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.table_states import TableState

__all__ = ["Partition", "Plan", "Progress", "Row", "Stored", "TableBatch", "TableProgress"]

Row = tuple[bytes, int]
"""A record's value and the offset of the row's Avro form within it."""


class ColumnOfPlan(Protocol):
    """One column of the target, as `cdc.codec.ValuePlan` describes it."""

    @property
    def name(self) -> str: ...
    @property
    def postgres_type(self) -> str: ...
    @property
    def collation(self) -> str: ...
    @property
    def nullable(self) -> bool: ...
    @property
    def key(self) -> bool: ...


class Plan(Protocol):
    """How a table's records become COPY tuples; `cdc.codec.ValuePlan` is one. Compared and hashed by identity."""

    @property
    def db(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def columns(self) -> Sequence[ColumnOfPlan]: ...
    @property
    def key(self) -> Sequence[int]:
        """Column indexes in key order; empty for a table without a key."""

    @property
    def partial(self) -> bool:
        """Whether the records have some of the table's columns alone, and tell of rows that are there."""

    @property
    def chosen(self) -> Mapping[str, Chosen]:
        """The policies that change what the columns hold, by column."""

    @property
    def policed(self) -> Mapping[str, frozenset[str]]:
        """Which keys of a policy can matter to each column."""

    def widen(self, found: Mapping[str, str]) -> None:
        """Take over the types of the target's columns, by column, where they hold every value of the planned ones."""

    def copy_rows(self, rows: Sequence[Row], out: bytearray) -> Mapping[tuple[str, str], int]:
        """Append the rows' tuples; how many values policies changed in them, by (column, reason)."""

    def copy_keys(self, keys: Sequence[bytes], out: bytearray) -> None: ...


class NamedPlan(Plan, Protocol):
    """A plan that knows what the source calls its columns."""

    def places(self, columns: Sequence[str]) -> Sequence[int]:
        """Indexes of columns by the source's names."""


def demand_same_policies(state: TableProgress, plan: Plan, stop: type[CdcError]) -> None:
    """Stop where the table holds values that the policies of now would have made otherwise:
    the two must not be mixed silently. A table that is new holds none; what was said of a column that is gone or of
    another type does not count: a table whose columns changed is copied again."""
    if state.state == TableState.NEW:
        return
    stored: Mapping[str, Chosen] = state.schema.get("policies", {})  # type: ignore[assignment]
    for column, policed in sorted(plan.policed.items()):
        now = plan.chosen.get(column, {})
        before = {key: value for key, value in stored.get(column, {}).items() if key in policed or key in now}
        key = mixed(before, now)
        if key:
            raise stop(
                "policy_changed",
                f"{plan.db}.{plan.table}.{column}",
                f"policies.{key} is another one than that by which its rows were written",
                f"put the old value back; or cdc reset {plan.db}.{plan.table}, and it is copied anew",
            )


def policies_kept(state: TableProgress, plan: Plan) -> TableProgress:
    """The state that says by which policies the table is written from now on."""
    rest = {name: value for name, value in state.schema.items() if name != "policies"}
    return replace(state, schema=rest | ({"policies": dict(plan.chosen)} if plan.chosen else {}))


@dataclass(slots=True)
class TableBatch:
    """The changes of one table, folded: no key occurs twice, so their order no longer matters.

    A table with a key has `upserts` (with `keys` and `new` beside them) and `deletes`; one without has `adds` and
    `removes`.
    """

    plan: Plan
    db: str
    table: str
    upserts: list[Row] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    """Framed key of each upsert."""
    new: list[bool] = field(default_factory=list)
    """Whether the batch saw the row being created, so that it probably does not exist yet."""
    deletes: list[bytes] = field(default_factory=list)
    """Framed keys; a key that is absent is no error."""
    adds: list[Row] = field(default_factory=list)
    removes: list[tuple[Row, int]] = field(default_factory=list)
    """A row and how many equal ones must go; fewer is an error."""
    balance: list[tuple[bytes, Row, int]] = field(default_factory=list)
    """The same as `adds` and `removes`: the row's own bytes, where it lies, and how many come (or, below 0, go)."""
    shadow: str = ""
    """The id of the copy whose second table these go into; "": into the table itself."""

    def __len__(self) -> int:
        return len(self.upserts) + len(self.deletes) + len(self.adds) + len(self.removes)
