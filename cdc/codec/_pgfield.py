# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Fields of PostgreSQL's binary COPY, read from Avro values. The input may be a foreign record:
nothing in it is trusted."""

from __future__ import annotations

import cython

from cdc.codec.pg_fields import inet_field, numeric_field, uuid_field
from cdc.errors import Halt

if not cython.compiled:
    from cdc.codec._buffer import Buffer, put_be, put_byte, put_object, put_raw
    from cdc.codec._pgstamp import zoned_micros
    from cdc.codec.ops import *

EPOCH_DAYS = 10957  # 2000-01-01, PostgreSQL's epoch, in days since 1970-01-01
EPOCH_MICROS = 946684800000000
FIRST_DAY = cython.declare(
    cython.longlong, -2440588
)  # PostgreSQL's dates, in days since 1970-01-01: 4714-11-24 BC to 5874897-12-31
LAST_DAY = cython.declare(cython.longlong, 2145042905)
FIRST_MICROS = cython.declare(
    cython.longlong, -210866803200000000
)  # its timestamps begin on the same day, and end later than a long
REAL_OID = 700


@cython.final
@cython.cclass
class Reader:
    """Where we are in a record's bytes."""

    @cython.cfunc
    @cython.exceptval(-1)
    def number(self) -> cython.longlong:
        """The next Avro long."""
        value: cython.ulonglong = 0
        shift: cython.int = 0
        byte: cython.ulonglong
        while True:
            if self.at >= self.end or shift > 63:
                raise ValueError("a number that does not end")
            byte = self.p[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if cython.compiled:
            return cython.cast(cython.longlong, (value >> 1) ^ (~(value & 1) + 1))
        value &= 0xFFFFFFFFFFFFFFFF
        return (value >> 1) ^ -(value & 1)


@cython.cfunc
@cython.exceptval(-1)
def length(r: Reader) -> cython.Py_ssize_t:
    """The next length, which its bytes must follow."""
    n: cython.longlong = r.number()
    if n < 0 or n > r.end - r.at:
        raise ValueError("a value that does not end")
    return n


@cython.cfunc
@cython.exceptval(-1)
def block_of(r: Reader, width: cython.int) -> cython.longlong:
    """How many values of fixed width the next block of an array holds, all of which must follow; 0 at its end."""
    count: cython.longlong = r.number()
    room: cython.longlong = (r.end - r.at) // width
    if count > room or count < -room:
        raise ValueError("an array that does not end")
    if count < 0:  # then the block's size in bytes follows
        count = -count
        r.number()
        if count > (r.end - r.at) // width:
            raise ValueError("an array that does not end")
    return count


@cython.cfunc
def slice_of(r: Reader, n: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_const_char, r.p + r.at)[:n]
    return bytes(r.p[r.at : r.at + n])


@cython.cfunc
@cython.exceptval(-1)
def put_length(b: Buffer, n: cython.Py_ssize_t) -> cython.int:
    if n > 0x3FFFFFFF:
        raise ValueError("a value larger than PostgreSQL's limit of 1 GB")
    return put_be(b, n, 4)


@cython.cfunc
@cython.exceptval(-1)
def put_whole(b: Buffer, value: cython.longlong, width: cython.int) -> cython.int:
    """An integer field, checked against its width."""
    limit: cython.longlong = 1
    if width < 8:
        limit <<= 8 * width - 1
        if value >= limit or value < -limit:
            raise ValueError("a number beyond its column")
    put_be(b, width, 4)
    if cython.compiled:
        return put_be(b, cython.cast(cython.ulonglong, value), width)
    return put_be(b, value & 0xFFFFFFFFFFFFFFFF, width)


@cython.cfunc
@cython.exceptval(-1)
def put_reversed(b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.int) -> cython.int:
    """The bytes in the other order."""
    if b.n + n > b.size:
        b.need(n)
    k: cython.int
    for k in range(n):
        b.data[b.n + k] = p[at + n - 1 - k]
    b.n += n
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_numeric(
    b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t, scale: cython.int
) -> cython.int:
    """A decimal's two's complement as base-10000 digits; what fits into 63 bits without help from Python."""
    if n == 0:
        raise ValueError("a decimal without bytes")
    if n > 1024:
        raise ValueError("a decimal of impossible length")
    if n > 8 or scale > 16:
        return put_object(b, numeric_field(bytes([p[k] for k in range(at, at + n)]), scale))
    negative: cython.bint = p[at] >= 0x80
    value: cython.ulonglong = 0xFFFFFFFFFFFFFFFF if negative else 0
    k: cython.Py_ssize_t
    for k in range(at, at + n):
        value = ((value << 8) & 0xFFFFFFFFFFFFFFFF) | p[k]
    if negative:
        value = (0xFFFFFFFFFFFFFFFF - value) + 1
    power: cython.ulonglong = 1
    for k in range(scale):
        power *= 10
    whole: cython.ulonglong = value // power
    part: cython.ulonglong = value % power
    groups: cython.int = (scale + 3) // 4
    for k in range(groups * 4 - scale):
        part *= 10
    # The digits are written from the back, behind room for the header; zeros at both ends are not stored.
    b.need(64)
    start: cython.Py_ssize_t = b.n
    digits: cython.int = groups
    rest: cython.ulonglong = whole
    while rest > 0:
        digits += 1
        rest //= 10000
    weight: cython.int = digits - groups - 1
    last: cython.Py_ssize_t = start + 12 + 2 * digits
    digit: cython.int
    at = last
    for k in range(digits):
        if k < groups:
            digit = part % 10000
            part //= 10000
        else:
            digit = whole % 10000
            whole //= 10000
        at -= 2
        b.data[at] = digit >> 8
        b.data[at + 1] = digit & 0xFF
    while digits > 0 and b.data[last - 2] == 0 and b.data[last - 1] == 0:
        last -= 2
        digits -= 1
    skip: cython.Py_ssize_t = start + 12
    while digits > 0 and b.data[skip] == 0 and b.data[skip + 1] == 0:
        skip += 2
        digits -= 1
        weight -= 1
    if digits == 0:
        weight = 0
        negative = False
    put_be(b, 8 + 2 * digits, 4)
    put_be(b, digits, 2)
    put_be(b, weight & 0xFFFF, 2)
    put_be(b, 0x4000 if negative else 0, 2)
    put_be(b, scale, 2)
    if skip > b.n:
        for k in range(2 * digits):
            b.data[b.n + k] = b.data[skip + k]
    b.n += 2 * digits
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_bit_field(
    b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t, bits: cython.int
) -> cython.int:
    """Little-endian bits as bit(n): the first bit of the text is the highest one."""
    size: cython.int = (bits + 7) // 8
    if n > 8 or size > 8 or n > size:
        raise ValueError("a bit value wider than its column")
    value: cython.ulonglong = 0
    k: cython.Py_ssize_t
    for k in range(n - 1, -1, -1):
        value = (value << 8) | p[at + k]
    if bits < 64 and (value >> bits) != 0:
        raise ValueError("a bit value wider than its column")
    put_be(b, 4 + size, 4)
    put_be(b, bits, 4)
    return put_be(b, value << (8 * size - bits), size)


@cython.cfunc
@cython.exceptval(-1)
def put_ewkb(b: Buffer, r: Reader) -> cython.int:
    """The struct of WKB and SRID as EWKB."""
    n: cython.Py_ssize_t = length(r)
    at: cython.Py_ssize_t = r.at
    r.at += n
    srid: cython.longlong = 0
    branch: cython.longlong = r.number()
    if branch < 0 or branch > 1:
        raise ValueError("an unknown branch of a union")
    if branch == 1:
        srid = r.number()
        if srid > 2147483647 or srid < -2147483648:
            raise ValueError("a number beyond its column")
    if n < 5 and (n > 0 or srid != 0):
        raise ValueError("a geometry too short for its header")
    if srid == 0:
        put_length(b, n)
        return put_raw(b, r.p, at, n)
    put_length(b, n + 4)
    little: cython.bint = r.p[at] == 1
    put_raw(b, r.p, at, 5)
    flag: cython.Py_ssize_t = b.n - (1 if little else 4)
    b.data[flag] = b.data[flag] | 0x20
    k: cython.int
    for k in range(4):
        put_byte(b, (srid >> (8 * (k if little else 3 - k))) & 0xFF)
    return put_raw(b, r.p, at + 5, n - 5)


@cython.cfunc
@cython.exceptval(-1)
def put_reals(b: Buffer, r: Reader) -> cython.int:
    """An Avro array of floats as real[]."""
    start: cython.Py_ssize_t = b.n
    total: cython.longlong = 0
    count: cython.longlong
    k: cython.Py_ssize_t
    for k in range(24):
        put_byte(b, 0)
    while True:
        count = block_of(r, 4)
        if count == 0:
            break
        total += count
        for k in range(count):
            put_be(b, 4, 4)
            put_reversed(b, r.p, r.at, 4)
            r.at += 4
    end: cython.Py_ssize_t = b.n
    b.n = start
    if total == 0:
        put_be(b, 12, 4)
        put_be(b, 0, 8)
        return put_be(b, REAL_OID, 4)
    put_be(b, end - start - 4, 4)
    put_be(b, 1, 4)
    put_be(b, 0, 4)
    put_be(b, REAL_OID, 4)
    put_be(b, total, 4)
    put_be(b, 1, 4)
    b.n = end
    return 0


@cython.cfunc
@cython.exceptval(-1)
def has_nul(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.bint:
    if cython.compiled:
        return memchr(p + at, 0, n) != cython.NULL
    return 0 in p[at : at + n]


@cython.cfunc
@cython.exceptval(-1)
def copy_field(b: Buffer, r: Reader, op: cython.int, a: cython.int) -> cython.int:
    """Write one field that is not null, with its length."""
    n: cython.Py_ssize_t
    v: cython.longlong
    if op == TO_INT8:
        put_whole(b, r.number(), 8)
    elif op == TO_TEXT or op == TO_BYTEA:
        n = length(r)
        if op == TO_TEXT and has_nul(r.p, r.at, n):
            raise Halt("nul_in_text", "", "a NUL character, which PostgreSQL's text cannot hold")
        put_length(b, n)
        put_raw(b, r.p, r.at, n)
        r.at += n
    elif op == TO_INT4:
        put_whole(b, r.number(), 4)
    elif op == TO_INT2:
        put_whole(b, r.number(), 2)
    elif op == TO_DOUBLE or op == TO_REAL:
        n = 8 if op == TO_DOUBLE else 4
        if n > r.end - r.at:
            raise ValueError("a value that does not end")
        put_be(b, n, 4)
        put_reversed(b, r.p, r.at, n)
        r.at += n
    elif op == TO_DATE:
        v = r.number()
        if v < FIRST_DAY or v > LAST_DAY:  # past them lie PostgreSQL's infinities
            raise ValueError("a date beyond its range")
        put_whole(b, v - EPOCH_DAYS, 4)
    elif op == TO_STAMP_US or op == TO_STAMP_MS or op == TO_STAMP_NS:
        v = r.number()
        if op == TO_STAMP_MS:
            if v > 300000000000000 or v < -300000000000000:
                raise ValueError("a timestamp beyond its range")
            v *= 1000
        elif op == TO_STAMP_NS:
            v = v // 1000 - (1 if v < 0 and v % 1000 != 0 and cython.compiled else 0)
        if v < FIRST_MICROS:
            raise ValueError("a timestamp beyond its range")
        put_whole(b, v - EPOCH_MICROS, 8)
    elif op == TO_STAMP_TEXT:
        n = length(r)
        put_whole(b, zoned_micros(r.p, r.at, n) - EPOCH_MICROS, 8)
        r.at += n
    elif op == TO_NUMERIC:
        n = length(r)
        put_numeric(b, r.p, r.at, n, a)
        r.at += n
    elif op == TO_INTERVAL or op == TO_INTERVAL_MS:
        v = r.number()
        if op == TO_INTERVAL_MS:
            if v > 9000000000000000 or v < -9000000000000000:
                raise ValueError("an interval beyond its range")
            v *= 1000
        put_be(b, 16, 4)
        if cython.compiled:
            put_be(b, cython.cast(cython.ulonglong, v), 8)
        else:
            put_be(b, v & 0xFFFFFFFFFFFFFFFF, 8)
        put_be(b, 0, 8)
    elif op == TO_BOOL or op == TO_BIT:
        if r.at >= r.end or r.p[r.at] > 1:
            raise ValueError("a boolean that is none")
        if op == TO_BOOL:
            put_be(b, 1, 4)
            put_byte(b, r.p[r.at])
        else:
            put_bit_field(b, r.p, r.at, 1, 1)
        r.at += 1
    elif op == TO_BITS:
        n = length(r)
        put_bit_field(b, r.p, r.at, n, a)
        r.at += n
    elif op == TO_EWKB:
        put_ewkb(b, r)
    elif op == TO_REALS:
        put_reals(b, r)
    else:
        n = length(r)
        text = slice_of(r, n)
        put_object(b, uuid_field(text) if op == TO_UUID else inet_field(text))
        r.at += n
    return 0
