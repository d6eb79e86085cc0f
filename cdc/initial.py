"""The initial copy through the topics: every row as `op = r`, inside one window of partial cuts.

P is the base's position; it was taken when it was visible, before the first read. Rows may be newer than P, so no cut is whole
until the log has been read up to Q, taken after the last read. A crash in between leaves no whole cut, and the next epoch's
base begins at the same P and copies again: what the torn attempt published is void by its epoch.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from cdc import codec, crash
from cdc.capture import Capture
from cdc.capture_stream import Stream
from cdc.catalog import Catalog
from cdc.chunks import TableReader
from cdc.config import SourceConfig
from cdc.control import Copy
from cdc.copying_rows import stamp_of
from cdc.keyrange import KeyRange
from cdc.position import Position
from cdc.topic import Idle

_POLL_SECONDS = 0.05


def copy_tables(capture: Capture, source: SourceConfig, catalog: Catalog, reached: Sequence[Position], breathe: Idle) -> Position:
    """Publish every row of every followed table; the position Q from which the copy is consistent.

    Waits until all of `reached`, what a sink may have applied of void cuts too, is visible: an older row would overwrite a newer one.
    """
    while not all(catalog.visible_position().covers(position) for position in reached):
        breathe()
        time.sleep(_POLL_SECONDS)
    catalog.check_unchanged(stream.table for stream in capture.streams())
    crash.point("capture.copying")
    for stream in capture.streams():
        reader = TableReader(source, catalog, stream.table)
        try:
            _copy(capture, stream, reader, catalog, breathe)
        finally:
            reader.close()
        crash.point("capture.table_copied")
    return catalog.written_position()


def _copy(capture: Capture, stream: Stream, reader: TableReader, catalog: Catalog, breathe: Idle) -> None:
    stamp = stamp_of(capture, stream, catalog.server_id, "true")

    def encode(block: bytearray, start: int, end: int) -> int:
        return codec.encode_select(stream.plan, block, start, end, stamp, stream.numbers, stream.out)

    def encode_and_send(block: bytearray, start: int, end: int) -> int:
        breathe()
        used = encode(block, start, end)
        capture.copied(used)
        return used

    if stream.table.key:
        for _ in reader.pieces(None, encode_and_send):
            breathe()
        return
    with reader.exact() as position:
        reader.read(KeyRange(), encode)  # nothing is sent while the table may be locked: sending can block
    capture.announce(Copy(capture.epoch, capture.next_cut, stream.table.db, stream.table.name, position, uuid.uuid4().hex))
    capture.copied(0)
