"""The values of MariaDB's COMPRESSED columns, as the row image holds them.

A first byte (the method in its upper half, then a flag for a stream without zlib's frame, then the width of a length),
the length of the value, big-endian, and the stream; the method 0 keeps a value as it is, and an empty value has no
first byte either. https://mariadb.com/kb/en/storage-engine-independent-column-compression/
"""

from __future__ import annotations

import zlib

ZLIB, BARE = 8, 8


def plain_of(data: bytes) -> bytes | None:
    """The value; None where the bytes do not hold what their head claims. Takes no more memory than that."""
    if not data:
        return b""
    method, bare, width = data[0] >> 4, data[0] & BARE, data[0] & 7
    if method == 0:
        return data[1:]
    if method != ZLIB or not 1 <= width <= 4 or len(data) <= width:
        return None
    size = int.from_bytes(data[1 : 1 + width], "big")
    stream = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data[1 + width :], size + 1)
    except zlib.error:
        return None
    return plain if len(plain) == size and stream.eof and not stream.unused_data else None
