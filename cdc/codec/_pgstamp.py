# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Timestamps that a record holds as text, Debezium's ZonedTimestamp: what is no such text is refused."""

from __future__ import annotations

import cython

if not cython.compiled:
    from cdc.codec._buffer import date_fault, days_from_civil


@cython.cfunc
@cython.exceptval(-1)
def two(p: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.int:
    if p[at] < 48 or p[at] > 57 or p[at + 1] < 48 or p[at + 1] > 57:
        raise ValueError("a timestamp of unexpected form")
    return (p[at] - 48) * 10 + p[at + 1] - 48


@cython.cfunc
@cython.exceptval(-1)
def zoned_micros(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.longlong:
    """`YYYY-MM-DDTHH:MM[:SS[.fraction]]Z` (or +hh:mm) in microseconds since 1970-01-01 UTC."""
    end: cython.Py_ssize_t = at + n
    if n < 17 or p[at + 4] != 45 or p[at + 7] != 45 or p[at + 10] != 84 or p[at + 13] != 58:
        raise ValueError("a timestamp of unexpected form")
    month: cython.int = two(p, at + 5)
    day: cython.int = two(p, at + 8)
    year: cython.longlong = two(p, at) * 100 + two(p, at + 2)
    hour: cython.int = two(p, at + 11)
    minute: cython.int = two(p, at + 14)
    if date_fault(year, month, day) or hour > 23 or minute > 59:
        raise ValueError("a timestamp that is none")
    seconds: cython.longlong = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60
    micros: cython.longlong = 0
    unit: cython.longlong = 100000
    at += 16
    if p[at] == 58 and end - at >= 4:
        minute = two(p, at + 1)
        if minute > 59:
            raise ValueError("a timestamp that is none")
        seconds += minute
        at += 3
        if p[at] == 46:
            at += 1
            while at < end and 48 <= p[at] <= 57:
                micros += (p[at] - 48) * unit
                unit //= 10
                at += 1
    if end - at == 6 and (p[at] == 43 or p[at] == 45) and p[at + 3] == 58:
        offset: cython.longlong = two(p, at + 1) * 3600 + two(p, at + 4) * 60
        seconds -= offset if p[at] == 43 else -offset
    elif end - at != 1 or p[at] != 90:
        raise ValueError("a timestamp of unexpected form")
    return seconds * 1000000 + micros
