# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows of a SELECT, as they come from the socket, become the same Avro rows: the second kernel."""

from __future__ import annotations

import cython

from cdc.codec.records import Numbers, Stamp
from cdc.errors import Halt

if not cython.compiled:
    from cdc.codec._buffer import (Buffer, le, put_byte, put_double, put_float, put_long, put_string, put_unscaled,
        put_unscaled_object)  # fmt: skip
    from cdc.codec._log import Frame, emit, key_of
    from cdc.codec._plan import RowPlan, Work, broken, put_text, valid_utf8
    from cdc.codec._wire import (put_address, put_bits, put_date, put_datetime, put_fixed, put_geometry, put_vector,
        put_zoned)  # fmt: skip
    from cdc.codec.ops import *

FLOAT_MAX = cython.declare(cython.double, 3.4028234663852886e38)
FULL = 0xFFFFFF  # a packet of this length goes on in the next one


@cython.cfunc
def piece(p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_const_char, p + at)[:n]
    return bytes(p[at : at + n])


@cython.final
@cython.cclass
class Packets:
    """The row packets of a block of socket bytes, one after another; a row over several packets is joined."""

    def __init__(self, block, start: int, end: int):
        if not 0 <= start <= end <= len(block):
            raise Halt("row_packets", "select", "the packets lie outside the block")
        self.block = memoryview(block)  # holds a bytearray's size while we point into it
        self.source = block
        self.at, self.end = start, end
        self.begin = self.stop = 0

    @cython.cfunc
    @cython.exceptval(-1)
    def next(self) -> cython.bint:
        """Step to the next whole row: `p[begin:stop]`; False before an EOF,
        OK or ERR packet and where bytes are missing."""
        at: cython.Py_ssize_t = self.at
        size: cython.Py_ssize_t
        parts: list = []
        if self.end - at < 5:
            return False
        size = le(self.source, at, 3)
        if size < FULL:
            if size > self.end - at - 4 or size == 0:
                return False
            if self.source[at + 4] >= 0xFE:
                return False
            self.p = self.source
            self.begin, self.stop = at + 4, at + 4 + size
            self.at = self.stop
            return True
        if self.source[at + 4] == 0xFF:
            return False
        while True:
            if size > self.end - at - 4:
                return False
            parts.append(piece(self.source, at + 4, size))
            at += 4 + size
            if size < FULL:
                break
            if self.end - at < 4:
                return False
            size = le(self.source, at, 3)
        self.joined = b"".join(parts)
        self.p = self.joined
        self.begin, self.stop = 0, len(self.joined)
        self.at = at
        return True


@cython.cfunc
@cython.exceptval(-1)
def number(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t,
           n: cython.Py_ssize_t) -> cython.ulonglong:  # fmt: skip
    """Decimal digits as an unsigned number; not more than 20 of them."""
    value: cython.ulonglong = 0
    k: cython.Py_ssize_t
    while n > 1 and p[at] == 48:  # ZEROFILL pads to the display width, which may be 255
        at += 1
        n -= 1
    if n == 0 or n > 20:
        raise broken(plan, i, at, "a number of impossible length")
    for k in range(at, at + n):
        if p[k] < 48 or p[k] > 57:
            raise broken(plan, i, at, "a number with something else in it")
        if k == at + 19 and (value > 1844674407370955161 or (value == 1844674407370955161 and p[k] > 53)):
            raise broken(plan, i, at, "a number beyond 64 bits")
        value = value * 10 + (p[k] - 48)
    return value


