"""Builders of one line for tests of the target."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cdc.config.load import ServerUrl, TargetConfig
from cdc.model.position import Position
from cdc.protocol.applied import Progress
from sinks.contract import TableBatch
from sinks.fold import Fold
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.plans import HandPlan, Values


def config(database: TargetDatabase, port: int = 0, **more: Any) -> TargetConfig:
    options = {"sslmode": "disable"} if port else {}  # through a cable: what it is to cut must be readable
    url = ServerUrl("postgresql", database.host, port or database.port, database.user, database.password, database.name, options)
    return TargetConfig(url=url, **more)


def at(number: int) -> Position:
    return Position("mariadb", "1", f"0-1-{number}", "bin.000001", 100 * number)


def cut(number: int, **partitions: tuple[int, int]) -> Progress:
    moved = {(topic, 0): pair for topic, pair in partitions.items()}
    return Progress(number, 1, number + 1, at(number), 1_700_000_000_123_456 + number, moved)


def batch(plan: HandPlan, *changes: tuple[str, Values | None, Values | None]) -> TableBatch:
    """Changes as (op, before, after), folded."""
    fold = Fold(plan)
    keys, values, told = zip(*[plan.change(*change) for change in changes], strict=True)
    fold.add(keys, values, told)
    return fold.take()


def rows(database: TargetDatabase, plan: HandPlan, db: str = "app") -> Counter[tuple[str | None, ...]]:
    """The table's rows as text."""
    names = ", ".join('"' + column.name.replace('"', '""') + '"::text' for column in plan.columns)
    return Counter(database.execute(f'SELECT {names} FROM "{db}"."{plan.table}"'))


def shown(plan: HandPlan, values: Values) -> tuple[str | None, ...]:
    """What `rows` must say of a row."""
    return tuple(_text(column.postgres_type, value) for column, value in zip(plan.columns, values, strict=True))


def _text(kind: str, value: Any) -> str | None:
    if value is None:
        return None
    if kind == "double precision":
        return f"{value:g}"
    return f"{value / 100:.2f}" if kind.startswith("numeric") else str(value)
