# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Avro rows become tuples of PostgreSQL's binary COPY: the third kernel."""

from __future__ import annotations

from array import array

import cython

from cdc.errors import Halt, Malformed

if not cython.compiled:
    from cdc.codec._buffer import Buffer, put_be, put_object, put_raw, taken
    from cdc.codec._pgfield import Reader, copy_field, has_nul, length, put_length, slice_of, zoned_micros
    from cdc.codec._plan import RowPlan, Work
    from cdc.codec._select import Packets, row
    from cdc.codec.ops import TO_FLAG, TO_LOCAL, TO_TEXT_CHOSEN


@cython.final
@cython.cclass
class CopyPlan:
    """How an Avro row becomes a tuple: per column the opcode, its number, and which branch of its union is null (-1: no
    union).

    `choices` are the policies' (`cdc.codec.policy_values`), None where the opcode needs none; `changed` counts what
    they changed.
    """

    def __init__(self, place: str, names: list, ops: list, numbers: list, nulls: list, choices=None):
        self.place, self.names, self.count = place, names, len(names)
        self.choices, self.changed = choices or [None] * len(names), {}
        self.op, self.a, self.null = array("i", ops), array("i", numbers), array("i", nulls)
        self.spare = None


@cython.cfunc
@cython.exceptval(-1)
def copy_chosen(plan: CopyPlan, i: cython.Py_ssize_t, b: Buffer, r: Reader) -> cython.int:
    """One field that is not null, as the column's policy wants it."""
    op: cython.int = plan.op[i]
    n: cython.Py_ssize_t
    if op == TO_FLAG:
        found: tuple = plan.choices[i](r.number())
    elif op == TO_LOCAL:
        n = length(r)
        found = plan.choices[i](zoned_micros(r.p, r.at, n))
        r.at += n
    else:
        n = length(r)
        if op == TO_TEXT_CHOSEN and not has_nul(r.p, r.at, n):
            put_length(b, n)
            put_raw(b, r.p, r.at, n)
            r.at += n
            return 0
        found = plan.choices[i](slice_of(r, n))
        r.at += n
    if found[1]:
        what = (plan.names[i], found[1])
        plan.changed[what] = plan.changed.get(what, 0) + 1
    if found[0] is None:
        return put_be(b, 0xFFFFFFFF, 4)
    put_length(b, len(found[0]))
    return put_object(b, found[0])


@cython.cfunc
@cython.exceptval(-1)
def copy_row(plan: CopyPlan, b: Buffer, r: Reader) -> cython.int:
    """One tuple: the number of fields, then each field."""
    i: cython.Py_ssize_t
    branch: cython.longlong
    put_be(b, plan.count, 2)
    for i in range(plan.count):
        try:
            if plan.null[i] >= 0:
                branch = r.number()
                if branch == plan.null[i]:
                    put_be(b, 0xFFFFFFFF, 4)
                    continue
                if branch < 0 or branch > 1:
                    raise ValueError("an unknown branch of a union")
            if plan.op[i] < TO_TEXT_CHOSEN:
                copy_field(b, r, plan.op[i], plan.a[i])
            else:
                copy_chosen(plan, i, b, r)
        except ValueError as error:
            raise Malformed(
                "malformed_record", f"{plan.place}.{plan.names[i]}", f"{error.args[0]}, at byte {r.at}"
            ) from None
        except Halt as error:
            raise Halt(error.code, f"{plan.place}.{plan.names[i]}", error.rule, error.hint) from None
    return 0


@cython.cfunc
def own_buffer(plan: CopyPlan) -> Buffer:
    """The plan's own buffer when it is free, so that two threads never share one."""
    found: Buffer = plan.spare
    plan.spare = None
    if found is None:
        found = Buffer(1 << 16)
    found.reset()
    return found


def copy_rows(plan: CopyPlan, rows, out: bytearray) -> None:
    """Append a tuple for each (value, offset of the row's Avro form)."""
    b: Buffer = own_buffer(plan)
    r: Reader = Reader()
    value: bytes
    for value, at in rows:
        if not 0 <= at <= len(value):
            raise Malformed("malformed_record", plan.place, "a row outside its record")
        r.p = value
        r.at, r.end = at, len(value)
        copy_row(plan, b, r)
    out += taken(b, 0, b.n)
    plan.spare = b


def select_to_copy(plan: RowPlan, copy_plan: CopyPlan, block, start: int, end: int, out: bytearray) -> tuple:
    """Append a tuple for each whole row packet in `block[start:end]`; how many bytes and rows that were."""
    packets: Packets = Packets(block, start, end)
    w: Work = plan.work()
    b: Buffer = own_buffer(copy_plan)
    r: Reader = Reader()
    rows: cython.Py_ssize_t = 0
    while packets.next():
        w.rows.n = 0
        row(plan, packets.p, packets.begin, packets.stop, w)
        r.p = w.rows.data
        r.at, r.end = 0, w.rows.n
        copy_row(copy_plan, b, r)
        rows += 1
    out += taken(b, 0, b.n)
    copy_plan.spare = b
    plan.keep(w)
    return packets.at - start, rows
