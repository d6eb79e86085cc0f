"""The expressions by which a table is read, so that a SELECT shows what the log holds."""

from __future__ import annotations

from cdc.model.table import Column, Table


def quoted(name: str) -> str:
    """The name as MySQL and MariaDB quote it."""
    return "`" + name.replace("`", "``") + "`"


def select_list(table: Table, flavour: str) -> list[str]:
    """One expression per column, for a session with time_zone '+00:00', sql_mode '' and character_set_results NULL."""
    return [
        _key_expression(column) if i in table.key else _expression(column) for i, column in enumerate(table.columns)
    ]


def _key_expression(column: Column) -> str:
    """An ENUM's error value has the text of an empty member:
    in a key two rows would become one, so it is made a null, which stops."""
    if column.type == "enum" and "" in column.labels:
        return f"IF({quoted(column.name)}+0=0,NULL,{quoted(column.name)})"
    return _expression(column)


def _expression(column: Column) -> str:
    name = quoted(column.name)
    if column.type in ("float", "double"):
        return (
            f"{name}*1e0"  # a bare FLOAT is printed with six digits, a DOUBLE(M,D) with D places; a sum would lose -0.0
        )
    if column.type in ("uuid", "inet6"):
        return f"CAST({name} AS BINARY(16))"
    if column.type == "inet4":
        return f"CAST({name} AS BINARY(4))"
    if column.type == "year":
        return f"CAST({name} AS UNSIGNED)"
    return name
