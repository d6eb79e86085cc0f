# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A growable output buffer and the small conversions every kernel uses."""

from __future__ import annotations

import cython

if not cython.compiled:
    from struct import pack


@cython.final
@cython.cclass
class Buffer:
    """Bytes that grow at the end; memory is kept from one use to the next."""

    def __init__(self, size: cython.Py_ssize_t = 4096):
        if cython.compiled:
            self.data = cython.cast(cython.p_uchar, malloc(size))
            if not self.data:
                raise MemoryError
        else:
            self.data = bytearray(size)
        self.size = size
        self.n = 0

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.exceptval(-1)
    def need(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for `more` bytes."""
        wanted: cython.Py_ssize_t = self.n + more
        if wanted <= self.size:
            return 0
        size: cython.Py_ssize_t = max(self.size * 2, wanted + 64)
        if cython.compiled:
            data: cython.p_uchar = cython.cast(cython.p_uchar, realloc(self.data, size))
            if not data:
                raise MemoryError
            self.data = data
        else:
            self.data += bytes(size - self.size)
        self.size = size
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def reset(self) -> cython.int:
        """Start at the front again; a buffer that one huge row blew up is let go."""
        self.n = 0
        if self.size > 64 << 20:
            if cython.compiled:
                free(self.data)
                self.size = 0
                self.data = cython.cast(cython.p_uchar, malloc(4096))
                if not self.data:
                    raise MemoryError
            else:
                self.data = bytearray(4096)
            self.size = 4096
        return 0


@cython.cfunc
@cython.exceptval(-1)
def put_byte(b: Buffer, value: cython.int) -> cython.int:
    if b.n + 1 > b.size:
        b.need(1)
    b.data[b.n] = value
    b.n += 1
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_long(b: Buffer, value: cython.longlong) -> cython.int:
    """An Avro long."""
    if b.n + 10 > b.size:
        b.need(10)
    n: cython.Py_ssize_t = b.n
    rest: cython.ulonglong
    if cython.compiled:
        rest = (cython.cast(cython.ulonglong, value) << 1) ^ cython.cast(cython.ulonglong, value >> 63)
    else:
        rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        b.data[n] = (rest & 0x7F) | 0x80
        n += 1
        rest >>= 7
    b.data[n] = rest
    b.n = n + 1
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_raw(b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.int:
    """`n` bytes from `at`; the caller has checked that they are there."""
    if b.n + n > b.size:
        b.need(n)
    if cython.compiled:
        memcpy(b.data + b.n, p + at, n)
    else:
        b.data[b.n : b.n + n] = p[at : at + n]
    b.n += n
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_object(b: Buffer, value: bytes) -> cython.int:
    n: cython.Py_ssize_t = len(value)
    p: cython.p_const_uchar = value
    return put_raw(b, p, 0, n)


@cython.cfunc
@cython.exceptval(-1)
def put_buffer(b: Buffer, other: Buffer, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.int:
    """A piece of another buffer (never of the same one: it may move)."""
    return put_raw(b, other.data, at, n)


@cython.cfunc
@cython.exceptval(-1)
def put_string(b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.int:
    """Avro bytes: length and content."""
    put_long(b, n)
    return put_raw(b, p, at, n)


@cython.cfunc
@cython.exceptval(-1)
def put_double(b: Buffer, value: cython.double) -> cython.int:
    """The eight bytes of a double, little-endian (which every machine we compile for is)."""
    b.need(8)
    if cython.compiled:
        memcpy(b.data + b.n, cython.address(value), 8)
    else:
        b.data[b.n : b.n + 8] = pack("<d", value)
    b.n += 8
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_float(b: Buffer, value: cython.double) -> cython.int:
    """The four bytes of a double that came from a float."""
    b.need(4)
    if cython.compiled:
        narrow: cython.float = cython.cast(cython.float, value)
        memcpy(b.data + b.n, cython.address(narrow), 4)
    else:
        b.data[b.n : b.n + 4] = pack("<f", value)
    b.n += 4
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_unscaled(b: Buffer, magnitude: cython.ulonglong, negative: cython.bint) -> cython.int:
    """An Avro decimal: the shortest big-endian two's complement, as Java's BigInteger writes it."""
    n: cython.int = 1
    top: cython.ulonglong = magnitude
    if negative and magnitude != 0:
        top = magnitude - 1
    while n < 9 and (top >> 7) != 0:
        top >>= 8
        n += 1
    put_long(b, n)
    b.need(9)
    i: cython.int
    rest: cython.ulonglong = magnitude
    if negative:
        if cython.compiled:
            rest = ~magnitude + 1
        else:
            rest = -magnitude & 0xFFFFFFFFFFFFFFFF
    for i in range(n - 1, -1, -1):
        b.data[b.n + i] = rest & 0xFF
        rest >>= 8
    # Nine bytes hold what needs 64 bits and a sign.
    if n == 9 and negative:
        b.data[b.n] = 0xFF
    b.n += n
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_unscaled_object(b: Buffer, value: object) -> cython.int:
    """The same for an integer of any size."""
    bits: cython.Py_ssize_t = (value if value >= 0 else ~value).bit_length()
    encoded: bytes = value.to_bytes(bits // 8 + 1, "big", signed=True)
    put_long(b, len(encoded))
    return put_object(b, encoded)


@cython.cfunc
@cython.exceptval(-1)
def put_digits(b: Buffer, value: cython.longlong, width: cython.int) -> cython.int:
    """A number >= 0 in decimal, at least `width` digits."""
    b.need(24)
    n: cython.int = 1
    rest: cython.longlong = value
    while rest > 9:
        rest //= 10
        n += 1
    if n < width:
        n = width
    i: cython.int
    rest = value
    for i in range(n - 1, -1, -1):
        b.data[b.n + i] = 48 + rest % 10
        rest //= 10
    b.n += n
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_be(b: Buffer, value: cython.ulonglong, width: cython.int) -> cython.int:
    """The low `width` bytes, big-endian."""
    if b.n + width > b.size:
        b.need(width)
    i: cython.int
    for i in range(width - 1, -1, -1):
        b.data[b.n + i] = value & 0xFF
        value >>= 8
    b.n += width
    return 0


@cython.cfunc
def taken(b: Buffer, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> bytes:
    """A piece of the buffer as bytes."""
    if cython.compiled:
        return cython.cast(cython.p_char, b.data + at)[:n]
    return bytes(b.data[at : at + n])


@cython.cfunc
@cython.exceptval(check=False)
def days_from_civil(y: cython.longlong, m: cython.int, d: cython.int) -> cython.longlong:
    """Days since 1970-01-01 of a date of the proleptic Gregorian calendar, year 1 or later."""
    if m <= 2:
        y -= 1
        m += 12
    return 365 * y + y // 4 - y // 100 + y // 400 + (153 * (m - 3) + 2) // 5 + d - 1 - 719468


@cython.cfunc
@cython.exceptval(check=False)
def date_fault(y: cython.longlong, m: cython.int, d: cython.int) -> cython.int:
    """0 for a real date; else 1 zero, 2 partial, 3 impossible, 4 year zero."""
    if y == 0 and m == 0 and d == 0:
        return 1
    if m == 0 or d == 0:
        return 2
    if y == 0:
        return 4
    if m > 12 or d > 31:
        return 3
    if d > 28:
        if m == 2:
            if d > 29 or y % 4 != 0 or (y % 100 == 0 and y % 400 != 0):
                return 3
        elif d > 30 and (m == 4 or m == 6 or m == 9 or m == 11):
            return 3
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def murmur2(p: cython.p_const_uchar, n: cython.Py_ssize_t) -> cython.uint:
    """The hash by which Kafka's Java client places keys."""
    m: cython.ulonglong = 0x5BD1E995
    h: cython.ulonglong = (0x9747B28C ^ n) & 0xFFFFFFFF
    k: cython.ulonglong
    at: cython.Py_ssize_t = 0
    while n - at >= 4:
        k = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16)
        k |= cython.cast(cython.ulonglong, p[at + 3]) << 24
        k = (k * m) & 0xFFFFFFFF
        k ^= k >> 24
        k = (k * m) & 0xFFFFFFFF
        h = (h * m) & 0xFFFFFFFF
        h ^= k
        at += 4
    if n - at == 3:
        h ^= p[at + 2] << 16
    if n - at >= 2:
        h ^= p[at + 1] << 8
    if n - at >= 1:
        h ^= p[at]
        h = (h * m) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * m) & 0xFFFFFFFF
    h ^= h >> 15
    return h


@cython.cfunc
@cython.exceptval(check=False)
def le(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.int) -> cython.ulonglong:
    """`n` bytes as an unsigned little-endian number."""
    value: cython.ulonglong = 0
    i: cython.int
    for i in range(n - 1, -1, -1):
        value = (value << 8) | p[at + i]
    return value


@cython.cfunc
@cython.exceptval(check=False)
def be(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.int) -> cython.ulonglong:
    """`n` bytes as an unsigned big-endian number."""
    value: cython.ulonglong = 0
    i: cython.int
    for i in range(n):
        value = (value << 8) | p[at + i]
    return value


def placed(key: bytes, partitions: int) -> int:
    """The partition of a framed key among so many."""
    p: cython.p_const_uchar = key
    h: int = murmur2(p, len(key))
    return (h & 0x7FFFFFFF) % partitions
