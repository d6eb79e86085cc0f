"""Table maps and rows events: which followed table a rows event is about, and which columns its images have. Rows are
not decoded.

A table map lives for one statement: what follows the statement's last rows event has to bring its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from cdc.binlog import event_bodies as decode, partial_images, partial_json
from cdc.binlog.events import Kind, RowsEvent, TableMap
from cdc.binlog.header import LogCursor
from cdc.binlog.table_map import Collations, Disguised, column_count, names_of, table_of
from cdc.errors import Halt
from cdc.model.position import Flavour

_STATEMENT_END, _UNCHECKED = 0x01, 0x02
_DUMMY_TABLE = 0xFFFFFF
_SHAPES_KEPT = 10_000

RowsEncoding = Literal["plain", "compressed", "partial"]
"""What stands where the images are: they themselves, zlib's of MariaDB,
or MySQL's with differences of JSON documents."""

Wanted = tuple[TableMap, tuple[bytes, ...], tuple[bytes, ...]]
"""A followed table, and how the part of a rows event before the first image begins: for one image, and for two."""


class TableMaps:
    """The maps of the statement that is being read, and the shapes of all that were seen."""

    def __init__(
        self, wants: Callable[[str, str], bool], flavour: Flavour, collations: Collations, disguised: Disguised
    ) -> None:
        self._wants, self._flavour = wants, flavour
        self._parse = partial(table_of, flavour=flavour, collations=collations, disguised=disguised)
        self._shapes: dict[bytes, Wanted | None] = {}
        self._maps: dict[int, Wanted | None] = {}

    def clear(self) -> None:
        """No map is known: a statement, a transaction or a file ends."""
        self._maps.clear()

    def learn(self, event: bytes, end: int) -> None:
        """Take a table map."""
        shape = event[25:end]
        known = self._shapes.get(shape, ...)
        if known is ...:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            known = self._shapes[shape] = self._followed(shape, int.from_bytes(event[19:25], "little"))
        self._maps[int.from_bytes(event[19:25], "little")] = known

    def _followed(self, shape: bytes, table_id: int) -> Wanted | None:
        db, name = names_of(shape, 2)
        if not self._wants(db, name):
            return None
        count = column_count(shape, 2)
        head, images = _lenenc(count), _full(count)
        table = TableMap(table_id, db, name, shape, shape[2:], self._parse)
        return table, tuple(head + one for one in images), tuple(head + one + two for one in images for two in images)

    def rows(
        self, event: bytes, end: int, at: LogCursor, ts_us: int, kind: Kind, version: int, form: RowsEncoding
    ) -> RowsEvent | None:
        """A rows event of a followed table; None for any other. Stops where an image lacks columns that matter."""
        wanted = self._of(event, at)
        if wanted is None:
            return None
        start = 27 if version == 1 else 27 + int.from_bytes(event[27:29], "little")
        heads = wanted[2] if kind == "u" else wanted[1]
        server_id, unchecked = int.from_bytes(event[5:9], "little"), bool(event[25] & _UNCHECKED)
        if not event.startswith(heads, start):
            found = self._partial(wanted[0], event[:end], start, at, kind, form)
            body, columns = found.body, found.columns
            if len(columns) == column_count(wanted[0].raw, 0):
                columns = ()
            where = (server_id, at.file, at.start, ts_us, unchecked)
            return RowsEvent(wanted[0], found.kind, body, 0, len(body), *where, columns)
        start += len(heads[0])
        if form == "compressed":
            event, start = decode.inflated(event[:end], start), 0
            end = len(event)
        elif form == "partial":
            event, start = partial_json.whole(event, start, end, wanted[0].raw), 0
            end = len(event)
        return RowsEvent(wanted[0], kind, event, start, end, server_id, at.file, at.start, ts_us, unchecked)

    def _partial(
        self, table: TableMap, event: bytes, start: int, at: LogCursor, kind: Kind, form: RowsEncoding
    ) -> partial_images.Reduced:
        """What images say that are not full."""
        place = f"{table.db}.{table.name} at {at!s}"
        maps, start = partial_images.bitmaps(event, start, kind)
        if form == "partial":
            raise partial_images.stop(place, "an update leaves out columns, and holds parts of JSON documents")
        images = decode.inflated(event, start) if form == "compressed" else event[start:]
        return partial_images.reduced(maps, table, images, kind, self._flavour, place)

    def _of(self, event: bytes, at: LogCursor) -> Wanted | None:
        table_id = int.from_bytes(event[19:25], "little")
        wanted = self._maps.get(table_id, ...)
        if event[25] & _STATEMENT_END:
            self._maps.clear()
        if wanted is ...:
            if table_id == _DUMMY_TABLE:
                return None
            raise Halt(
                "table_map_missing",
                str(at),
                "rows without a table map of their statement",
                "report this: the log is not understood",
            )
        return wanted


def _lenenc(count: int) -> bytes:
    return bytes([count]) if count < 251 else b"\xfc" + count.to_bytes(2, "little")


def _full(count: int) -> tuple[bytes, ...]:
    """Bitmaps of `count` set bits: servers fill the rest of the last byte with ones or with zeros."""
    size, rest = (count + 7) // 8, count % 8
    ones = b"\xff" * size
    return (ones, ones[:-1] + bytes([(1 << rest) - 1])) if rest else (ones,)
