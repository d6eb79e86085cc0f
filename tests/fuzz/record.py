"""Records the corpus anew from real servers: `python -m tests.fuzz.record`. Fuzzing itself needs no server.

One line per table: its definition, its row images as the log holds them, and the payloads of its row packets.
"""

from __future__ import annotations

import json
import lzma
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any

from cdc.model.table import Column, Table
from tests import run
from tests.codec.test_types import ID, selection, stored
from tests.fuzz.corpus import PLACE
from tests.helpers import raw_log
from tests.helpers.codec_cases import CASES
from tests.helpers.servers import SourceDatabase, lent

SERVERS = ("mariadb", "mysql")
LONGEST = 70_000
PLAIN = {field.name: field.default for field in fields(Column)}
DOCUMENTS = 120
WIDEST, LONGEST_WIDE = 150, 100
"""Columns of the wide table, and the length of those that it takes: a row has 65535 bytes."""
TEMPORAL = ("datetime", "timestamp", "time")


def documents() -> list[str]:
    """JSON of every shape, some of it long enough for MySQL's large form."""
    draw = random.Random(11)

    def one(depth: int) -> Any:
        if depth and draw.random() < 0.7:
            return [one(depth - 1) for _ in range(draw.randint(0, 9))]
        if depth and draw.random() < 0.7:
            return {f"k{i}{'x' * draw.randint(0, 20)}": one(depth - 1) for i in range(draw.randint(0, 9))}
        number = draw.choice(
            (draw.randint(-(2**63), 2**64 - 1), draw.randint(-40000, 70000), draw.random() * 10.0 ** draw.randint(-30, 30))
        )
        return draw.choice((None, True, number, 'é\n\x01"' * draw.randint(0, 60)))

    return [json.dumps(one(draw.randint(0, 5))) for _ in range(DOCUMENTS)]


def recorded(source: SourceDatabase, tables: dict[str, Table], start: tuple[str, int]) -> Iterator[dict[str, Any]]:
    """The lines of tables that were filled since `start`; their rows are deleted one by one, for images of single rows."""
    selected = {name: payloads(selection(source, table)) for name, table in tables.items()}
    for name in tables:
        source.execute(f"UPDATE {name} SET id=id+1000")
        for (number,) in source.execute(f"SELECT id FROM {name} ORDER BY id"):
            source.execute(f"DELETE FROM {name} WHERE id={number}")
    images: dict[str, list[tuple[str, str]]] = {name: [] for name in tables}
    for rows in raw_log.rows_of(source, start):
        if rows.end - rows.start <= LONGEST and rows.table in images:
            images[rows.table].append((rows.kind, rows.body[rows.start : rows.end].hex()))
    for name, table in tables.items():
        columns = [{key: found for key, found in asdict(column).items() if found != PLAIN[key]} for column in table.columns]
        short = [payload.hex() for payload in selected[name] if len(payload) <= LONGEST]
        yield {
            "server": f"{source.flavour} {source.execute('SELECT version()')[0][0]}",
            "columns": columns,
            "log": images[name],
            "select": short,
        }


def payloads(block: bytes) -> list[bytes]:
    """The row packets' contents."""
    found, at = [], 0
    while block[at + 4] != 0xFE or len(block) - at > 13:
        size = int.from_bytes(block[at : at + 3], "little")
        found.append(block[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def wide(source: SourceDatabase) -> Table:
    """The columns of many cases in one table, several rows of it."""
    cases = [
        case for case in CASES if source.flavour in case.flavours and case.column.type not in ("vector", "geometry") and not case.setting
    ]
    cases = [case for case in cases if case.column.length <= LONGEST_WIDE][:WIDEST]
    columns = tuple(_named(case.column, f"c{i}") for i, case in enumerate(cases))
    source.execute(
        f"CREATE TABLE wide(id bigint NOT NULL PRIMARY KEY,{','.join(f'c{i} {case.ddl}' for i, case in enumerate(cases))}) ENGINE=MyISAM"
    )
    for row in range(4):
        values = [case.values[row % len(case.values)] if (i + row) % 5 else "NULL" for i, case in enumerate(cases)]
        source.execute(f"INSERT IGNORE INTO wide VALUES({row + 1},{','.join(values)})")
    return Table(source.name, "wide", (ID, *columns), (0,))


def old(source: SourceDatabase) -> Iterator[dict[str, Any]]:
    """Temporals as they lay before MySQL 5.6, which MariaDB still makes when told so."""
    source.execute("SET GLOBAL mysql56_temporal_format=OFF", "FLUSH BINARY LOGS")
    start = raw_log.position(source)
    cases = [replace(case, column=replace(case.column, storage="old")) for case in CASES if case.column.type in TEMPORAL]
    yield from recorded(source, {name: table for name, (_, table) in stored(source, cases).items()}, start)
    source.execute("SET GLOBAL mysql56_temporal_format=ON")


def _named(column: Column, name: str) -> Column:
    return replace(column, name=name)


def lines(source: SourceDatabase) -> Iterator[dict[str, Any]]:
    """All lines of one server."""
    source.execute("FLUSH BINARY LOGS")
    start = raw_log.position(source)
    tables = {name: table for name, (_, table) in stored(source).items()}
    tables["wide"] = wide(source)
    if source.flavour == "mysql":
        source.execute("CREATE TABLE documents(id bigint NOT NULL PRIMARY KEY, v json)")
        with source.connect() as line, line.cursor() as cursor:
            cursor.executemany("INSERT INTO documents VALUES (%s, %s)", list(enumerate(documents(), 1)))
        tables["documents"] = Table(source.name, "documents", (ID, Column("v", "json")), (0,))
    yield from recorded(source, tables, start)


@contextmanager
def servers() -> Iterator[None]:
    """The same servers as a test run's."""
    run.open_run()
    try:
        yield
    finally:
        run.close_run()


def record() -> None:
    found: list[dict[str, Any]] = []
    with servers():
        for kind in SERVERS:
            with lent(SourceDatabase(run.shared(kind))) as source:  # type: ignore[arg-type]
                found += lines(source)
            if kind == "mariadb":
                with lent(SourceDatabase(run.shared(kind))) as source:  # type: ignore[arg-type]
                    found += old(source)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in found)
    PLACE.write_bytes(lzma.compress(text.encode(), preset=6))
    print(f"{PLACE.name}: {len(found)} tables, {PLACE.stat().st_size} bytes")


if __name__ == "__main__":
    os.environ.setdefault("CDC_REQUIRE_SERVERS", "1")
    record()
