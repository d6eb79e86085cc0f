"""The last word on rows that SQL calls different: the source's row is read, passed through the codec, and looked for in
the target.

Some policies make of a value what no SQL of the source can say (bytes that are no text; numbers as jsonb writes them).
A row that differs by checksums there is what the codec makes of it, byte by byte, or it is a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cdc import codec
from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.digest import Key
from cdc.model.policies import Policies
from cdc.model.policy_sql import needs_codec
from cdc.model.table import Table
from sinks.postgres.checksums import PostgresSide
from snapshot.reconcile.checksums import SourceSide

_FULL = 0xFFFFFF
Row = Sequence[bytes | None]
Judge = Callable[[Iterable[Key]], frozenset[Key]]
"""Those of the keys whose row in the target is what the codec makes of the source's."""


def judge_for(table: Table, flavour: str, policies: Policies, source: SourceSide, target: PostgresSide) -> Judge | None:
    """The judge of a table; None where SQL can say everything."""
    if not any(needs_codec(column) for column in table.columns):
        return None
    rows = codec.RowPlan(table)
    schemas = envelope.schemas("", table, flavour)
    values = codec.ValuePlan(schemas.value, schemas.key, policies)
    expressions = codec.select_list(table, flavour)

    def judge(keys: Iterable[Key]) -> frozenset[Key]:
        found = source.raw_rows(keys, expressions)
        return frozenset(
            key for key, row in found.items() if (tuples := _coded(rows, values, row)) and target.holds(tuples)
        )

    return judge


def _coded(rows: codec.RowPlan, values: codec.ValuePlan, row: Row) -> bytes:
    """The COPY tuple of a row; empty where there can be none."""
    out, block = bytearray(), packets(row)
    try:
        codec.select_to_copy(rows, values, block, 0, len(block), out)
    except Halt:
        return b""
    return bytes(out)


def packets(row: Row) -> bytes:
    """A row as the server sends it: fields with their lengths, in packets of less than 16 MiB."""
    body = b"".join(b"\xfb" if value is None else _length(len(value)) + value for value in row)
    pieces = [body[at : at + _FULL] for at in range(0, len(body) + 1, _FULL)]
    return b"".join(len(piece).to_bytes(3, "little") + b"\0" + piece for piece in pieces)


def _length(n: int) -> bytes:
    if n < 0xFB:
        return bytes([n])
    width, mark = (2, b"\xfc") if n < 1 << 16 else (3, b"\xfd") if n < 1 << 24 else (8, b"\xfe")
    return mark + n.to_bytes(width, "little")
