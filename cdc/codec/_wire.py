# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Wire forms that both ways in share: dates, geometry, vectors, bits, and MariaDB's uuid, inet4 and inet6."""

from __future__ import annotations

import cython

if not cython.compiled:
    from cdc.codec._buffer import (
        Buffer,
        date_fault,
        days_from_civil,
        le,
        put_byte,
        put_digits,
        put_long,
        put_raw,
        put_string,
    )
    from cdc.codec._plan import RowPlan, anomaly, broken
    from cdc.codec.ops import INET4, UUID

HEX = b"0123456789abcdef"


@cython.cfunc
@cython.exceptval(-1)
def put_date(
    plan: RowPlan,
    i: cython.Py_ssize_t,
    b: Buffer,
    y: cython.longlong,
    m: cython.int,
    d: cython.int,
    counting: cython.bint,
) -> cython.int:
    """Days since 1970-01-01, or what the policy says."""
    if plan.dates[i] == 2:
        return put_spelled(b, y, m, d, 0, -1, 0, 0)
    fault: cython.int = date_fault(y, m, d)
    if fault:
        return anomaly(plan, i, fault, counting, b)
    return put_long(b, days_from_civil(y, m, d))


@cython.cfunc
@cython.exceptval(-1)
def put_datetime(
    plan: RowPlan,
    i: cython.Py_ssize_t,
    b: Buffer,
    y: cython.longlong,
    m: cython.int,
    d: cython.int,
    micros: cython.longlong,
    counting: cython.bint,
) -> cython.int:
    """Milliseconds (up to three fractional digits) or microseconds since 1970-01-01 as if in UTC,
    or what the policy says."""
    if plan.dates[i] == 2:
        return put_spelled(b, y, m, d, micros, plan.a[i], 32, 0)
    fault: cython.int = date_fault(y, m, d)
    if fault:
        return anomaly(plan, i, fault, counting, b)
    total: cython.longlong = days_from_civil(y, m, d) * 86400000000 + micros
    if plan.a[i] <= 3:
        # Both are exact: fewer than four digits leave whole milliseconds, so the rounding direction of // never shows.
        total //= 1000
    return put_long(b, total)


@cython.cfunc
@cython.exceptval(-1)
def put_zoned(
    plan: RowPlan,
    i: cython.Py_ssize_t,
    b: Buffer,
    y: cython.longlong,
    m: cython.int,
    d: cython.int,
    micros: cython.longlong,
    counting: cython.bint,
) -> cython.int:
    """`2026-01-02T03:04:05.678Z` with exactly the column's fractional digits, or what the policy says."""
    if plan.dates[i] == 2:
        return put_spelled(b, y, m, d, micros, plan.a[i], 32, 0)
    fault: cython.int = date_fault(y, m, d)
    if fault:
        return anomaly(plan, i, fault, counting, b)
    return put_spelled(b, y, m, d, micros, plan.a[i], 84, 90)