@cython.cfunc
@cython.exceptval(-1)
def select_integer(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                   n: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    op: cython.int = plan.op[i]
    negative: cython.bint = n > 0 and p[at] == 45
    if negative:
        at += 1
        n -= 1
    value: cython.ulonglong = number(plan, i, p, at, n)
    limit: cython.ulonglong = 1
    if op != UINT64:
        # The signed opcodes are the odd ones, and two of a width follow one another.
        limit <<= 63 if op == INT64 else 8 * ((op + 1) // 2) - (op & 1)
        if value >= limit and not (negative and value == limit):
            raise broken(plan, i, at, "a number beyond its column")
    if negative and op & 1 == 0:
        raise broken(plan, i, at, "a number beyond its column")
    if op == UINT64:
        return put_unscaled(b, value, False)
    if negative:
        if cython.compiled:
            return put_long(b, cython.cast(cython.longlong, ~value + 1))
        return put_long(b, -value)
    return put_long(b, value)


@cython.cfunc
@cython.exceptval(-1)
def select_decimal(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                   n: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """Digits with a point: the unscaled number. The column's scale is always written out."""
    scale: cython.Py_ssize_t = plan.b[i]
    negative: cython.bint = n > 0 and p[at] == 45
    if negative:
        at += 1
        n -= 1
    point: cython.Py_ssize_t = n - scale - 1 if scale > 0 else n
    if n == 0 or (scale > 0 and (point < 0 or p[at + point] != 46)):
        raise broken(plan, i, at, "a decimal without the digits of its scale")
    if point > 1 and point > plan.a[i] - scale:
        raise broken(plan, i, at, "a number beyond its column")
    if n <= 19:
        value: cython.ulonglong = 0
        k: cython.Py_ssize_t
        for k in range(n):
            if k != point:
                if p[at + k] < 48 or p[at + k] > 57:
                    raise broken(plan, i, at, "a number with something else in it")
                value = value * 10 + (p[at + k] - 48)
        return put_unscaled(b, value, negative)
    digits: bytes = piece(p, at, point) + piece(p, at + point + 1, n - point - 1 if scale > 0 else 0)
    if not digits.isdigit():
        raise broken(plan, i, at, "a number with something else in it")
    return put_unscaled_object(b, -int(digits) if negative else int(digits))


@cython.cfunc
def select_double(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                  n: cython.Py_ssize_t) -> object:  # fmt: skip
    """The double by Python's own conversion, which is exact."""
    text: bytes = piece(p, at, n)
    try:
        value = float(text)
    except ValueError:
        raise broken(plan, i, at, "a number with something else in it") from None
    # Python reads more than a server writes: names of what is no number, underscores, spaces.
    if value - value != 0 or text.strip(b"0123456789.eE+-"):
        raise broken(plan, i, at, "a number with something else in it")
    return value


@cython.cfunc
@cython.exceptval(-1)
def read_double(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                n: cython.Py_ssize_t) -> cython.double:  # fmt: skip
    """A double from text: up to 15 digits and a power of ten up to 22 are exact by one division;
    the rest goes the long way."""
    if not cython.compiled:
        return select_double(plan, i, p, at, n)
    mantissa: cython.longlong = 0
    k: cython.Py_ssize_t
    digits: cython.int = 0
    places: cython.int = 0
    dot: cython.bint = False
    begin: cython.Py_ssize_t = 1 if n > 0 and p[at] == 45 else 0
    for k in range(begin, n):
        if p[at + k] == 46 and not dot:
            dot = True
        elif 48 <= p[at + k] <= 57 and digits < 15:
            mantissa = mantissa * 10 + (p[at + k] - 48)
            digits += 1
            places += dot
        else:
            return select_double(plan, i, p, at, n)
    if digits == 0:
        return select_double(plan, i, p, at, n)
    value: cython.double = mantissa
    scale: cython.longlong = 1
    for k in range(places):
        scale *= 10
    value = value / cython.cast(cython.double, scale)
    return -value if begin else value


@cython.cfunc
@cython.exceptval(-1)
def two(p: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Two digits; 200 where they are none (which every check of a range refuses)."""
    if p[at] < 48 or p[at] > 57 or p[at + 1] < 48 or p[at + 1] > 57:
        return 200
    return (p[at] - 48) * 10 + p[at + 1] - 48


@cython.cfunc
@cython.exceptval(-1)
def clock(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t,
          n: cython.Py_ssize_t) -> cython.longlong:  # fmt: skip
    """`MM:SS` and, by the column, a fraction, in microseconds."""
    fsp: cython.int = plan.a[i]
    if n != 5 + (fsp + 1 if fsp > 0 else 0) or p[at + 2] != 58 or (fsp > 0 and p[at + 5] != 46):
        raise broken(plan, i, at, "a time of unexpected form")
    minute: cython.longlong = two(p, at)
    second: cython.longlong = two(p, at + 3)
    if minute > 59 or second > 59:
        raise broken(plan, i, at, "a time that is none")
    micros: cython.longlong = 0
    k: cython.Py_ssize_t
    if fsp > 0:
        micros = number(plan, i, p, at + 6, fsp)
        for k in range(6 - fsp):
            micros *= 10
    return (minute * 60 + second) * 1000000 + micros


@cython.cfunc
@cython.exceptval(-1)
def select_moment(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                  n: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """DATE, DATETIME and TIMESTAMP: `YYYY-MM-DD[ HH:MM:SS[.F]]`."""
    op: cython.int = plan.op[i]
    if (
        n < 10
        or p[at + 4] != 45
        or p[at + 7] != 45
        or (op == DATE and n != 10)
        or (op != DATE and (n < 19 or p[at + 10] != 32))
    ):
        raise broken(plan, i, at, "a date of unexpected form")
    year: cython.longlong = number(plan, i, p, at, 4)
    month: cython.int = two(p, at + 5)
    day: cython.int = two(p, at + 8)
    if month > 12 or day > 31:
        raise broken(plan, i, at, "a date that is none")
    if op == DATE:
        return put_date(plan, i, b, year, month, day, True)
    hour: cython.longlong = two(p, at + 11)
    if hour > 23 or p[at + 13] != 58:
        raise broken(plan, i, at, "a time of day that is none")
    micros: cython.longlong = hour * 3600000000 + clock(plan, i, p, at + 14, n - 14)
    if op == DATETIME:
        return put_datetime(plan, i, b, year, month, day, micros, True)
    return put_zoned(plan, i, b, year, month, day, micros, True)


@cython.cfunc
@cython.exceptval(-1)
def select_time(plan: RowPlan, i: cython.Py_ssize_t, b: Buffer, p: cython.p_const_uchar, at: cython.Py_ssize_t,
                n: cython.Py_ssize_t) -> cython.int:  # fmt: skip
    """TIME: `[-]HH[H]:MM:SS[.F]`."""
    negative: cython.bint = n > 0 and p[at] == 45
    if negative:
        at += 1
        n -= 1
    width: cython.Py_ssize_t = 3 if n > 3 and p[at + 3] == 58 else 2
    if n < 8 or p[at + width] != 58:
        raise broken(plan, i, at, "a time of unexpected form")
    hours: cython.longlong = number(plan, i, p, at, width)
    micros: cython.longlong = hours * 3600000000 + clock(plan, i, p, at + width + 1, n - width - 1)
    return put_long(b, -micros if negative else micros)


@cython.cfunc
@cython.exceptval(-1)
def field(plan: RowPlan, i: cython.Py_ssize_t, p: cython.p_const_uchar, at: cython.Py_ssize_t, n: cython.Py_ssize_t,
          b: Buffer) -> cython.int:  # fmt: skip
    """Write one value that is not null."""
    op: cython.int = plan.op[i]
    if op <= UINT64:
        select_integer(plan, i, b, p, at, n)
    elif op == TEXT or op == ENUM or op == SET:
        put_text(plan, i, b, p, at, n)
    elif op == DOUBLE:
        put_double(b, read_double(plan, i, p, at, n))
    elif op == FLOAT:
        real: cython.double = read_double(plan, i, p, at, n)
        if real > FLOAT_MAX or real < -FLOAT_MAX:
            raise broken(plan, i, at, "a number beyond its column")
        put_float(b, real)
    elif op == DATE or op == DATETIME or op == TIMESTAMP:
        select_moment(plan, i, b, p, at, n)
    elif op == TIME:
        select_time(plan, i, b, p, at, n)
    elif op == DECIMAL:
        select_decimal(plan, i, b, p, at, n)
    elif op == YEAR:
        year: cython.ulonglong = number(plan, i, p, at, n)
        if year > 2155:
            raise broken(plan, i, at, "a number beyond its column")
        put_long(b, year)
    elif op == BYTES or op == JSON:
        if op == JSON and not valid_utf8(p, at, n, 0xF4):
            raise broken(plan, i, at, "a JSON document that is not UTF-8")
        put_string(b, p, at, n)
    elif op == FIXED:
        put_fixed(plan, i, b, p, at, n)
    elif op == BIT or op == BITS:
        put_bits(plan, i, b, p, at, n)
    elif op == GEOMETRY:
        put_geometry(plan, i, b, p, at, n)
    elif op == VECTOR:
        put_vector(plan, i, b, p, at, n)
    else:
        put_address(plan, i, b, p, at, n)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def row(plan: RowPlan, p: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t,
        w: Work) -> cython.Py_ssize_t:  # fmt: skip
    """Write one row packet as an Avro row."""
    i: cython.Py_ssize_t
    n: cython.Py_ssize_t
    width: cython.int
    u: cython.ulonglong
    b: Buffer = w.rows
    plan.counting = True
    for i in range(plan.count):
        if at >= end:
            raise broken(plan, i, at, "the row ends before its columns do")
        n = p[at]
        at += 1
        if n == 0xFB:
            if plan.tag[i] < 2 or plan.iskey[i]:
                raise broken(plan, i, at, "a null in a column that allows none")
            put_byte(b, 0)
            w.at[i] = w.to[i] = b.n
            continue
        if n > 0xFB:
            width = 2 if n == 0xFC else 3 if n == 0xFD else 8
            if n == 0xFF or width > end - at:
                raise broken(plan, i, at, "the row ends inside a length")
            u = le(p, at, width)
            at += width
            if u > cython.cast(cython.ulonglong, end - at):
                raise broken(plan, i, at, "the row ends inside a value")
            n = u
        elif n > end - at:
            raise broken(plan, i, at, "the row ends inside a value")
        if plan.tag[i] > 0:
            put_byte(b, 2)
        w.at[i] = b.n
        field(plan, i, p, at, n, b)
        w.to[i] = b.n
        at += n
    if at != end:
        raise broken(plan, -1, at, "the row has more columns than the plan")
    return at


def encode_select(plan: RowPlan, block, start: int, end: int, stamp: Stamp, numbers: Numbers, out: list) -> int:
    """Append an `r` record for each whole row packet in `block[start:end]`; how many bytes were used.

    Stops before an EOF, OK or ERR packet and before an incomplete row.
    """
    packets: Packets = Packets(block, start, end)
    made: list = []
    used: list = list(numbers.seq)
    f: Frame = Frame(stamp, numbers, made)
    f.seq = used
    w: Work = plan.work()
    rows: cython.longlong = 0
    while packets.next():
        w.rows.n = 0
        row(plan, packets.p, packets.begin, packets.stop, w)
        emit(plan, f, w, 114, 0, -1, 0, w.rows.n, None if plan.keys == 0 else key_of(plan, f, w, 0), rows, None)
        rows += 1
    plan.keep(w)
    numbers.seq[:] = used
    f.close()
    out.extend(made)
    return packets.at - start
