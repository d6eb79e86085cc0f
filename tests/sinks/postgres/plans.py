"""A plan made by hand: its records carry COPY tuples, so the target can be tested without any codec."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from cdc.codec.records import Opened
from cdc.model.policies import Policy

FRAME = b"\0\0\0\0\7"
Values = tuple[Any, ...]

_PACK: dict[str, Callable[[Any], bytes]] = {
    "bigint": struct.Struct(">q").pack,
    "integer": struct.Struct(">i").pack,
    "smallint": struct.Struct(">h").pack,
    "double precision": struct.Struct(">d").pack,
    "real": struct.Struct(">f").pack,
    "date": struct.Struct(">i").pack,
    "timestamp(6)": struct.Struct(">q").pack,
    "json": str.encode,
    "text": str.encode,
    "bytea": bytes,
}


POLICED = frozenset(one.name for one in fields(Policy))


@dataclass(frozen=True)
class Column:
    name: str
    postgres_type: str
    key: bool = False
    nullable: bool = True

    @property
    def collation(self) -> str:
        return "C" if self.key and self.postgres_type.startswith(("varchar", "text")) else ""

    def pack(self, value: Any) -> bytes:
        if value is None:
            return b"\xff\xff\xff\xff"
        data = _numeric(value) if self.postgres_type.startswith("numeric") else _PACK.get(self.postgres_type, str.encode)(value)
        return struct.pack(">i", len(data)) + data


def _numeric(hundredths: int) -> bytes:
    """A numeric(10,2) below 100.00, written with scale 1 where that is enough: a scale of its own, unlike the column's."""
    whole, part = divmod(abs(hundredths), 100)
    return struct.pack(">hhHhhh", 2, 0, 0x4000 if hundredths < 0 else 0, 1 if part % 10 == 0 else 2, whole, part * 100)


@dataclass(eq=False)
class HandPlan:
    """Implements `sinks.contract.Plan`; a record's row is a length and a COPY tuple."""

    table: str
    columns: Sequence[Column]
    db: str = "app"
    copies: list[int] = field(default_factory=list)
    chosen: dict[str, dict[str, str]] = field(default_factory=dict)
    partial: bool = False

    @property
    def key(self) -> list[int]:
        return [at for at, column in enumerate(self.columns) if column.key]

    @property
    def policed(self) -> dict[str, frozenset[str]]:
        """Every policy can matter to every column."""
        return {column.name: POLICED for column in self.columns}

    def widen(self, found: Mapping[str, str]) -> None:
        """Its bytes are those of its own types."""

    def packed(self, values: Values) -> bytes:
        return struct.pack(">h", len(values)) + b"".join(column.pack(value) for column, value in zip(self.columns, values, strict=True))

    def row(self, values: Values) -> tuple[bytes, int]:
        data = self.packed(values)
        return FRAME + struct.pack(">i", len(data)) + data, 5

    def framed(self, values: Values) -> bytes:
        """The record key of a row."""
        return FRAME + self.key_tuple(values)

    def key_tuple(self, values: Values) -> bytes:
        return struct.pack(">h", len(self.key)) + b"".join(self.columns[at].pack(values[at]) for at in self.key)

    def copy_rows(self, rows: Sequence[tuple[bytes, int]], out: bytearray) -> dict[tuple[str, str], int]:
        self.copies.append(len(rows))
        for value, at in rows:
            (size,) = struct.unpack_from(">i", value, at)
            out += value[at + 4 : at + 4 + size]
        return {}

    def copy_keys(self, keys: Sequence[bytes], out: bytearray) -> None:
        for key in keys:
            out += key[5:]

    def change(self, op: str, before: Values | None, after: Values | None) -> tuple[bytes | None, bytes, Any]:
        """A record as the fold takes it: key, value, and what a codec would say of it."""
        value, spans = FRAME, []
        for row in (before, after):
            data = b"" if row is None else self.row(row)[0][5:]
            spans += [-1, -1] if row is None else [len(value), len(value) + len(data)]
            value += data
        told = after if after is not None else before
        return (self.framed(told or ()) if self.key else None), value, Opened(1, 1, op, spans[0], spans[1], spans[2], spans[3], (0, 0), 0)


KEYED = HandPlan("Keyed Table", (Column("Id", "bigint", True), Column("Note", "varchar(40)"), Column("Doc", "json"),
                                 Column("Fee", "double precision")))  # fmt: skip
COMPOSITE = HandPlan("composite", (Column("b", "integer"), Column("Code", "varchar(10)", True), Column('q"n', "bigint", True)))
ONLY_KEY = HandPlan("only_key", (Column("Id", "bigint", True),))
KEYLESS = HandPlan("keyless", (Column("a", "integer"), Column("b", "varchar(10)"), Column("j", "json"), Column("f", "double precision"),
                               Column("n", "numeric(10,2)")))  # fmt: skip


def random_row(plan: HandPlan, chance: random.Random, key: int) -> Values:
    """A row whose key is drawn from `key` numbers and whose other columns from few values, so that rows collide."""
    return tuple(_value(column, chance, key) for column in plan.columns)


def _value(column: Column, chance: random.Random, key: int) -> Any:
    if column.key:
        number = chance.randrange(key)
        return f"k{number % 7}" if column.postgres_type.startswith("varchar") else number // (7 if column.name == 'q"n' else 1)
    if chance.random() < 0.2:
        return None
    few: dict[str, list[Any]] = {"json": ['{"a": 1}', '{"a":1}'], "double precision": [0.0, -0.0, 1.5], "integer": [1, 2, 3],
                                 "numeric(10,2)": [150, 155, 0]}  # fmt: skip
    return chance.choice(few.get(column.postgres_type, ["", "x", "ä€\N{GRINNING FACE}"]))
