# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loop: draw an image, mutate it, decode it from a block of exactly its size, judge what came out.

Written like a kernel: compiled it is as fast as they are, uncompiled it does the very same. Everything follows from the seed and
the number of the iteration, so that any single one can be run again.
"""

from __future__ import annotations

import zlib
from array import array

import cython

from cdc.codec.records import Numbers
from cdc.errors import Halt, Malformed

if not cython.compiled:
    from cdc.codec._buffer import Buffer, put_buffer, put_byte, put_object, taken
    from cdc.codec._copy import CopyPlan, copy_row
    from cdc.codec._image import value
    from cdc.codec._json import put_json
    from cdc.codec._log import Frame, rows_between
    from cdc.codec._open import open_value
    from cdc.codec._pgfield import Reader, put_numeric
    from cdc.codec._plan import Work
    from cdc.codec._select import Packets, row

INSERT = cython.declare(cython.int, 0)
UPDATE = cython.declare(cython.int, 1)
DELETE = cython.declare(cython.int, 2)
SELECT = cython.declare(cython.int, 3)
PACKETS = cython.declare(cython.int, 4)
COPY = cython.declare(cython.int, 5)
KEY = cython.declare(cython.int, 6)
ENVELOPE = cython.declare(cython.int, 7)
VALUE = cython.declare(cython.int, 8)
JSON = cython.declare(cython.int, 9)
NUMERIC = cython.declare(cython.int, 10)
HALTS = {"invalid_text", "key_date", "key_text", "nul_in_text"}  # a value that is whole, and that no target takes
EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFB,
    0xFC,
    0xFD,
    0xFE,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0xFFFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    -1,
    1 << 62,
)
LARGE = cython.declare(cython.Py_ssize_t, 192)  # longer images come up once in 32 times
MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)


class Unsound(AssertionError):
    """A kernel took an image and made of it what it must not."""


@cython.final
@cython.cclass
class Lane:
    """Images of one table for one kernel, with the plans that read them.

    An output is never longer than `factor` times its input and `room` for each row.
    """

    def __init__(self, name, kind, images, plan, copy, keys, envelope, room, factor, reader):
        self.name, self.kind, self.plan, self.copy, self.keys, self.envelope = name, kind, plan, copy, keys, envelope
        self.small = [image for image in images if len(image) <= LARGE]
        self.large = [image for image in images if len(image) > LARGE]
        self.room, self.factor, self.reader, self.numbers = room, factor, reader, Numbers(7, 3)
        self.work = Work(plan.count) if plan is not None else None


@cython.final
@cython.cclass
class Fuzz:
    """A seed, and lanes in groups.

    `tight` gives every execution output buffers that are too small at first; `digesting` hashes all that is said and made.
    """

    def __init__(self, seed, groups: list, stamp, tight: bool, digesting: bool):
        self.seed, self.groups, self.stamp, self.tight, self.digesting = seed, groups, stamp, tight, digesting
        self.digest = 0
        self.image, self.other, self.out, self.r = Buffer(), Buffer(), Buffer(), Reader()
        self.marks = array("q", bytes(8 * 16))

    def run(self, first: cython.longlong, count: cython.longlong, progress) -> None:
        """Iterations `first` to `first + count`.

        `progress[0]` is always the one at hand; from 1 on it counts, three by three for each kind of lane, what was taken, was
        malformed, and was halted for its value.
        """
        place: cython.longlong[::1] = progress
        k: cython.longlong
        for k in range(first, first + count):
            place[0] = k
            lane: Lane = self.choose(k)
            self.mutate(lane)
            which: cython.Py_ssize_t = 1 + lane.kind * 3 + self.attempt(lane)
            place[which] += 1

    def mutant(self, iteration: cython.longlong) -> tuple:
        """The name of an iteration's lane, and its image."""
        lane: Lane = self.choose(iteration)
        self.mutate(lane)
        return lane.name, taken(self.image, 0, self.image.n)

    def again(self, lane: Lane, image: bytes) -> int:
        """The outcome of one image: 0 taken, 1 malformed, 2 halted."""
        self.choose(0)
        self.image.n = 0
        put_object(self.image, image)
        return self.attempt(lane)

    @cython.cfunc
    @cython.exceptval(check=False)
    def draw(self) -> cython.ulonglong:
        """32 bits of xorshift64*."""
        x: cython.ulonglong = self.state
        x ^= (x << 13) & MASK
        x ^= x >> 7
        x ^= (x << 17) & MASK
        self.state = x
        return ((x * 0x2545F4914F6CDD1D) & MASK) >> 32

    @cython.cfunc
    @cython.exceptval(check=False)
    def below(self, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """A number of [0, n), n < 2**32."""
        x: cython.ulonglong = self.draw()
        return (x * cython.cast(cython.ulonglong, n)) >> 32 if n > 0 else 0

    @cython.cfunc
    def choose(self, iteration: cython.longlong) -> Lane:
        """The iteration's lane; all that is drawn from here on belongs to it."""
        k: cython.int
        x: cython.ulonglong = iteration + 1
        self.iteration = iteration
        self.state = ((x * 0x5851F42D4C957F2D) & MASK) ^ ((self.seed * 0x14057B7EF767814F) & MASK)
        if self.state == 0:
            self.state = 1
        for k in range(4):
            self.draw()
        group: list = self.groups[self.below(len(self.groups))]
        return group[self.below(len(group))]

    @cython.cfunc
    @cython.exceptval(-1)
    def mutate(self, lane: Lane) -> cython.int:
        """One of the lane's images with up to five changes; one in sixteen stays as it is."""
        pool: list = lane.small
        if len(pool) == 0 or (len(lane.large) > 0 and self.below(32) == 0):
            pool = lane.large
        source: bytes = pool[self.below(len(pool))]
        self.image.n = 0
        put_object(self.image, source)
        changes: cython.int = 0
        if self.below(16) > 0:
            changes = 1
            while changes < 5 and self.below(2) == 0:
                changes += 1
        k: cython.int
        for k in range(changes):
            self.change(lane, self.below(14))
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def change(self, lane: Lane, kind: cython.int) -> cython.int:
        m: Buffer = self.image
        n: cython.Py_ssize_t = m.n
        at: cython.Py_ssize_t = self.below(n)
        k: cython.Py_ssize_t
        if kind < 8 and n == 0:
            return self.rebuild(0, 0, self.below(12))
        if kind <= 1:
            m.data[at] = m.data[at] ^ (1 << self.below(8))
        elif kind == 2:
            m.data[at] = self.below(256)
        elif kind == 3:
            m.data[at] = (m.data[at] + self.below(9) - 4) & 255
        elif kind <= 5:
            self.extreme(n)
        elif kind == 6:
            m.n = at
        elif kind == 7:
            self.rebuild(at, 1 + self.below(min(8, n - at)), 0)
        elif kind == 8:
            self.rebuild(at, 0, 1 + self.below(8))
        elif kind == 9:
            self.rebuild(n, 0, 1 + self.below(16))
        elif kind <= 11:
            # The head of this image and the tail of another one, or of itself: runs come twice or are missing.
            source: bytes = taken(m, 0, n) if kind == 10 or len(lane.small) == 0 else lane.small[self.below(len(lane.small))]
            self.other.n = 0
            put_object(self.other, source)
            m.n = at
            k = self.below(self.other.n + 1)
            put_buffer(m, self.other, k, self.other.n - k)
        elif kind == 12:
            k = self.below(min(8, n - at) + 1)
            while k > 0:
                k -= 1
                m.data[at + k] = self.below(256)
        elif self.below(4) == 0:
            m.n = 0
            self.rebuild(0, 0, self.below(96))
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def rebuild(self, at: cython.Py_ssize_t, drop: cython.Py_ssize_t, more: cython.Py_ssize_t) -> cython.int:
        """Other bytes, `more` of them drawn, in the place of `drop` bytes."""
        m: Buffer = self.image
        rest: Buffer = self.other
        k: cython.Py_ssize_t
        rest.n = 0
        put_buffer(rest, m, at + drop, m.n - at - drop)
        m.n = at
        for k in range(more):
            put_byte(m, self.below(256))
        return put_buffer(m, rest, 0, rest.n)

    @cython.cfunc
    @cython.exceptval(-1)
    def extreme(self, n: cython.Py_ssize_t) -> cython.int:
        """A number of 1, 2, 3, 4 or 8 bytes that a length may wrongly be: an extreme one, or one near the image's own lengths."""
        width: cython.Py_ssize_t = self.below(5)
        width = 8 if width == 4 else width + 1
        if width > n:
            width = n
        at: cython.Py_ssize_t = self.below(n - width + 1)
        number: cython.longlong
        if self.below(2) == 0:
            number = EXTREMES[self.below(len(EXTREMES))]
        else:
            number = (n if self.below(2) == 0 else n - at - width) + self.below(5) - 2
        backwards: cython.bint = self.below(4) == 0
        k: cython.Py_ssize_t
        for k in range(width):
            self.image.data[at + (width - 1 - k if backwards else k)] = (number >> (8 * k)) & 255
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def attempt(self, lane: Lane) -> cython.int:
        """Decode the image from a block of its own, exactly as long as it is."""
        n: cython.Py_ssize_t = self.image.n
        if self.tight:
            w: Work = lane.work
            self.out = Buffer(1 + self.below(16))
            if w is not None:
                w.rows, w.value = Buffer(1 + self.below(16)), Buffer(1 + self.below(16))
                w.key, w.other = Buffer(1 + self.below(16)), Buffer(1 + self.below(16))
        if not cython.compiled:
            return self.judge(lane, bytes(self.image.data[:n]), n)
        block: cython.p_uchar = cython.cast(cython.p_uchar, malloc(n))
        if not block:
            raise MemoryError
        try:
            memcpy(block, self.image.data, n)
            return self.judge(lane, block, n)
        finally:
            free(block)

    @cython.cfunc
    @cython.exceptval(-1)
    def judge(self, lane: Lane, p: cython.p_const_uchar, n: cython.Py_ssize_t) -> cython.int:
        """0 taken, 1 malformed, 2 halted for a known reason; every other end is an exception."""
        self.made = 0
        try:
            self.decode(lane, p, n)
        except Malformed as error:
            if " at byte " not in error.rule:
                raise Unsound(f"{lane.name}: malformed without a position: {error.rule}") from None
            self.say(str(error).encode())
            return 1
        except Halt as error:
            if error.code not in HALTS:
                raise
            self.say(str(error).encode())
            return 2
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def say(self, text: bytes) -> cython.int:
        if self.digesting:
            self.digest = zlib.crc32(text, self.digest)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def decode(self, lane: Lane, p: cython.p_const_uchar, n: cython.Py_ssize_t) -> cython.int:
        kind: cython.int = lane.kind
        out: Buffer = self.out
        out.n = 0
        if kind == INSERT or kind == UPDATE or kind == DELETE:
            return self.rows(lane, p, n, 99 if kind == INSERT else 117 if kind == UPDATE else 100)
        if kind == PACKETS:
            return self.packets(lane, p, n)
        if kind == ENVELOPE:
            return self.opened(lane, p, n)
        if kind == SELECT:
            w: Work = lane.work
            w.rows.n = 0
            row(lane.plan, p, 0, n, w)
            self.bounded(lane, w.rows.n, n, 1)
            return self.accept(lane, lane.copy, w.rows.data, 0, w.rows.n)
        if kind == COPY or kind == KEY:
            self.r.p = p
            self.r.at, self.r.end = 0, n
            copy_row(lane.copy if kind == COPY else lane.keys, out, self.r)
        elif kind == VALUE:
            put_byte(out, 2)  # the branch that a value which becomes null takes back
            if value(lane.plan, 1, p, 0, n, out, True) > n:
                raise Unsound(f"{lane.name}: read past the end")
        elif kind == JSON:
            put_json(lane.plan, 1, out, p, 0, n)
            if lane.reader is not None and (self.digesting or self.iteration & 255 == 0):
                lane.reader(taken(out, 0, out.n))
        else:
            try:
                put_numeric(out, p, 0, n, self.below(41))
            except ValueError as error:  # which the row's own kernel makes an error with a place
                self.say(str(error).encode())
        self.say(taken(out, 0, out.n) if self.digesting else b"")
        return self.bounded(lane, out.n, n, 1)

    @cython.cfunc
    @cython.exceptval(-1)
    def rows(self, lane: Lane, p: cython.p_const_uchar, n: cython.Py_ssize_t, op: cython.int) -> cython.int:
        """A rows event: its records, and what the target's side makes of them."""
        records: list = []
        key: bytes
        encoded: bytes
        made: cython.Py_ssize_t = 0
        lane.numbers.seq = [0, 0, 0]
        frame: Frame = Frame(self.stamp, lane.numbers, records)
        count: cython.longlong = rows_between(lane.plan, p, 0, n, op, frame, lane.work)
        for _, key, encoded, _ in records:
            if key is not None:
                self.accept(lane, lane.keys, key, 5, len(key))
            if encoded is None:
                continue
            made += len(encoded)
            self.opened(lane, encoded, len(encoded))
            if lane.reader is not None and (self.digesting or self.iteration & 1023 == 0):
                lane.reader(encoded)
            self.say(encoded)
        return self.bounded(lane, made, n, count)

    @cython.cfunc
    @cython.exceptval(-1)
    def packets(self, lane: Lane, p: cython.p_const_uchar, n: cython.Py_ssize_t) -> cython.int:
        """A block off a socket."""
        found: Packets = Packets(b"", 0, 0)
        w: Work = lane.work
        found.source = p
        found.end = n
        while found.next():
            w.rows.n = 0
            row(lane.plan, found.p, found.begin, found.stop, w)
            self.bounded(lane, w.rows.n, n, 1)
            self.accept(lane, lane.copy, w.rows.data, 0, w.rows.n)
        if found.at > n:
            raise Unsound(f"{lane.name}: read past the end")
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def opened(self, lane: Lane, p: cython.p_const_uchar, n: cython.Py_ssize_t) -> cython.int:
        """An envelope, and the tuples of its images."""
        self.r.p = p
        self.r.end = n
        _, _, op, before, before_end, after, after_end, transaction, _ = open_value(lane.envelope, self.r, self.marks)
        start, end = transaction
        if not (-1 <= before <= before_end <= n and -1 <= after <= after_end <= n and 0 <= start <= end <= n):
            raise Unsound(f"{lane.name}: a place outside the record")
        self.say(op.encode())
        # What was opened walks over an image by its schema; the tuple asks more of it: a number within its column, and the like.
        if lane.kind != ENVELOPE:
            if before >= 0:
                self.accept(lane, lane.copy, p, before, before_end)
            if after >= 0:
                self.accept(lane, lane.copy, p, after, after_end)
        elif after >= 0:
            self.r.at, self.r.end = after, after_end
            copy_row(lane.copy, self.out, self.r)
            if self.r.at != after_end:
                raise Unsound(f"{lane.name}: both walks over a row end at different places")
            self.bounded(lane, self.out.n, n, 1)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def accept(self, lane: Lane, plan: CopyPlan, p: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """A row of our own making: the target's kernel must take it, all of it."""
        self.r.p = p
        self.r.at, self.r.end = at, end
        self.out.n = 0
        try:
            copy_row(plan, self.out, self.r)
        except Halt as error:
            if error.code not in HALTS:
                raise Unsound(f"{lane.name}: the target's kernel refuses what was decoded: {error}") from None
            self.say(str(error).encode())
            return 0
        if self.r.at != end:
            raise Unsound(f"{lane.name}: the target's kernel leaves bytes of what was decoded")
        self.say(taken(self.out, 0, self.out.n) if self.digesting else b"")
        return self.bounded(lane, self.out.n, end - at, 1)

    @cython.cfunc
    @cython.exceptval(-1)
    def bounded(self, lane: Lane, made: cython.Py_ssize_t, n: cython.Py_ssize_t, rows: cython.Py_ssize_t) -> cython.int:
        if made > lane.factor * n + lane.room * (rows + 1):
            raise Unsound(f"{lane.name}: {made} bytes were made of {n}")
        return 0