@cython.cfunc
@cython.exceptval(-1)
def put_spelled(
    b: Buffer,
    y: cython.longlong,
    m: cython.int,
    d: cython.int,
    micros: cython.longlong,
    fsp: cython.int,
    between: cython.int,
    last: cython.int,
) -> cython.int:
    """A date (`fsp` is -1) or a date and time in digits: the byte between the two, and the last one, if it is not 0."""
    seconds: cython.longlong = micros // 1000000
    size: cython.int = 10
    if fsp >= 0:
        size = 19 + (fsp + 1 if fsp > 0 else 0) + (1 if last > 0 else 0)
    put_long(b, size)
    put_digits(b, y, 4)
    put_byte(b, 45)
    put_digits(b, m, 2)
    put_byte(b, 45)
    put_digits(b, d, 2)
    if fsp < 0:
        return 0
    put_byte(b, between)
    put_digits(b, seconds // 3600, 2)
    put_byte(b, 58)
    put_digits(b, seconds // 60 % 60, 2)
    put_byte(b, 58)
    put_digits(b, seconds % 60, 2)
    if fsp > 0:
        put_byte(b, 46)
        fraction: cython.longlong = micros % 1000000
        k: cython.int
        for k in range(6 - fsp):
            fraction //= 10
        put_digits(b, fraction, fsp)
    return put_byte(b, last) if last > 0 else 0


@cython.cfunc
@cython.exceptval(-1)
def put_geometry(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """WKB and SRID; the SRID 0 is null, as Debezium has it. MariaDB gives rows an empty value when it adds a NOT NULL
    column."""
    if n == 0:
        put_long(b, 0)
        return put_byte(b, 0)
    if n < 9:
        raise broken(plan, i, at, "a geometry too short for its header")
    srid: cython.longlong = le(p, at, 4)
    put_long(b, n - 4)
    put_raw(b, p, at + 4, n - 4)
    if srid == 0:
        return put_byte(b, 0)
    put_byte(b, 2)
    return put_long(b, srid if srid < 2147483648 else srid - 4294967296)


@cython.cfunc
@cython.exceptval(-1)
def put_vector(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """An Avro array of floats: one block and its end."""
    if n % 4 != 0:
        raise broken(plan, i, at, "a vector that is no list of floats")
    if n > 0:
        put_long(b, n // 4)
        put_raw(b, p, at, n)
    return put_byte(b, 0)


@cython.cfunc
@cython.exceptval(-1)
def put_bits(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """BIT(1) as a boolean, BIT(n) as little-endian bytes."""
    used: cython.int = plan.b[i] % 8
    if n != plan.a[i] or (used > 0 and (p[at] >> used) != 0):
        raise broken(plan, i, at, "a bit value wider than its column")
    if plan.b[i] == 1:
        return put_byte(b, p[at])
    put_long(b, n)
    k: cython.Py_ssize_t
    for k in range(n - 1, -1, -1):
        put_byte(b, p[at + k])
    return 0


@cython.cfunc
@cython.exceptval(-1)
def put_hex(b: Buffer, value: cython.int) -> cython.int:
    digits: cython.p_const_uchar = HEX
    put_byte(b, digits[value >> 4])
    return put_byte(b, digits[value & 15])


@cython.cfunc
@cython.exceptval(-1)
def put_address(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """A uuid, inet4 or inet6 of MariaDB, from its bytes (trailing zeros may be missing), as canonical text."""
    k: cython.Py_ssize_t
    full: bytes = bytes([p[at + k] for k in range(n)]).ljust(plan.b[i], b"\0")
    if len(full) != plan.b[i]:
        raise broken(plan, i, at, "an address longer than its type")
    if plan.op[i] == UUID:
        put_long(b, 36)
        for k in range(16):
            if k == 4 or k == 6 or k == 8 or k == 10:
                put_byte(b, 45)
            put_hex(b, full[k])
        return 0
    if plan.op[i] == INET4:
        text = ".".join([str(part) for part in full])
    else:
        # Eight groups written out: one spelling per address, which PostgreSQL shortens by itself.
        text = ":".join([f"{full[k] * 256 + full[k + 1]:x}" for k in range(0, 16, 2)])
    encoded: bytes = text.encode()
    put_long(b, len(encoded))
    pointer: cython.p_const_uchar = encoded
    return put_raw(b, pointer, 0, len(encoded))


@cython.cfunc
@cython.exceptval(-1)
def put_fixed(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """BINARY(n): the log leaves out trailing zero bytes, which belong to the value."""
    size: cython.Py_ssize_t = plan.b[i]
    if n > size:
        raise broken(plan, i, at, "a binary value longer than its column")
    put_string(b, p, at, n)
    if n < size:
        b.n -= n + (1 if n < 64 else 2)
        put_long(b, size)
        put_raw(b, p, at, n)
        k: cython.Py_ssize_t
        for k in range(size - n):
            put_byte(b, 0)
    return 0
