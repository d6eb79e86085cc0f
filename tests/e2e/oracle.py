"""An opinion of its own: both sides read by plain SELECT through the stock drivers, and compared in Python as multisets of rows.

Nothing here is the product's: not its checksums, not its canonical SQL, not its table of types.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.helpers.servers import SourceDatabase, TargetDatabase

Rows = Counter[tuple[Any, ...]]
Kind = Callable[[Any], Any]


def differences(source: SourceDatabase, target: TargetDatabase, tables: Iterable[str], schema: str = "") -> dict[str, str]:
    """The tables whose rows are not the same, with how many rows are on one side only (no values: they would fill the screen)."""
    found = {}
    for table in tables:
        left, right = source_rows(source, table), target_rows(target, schema or source.name, table)
        missing, extra = left - right, right - left
        if missing or extra:
            example = (next(iter(missing), None), next(iter(extra), None))
            found[table] = f"{missing.total()} rows missing, {extra.total()} too many, of {left.total()}: {example}"
    return found


def source_tables(source: SourceDatabase) -> list[str]:
    """All tables of the database."""
    return sorted(name for (name,) in source.execute("SHOW TABLES"))


def source_rows(source: SourceDatabase, table: str) -> Rows:
    """The rows of a source table."""
    with closing(source.connect(init_command="SET time_zone = '+00:00'")) as line, line.cursor() as cursor:
        cursor.execute(f"SELECT * FROM `{table}`")
        kinds = [_SOURCE_KINDS.get(column[1], _plain) for column in cursor.description]
        return Counter(_row(row, kinds) for row in cursor.fetchall())


def target_rows(target: TargetDatabase, schema: str, table: str) -> Rows:
    """The rows of a target table."""
    with target.connect() as line:
        line.execute("SET TimeZone = 'UTC'")
        cursor = line.execute(f'SELECT * FROM "{schema}"."{table}"'.encode())
        kinds = [_TARGET_KINDS.get(column.type_code, _plain) for column in cursor.description or ()]
        return Counter(_row(row, kinds) for row in cursor.fetchall())


def _row(row: Iterable[Any], kinds: Iterable[Kind]) -> tuple[Any, ...]:
    return tuple(None if value is None else kind(value) for value, kind in zip(row, kinds, strict=True))


def _plain(value: Any) -> Any:
    """One form for what two drivers show differently."""
    if isinstance(value, Decimal | bool):
        return int(value) if value == int(value) else value.normalize()  # type: ignore[union-attr]
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date | timedelta):
        return value
    if isinstance(value, str) and value.startswith("0000-00-00"):
        return None  # PyMySQL leaves a zero date as text; PostgreSQL has none, and null stands for it
    return value


def _six_digits(value: float) -> float:
    """MySQL shows a FLOAT with six digits only."""
    return float(f"{value:.6g}")


def _sorted(document: Any) -> str:
    return json.dumps(document, sort_keys=True)


_SOURCE_KINDS: dict[int, Kind] = {4: _six_digits, 16: lambda bits: int.from_bytes(bits, "big"), 245: lambda text: _sorted(json.loads(text))}
_TARGET_KINDS: dict[int, Kind] = {114: _sorted, 700: _six_digits, 1560: lambda bits: int(bits, 2)}
