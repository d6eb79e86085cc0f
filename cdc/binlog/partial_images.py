"""Row images that are not full (binlog_row_image MINIMAL or NOBLOB, which any session may set): what they say exactly.

A delete needs the key alone. An update whose image after is full needs no image before. MySQL leaves out of the image
after what has not changed, so that the columns that are there say all; MariaDB leaves out of it also what a REPLACE
has set to its default, and nothing tells the two apart. An insert leaves out what got its default, which the log does
not say (docs/decisions/053-partial-row-images.md). Values are not decoded: only their lengths are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cdc.binlog.event_bodies import lenenc
from cdc.binlog.events import Kind, TableMap
from cdc.binlog.partial_json import length_bytes, size_of
from cdc.binlog.table_map import MappedColumn, fields_of
from cdc.errors import Halt, Malformed
from cdc.model.position import Flavour

_Values = Mapping[int, bytes | None]


class Reduced(NamedTuple):
    """Images of the columns that are known, in the form of full ones of a table that has no others."""

    kind: Kind
    body: bytes
    columns: tuple[int, ...]
    """The table's columns in them."""


class Bitmaps(NamedTuple):
    """The columns that the images of an event have."""

    columns: int
    before: tuple[int, ...]
    """Of the only image where the event is no update."""
    after: tuple[int, ...]


def bitmaps(event: bytes, at: int, kind: Kind) -> tuple[Bitmaps, int]:
    """What stands before the images, and where they begin."""
    count, at = lenenc(event, at)
    size = (count + 7) // 8
    found = [_set(event[at + nth * size : at + (nth + 1) * size], count) for nth in range(2 if kind == "u" else 1)]
    return Bitmaps(count, found[0], found[-1]), at + size * len(found)


def _set(bits: bytes, count: int) -> tuple[int, ...]:
    return tuple(nth for nth in range(count) if nth >> 3 < len(bits) and bits[nth >> 3] >> (nth & 7) & 1)


def reduced(maps: Bitmaps, table: TableMap, images: bytes, kind: Kind, flavour: Flavour, place: str) -> Reduced:
    """What the images say exactly; Halt `row_image` where that is not all that changed."""
    every, key = tuple(range(maps.columns)), table.table().key
    if len(table.table().columns) != maps.columns:
        raise stop(place, "a row image lacks columns of a table that has hidden ones")
    if kind == "c":
        raise stop(place, "an insert leaves out columns, and the log does not say what their defaults are")
    if not set(key) <= set(maps.before) or (not key and maps.before != every):
        raise stop(place, "the row image before a change lacks columns by which the row would be found")
    if kind == "d":
        return Reduced("d", images, maps.before)
    if flavour == "mariadb" and maps.after != every:
        raise stop(place, "an update leaves out columns; MariaDB logs a REPLACE that sets them to defaults alike")
    return _updates(maps, _Walk(images, fields_of(table.raw), place), key, maps.before == every)


def _updates(maps: Bitmaps, walk: _Walk, key: Sequence[int], known: bool) -> Reduced:
    """Updates, each by what its two images say of the row after it; `known`: the row before is."""
    columns = tuple(sorted({*maps.before, *maps.after}))
    rows = []
    while walk.more():
        before = walk.image(maps.before)
        whole = before | walk.image(maps.after)
        if known:
            rows.append(_image(before, columns))
        elif any(before[at] != whole[at] for at in key):
            raise stop(walk.place, "a row's key is changed, and its image before lacks columns")
        rows.append(_image(whole, columns))
    return Reduced("u" if known else "p", b"".join(rows), columns)


class _Walk:
    """Takes images apart by the columns that they have."""

    def __init__(self, data: bytes, fields: Sequence[MappedColumn], place: str) -> None:
        self._data, self._at, self._fields, self.place = data, 0, fields, place

    def more(self) -> bool:
        return self._at < len(self._data)

    def image(self, columns: Sequence[int]) -> dict[int, bytes | None]:
        """The next image's values with their lengths; None for a null."""
        nulls = self._take((len(columns) + 7) // 8)
        return {
            column: None if nulls[nth >> 3] >> (nth & 7) & 1 else self._value(self._fields[column])
            for nth, column in enumerate(columns)
        }

    def _value(self, field: MappedColumn) -> bytes:
        fixed = size_of(field)
        if fixed is not None:
            return self._take(fixed)
        prefix = self._take(length_bytes(field))
        return prefix + self._take(int.from_bytes(prefix, "little"))

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise Malformed("row_image", self.place, "a row image ends too early")
        return self._data[start : self._at]


def _image(values: _Values, columns: Sequence[int]) -> bytes:
    nulls = sum((values[column] is None) << nth for nth, column in enumerate(columns))
    return nulls.to_bytes((len(columns) + 7) // 8, "little") + b"".join(values[column] or b"" for column in columns)


def stop(place: str, rule: str) -> Halt:
    """The stop at an image that lacks columns."""
    return Halt(
        "row_image",
        place,
        f"{rule}: a session's binlog_row_image is not FULL",
        "SET GLOBAL binlog_row_image = FULL, reconnect the writers, and copy the table again",
    )
