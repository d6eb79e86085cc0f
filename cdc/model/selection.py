"""Which tables a pipeline follows, and which policy each of their columns has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cdc.model.policies import Policies, Policy, glob
from cdc.model.table import Column, Table, TableName

SYSTEM_SCHEMAS = frozenset({"mysql", "information_schema", "performance_schema", "sys"})


def chosen(tables: Iterable[Table], policies: Policies) -> list[Table]:
    """The tables with each column's policy; in a key a NUL is none that is taken out: two keys would be one."""
    return [replace(t, columns=tuple(_with_policy(t, at, policies) for at in range(len(t.columns)))) for t in tables]


def _with_policy(table: Table, at: int, policies: Policies) -> Column:
    column = table.columns[at]
    policy = _policy(policies, table, column)
    return replace(column, policy=replace(policy, nul_text="error") if at in table.key else policy)


def _policy(policies: Policies, table: Table, column: Column) -> Policy:
    """The column's policy; `tinyint1` of the whole pipeline is about TINYINT(1), said of columns about any width."""
    policy = policies.of(table.db, table.name, column.name)
    if policy.tinyint1 == "smallint" or column.type != "tinyint" or column.display == 1:
        return policy
    asked = policies.asks(table.db, table.name, column.name, "tinyint1")
    return policy if asked else replace(policy, tinyint1="smallint")


class Selection:
    """Which tables a pipeline follows: "db.table" patterns with * and ?, less the excluded ones; system schemas never.

    `fold_case` for servers that compare names without case (lower_case_table_names 1 and 2).
    """

    def __init__(self, patterns: Sequence[str], exclude: Sequence[str] = (), *, fold_case: bool = False) -> None:
        flags = re.IGNORECASE if fold_case else re.NOFLAG
        self._patterns = [_expressions(pattern, flags) for pattern in patterns]
        self._exclude = [_expressions(pattern, flags) for pattern in exclude]
        self._known: dict[TableName, bool] = {}
        self.fold_case = fold_case

    def wants(self, db: str, table: str) -> bool:
        """Whether the table is selected; answers are remembered."""
        known = self._known.get((db, table))
        if known is None:
            known = self._known[db, table] = db.lower() not in SYSTEM_SCHEMAS and self._matches(db, table)
        return known

    __call__ = wants

    def may_be_in(self, db: str) -> bool:
        """Whether a table of this database could be selected."""
        return db.lower() not in SYSTEM_SCHEMAS and any(one.fullmatch(db) for one, _ in self._patterns)

    def _matches(self, db: str, table: str) -> bool:
        return _any(self._patterns, db, table) and not _any(self._exclude, db, table)


Expressions = tuple[re.Pattern[str], re.Pattern[str]]
"""Of the database and of the table: matched apart, because either name may hold a dot."""


def _any(patterns: Iterable[Expressions], db: str, table: str) -> bool:
    return any(of_db.fullmatch(db) and of_table.fullmatch(table) for of_db, of_table in patterns)


def _expressions(pattern: str, flags: re.RegexFlag) -> Expressions:
    """A pattern as regular expressions: * is any characters, ? is one; the first dot parts database and table."""
    db, _, table = pattern.partition(".")
    return _expression(db, flags), _expression(table or "*", flags)


def _expression(part: str, flags: re.RegexFlag) -> re.Pattern[str]:
    return re.compile(glob(part), flags | re.DOTALL)
