# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Walks over the envelopes of records: where the images lie, which number a record has,
which transaction it belongs to."""

from __future__ import annotations

from array import array

import cython

from cdc.codec.records import Opened
from cdc.errors import Malformed

if not cython.compiled:
    from cdc.codec._pgfield import Reader, block_of, length, slice_of
    from cdc.codec.ops import *

make = tuple.__new__
LATEST_MILLIS = cython.declare(cython.longlong, 9000000000000000)


@cython.final
@cython.cclass
class SkipPlan:
    """How to walk over an envelope: opcodes, with the place a union's null goes on at; `marks` are noted on the way."""

    def __init__(self, place: str, ops: list, numbers: list):
        self.place, self.count = place, len(ops)
        self.op, self.a = array("i", ops), array("i", numbers)


@cython.cfunc
@cython.exceptval(-1)
def skip_array(r: Reader, width: cython.int) -> cython.int:
    """Pass over an array of values of fixed width."""
    count: cython.longlong
    while True:
        count = block_of(r, width)
        if count == 0:
            return 0
        r.at += count * width


@cython.cfunc
@cython.exceptval(-1)
def walk(plan: SkipPlan, r: Reader, marks: cython.longlong[::1]) -> cython.int:
    """Walk over one value; marks[m] becomes the offset at mark m where the way leads past it."""
    k: cython.Py_ssize_t = 0
    op: cython.int
    n: cython.Py_ssize_t
    branch: cython.longlong
    while k < plan.count:
        op = plan.op[k]
        n = plan.a[k]
        k += 1
        if op == SKIP_LONG:
            r.number()
        elif op == SKIP_BYTES:
            n = length(r)
            r.at += n
        elif op == SKIP_UNION:
            # The number says the null's branch in its lowest bit, and how far to go on where it is taken.
            branch = r.number()
            if branch < 0 or branch > 1:
                raise ValueError("an unknown branch of a union")
            if branch == (n & 1):
                k += n >> 1
        elif op == SKIP_MARK:
            marks[n] = r.at
        elif op == SKIP_ARRAY:
            skip_array(r, n)
        else:
            n = 4 if op == SKIP_4 else 8 if op == SKIP_8 else 1
            if n > r.end - r.at:
                raise ValueError("a value that does not end")
            r.at += n
    return 0


@cython.cfunc
@cython.exceptval(-1)
def long_at(r: Reader, at: cython.longlong) -> cython.longlong:
    """The long at a mark; 0 where the way did not lead past it."""
    if at < 0:
        return 0
    r.at = at
    return r.number()


@cython.cfunc
def sequence_at(r: Reader, at: cython.longlong) -> tuple:
    """Epoch and number of `"<epoch>.<seq>"`; (-1, -1) for anything else, such as a foreign record's."""
    if at < 0:
        return (-1, -1)
    r.at = at
    text: bytes = slice_of(r, length(r))
    epoch, dot, seq = text.partition(b".")
    if dot and epoch.isdigit() and seq.isdigit() and len(text) < 37:
        return (int(epoch), int(seq))
    return (-1, -1)


@cython.cfunc
@cython.exceptval(-1)
def time_at(r: Reader, marks: cython.longlong[::1]) -> cython.longlong:
    """The commit time in microseconds, of a record that has only milliseconds too."""
    if marks[6] >= 0:
        return long_at(r, marks[6])
    millis: cython.longlong = long_at(r, marks[5])
    if millis > LATEST_MILLIS or millis < -LATEST_MILLIS:
        raise ValueError("a time beyond its range")
    return millis * 1000


@cython.cfunc
def open_value(plan: SkipPlan, r: Reader, marks: cython.longlong[::1]) -> object:
    """What stands in the record that lies in `r.p[:r.end]`."""
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t
    for k in range(16):
        marks[k] = -1
    r.at = 5
    try:
        if r.end < 5 or r.p[0] != 0:
            r.at = 0
            raise ValueError("no Confluent framing")
        walk(plan, r, marks)
        if r.at != r.end:
            raise ValueError("bytes after the end")
        epoch, seq = sequence_at(r, marks[4])
        micros: cython.longlong = time_at(r, marks)
        transaction = (0, 0)
        if marks[7] >= 0:
            r.at = marks[7]
            n = length(r)
            transaction = (r.at, r.at + n)
        if marks[8] < 0:
            raise ValueError("no operation")
        r.at = marks[8]
        n = length(r)
        op = slice_of(r, n)
        if not op.isascii():
            raise ValueError("an unknown operation")
    except ValueError as error:
        raise Malformed("malformed_record", plan.place, f"{error.args[0]}, at byte {r.at}") from None
    return make(Opened, (epoch, seq, op.decode("ascii"), marks[0], marks[1], marks[2], marks[3], transaction, micros))


def open_values(plan: SkipPlan, values) -> list:
    """Per value: epoch, number, op, where before and after lie, the slice of the transaction's id,
    and the commit time."""
    r: Reader = Reader()
    marks: cython.longlong[::1] = array("q", bytes(8 * 16))
    value: bytes
    found: list = []
    for value in values:
        r.p = value
        r.end = len(value)
        found.append(open_value(plan, r, marks))
    return found
