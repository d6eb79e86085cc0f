"""The rows of one copy, chunk by chunk, as records of their table's topic: a walk by key, a list of keys, or a table
without a key.

Nothing is sent while a table may be locked: sending can block. Only a table that is read by a snapshot goes out while
it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cdc import codec
from cdc.capture.capture import Capture
from cdc.capture.table_stream import TableStream
from cdc.codec import envelope
from cdc.errors import Halt, Refused
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.mysql import key_text
from cdc.mysql.key_range import KeyRange, check_walkable, key_columns
from cdc.mysql.table_reader import TableReader
from cdc.protocol.copy_progress import KEYS, WHERE, WHOLE
from cdc.protocol.signals import CopyJob, Key
from cdc.runtime import clock

KEYS_AT_ONCE = 200
INCREMENTAL = "incremental"
Announce = Callable[[Position | None], None]
"""Writes the barrier; with the exact position at which the table is read, where it is."""


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """What one window read."""

    after: tuple[str, ...]
    rows: int
    bytes: int
    """Of the records that wait to be sent."""
    last: bool
    reason: str = ""
    """Why the copy goes no further."""


class ChunkSource(Protocol):
    """One copy under way."""

    def read(self, announce: Announce) -> ReadChunk:
        """The next chunk; Refused, with nothing published, when there can be none."""

    def close(self) -> None: ...


def stamp_of(capture: Capture, stream: TableStream, server_id: int, mark: str) -> codec.Stamp:
    """What the records of rows that are read now share; `mark` is `source.snapshot`."""
    now_us = clock.now_us()
    followed, at = stream.followed, capture.position
    place = envelope.LogPlace(now_us, server_id, None, at.file if at else "", at.offset if at else 0)
    return envelope.stamp(stream.schemas, capture.connector, (followed.db, followed.table), place, now_us, mark)


@dataclass(slots=True)
class _Out:
    """Where row packets become records."""

    capture: Capture
    stream: TableStream
    server_id: int

    def stamp(self) -> codec.Stamp:
        return stamp_of(self.capture, self.stream, self.server_id, INCREMENTAL)

    def taking(self, sent: Callable[[int], None] | None = None) -> Callable[[bytearray, int, int], int]:
        """Takes packets of one chunk; `sent` is told how many bytes of them could go out."""
        stamp, stream = self.stamp(), self.stream

        def take(block: bytearray, start: int, end: int) -> int:
            used = codec.encode_select(stream.plan, block, start, end, stamp, stream.numbers, stream.out)
            if sent is not None:
                sent(used)
            return used

        return take

    def size(self) -> int:
        return sum([len(record.value or b"") for record in self.stream.out])


def rows_of(
    capture: Capture,
    stream: TableStream,
    job: CopyJob,
    after: tuple[str, ...],
    open_: Callable[[], TableReader],
    server_id: int,
) -> ChunkSource:
    """The rows that a job asks for, behind what is copied already. Refused where they cannot be had."""
    out, table = _Out(capture, stream, server_id), stream.table
    if not table.key:
        if job.kind != WHOLE:
            raise Refused(
                "no_key",
                table.qualified,
                "has no primary key: it can only be copied whole",
                "leave out condition and keys",
            )
        return _Keyless(out, open_())
    if job.kind == KEYS:
        if not key_text.can_be_said(table) or any(len(key) != len(table.key) for key in job.keys):
            raise Refused(
                "key_type", table.qualified, "its rows cannot be named by the texts of these keys", "copy it whole"
            )
        return _Keys(out, open_(), job.keys, int(after[0]) if after else 0)
    check_walkable(table)
    return _Walk(out, open_(), job.kind, after)


class _Walk:
    """Key range after key range."""

    def __init__(self, out: _Out, reader: TableReader, kind: str, after: tuple[str, ...]) -> None:
        self._out, self._reader, self._kind, self._fresh = out, reader, kind, kind == WHOLE and not after
        self._take = out.taking()
        self._pieces = reader.pieces(after or None, self._consume)
        self._after = after

    def read(self, announce: Announce) -> ReadChunk:
        """One piece of the table, its first one behind the barrier."""
        if self._fresh:
            announce(None)
            self._fresh = False
        self._take = self._out.taking()
        out = self._out.stream.out
        try:
            upto = next(self._pieces).range.upto
        except Halt as error:
            if self._kind != WHERE or error.code != "source_statement":
                raise
            if not out:
                raise Refused(
                    "condition", error.place, "the server does not accept the condition", "try it in a SELECT"
                ) from None
            return ReadChunk(self._after, len(out), self._out.size(), True, "condition")
        self._after = upto or ("end",)
        return ReadChunk(self._after, len(out), self._out.size(), upto is None)

    def _consume(self, block: bytearray, start: int, end: int) -> int:
        return self._take(block, start, end)  # another one for each chunk

    def close(self) -> None:
        self._reader.close()


class _Keyless:
    """A table without a key, whole, at an exact position."""

    def __init__(self, out: _Out, reader: TableReader) -> None:
        self._out, self._reader = out, reader

    def read(self, announce: Announce) -> ReadChunk:
        """Read all chosen keys at once; there is one chunk."""
        numbers = self._out.stream.numbers
        before = sum(numbers.seq)
        locks = self._reader.locks
        with self._reader.exact() as position:
            if not locks:
                announce(position)
            self._reader.read(KeyRange(), self._out.taking(None if locks else self._out.capture.copied))
        if locks:
            announce(
                position
            )  # to say it can take as long as the broker is away: writers of the table would wait for that
        return ReadChunk(("end",), sum(numbers.seq) - before, self._out.size(), True)

    def close(self) -> None:
        self._reader.close()


class _Keys:
    """Some keys at a time: their rows, and a delete for each that is gone."""

    def __init__(self, out: _Out, reader: TableReader, keys: Sequence[Key], done: int) -> None:
        self._out, self._reader, self._keys, self._done = out, reader, keys, done
        table = out.stream.table
        columns = [one if at in table.key else replace(one, nullable=True) for at, one in enumerate(table.columns)]
        self._bare = replace(table, columns=tuple(columns))
        self._plan = codec.RowPlan(self._bare)
        schemas = envelope.schemas(out.capture.prefix, self._bare, out.capture.connector.flavour)
        self._opened = codec.ValuePlan(schemas.value, schemas.key)

    def read(self, announce: Announce) -> ReadChunk:
        """Read the next chosen keys."""
        asked = self._keys[self._done : self._done + KEYS_AT_ONCE]
        out = self._out.stream.out
        packets = self._packets(asked)
        stamp, probe = self._out.stamp(), codec.Numbers(0, self._out.stream.followed.partitions)
        try:
            wanted = {
                record.key: packet for record, packet in zip(self._encoded(packets, stamp, probe), packets, strict=True)
            }
        except Halt:
            # a number or a date that its column cannot hold: what is asked for never stops anything
            raise self._no_key() from None
        if asked:
            self._reader.select(key_text.named(self._bare, asked), self._out.taking())
        for record in out:
            wanted.pop(record.key, None)
        out += self._deletes(list(wanted.values()), stamp)
        self._done += len(asked)
        return ReadChunk((str(self._done),), len(asked), self._out.size(), self._done >= len(self._keys))

    def close(self) -> None:
        self._reader.close()

    def _packets(self, keys: Sequence[Key]) -> list[bytes]:
        """The row packets by which a SELECT would show these keys."""
        columns = key_columns(self._bare)
        try:
            sql = [key_text.expression(c, x) for key in keys for c, x in zip(columns, key, strict=True)]
            back = [
                (key_text.given_back(c, x), x.encode())
                for key in keys
                for c, x in zip(columns, key, strict=True)
                if key_text.may_lose(c)
            ]
        except ValueError:
            raise self._no_key() from None
        if back and [text for _, text in back] != list(
            self._reader.execute(f"SELECT {', '.join(one for one, _ in back)}")[0]
        ):
            raise self._no_key()
        raw = self._reader.execute(f"SELECT {', '.join(sql)}")[0] if sql else ()
        width = len(columns)
        return [key_text.packet(self._bare, raw[at : at + width]) for at in range(0, len(raw), width)]

    def _no_key(self) -> Refused:
        return Refused(
            "key_text", self._bare.qualified, "a key is no text of its column's type", "copy the table whole"
        )

    def _encoded(self, packets: Sequence[bytes], stamp: codec.Stamp, numbers: codec.Numbers) -> list[Record]:
        made: list[Record] = []
        block = bytearray(b"".join(packets) + b"\x05\0\0\0\xfe\0\0\0\0")  # as behind the last row of a SELECT
        codec.encode_select(self._plan, block, 0, len(block), stamp, numbers, made)
        return made

    def _deletes(self, packets: Sequence[bytes], stamp: codec.Stamp) -> list[Record]:
        """A delete, whose row nobody knows any more, and its tombstone for each."""
        made: list[Record] = []
        for record in self._encoded(packets, stamp, self._out.stream.numbers):
            value = record.value or b""
            row_end = self._opened.open([value])[0][6]
            rest = value[row_end : len(value) - len(stamp.times) - 1]
            made.append(Record(record.partition, record.key, value[:6] + b"\0" + rest + b"d" + stamp.times, None))
            made.append(Record(record.partition, record.key, None, None))
        return made
