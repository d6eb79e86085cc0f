"""The initial copy through the topics: every row as `op = r`, inside one window of partial cuts.

P is the base's position; it was taken when it was visible, before the first read. Rows may be newer than P, so no cut
is whole until the log has been read up to Q, taken after the last read. A crash in between leaves no whole cut, and the
next epoch's base begins at the same P and copies again: what the torn attempt published is void by its epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc import codec
from cdc.capture.capture import Capture
from cdc.capture.incremental_rows import stamp_of
from cdc.capture.table_stream import TableStream
from cdc.config.load import SourceConfig
from cdc.model.position import Position
from cdc.mysql.catalog import Catalog
from cdc.mysql.key_range import KeyRange
from cdc.mysql.table_reader import TableReader
from cdc.protocol.control import Copy
from cdc.runtime import clock, crash_points as crash, timing
from cdc.transport.contract import Idle


def copy_tables(
    capture: Capture, source: SourceConfig, catalog: Catalog, reached: Sequence[Position], check_stop: Idle
) -> Position:
    """Publish every row of every table that was followed when this copy began; the position Q from which the copy is
    consistent.

    Waits until all of `reached`, what a sink may have applied of void cuts too, is visible: an older row would
    overwrite a newer one.
    """
    while not all(catalog.log.visible_position().covers(position) for position in reached):
        check_stop()
        clock.sleep(timing.TIMES.window_poll_seconds)
    catalog.check_unchanged(stream.table for stream in capture.streams())
    crash.point("capture.copying")
    for stream in capture.streams():
        if (stream.table.db, stream.table.name) in capture.followings.uncopied:
            continue  # it came since this copy began: the log says so above P, and it is copied afterwards
        reader = TableReader(source, catalog, stream.table)
        try:
            _copy(capture, stream, reader, catalog, check_stop)
        finally:
            reader.close()
        crash.point("capture.table_copied")
    return catalog.log.written_position()


def _copy(capture: Capture, stream: TableStream, reader: TableReader, catalog: Catalog, check_stop: Idle) -> None:
    stamp = stamp_of(capture, stream, catalog.server_id, "true")

    def encode(block: bytearray, start: int, end: int) -> int:
        return codec.encode_select(stream.plan, block, start, end, stamp, stream.numbers, stream.out)

    def encode_and_send(block: bytearray, start: int, end: int) -> int:
        check_stop()
        used = encode(block, start, end)
        capture.copied(used)
        return used

    if stream.table.key:
        for _ in reader.pieces(None, encode_and_send):
            check_stop()
        return
    with reader.exact() as position:
        reader.read(KeyRange(), encode)  # nothing is sent while the table may be locked: sending can block
    capture.announce(
        Copy(capture.epoch, capture.next_cut, stream.table.db, stream.table.name, position, clock.fresh_id())
    )
    capture.copied(0)
