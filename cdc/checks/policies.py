"""Policies that are said of columns: each must be able to do what it says, and none may change a key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from cdc.model.finding import Finding
from cdc.model.policies import DEFAULT, HANGS_ON, LOSSY, Policies
from cdc.model.table import Column, Table
from cdc.model.types import policy_at_work, policy_keys

ABOUT = {
    "zero_date": "DATE, DATETIME and TIMESTAMP",
    "sentinel_date": "DATE, DATETIME and TIMESTAMP",
    "invalid_text": "text, ENUM and SET",
    "nul_text": "text, ENUM and SET",
    "json": "MySQL's JSON (MariaDB's is a LONGTEXT)",
    "refused_json": "MySQL's JSON (MariaDB's is a LONGTEXT)",
    "timestamp": "TIMESTAMP",
    "timestamp_zone": "TIMESTAMP",
    "tinyint1": "TINYINT",
    "bigint_unsigned": "BIGINT UNSIGNED",
    "over_wide": "TINYINT that becomes a boolean and BIGINT UNSIGNED that becomes a bigint",
}
"""Which columns a key is about, in the source's words."""


def column_policies(book: Policies, tables: Sequence[Table]) -> list[Finding]:
    """What is said of columns and cannot be done: an error where a column is named, else a warning."""
    return [*_of_keys(book, tables), *_idle(book, tables)]


def _of_keys(book: Policies, tables: Sequence[Table]) -> Iterator[Finding]:
    """Lossy policies that are said of a key column."""
    for table in tables:
        for column in (table.columns[at] for at in table.key):
            for key, value in book.named(table.db, table.name, column.name).items():
                if value in LOSSY.get(key, ()) and key in policy_keys(column):
                    yield Finding(
                        "error",
                        "policy_of_key",
                        f"{table.qualified}.{column.name}",
                        f'policies.columns says {key} = "{value}" of a key column, which no policy may change',
                        f"-- take {key} out of the column's policies",
                    )


def _idle(book: Policies, tables: Sequence[Table]) -> Iterator[Finding]:
    """What would be accepted and do nothing."""
    for pattern, keys in book.entries:
        meant = [
            (table, column)
            for table in tables
            for column in table.columns
            if book.matches(pattern, table.db, table.name, column.name)
        ]
        if not meant:
            yield _nobody(pattern, tables)
            continue
        for key, value in keys.items():
            if not any(policy_at_work(column, key) or _idly_default(column, key, value) for _, column in meant):
                yield _unfit(pattern, key, value, *meant[0])


def _idly_default(column: Column, key: str, value: str) -> bool:
    """Said for completeness: the value that would hold anyway, of a column that the key is about."""
    return key in policy_keys(column) and value == getattr(DEFAULT, key)


def _nobody(pattern: str, tables: Sequence[Table]) -> Finding:
    """An error where the table is followed and the column is none of its: that is a slip of the pen."""
    place, rule = f'policies.columns."{pattern}"', "is the name of no column of a selected table"
    owner = next((table for table in tables if pattern.startswith(f"{table.qualified}.")), None)
    if owner is None or "*" in pattern or "?" in pattern:
        return Finding("warning", "policy_unused", place, rule)
    names = {column.name.lower(): column.name for column in owner.columns}
    near = difflib.get_close_matches(pattern.removeprefix(f"{owner.qualified}.").lower(), names, n=1)
    hint = f"did you mean {owner.qualified}.{names[near[0]]}?" if near else "take it out"
    return Finding("error", "policy_unused", place, f"{owner.qualified} has no such column", f"-- {hint}")


def _unfit(pattern: str, key: str, value: str, table: Table, column: Column) -> Finding:
    needs = next(
        ((other, wanted) for one, other, wanted in HANGS_ON if one == key and key in policy_keys(column)), None
    )
    why = f"it is about {ABOUT[key]}"
    if needs is not None:
        why = f'it says nothing unless {needs[0]} = "{needs[1]}"'
    kind = column.type.upper() + (" UNSIGNED" if column.unsigned else "")
    exact = not any(sign in pattern.split(".", 2)[-1] for sign in "*?")
    rule = f'{key} = "{value}" would do nothing: {why}; {table.qualified}.{column.name} is {kind}'
    hint = f"-- take {key} out of the entry, or choose what fits: docs/types.md"
    return Finding("error" if exact else "warning", "policy_unfit", f'policies.columns."{pattern}"', rule, hint)
