"""Which columns may hold what PostgreSQL refuses, so that a row of them may come to wait in quarantine; pure."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.model.finding import Finding
from cdc.model.table import Column, Table

INDEX_BYTES = 2704
"""What an entry of a B-tree holds at most: a third of a page of 8 KiB, the entry's own head with it."""
FIELD_BYTES = 1 << 30
_ENTRY_HEAD, _VALUE_HEAD, _FIXED = 8, 4, 40
_UTF8_BYTES = {"ascii": 1, "utf8mb4": 4, "utf16": 4, "utf16le": 4, "utf32": 4, "gb18030": 4}
"""What a character takes at most in the target, where that is not 3."""
_LONG = {"tinytext": 255, "tinyblob": 255, "text": 65_535, "blob": 65_535, "mediumtext": 1 << 24, "mediumblob": 1 << 24,
         "longtext": 1 << 32, "longblob": 1 << 32}  # fmt: skip


def limits(tables: Sequence[Table], packet_bytes: int) -> list[Finding]:
    """A warning for each table of which a row may not fit; `packet_bytes`: the source's `max_allowed_packet`, which no
    value exceeds."""
    found: list[Finding] = []
    for table in tables:
        found += _wide_key(table)
        long = [column.name for column in table.columns if _field_bytes(column, packet_bytes) >= FIELD_BYTES]
        if long:
            found.append(_warning(table, f"{_listed(long)} may hold more than a field of PostgreSQL, 1 GiB",
                                  "-- a max_allowed_packet of 256 MiB on the source rules it out"))  # fmt: skip
        if documents := [column.name for column in table.columns if _may_refuse(column)]:
            found.append(_warning(table, f"{_listed(documents)} may hold documents that jsonb refuses",
                                  '-- refused_json = "string" or "null" in [policies] keeps such rows'))  # fmt: skip
    return found


def _wide_key(table: Table) -> list[Finding]:
    size = _ENTRY_HEAD + sum(_key_bytes(table.columns[at]) + _VALUE_HEAD for at in table.key)
    if size <= INDEX_BYTES:
        return []
    rule = f"its primary key may take {size:,} bytes, and an entry of PostgreSQL's index holds {INDEX_BYTES:,}"
    return [_warning(table, rule, "-- a shorter key on the source rules it out")]


def _warning(table: Table, rule: str, hint: str) -> Finding:
    return Finding("warning", "may_be_refused", table.qualified, f"{rule}: such a row waits in quarantine", hint)


def _listed(columns: Sequence[str]) -> str:
    return f"{', '.join(columns[:3])}{f' and {len(columns) - 3} more columns' if columns[3:] else ''}"


def _key_bytes(column: Column) -> int:
    """What a value of a key takes at most in the target."""
    if column.type in ("char", "varchar"):
        return column.length * _UTF8_BYTES.get(column.charset, 3)
    if column.type in ("binary", "varbinary"):
        return column.length
    if column.labels:
        sizes = [len(label.encode()) for label in column.labels]
        return max(sizes) if column.type == "enum" else sum(sizes) + len(sizes)
    return _LONG.get(column.type, _FIXED)


def _field_bytes(column: Column, packet_bytes: int) -> int:
    """What a value takes at most in the target: text of another character set than UTF-8 grows."""
    grows = 1 if column.charset in ("", "ascii", "utf8mb3", "utf8mb4") else 3
    return min(_LONG.get(column.type, (1 << 32) if column.type == "json" else 0), packet_bytes) * grows


def _may_refuse(column: Column) -> bool:
    return column.type == "json" and column.policy.json == "jsonb" and column.policy.refused_json == "error"
