# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""MySQL's binary JSON becomes the text that MySQL itself prints,
so that a row read from the log equals the same row selected."""

from __future__ import annotations

import struct

import cython

from cdc.codec.json_text import double_text, opaque_text

if not cython.compiled:
    from cdc.codec._buffer import Buffer, le, put_buffer, put_byte, put_long, put_object, put_raw
    from cdc.codec._plan import RowPlan, broken, valid_utf8

DEPTH = 110  # MySQL refuses documents deeper than 100
HEX = b"0123456789abcdef"
LITERALS = (b"null", b"true", b"false")
ESCAPES = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}


@cython.cfunc
@cython.exceptval(-1)
def put_quoted(b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> cython.int:
    """A JSON string with MySQL's escapes."""
    end: cython.Py_ssize_t = at + n
    start: cython.Py_ssize_t = at
    c: cython.int
    digits: cython.p_const_uchar = HEX
    put_byte(b, 34)
    while at < end:
        c = p[at]
        if c < 32 or c == 34 or c == 92:
            put_raw(b, p, start, at - start)
            start = at + 1
            escape = ESCAPES.get(c)
            if escape is not None:
                put_object(b, escape)
            else:
                put_object(b, b"\\u00")
                put_byte(b, digits[c >> 4])
                put_byte(b, digits[c & 15])
        at += 1
    put_raw(b, p, start, end - start)
    return put_byte(b, 34)


@cython.cfunc
@cython.exceptval(-1)
def put_integer(b: Buffer, value: cython.longlong) -> cython.int:
    return put_object(b, b"%d" % value)


@cython.cfunc
@cython.exceptval(-1)
def signed(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.int) -> cython.longlong:
    value: cython.longlong = le(p, at, n)
    if p[at + n - 1] & 0x80:
        one: cython.longlong = 1
        value -= one << (8 * n)
    return value


@cython.cfunc
@cython.exceptval(-1)
def scalar(
    plan: RowPlan,
    i: cython.Py_ssize_t,
    b: Buffer,
    kind: cython.int,
    p: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
) -> cython.int:
    """A value that is neither object nor array."""
    left: cython.Py_ssize_t = end - at
    need: cython.int = 1
    if kind == 5 or kind == 6:
        need = 2
    elif kind == 7 or kind == 8:
        need = 4
    elif kind == 9 or kind == 10 or kind == 11:
        need = 8
    if left < need:
        raise broken(plan, i, at, "a JSON document that ends inside a value")
    if kind == 4:
        if p[at] > 2:
            raise broken(plan, i, at, "an unknown JSON literal")
        return put_object(b, LITERALS[p[at]])
    if kind == 5 or kind == 7:
        return put_integer(b, signed(p, at, need))
    if kind == 6 or kind == 8 or kind == 10:
        return put_object(b, b"%d" % le(p, at, need))
    if kind == 9:
        return put_object(b, b"%d" % struct.unpack("<q", piece(p, at, 8)))
    if kind == 11:
        (double,) = struct.unpack("<d", piece(p, at, 8))
        if double - double != 0:
            raise broken(plan, i, at, "a JSON number that is none")
        return put_object(b, double_text(double))
    opaque: cython.int = -1
    if kind == 15:
        opaque = p[at]
        at += 1
    elif kind != 12:
        raise broken(plan, i, at, "an unknown JSON type")
    size: cython.longlong = 0
    shift: cython.int = 0
    while True:
        if at >= end or shift > 28:
            raise broken(plan, i, at, "a JSON length that does not end")
        size |= cython.cast(cython.longlong, p[at] & 0x7F) << shift
        shift += 7
        at += 1
        if p[at - 1] < 0x80:
            break
    if size > end - at:
        raise broken(plan, i, at, "a JSON document that ends inside a string")
    if opaque < 0:
        return put_quoted(b, p, at, size)
    text = opaque_text(opaque, piece(p, at, size))
    if text is None:
        raise broken(plan, i, at, "an opaque JSON value that its kind does not have")
    return put_object(b, text)


@cython.cfunc
def piece(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_const_char, p + at)[:n]
    return bytes(p[at : at + n])


@cython.cfunc
@cython.exceptval(-1)
def container(
    plan: RowPlan,
    i: cython.Py_ssize_t,
    b: Buffer,
    kind: cython.int,
    p: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    depth: cython.int,
    limit: cython.Py_ssize_t,
) -> cython.int:
    """An object or an array: counts, key entries, value entries, then keys and values at offsets from its own start."""
    wide: cython.int = 4 if (kind & 1) else 2
    is_object: cython.bint = kind < 2
    base: cython.Py_ssize_t = at
    if end - at < 2 * wide or depth > DEPTH:
        raise broken(plan, i, at, "a JSON container that is too short or too deep")
    count: cython.Py_ssize_t = le(p, at, wide)
    size: cython.Py_ssize_t = le(p, at + wide, wide)
    entry: cython.Py_ssize_t = (wide + 2 if is_object else 0) + 1 + wide
    if size > end - at or size < 2 * wide or count > (size - 2 * wide) // entry:
        raise broken(plan, i, at, "a JSON container that is longer than its document")
    end = base + size
    keys: cython.Py_ssize_t = base + 2 * wide
    values: cython.Py_ssize_t = keys + (count * (wide + 2) if is_object else 0)
    head: cython.Py_ssize_t = values - base + count * (1 + wide)
    k: cython.Py_ssize_t
    where: cython.Py_ssize_t
    n: cython.Py_ssize_t
    inner: cython.int
    put_byte(b, 123 if is_object else 91)
    for k in range(count):
        # Values may lie at one place, and a crafted document nests that: it ends at the length that no real one passes.
        if b.n > limit:
            raise broken(plan, i, at, "a JSON document whose values lie over one another")
        if k > 0:
            put_byte(b, 44)
            put_byte(b, 32)
        if is_object:
            where = le(p, keys + k * (wide + 2), wide)
            n = le(p, keys + k * (wide + 2) + wide, 2)
            if where < head or where > size or n > size - where:
                raise broken(plan, i, at, "a JSON key outside its document")
            put_quoted(b, p, base + where, n)
            put_byte(b, 58)
            put_byte(b, 32)
        at = values + k * (1 + wide)
        inner = p[at]
        if 4 <= inner <= 6 or (wide == 4 and (inner == 7 or inner == 8)):
            scalar(plan, i, b, inner, p, at + 1, at + 1 + wide)
            continue
        where = le(p, at + 1, wide)
        if where < head or where > size:
            raise broken(plan, i, at, "a JSON value outside its document")
        if inner < 4:
            container(plan, i, b, inner, p, base + where, end, depth + 1, limit)
        else:
            scalar(plan, i, b, inner, p, base + where, end)
    return put_byte(b, 125 if is_object else 93)


@cython.cfunc
@cython.exceptval(-1)
def put_json(
    plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t
) -> cython.int:
    """One document as an Avro string; an empty one is `null`, as the server reads it."""
    text: Buffer = Buffer(4 * n + 64)
    if n == 0:
        put_object(text, b"null")
    elif p[at] < 4:
        # The most that text grows is a control character in a string: six bytes for one.
        container(plan, i, text, p[at], p, at + 1, at + n, 1, 8 * n + 64)
    else:
        scalar(plan, i, text, p[at], p, at + 1, at + n)
    if not valid_utf8(text.data, 0, text.n, 0xF4):
        raise broken(plan, i, at, "a JSON document that is not UTF-8")
    put_long(b, text.n)
    return put_buffer(b, text, 0, text.n)
