# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Row images of the log become Avro rows: the first kernel."""

from __future__ import annotations

import cython

from cdc.codec.compressed_column import plain_of

if not cython.compiled:
    from cdc.codec._buffer import (Buffer, be, le, put_byte, put_long, put_object, put_raw, put_string, put_unscaled,
        put_unscaled_object)  # fmt: skip
    from cdc.codec._json import put_json
    from cdc.codec._plan import RowPlan, Work, broken, piece, put_text
    from cdc.codec._wire import (put_address, put_bits, put_date, put_datetime, put_fixed, put_geometry, put_vector,
        put_zoned)  # fmt: skip
    from cdc.codec.ops import *


@cython.cfunc
@cython.exceptval(-1)
def put_decimal(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar,
                at: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """MySQL's packed decimal: groups of nine digits in four bytes, big-endian, the first bit the sign,
    negatives inverted."""
    precision: cython.int = plan.a[i]
    scale: cython.int = plan.b[i]
    negative: cython.bint = (p[at] & 0x80) == 0
    mask: cython.int = 0xFF if negative else 0
    flip: cython.int = 0x80
    small: cython.bint = precision <= 18
    value: cython.ulonglong = 0
    big: object = 0
    group: cython.ulonglong
    limit: cython.ulonglong
    digits: cython.int
    size: cython.int
    part: cython.int
    left: cython.int
    k: cython.int
    for part in range(2):
        # The whole part starts with its odd group, the fraction ends with it.
        left = precision - scale if part == 0 else scale
        while left > 0:
            digits = left % 9 if part == 0 else (9 if left > 9 else left)
            if digits == 0:
                digits = 9
            left -= digits
            size = (digits + 1) // 2 if digits < 9 else 4
            group = 0
            for k in range(size):
                group = (group << 8) | ((p[at + k] ^ mask ^ flip) & 0xFF)
                flip = 0
            at += size
            limit = 1
            for k in range(digits):
                limit *= 10
            if group >= limit:
                raise broken(plan, i, at, "a decimal group with too many digits")
            if small:
                value = value * limit + group
            else:
                big = big * limit + group
    if small:
        return put_unscaled(b, value, negative)
    return put_unscaled_object(b, -big if negative else big)


@cython.cfunc
@cython.exceptval(-1)
def fraction(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t,
             n: cython.int) -> cython.longlong:  # fmt: skip
    """Fractional seconds of one to three bytes, in microseconds."""
    micros: cython.longlong = be(p, at, n)
    if n == 1:
        micros *= 10000
    elif n == 2:
        micros *= 100
    if micros > 999999:
        raise broken(plan, i, at, "a fraction of a second that is none")
    return micros


@cython.cfunc
@cython.exceptval(-1)
def scaled(plan: RowPlan, i: cython.Py_ssize_t, units: cython.longlong) -> cython.longlong:
    """A count of the column's smallest unit of time in microseconds."""
    k: cython.int
    for k in range(6 - plan.a[i]):
        units *= 10
    return units


@cython.cfunc
@cython.exceptval(-1)
def old_datetime(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                 counting: cython.bint) -> cython.int:  # fmt: skip
    """DATETIME before MySQL 5.6: the number YYYYMMDDhhmmss; with a fraction (MariaDB 5.3) a mixed-radix number of the
    column's unit."""
    value: cython.ulonglong = le(p, at, 8) if plan.a[i] == 0 else be(p, at, plan.c[i])
    unit: cython.ulonglong = 1
    k: cython.int
    for k in range(plan.a[i]):
        unit *= 10
    micros: cython.longlong = scaled(plan, i, value % unit)
    decimal: cython.bint = plan.a[i] == 0
    value //= unit
    second: cython.longlong = value % (100 if decimal else 60)
    value //= 100 if decimal else 60
    minute: cython.longlong = value % (100 if decimal else 60)
    value //= 100 if decimal else 60
    hour: cython.longlong = value % (100 if decimal else 24)
    value //= 100 if decimal else 24
    day: cython.int = value % (100 if decimal else 32)
    value //= 100 if decimal else 32
    month: cython.int = value % (100 if decimal else 13)
    value //= 100 if decimal else 13
    if value > 9999 or hour > 23 or minute > 59 or second > 59:
        raise broken(plan, i, at, "a date and time that is none")
    micros += (hour * 3600 + minute * 60 + second) * 1000000
    return put_datetime(plan, i, b, value, month, day, micros, counting)


@cython.cfunc
@cython.exceptval(-1)
def old_time(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar,
             at: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """TIME before MySQL 5.6: the signed number hhmmss; with a fraction (MariaDB 5.3) the column's unit,
    offset so that it sorts."""
    value: cython.longlong
    if plan.a[i] > 0:
        zero: cython.longlong = 3020400  # 838:59:59 and a second
        value = scaled(plan, i, be(p, at, plan.c[i])) - zero * 1000000
        if value >= zero * 1000000 or value <= -zero * 1000000:
            raise broken(plan, i, at, "a time that is none")
        return put_long(b, value)
    value = le(p, at, 3)
    negative: cython.bint = value >= 0x800000
    if negative:
        value = 0x1000000 - value
    if value // 100 % 100 > 59 or value % 100 > 59:
        raise broken(plan, i, at, "a time that is none")
    value = (value // 10000 * 3600 + value // 100 % 100 * 60 + value % 100) * 1000000
    return put_long(b, -value if negative else value)


@cython.cfunc
@cython.exceptval(-1)
def put_inflated(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                 n: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """A value of a COMPRESSED column: what was compressed, in the column's own form."""
    plain: bytes = plain_of(piece(p, at, n))
    if plain is None:
        raise broken(plan, i, at, "a compressed value that does not hold what it claims")
    source: cython.p_const_uchar = plain
    if plan.op[i] == TEXT:
        return put_text(plan, i, b, source, 0, len(plain))
    return put_string(b, source, 0, len(plain))


@cython.cfunc
@cython.exceptval(-1)
def log_datetime(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                 counting: cython.bint) -> cython.int:  # fmt: skip
    """DATETIME2: year*13+month, day, hour, minute, second in 40 bits, then the fraction."""
    if plan.b[i]:
        return old_datetime(plan, i, b, p, at, counting)
    packed: cython.longlong = cython.cast(cython.longlong, be(p, at, 5)) - 0x8000000000
    months: cython.longlong = packed >> 22
    hour: cython.longlong = (packed >> 12) & 31
    minute: cython.longlong = (packed >> 6) & 63
    second: cython.longlong = packed & 63
    if packed < 0 or months > 129999 or hour > 23 or minute > 59 or second > 59:
        raise broken(plan, i, at, "a moment that is none")
    micros: cython.longlong = fraction(plan, i, p, at + 5, plan.c[i] - 5)
    micros += (hour * 3600 + minute * 60 + second) * 1000000
    return put_datetime(plan, i, b, months // 13, months % 13, (packed >> 17) & 31, micros, counting)


@cython.cfunc
@cython.exceptval(-1)
def log_timestamp(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                  counting: cython.bint) -> cython.int:  # fmt: skip
    """TIMESTAMP2: unsigned seconds since 1970, then the fraction; all zero is the zero date.

    Of the old forms the one without a fraction is little-endian, and the fractions of the others count in the column's
    own unit.
    """
    old: cython.bint = plan.b[i]
    seconds: cython.longlong = le(p, at, 4) if old and plan.a[i] == 0 else be(p, at, 4)
    micros: cython.longlong
    if old:
        micros = scaled(plan, i, be(p, at + 4, plan.c[i] - 4))
        if micros > 999999:
            raise broken(plan, i, at, "a fraction of a second that is none")
    else:
        micros = fraction(plan, i, p, at + 4, plan.c[i] - 4)
    if seconds == 0 and micros == 0:
        return put_zoned(plan, i, b, 0, 0, 0, 0, counting)
    # Days to a civil date: Howard Hinnant's algorithm, for days after 0000-03-01.
    z: cython.longlong = seconds // 86400 + 719468
    era: cython.longlong = z // 146097
    doe: cython.longlong = z - era * 146097
    yoe: cython.longlong = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy: cython.longlong = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp: cython.longlong = (5 * doy + 2) // 153
    day: cython.longlong = doy - (153 * mp + 2) // 5 + 1
    month: cython.longlong = mp + 3 if mp < 10 else mp - 9
    year: cython.longlong = yoe + era * 400 + (1 if month <= 2 else 0)
    return put_zoned(plan, i, b, year, month, day, seconds % 86400 * 1000000 + micros, counting)


@cython.cfunc
@cython.exceptval(-1)
def log_time(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar,
             at: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """TIME2: one signed number over hours, minutes, seconds and the fraction together, offset so that it sorts."""
    if plan.b[i]:
        return old_time(plan, i, b, p, at)
    n: cython.int = plan.c[i] - 3
    raw: cython.longlong = be(p, at, 3 + n)
    zero: cython.longlong = 1
    zero <<= 23 + 8 * n
    raw -= zero
    size: cython.longlong = -raw if raw < 0 else raw
    unit: cython.longlong = 1
    unit <<= 8 * n
    micros: cython.longlong = size % unit
    whole: cython.longlong = size // unit
    if n == 1:
        micros *= 10000
    elif n == 2:
        micros *= 100
    if micros > 999999 or ((whole >> 6) & 63) > 59 or (whole & 63) > 59:
        raise broken(plan, i, at, "a time that is none")
    micros += ((whole >> 12) * 3600 + ((whole >> 6) & 63) * 60 + (whole & 63)) * 1000000
    return put_long(b, -micros if raw < 0 else micros)


@cython.cfunc
@cython.exceptval(-1)
def log_members(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar,
                at: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """ENUM: the member of an index, 0 the empty text; SET: the members of a bit mask in definition order."""
    bits: cython.ulonglong = le(p, at, plan.a[i])
    labels: list = plan.labels[i]
    count: cython.int = plan.c[i]
    if plan.op[i] == ENUM:
        if bits > cython.cast(cython.ulonglong, count):
            raise broken(plan, i, at, "an enum index beyond its members")
        if bits == 0 and plan.iskey[i] and b"" in labels:
            raise broken(plan, i, at, "an enum's error value in a key, with the text of its empty member,")
        label: bytes = labels[bits - 1] if bits > 0 else b""
        put_long(b, len(label))
        return put_object(b, label)
    if count < 64 and (bits >> count) != 0:
        raise broken(plan, i, at, "a set bit beyond its members")
    k: cython.int
    chosen: bytes = b",".join([labels[k] for k in range(count) if (bits >> k) & 1])
    put_long(b, len(chosen))
    return put_object(b, chosen)


@cython.cfunc
@cython.inline
def width_of(op: cython.int) -> cython.int:
    """The bytes of a value of fixed width; 0 where the column says it."""
    if op == INT64 or op == UINT64 or op == DOUBLE:
        return 8
    if op == INT32 or op == UINT32 or op == FLOAT:
        return 4
    if op == INT24 or op == UINT24 or op == DATE:
        return 3
    if op == INT16 or op == UINT16:
        return 2
    if op == INT8 or op == UINT8 or op == YEAR:
        return 1
    return 0


@cython.cfunc
@cython.exceptval(-1)
def value(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t,
          b: Buffer, counting: cython.bint) -> cython.Py_ssize_t:  # fmt: skip
    """Write one value that is not null; the offset after it."""
    op: cython.int = plan.op[i]
    n: cython.Py_ssize_t
    u: cython.ulonglong
    s: cython.longlong
    n = width_of(op)
    if n == 0:
        if op == DECIMAL or op == DATETIME or op == TIMESTAMP or op == TIME:
            n = plan.c[i]
        elif op == BIT or op == BITS or op == ENUM or op == SET:
            n = plan.a[i]
        else:
            n = plan.a[i]
            if n > end - at:
                raise broken(plan, i, at, "the row ends inside a length")
            u = le(p, at, n)
            at += n
            if u > cython.cast(cython.ulonglong, end - at):
                raise broken(plan, i, at, "the row ends inside a value")
            n = u
    if n > end - at:
        raise broken(plan, i, at, "the row ends inside a value")
    if op == INT64:
        u = le(p, at, 8)
        if cython.compiled:
            put_long(b, cython.cast(cython.longlong, u))
        else:
            put_long(b, u - (1 << 64) if u >> 63 else u)
    elif op == DOUBLE or op == FLOAT:
        put_raw(b, p, at, n)
    elif op == INT8 or op == INT16 or op == INT24 or op == INT32:
        s = le(p, at, n)
        if p[at + n - 1] & 0x80:
            u = 1
            s -= u << (8 * n)
        put_long(b, s)
    elif op == UINT8 or op == UINT16 or op == UINT24 or op == UINT32:
        put_long(b, le(p, at, n))
    elif (op == TEXT or op == BYTES) and (plan.c[i] & 2) != 0:
        put_inflated(plan, i, b, p, at, n)
    elif op == TEXT:
        put_text(plan, i, b, p, at, n)
    elif op == DATE:
        u = le(p, at, 3)
        if (u >> 9) > 9999:
            raise broken(plan, i, at, "a date that is none")
        put_date(plan, i, b, u >> 9, (u >> 5) & 15, u & 31, counting)
    elif op == DATETIME:
        log_datetime(plan, i, b, p, at, counting)
    elif op == TIMESTAMP:
        log_timestamp(plan, i, b, p, at, counting)
    elif op == TIME:
        log_time(plan, i, b, p, at)
    elif op == DECIMAL:
        put_decimal(plan, i, b, p, at)
    elif op == UINT64:
        put_unscaled(b, le(p, at, 8), False)
    elif op == BYTES:
        put_string(b, p, at, n)
    elif op == ENUM or op == SET:
        log_members(plan, i, b, p, at)
    elif op == YEAR:
        put_long(b, 1900 + p[at] if p[at] > 0 else 0)
    elif op == BIT or op == BITS:
        put_bits(plan, i, b, p, at, n)
    elif op == FIXED:
        put_fixed(plan, i, b, p, at, n)
    elif op == JSON:
        put_json(plan, i, b, p, at, n)
    elif op == GEOMETRY:
        put_geometry(plan, i, b, p, at, n)
    elif op == VECTOR:
        put_vector(plan, i, b, p, at, n)
    else:
        put_address(plan, i, b, p, at, n)
    return at + n


@cython.cfunc
@cython.exceptval(-1)
def image(plan: RowPlan, p: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, w: Work,
          which: cython.int, counting: cython.bint) -> cython.Py_ssize_t:  # fmt: skip
    """Write one row image as an Avro row and note where each value lies; the offset after the image."""
    count: cython.Py_ssize_t = plan.count
    nulls: cython.Py_ssize_t = at
    base: cython.Py_ssize_t = which * count
    b: Buffer = w.rows
    i: cython.Py_ssize_t
    plan.counting = counting
    at += (count + plan.unlisted + 7) // 8
    if at > end:
        raise broken(plan, -1, nulls, "the row ends inside its null bits")
    for i in range(count):
        if (p[nulls + (i >> 3)] >> (i & 7)) & 1:
            # tag: 0 never null, 1 null only on the wire, 2 null on both sides.
            if plan.tag[i] < 2 or plan.iskey[i]:
                raise broken(plan, i, at, "a null in a column that allows none")
            put_byte(b, 0)
            w.at[base + i] = b.n
        else:
            if plan.tag[i] > 0:
                put_byte(b, 2)
            w.at[base + i] = b.n
            at = value(plan, i, p, at, end, b, counting)
        w.to[base + i] = b.n
    for i in range(count, count + plan.unlisted):
        if (p[nulls + (i >> 3)] >> (i & 7)) & 1 == 0:
            at += 8
    if at > end:
        raise broken(plan, -1, nulls, "the row ends inside a hash")
    return at
