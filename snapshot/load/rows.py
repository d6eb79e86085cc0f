"""Rows of one table on their way through one worker: packets of a SELECT in, tuples of a COPY or whole records out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import cdc
from cdc import codec
from cdc.codec import envelope
from cdc.model import types
from cdc.model.policies import Policies
from cdc.model.record import Record
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.runtime import clock
from sinks.postgres.load import ChunkWriter

Schemas = tuple[types.Schema | None, types.Schema]
"""Of a table's records: key and value."""


class RowBuffer:
    """Takes row packets and keeps what they become until it is handed over; for one thread."""

    def __init__(self, table: Table, schemas: Schemas, policies: Policies | None) -> None:
        key, value = schemas
        self.table, self.schemas = table, schemas
        self.plan, self.values = codec.RowPlan(table), codec.ValuePlan(value, key, policies)
        self.read = 0
        """Rows of the chunk at hand."""
        self._told = 0
        self._out = bytearray()

    def begin(self) -> None:
        """A chunk begins."""
        self.read = self._told = 0

    def fresh(self) -> int:
        """Rows that were read since this was asked last."""
        fresh, self._told = self.read - self._told, self.read
        return fresh

    def transcode(self, block: bytearray, start: int, end: int) -> int:
        """Take row packets; how many bytes of them were used up."""
        used, rows = codec.select_to_copy(self.plan, self.values, block, start, end, self._out)
        self.read += rows
        return int(used)

    def changed(self) -> dict[tuple[str, str], int]:
        """What policies changed in the rows that were read since this was asked last, by (column, reason)."""
        found = Counter(self.plan.anomalies)
        self.plan.anomalies.clear()
        return dict(found + Counter(self.values.taken()))

    def abandon(self) -> None:
        """Forget what was read and will not be written."""
        self._out.clear()
        self.changed()
        self.begin()

    def hand_over(self, writer: ChunkWriter) -> int:
        """Write what was read: the source's table is not locked any more, so the target may take its time."""
        size = len(self._out)
        if size:
            writer.write(bytes(self._out))
            self._out.clear()
        return size

    def records(self, catalog: Catalog) -> Recorded:
        """An empty list of the table's rows as records, as a copy through the topics would publish them."""
        now_us = clock.now_us()
        connector = envelope.Connector(cdc.__version__, catalog.flavour, "")
        name, place = (self.table.db, self.table.name), envelope.LogPlace(now_us, catalog.server_id)
        stamp = envelope.stamp((0, 0), connector, name, place, now_us, "true")
        return Recorded(self, stamp, codec.Numbers(0, 1))


@dataclass(slots=True)
class Recorded:
    """Rows of a chunk that is written with care: whole records, so that those that are refused can wait."""

    rows: RowBuffer
    stamp: codec.Stamp
    numbers: codec.Numbers
    found: list[Record] = field(default_factory=list)
    changed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """What policies changed, by (column, reason): capture's when the rows are asked for it,
    all of it once they are written."""

    def seen(self) -> dict[tuple[str, str], int]:
        """What policies of capture changed in these rows."""
        return self.rows.changed()

    def take(self, block: bytearray, start: int, end: int) -> int:
        """Take row packets; how many bytes of them were used up."""
        return codec.encode_select(self.rows.plan, block, start, end, self.stamp, self.numbers, self.found)

    @property
    def schemas(self) -> Schemas:
        return self.rows.schemas

    @property
    def keys(self) -> list[bytes | None]:
        return [record.key for record in self.found]

    @property
    def values(self) -> list[bytes]:
        return [record.value or b"" for record in self.found]

    @property
    def opened(self) -> list[codec.Opened]:
        return self.rows.values.open(self.values)
