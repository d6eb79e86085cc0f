# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The plan of a source table: one opcode and its numbers per column, and the text of any character set made UTF-8."""

from __future__ import annotations

from array import array

import cython

from cdc.codec import charsets as charset_table
from cdc.codec.layout import slots
from cdc.codec.policy_values import replaced, sentinel
from cdc.errors import Halt, Malformed
from cdc.model.types import nullable_on_wire

if not cython.compiled:
    from cdc.codec._buffer import Buffer, put_long, put_object, put_raw, put_string

FAULTS = ("", "zero_date", "partial_date", "impossible_date", "year_zero")
DATES = ("null", "sentinel", "text", "error")


@cython.final
@cython.cclass
class Work:
    """The memory of one call: encoded rows, a record's value, its key, and where each column of two images lies."""

    def __init__(self, count: int):
        self.rows, self.value, self.key, self.other = Buffer(), Buffer(), Buffer(256), Buffer(256)
        self.at, self.to = array("q", bytes(16 * count)), array("q", bytes(16 * count))


@cython.final
@cython.cclass
class RowPlan:
    """How rows of one table become Avro; `anomalies` counts what was changed, by (column, reason).

    `unlisted` is as in `Table`, and may be set: a table has as many as its newest map of the log says.
    """

    def __init__(self, table):
        found = slots(table)
        if not found:
            raise Halt("table", table.qualified, "a table without columns")
        self.table, self.count, self.keys = table, len(found), len(table.key)
        self.unlisted = table.unlisted
        self.anomalies, self.spare = {}, None
        self.names = [column.name for column in table.columns]
        self.op, self.a = array("i", [slot.op for slot in found]), array("i", [slot.a for slot in found])
        self.b, self.c = array("i", [slot.b for slot in found]), array("i", [slot.c for slot in found])
        self.tag = array("i", [nullable_on_wire(column) + column.nullable for column in table.columns])
        self.iskey = array("i", [i in table.key for i in range(len(found))])
        self.key = array("i", table.key)
        self.labels = [list(slot.labels) for slot in found]
        self.charsets = [slot.charset for slot in found]
        self.tables = [_table(name, i in table.key) for i, name in enumerate(self.charsets)]
        policies = [column.policy for column in table.columns]
        self.dates = array("i", [DATES.index(policy.zero_date) for policy in policies])
        self.sentinels = [sentinel(column) for column in table.columns]
        self.replaces = [
            slot.op == 21 and policy.invalid_text == "replace" for slot, policy in zip(found, policies, strict=True)
        ]
        self.counting = True

    @cython.cfunc
    def work(self) -> Work:
        """Memory for one call: the plan's own when it is free, so that two threads never share one."""
        found: Work = self.spare
        if found is None:
            found = Work(self.count)
        self.spare = None
        return found

    @cython.cfunc
    @cython.exceptval(-1)
    def keep(self, w: Work) -> cython.int:
        w.rows.reset()
        w.value.reset()
        self.spare = w
        return 0


def _table(name, key):
    if name and charset_table.CHARSETS[name].kind == charset_table.TABLE:
        return charset_table.table(name, key)
    return b""


@cython.cfunc
def broken(plan: RowPlan, i: cython.Py_ssize_t, at: cython.Py_ssize_t, rule: str) -> object:
    """The error of a row that does not obey its format: the column and the offset, never the value."""
    place = plan.table.qualified if i < 0 else f"{plan.table.qualified}.{plan.names[i]}"
    return Malformed(
        "malformed_row", place, f"{rule} at byte {at}", "copy the table again; report it if it happens again"
    )


@cython.cfunc
@cython.exceptval(-1)
def anomaly(plan: RowPlan, i: cython.Py_ssize_t, fault: cython.int, counting: cython.bint, b: Buffer) -> cython.int:
    """Make the value what its policy says, behind the branch just written, and count it; in a key that would lose the
    row.

    What an image before a change held was counted when it was written, and is of no use where it stopped the pipeline
    then: null.
    """
    reason = FAULTS[fault]
    name = plan.names[i]
    if plan.iskey[i]:
        rule = f"a key column holds a date that PostgreSQL cannot store ({reason})"
        raise Halt(
            "key_date", f"{plan.table.qualified}.{name}", rule, "mend the row's key on the source, or exclude the table"
        )
    if plan.dates[i] == 3 and counting:
        hint = "choose another policies.zero_date for the column, mend the row on the source, or exclude the table"
        raise Halt(
            "zero_date", f"{plan.table.qualified}.{name}", f"a date that PostgreSQL cannot store ({reason})", hint
        )
    if plan.dates[i] == 1:
        put_object(b, plan.sentinels[i])
    else:
        b.data[b.n - 1] = 0
    if counting:
        plan.anomalies[(name, reason)] = plan.anomalies.get((name, reason), 0) + 1
    return 0


