"""Tables as information_schema describes them, as the values that the log's table maps also give; and patterns that
name tables.

Pure: rows in, `Table` out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cdc.model.table import Column, Table, TableName

GEOMETRIES = frozenset(
    {
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geomcollection",
        "geometrycollection",
    }
)
SIZED = frozenset({"char", "varchar", "binary", "varbinary", "vector"})
NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"})
FRACTIONAL = frozenset({"datetime", "timestamp", "time"})
COMPRESSIBLE = frozenset(
    "varchar varbinary tinytext text mediumtext longtext tinyblob blob mediumblob longblob".split()
)
OLD = "/* mariadb-5.3 */"

COLUMNS_SQL = """
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), COLUMN_TYPE, IS_NULLABLE = 'YES',
       IF(DATA_TYPE = 'vector' AND VERSION() NOT LIKE '%%MariaDB%%', 0, CHARACTER_MAXIMUM_LENGTH), NUMERIC_PRECISION,
       NUMERIC_SCALE,
       DATETIME_PRECISION, CHARACTER_SET_NAME, COLUMN_KEY = 'PRI', GENERATION_EXPRESSION = 'ROW START'
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION"""
KEYS_SQL = """
SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME
FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s AND NON_UNIQUE = 0
    ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"""

_LABEL = re.compile(r"'((?:[^']|'')*)'")
_PLAIN = {"''": "'", "\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\0": "\0"}
_BEYOND = re.compile("[\U00010000-\U0010ffff]")
_ESCAPED = re.compile(r"''|\\[\\nr0]")

Row = Sequence[Any]


def column_of(row: Row) -> Column:
    """One row of COLUMNS_SQL as a column; a type that nobody knows keeps its name, and the codec refuses it."""
    _, _, name, kind, full, nullable, characters, precision, scale, fraction, charset, *_ = row
    length = int(characters) if kind in SIZED else int(precision) if kind in ("decimal", "bit") else 0
    digits = int(scale) if kind == "decimal" else int(fraction or 0) if kind in FRACTIONAL else 0
    return Column(
        name,
        "geometry" if kind in GEOMETRIES else full if full == "year(2)" else kind,
        unsigned=kind in NUMBERS and "unsigned" in full.lower(),
        nullable=bool(nullable),
        length=length,
        scale=digits,
        charset=canonical_charset(charset or ""),
        labels=labels_of(full) if kind in ("enum", "set") else (),
        storage=_storage(kind, full),
        display=int(full.lower() == "tinyint(1)"),
    )


def _storage(kind: str, full: str) -> str:
    """What MariaDB says in a comment behind the type."""
    if kind in FRACTIONAL:
        return "old" if OLD in full else ""
    return "compressed" if kind in COMPRESSIBLE and "COMPRESSED" in full else ""


def canonical_charset(name: str) -> str:
    """One name per character set: older servers say utf8 where newer ones say utf8mb3."""
    return "utf8mb3" if name == "utf8" else name


def labels_of(column_type: str) -> tuple[str, ...]:
    """The members of "enum('a','it''s')" in order; the server doubles quotes and escapes these four,
    whatever its sql_mode."""
    return tuple(_ESCAPED.sub(lambda found: _PLAIN[found[0]], label) for label in _LABEL.findall(column_type))


def as_catalogued(table: Table) -> Table:
    """The table of a log as the catalog shows it, in a character set of its own:
    it has `?` for what lies beyond U+FFFF in a member."""
    columns = [
        replace(one, labels=tuple(_BEYOND.sub("?", label) for label in one.labels)) if one.labels else one
        for one in table.columns
    ]
    return replace(table, columns=tuple(columns))


Names = frozenset[TableName]


def tables_of(
    columns: Iterable[Row], keys: Iterable[Row], wanted: Names, versioned: Names = frozenset()
) -> list[Table]:
    """The wanted tables, ordered by name, from all rows of COLUMNS_SQL and KEYS_SQL of their databases.

    `versioned` are MariaDB's WITH SYSTEM VERSIONING: those that do not name their two periods have them all the same,
    at the end, and the second one is part of every key. information_schema is silent about both; the log and a SELECT
    that names them are not.
    """
    shapes: dict[TableName, list[Row]] = {}
    for row in columns:
        if (row[0], row[1]) in wanted:
            shapes.setdefault((row[0], row[1]), []).append(row)
    indexes: dict[TableName, dict[str, list[str]]] = {}
    for schema, table, index, column in keys:
        indexes.setdefault((schema, table), {}).setdefault(index, []).append(column)
    found = [
        Table(db, name, tuple(map(column_of, rows)), _key(rows, indexes.get((db, name), {})))
        for (db, name), rows in sorted(shapes.items())
    ]
    silent = {name for name, rows in shapes.items() if name in versioned and not any(row[12] for row in rows)}
    return [_with_periods(table) if (table.db, table.name) in silent else table for table in found]


def _with_periods(table: Table) -> Table:
    columns = (
        *table.columns,
        *(Column(name, "timestamp", nullable=False, scale=6) for name in ("row_start", "row_end")),
    )
    return Table(table.db, table.name, columns, (*table.key, len(columns) - 1) if table.key else ())


def _key(rows: list[Row], indexes: Mapping[str, list[str]]) -> tuple[int, ...]:
    """The primary key; without one, the unique NOT NULL key that the server takes in its place,
    because the log names that one."""
    places = {row[2]: at for at, row in enumerate(rows)}
    if "PRIMARY" in indexes:
        return tuple(places[name] for name in indexes["PRIMARY"])
    promoted = {row[2] for row in rows if row[11]}
    found = next((names for names in indexes.values() if promoted and set(names) == promoted), [])
    return tuple(places[name] for name in found)
