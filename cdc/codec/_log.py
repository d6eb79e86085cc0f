# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows events of the log become records: numbered, placed, with their tombstones and changed keys."""

from __future__ import annotations

import cython

from cdc.codec.records import Numbers, Stamp
from cdc.errors import Halt
from cdc.model.record import Record

if not cython.compiled:
    from cdc.codec._buffer import Buffer, murmur2, put_buffer, put_byte, put_digits, put_long, put_object, taken
    from cdc.codec._image import image
    from cdc.codec._plan import RowPlan, Work, put_key

make = tuple.__new__  # a named tuple's own constructor takes twice as long


@cython.final
@cython.cclass
class Frame:
    """What surrounds the rows of one call, taken apart once."""

    def __init__(self, stamp, numbers, out: list):
        self.key_frame, self.value_frame, self.head, self.tail, self.transaction, self.times = stamp
        self.numbers, self.out, self.seq = numbers, out, numbers.seq
        self.partitions = numbers.partitions
        self.epoch = b"%d." % numbers.epoch
        if numbers.transaction != self.transaction:
            numbers.transaction, numbers.order = self.transaction, 0
        self.total, self.order = numbers.total, numbers.order

    def close(self):
        """Hand the counts back."""
        self.numbers.total, self.numbers.order = self.total, self.order


@cython.cfunc
def key_of(plan: RowPlan, f: Frame, w: Work, image: cython.Py_ssize_t) -> bytes:
    """The framed key of an image."""
    put_key(plan, w, w.key, f.key_frame, image)
    return taken(w.key, 0, w.key.n)


@cython.cfunc
@cython.exceptval(-1)
def put_image(b: Buffer, rows: Buffer, at: cython.Py_ssize_t, to: cython.Py_ssize_t) -> cython.int:
    if to < 0:
        return put_byte(b, 0)
    put_byte(b, 2)
    return put_buffer(b, rows, at, to - at)


@cython.cfunc
@cython.exceptval(-1)
def emit(
    plan: RowPlan,
    f: Frame,
    w: Work,
    op: cython.int,
    before: cython.Py_ssize_t,
    before_to: cython.Py_ssize_t,
    after: cython.Py_ssize_t,
    after_to: cython.Py_ssize_t,
    key: bytes,
    row: cython.longlong,
    headers: object,
) -> cython.int:
    """Append one numbered record, and its tombstone after a delete; an image with end -1 is null."""
    b: Buffer = w.value
    place: cython.Py_ssize_t = 0
    number: cython.longlong
    if key is not None and f.partitions > 1:
        pointer: cython.p_const_uchar = key
        place = (murmur2(pointer, len(key)) & 0x7FFFFFFF) % f.partitions
    number = f.seq[place]
    number += 1
    f.seq[place] = number
    f.total += 1
    f.order += 1
    b.n = 0
    put_object(b, f.value_frame)
    put_image(b, w.rows, before, before_to)
    put_image(b, w.rows, after, after_to)
    put_object(b, f.head)
    w.other.n = 0
    put_object(w.other, f.epoch)
    put_digits(w.other, number, 1)
    put_byte(b, 2)
    put_long(b, w.other.n)
    put_buffer(b, w.other, 0, w.other.n)
    put_object(b, f.tail)
    put_long(b, row)
    put_byte(b, 0)
    put_byte(b, 0)
    if len(f.transaction) > 0:
        put_object(b, f.transaction)
        put_long(b, f.total)
        put_long(b, f.order)
    else:
        put_byte(b, 0)
    put_byte(b, 2)
    put_byte(b, op)
    put_object(b, f.times)
    record: tuple = (place, key, taken(b, 0, b.n), headers)
    f.out.append(make(Record, record))
    if op == 100 and key is not None:
        record = (place, key, None, headers)
        f.out.append(make(Record, record))
    return 0


@cython.cfunc
@cython.exceptval(-1)
def emit_update(plan: RowPlan, f: Frame, w: Work, middle: cython.Py_ssize_t, row: cython.longlong) -> cython.int:
    """An update, or a delete and a create where the key's bytes differ."""
    if plan.keys == 0:
        return emit(plan, f, w, 117, 0, middle, middle, w.rows.n, None, row, None)
    old: bytes = key_of(plan, f, w, 0)
    new: bytes = key_of(plan, f, w, 1)
    if old == new:
        return emit(plan, f, w, 117, 0, middle, middle, w.rows.n, new, row, None)
    emit(plan, f, w, 100, 0, middle, 0, -1, old, row, [("__debezium.newkey", new)])
    return emit(plan, f, w, 99, 0, -1, middle, w.rows.n, new, row, [("__debezium.oldkey", old)])


@cython.cfunc
@cython.exceptval(-1)
def rows_between(
    plan: RowPlan,
    p: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    last: cython.Py_ssize_t,
    op: cython.int,
    f: Frame,
    w: Work,
) -> cython.longlong:
    """Emit the rows that lie in `p[at:last]`, for an update pairs of them; how many there were.

    `op` 112 is an update of which the row before is not known."""
    rows: cython.longlong = 0
    middle: cython.Py_ssize_t
    while at < last:
        w.rows.n = 0
        at = image(plan, p, at, last, w, 0, op == 99 or op == 112)
        if op == 117:
            middle = w.rows.n
            at = image(plan, p, at, last, w, 1, True)
            emit_update(plan, f, w, middle, rows)
        elif op == 100:
            emit(plan, f, w, 100, 0, w.rows.n, 0, -1, None if plan.keys == 0 else key_of(plan, f, w, 0), rows, None)
        else:
            middle = 117 if op == 112 else 99
            emit(plan, f, w, middle, 0, -1, 0, w.rows.n, None if plan.keys == 0 else key_of(plan, f, w, 0), rows, None)
        rows += 1
    return rows


def encode_rows(
    plan: RowPlan, body: bytes, start: int, end: int, kind: str, stamp: Stamp, numbers: Numbers, out: list
) -> int:
    """Append the records of one rows event to `out`; how many rows it held. Nothing is appended for a malformed event.

    `body[start:end]` are its row images, for "u" pairs of before and after; of "p", an update, those after alone.
    """
    if not 0 <= start <= end <= len(body):
        raise Halt("rows_event", plan.table.qualified, "the rows lie outside the event")
    p: cython.p_const_uchar = body
    made: list = []
    used: list = list(numbers.seq)
    f: Frame = Frame(stamp, numbers, made)
    f.seq = used
    w: Work = plan.work()
    op: cython.int = {"c": 99, "d": 100, "p": 112, "u": 117}[kind]
    rows: cython.longlong = rows_between(plan, p, start, end, op, f, w)
    plan.keep(w)
    numbers.seq[:] = used
    f.close()
    out.extend(made)
    return rows
