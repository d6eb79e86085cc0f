"""A practice of production size, in minutes: a small one is loaded beside it, and the server multiplies its rows within
itself.

Every row of a seed table comes again with another key, so types, widths and the way keys lie are those of the small
practice. The tables that make up the number are siblings of the 58: a third is empty, most hold a few rows, as in
practices. Nothing of it is written to the binary log, which needs the account's right to say so; a copy does not need
the log of what was before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from cdc.demo.opendental.build import UNLOGGED, ConnectionArgs, connect, create, load
from cdc.demo.opendental.columns import Spec, quoted
from cdc.demo.opendental.tables import TABLES, rows_at

SEED_SIZE = 8.0
"""Of the small practice: so many of its rows that repeating them leaves no table of one page."""
_MASK = 2**62 - 1
_STEP = 0x2545_F491_4F6C_DD1D & _MASK


def grow(
    connection_args: ConnectionArgs,
    database: str = "opendental",
    engine: str = "MyISAM",
    *,
    rows: int = 20_000_000,
    tables: int = 446,
    seed: int = 1,
    replace_it: bool = False,
) -> dict[str, int]:
    """Makes a practice of about so many rows in so many tables;
    returns the rows of each. Lists stay as long as they are."""
    seeds = f"{database}_seed"
    with closing(connect(connection_args)) as connection, connection.cursor() as cursor:
        cursor.execute(f"{UNLOGGED}, SESSION bulk_insert_buffer_size = 67108864")
        if replace_it:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci")
        size = min(SEED_SIZE, rows / sum(rows_at(spec, 1.0) for spec in TABLES))
        create(connection_args, seeds, "MyISAM", replace=True, log=False)
        load(connection_args, seeds, size=size, seed=seed, log=False)
        found = {}
        for spec, origin, count in plan(rows, tables, size):
            cursor.execute(f"USE `{database}`")
            cursor.execute(spec.ddl(engine))
            found[spec.name] = _fill(cursor, spec, f"`{seeds}`.`{origin.name}`", rows_at(origin, size), count)
        cursor.execute(f"DROP DATABASE `{seeds}`")
    return found


def plan(rows: int, tables: int, size: float = SEED_SIZE) -> Iterator[tuple[Spec, Spec, int]]:
    """Each table, the one that its rows come from, and how many of them it gets."""
    extra = [(replace(TABLES[n % len(TABLES)], name=f"{TABLES[n % len(TABLES)].name}_{n // len(TABLES) + 2}"),
    TABLES[n % len(TABLES)], n)
             for n in range(max(0, tables - len(TABLES)))]  # fmt: skip
    siblings = [(spec, origin, min(rows_at(origin, size), _share(n))) for spec, origin, n in extra]
    lists = sum(spec.rows for spec in TABLES if not _grows(spec)) + sum(count for _, _, count in siblings)
    growing = sum(spec.rows for spec in TABLES if _grows(spec))
    for spec in TABLES:
        yield spec, spec, round(spec.rows * max(0, rows - lists) / growing) if _grows(spec) else rows_at(spec, size)
    yield from siblings


def _share(number: int) -> int:
    """Rows of the sibling with this number: none, a handful, or a few thousand."""
    return (0, 7, 60, 0, 150, 1, 0, 25, 4_000)[number % 9]


def _grows(spec: Spec) -> bool:
    return bool(spec.rows) and not spec.fixed and not spec.primary and spec.columns[0].automatic


def _fill(cursor: Any, spec: Spec, origin: str, there: int, count: int) -> int:
    """Repeat the rows of the seed until there are so many."""
    names = [column.name for column in spec.columns]
    cursor.execute(f"ALTER TABLE `{spec.name}` DISABLE KEYS")
    if not spec.key or not spec.columns[0].automatic:
        cursor.execute(f"INSERT INTO `{spec.name}` SELECT * FROM {origin} LIMIT {count}")
        there = count = min(there, count)
    else:
        stride = _stride(cursor, spec, origin)
        for copy in range(-(-count // there) if there else 0):
            cursor.execute(
                f"INSERT INTO `{spec.name}` ({quoted(names)}) SELECT {_key(spec, copy, stride)}, {quoted(names[1:])} "
                f"FROM {origin} "
                f"LIMIT {min(there, count - copy * there)}"
            )
    cursor.execute(f"ALTER TABLE `{spec.name}` ENABLE KEYS")
    return count


def _stride(cursor: Any, spec: Spec, origin: str) -> int:
    cursor.execute(f"SELECT COALESCE(MAX(`{spec.key[0]}`), 0) + 1 FROM {origin}")
    return int(cursor.fetchone()[0])


def _key(spec: Spec, copy: int, stride: int) -> str:
    """The key that a row of the seed gets in its copy with this number."""
    name = f"`{spec.key[0]}`"
    if spec.keys == "scattered":
        return f"({name} + {copy * _STEP & _MASK}) & {_MASK}"
    return f"{name} + {copy * stride}"
