"""The expressions by which a table is read, so that a SELECT shows what the log holds."""

from __future__ import annotations

from cdc.model import Column, Table


def quoted(name: str) -> str:
    """The name as MySQL and MariaDB quote it."""
    return "`" + name.replace("`", "``") + "`"


def select_list(table: Table, flavour: str) -> list[str]:
    """One expression per column, for a session with time_zone '+00:00', sql_mode '' and character_set_results NULL."""
    return [_expression(column) for column in table.columns]


def _expression(column: Column) -> str:
    name = quoted(column.name)
    if column.type == "float":
        return f"CAST({name} AS DOUBLE)"  # a bare FLOAT is printed with six digits
    if column.type in ("uuid", "inet6"):
        return f"CAST({name} AS BINARY(16))"
    if column.type == "inet4":
        return f"CAST({name} AS BINARY(4))"
    if column.type == "year":
        return f"CAST({name} AS UNSIGNED)"
    return name
