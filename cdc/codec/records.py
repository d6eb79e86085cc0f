"""What the codec puts around a row: the constant parts of a rows event and the numbers of a topic."""

from __future__ import annotations

from typing import NamedTuple

MAGIC = b"\0"  # Confluent framing: a zero byte, then the schema's id


class Stamp(NamedTuple):
    """The parts of a record's value that are the same for every row of one rows event, in their Avro form."""

    key_frame: bytes
    value_frame: bytes
    source_head: bytes
    """`source` up to `db`; the sequence follows."""
    source_tail: bytes
    """`source` from `ts_us` up to `pos`; the row's index follows."""
    transaction: bytes
    """The branch and the id of `transaction`, or empty when the row stands in none."""
    times: bytes
    """`ts_ms`, `ts_us` and `ts_ns` of the envelope."""


class Opened(NamedTuple):
    """What stands in one record's value: places are offsets into it, -1 where the image is null;
    times are microseconds."""

    epoch: int
    seq: int
    op: str
    before_at: int
    before_end: int
    after_at: int
    after_end: int
    transaction: tuple[int, int]
    ts_us: int


class Numbers:
    """The numbers of one topic: `seq` is the last one used per partition, gapless from 1.

    `total` and `order` count within the source transaction: `begin(total)` hands over what other topics have used of
    it, and `total` says afterwards how far it got. `order` starts again by itself when the transaction changes.
    """

    __slots__ = ("epoch", "order", "partitions", "seq", "total", "transaction")

    def __init__(self, epoch: int, partitions: int) -> None:
        self.epoch, self.partitions = epoch, partitions
        self.seq = [0] * partitions
        self.total = self.order = 0
        self.transaction = b""

    def begin(self, total: int) -> None:
        """The records that follow continue the transaction after its first `total` ones."""
        self.total = total


def avro_long(value: int) -> bytes:
    """A long (or int), zigzag and seven bits at a time."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def avro_bytes(value: bytes) -> bytes:
    """Length and content."""
    return avro_long(len(value)) + value


def avro_text(value: str) -> bytes:
    """Length and UTF-8 content."""
    return avro_bytes(value.encode())


def avro_optional_long(value: int | None) -> bytes:
    """A `["null", "long"]`."""
    return b"\0" if value is None else b"\2" + avro_long(value)


def avro_optional_text(value: str | None) -> bytes:
    """A `["null", "string"]`."""
    return b"\0" if value is None else b"\2" + avro_text(value)


def frame(schema_id: int) -> bytes:
    """The five bytes before every Avro value in a topic."""
    return MAGIC + schema_id.to_bytes(4, "big")