@cython.cfunc
def valid_utf8(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t, top: cython.uint) -> cython.bint:
    """Whether the bytes are UTF-8 as Unicode defines it: shortest forms, no surrogates, nothing past U+10FFFF,
    no byte above `top`."""
    end: cython.Py_ssize_t = at + n
    c: cython.uint
    d: cython.uint
    while at < end:
        c = p[at]
        if c < 0x80:
            at += 1
        elif c < 0xC2 or c > top:
            return False
        elif c < 0xE0:
            if at + 2 > end or (p[at + 1] & 0xC0) != 0x80:
                return False
            at += 2
        elif c < 0xF0:
            if at + 3 > end or (p[at + 1] & 0xC0) != 0x80 or (p[at + 2] & 0xC0) != 0x80:
                return False
            d = p[at + 1]
            if (c == 0xE0 and d < 0xA0) or (c == 0xED and d > 0x9F):
                return False
            at += 3
        else:
            if at + 4 > end or (p[at + 1] & 0xC0) != 0x80 or (p[at + 2] & 0xC0) != 0x80 or (p[at + 3] & 0xC0) != 0x80:
                return False
            d = p[at + 1]
            if (c == 0xF0 and d < 0x90) or (c == 0xF4 and d > 0x8F):
                return False
            at += 4
    return True


@cython.cfunc
@cython.exceptval(-1)
def put_table(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """Text of a one-byte character set as an Avro string; 1 where a byte is no character."""
    entries: bytes = plan.tables[i]
    t: cython.p_const_uchar = entries
    k: cython.Py_ssize_t
    size: cython.Py_ssize_t = 0
    for k in range(at, at + n):
        if t[p[k] * 4] == 0:
            return 1
        size += t[p[k] * 4]
    put_long(b, size)
    if b.n + size + 4 > b.size:
        b.need(size + 4)
    entry: cython.Py_ssize_t
    for k in range(at, at + n):
        entry = p[k] * 4
        b.data[b.n] = t[entry + 1]
        if t[entry] > 1:
            b.data[b.n + 1] = t[entry + 2]
            b.data[b.n + 2] = t[entry + 3]
        b.n += t[entry]
    return 0


@cython.cfunc
def piece(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_const_char, p + at)[:n]
    return bytes(p[at : at + n])


@cython.cfunc
@cython.exceptval(-1)
def put_replaced(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, value: bytes, strip: cython.bint) -> cython.int:
    """Text with something in it that is no character of the column's set."""
    text: bytes = replaced(plan.charsets[i], value)
    if strip:
        text = text.rstrip(b" ")
    if plan.counting:
        what = (plan.names[i], "invalid_text")
        plan.anomalies[what] = plan.anomalies.get(what, 0) + 1
    put_long(b, len(text))
    return put_object(b, text)


@cython.cfunc
@cython.exceptval(-1)
def put_text(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """Text of the column's character set as an Avro string; CHAR loses its trailing spaces, as the server shows it."""
    kind: cython.int = plan.b[i]
    strip: cython.bint = plan.op[i] == 21 and (plan.c[i] & 1) == 1
    if kind != 2:
        if strip:
            while n > 0 and p[at + n - 1] == 32:
                n -= 1
        if kind == 0 or kind == 3:
            if valid_utf8(p, at, n, 0xF4 if kind == 0 else 0xEF):
                return put_string(b, p, at, n)
        elif put_table(plan, i, b, p, at, n) == 0:
            return 0
    else:
        text: object = charset_table.to_utf8(plan.charsets[i], piece(p, at, n), plan.iskey[i])
        if text is not None:
            if strip:
                text = text.rstrip(b" ")
            put_long(b, len(text))
            return put_object(b, text)
    if plan.replaces[i] and not plan.iskey[i]:
        return put_replaced(plan, i, b, piece(p, at, n), strip)
    place = f"{plan.table.qualified}.{plan.names[i]}"
    hint = "mend the rows whose bytes are not valid in the column's character set, or exclude the table"
    if plan.iskey[i] and charset_table.readable(plan.charsets[i], piece(p, at, n)):
        rule = f"a key spells a character of {plan.charsets[i]} in its second way: two keys could become one"
        raise Halt("key_text", place, rule, "CONVERT the column TO utf8mb4, mend the row's key, or exclude the table")
    raise Halt("invalid_text", place, f"a value is not valid in {plan.charsets[i]}", hint)


@cython.cfunc
@cython.exceptval(-1)
def put_key(plan: RowPlan, w: Work, key: Buffer, frame: bytes, image: cython.Py_ssize_t) -> cython.int:
    """The framed key of an encoded image: the columns' own bytes, without their null branches."""
    k: cython.Py_ssize_t
    i: cython.Py_ssize_t
    key.n = 0
    put_object(key, frame)
    for k in range(plan.keys):
        i = image * plan.count + plan.key[k]
        put_raw(key, w.rows.data, w.at[i], w.to[i] - w.at[i])
    return 0
