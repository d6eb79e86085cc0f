"""Does a target table equal its source? Pure: two sides, a way to wait, and an answer that lag cannot bend.

Both sides are asked for digests of the same rows: spans of an integer key, else buckets by the hash of the key's
canonical text, so that no server's order or collation matters. Where digests differ the keys that differ are found, and
only these are judged:

    read the source; settle (the target applies all that the source had written by now); read the target; read the
source again

- the target equals one of the two source readings: it agrees, and the difference was lag;
- the source moved between its readings: nothing is known, again;
- the source stood still and the target differs: a sighting. `SIGHTINGS` of the same pair of values in a row make a real
difference.

One sighting is not enough: a row may go A, B, A between the source's readings while the target passes through B. Every
change that is seen in such a row doubles the sightings it needs, so a row that flips for ever ends as unsettled, never
as a difference. A row that is never seen at rest is `unsettled`, which is reported and is not equality: lag hides
nothing. Where the target is behind and does not arrive, a table that agrees is equal, and one that differs unsettled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from cdc.errors import Refused
from cdc.model.digest import Digest, Key, KeySpan, by_value, key_hash, merge
from cdc.model.table import Table
from snapshot.reconcile.codec_judge import Judge
from snapshot.reconcile.sides import LeadingSide, Rows, Side

NARROW_ROWS = 64
"""Spans with at most so many rows are read row by row."""
SIGHTINGS = 6
ROUNDS = 20
BATCH_KEYS = 64
"""Keys judged together: one settle for all of them."""
GROUP_ROWS = 100_000
"""Row hashes of differing buckets held in memory at once."""
ROWS_PER_BUCKET = 256
MOST_BUCKETS = 1 << 16
MOST_DIFFERENCES = 100


class Kind(StrEnum):
    MISSING = "missing_in_target"
    EXTRA = "extra_in_target"
    DIFFERENT = "different"


class Verdict(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    UNSETTLED = "unsettled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs at rest; the key itself is for the repair and is never shown."""

    kind: Kind
    key: Key = field(repr=False)
    columns: tuple[str, ...] = ()
    """Names of the columns that differ, when both sides have the row."""

    @property
    def key_hash(self) -> str:
        return key_hash(self.key)


@dataclass(frozen=True, slots=True)
class Result:
    """What is known about one table."""

    table: Table
    target: str
    state: Verdict
    method: str
    """spans, buckets or whole; none when refused."""
    reason: str = ""
    """Closed word list: why it is refused or unsettled."""
    detail: str = ""
    rows_source: int = 0
    rows_target: int = 0
    pieces: int = 0
    pieces_different: int = 0
    """Pieces that differed when first read, lag included."""
    rechecked: int = 0
    unsettled: int = 0
    differences: tuple[Difference, ...] = ()
    complete: bool = True
    """False: reading stopped, at the limit of differences or because the target fell behind; there may be more."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Tally:
    """What has been found so far."""

    source: list[Digest] = field(default_factory=list)
    target: list[Digest] = field(default_factory=list)
    pieces_different: int = 0
    rechecked: int = 0
    unsettled: int = 0
    whole_differs: bool = False
    differences: list[Difference] = field(default_factory=list)
    complete: bool = True

    def differ(self, source: Digest, target: Digest) -> bool:
        """Count a piece; whether its sides differ."""
        self.source.append(source)
        self.target.append(target)
        self.pieces_different += source != target
        return source != target

    def verdict(self) -> tuple[Verdict, str]:
        """The state that the findings amount to, and the reason for an unsettled one."""
        if self.differences or self.whole_differs:
            return Verdict.DIFFERENT, ""
        return (Verdict.UNSETTLED, "rows_moving") if self.unsettled else (Verdict.EQUAL, "")


@dataclass(slots=True)
class _Sighting:
    """How often a row was seen different at rest, and how often it must be."""

    needed: int
    seen: int = 0
    pair: tuple[object, object] | None = None

    def confirmed(self, before: object, target: object, after: object) -> bool:
        """Take one round's readings; whether the difference is now beyond doubt."""
        still = before == after
        if not still or self.pair not in (None, (before, target)):
            self.needed, self.seen = 2 * self.needed, 0
        self.seen += still
        self.pair = (after, target)
        return still and self.seen >= self.needed


@dataclass(frozen=True, slots=True)
class _Comparison:
    table: Table
    source: LeadingSide
    target: Side
    settle: Callable[[], None]
    most_differences: int
    sightings: int
    rounds: int
    judge: Judge | None = None


def verify(
    table: Table,
    source: LeadingSide,
    target: Side,
    settle: Callable[[], None],
    *,
    most_differences: int = MOST_DIFFERENCES,
    sightings: int = SIGHTINGS,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.monotonic,
    judge: Judge | None = None,
) -> Result:
    """Compare one table. `settle` returns once the target has applied all that the source had written when it was
    called.

    `judge` has the last word on rows that differ, for columns of which checksums cannot say everything.
    A `TimeoutError` from `settle` leaves a table unsettled that differs by now: one that agrees is equal, however far
    behind the target is. `Refused` from a side leaves it refused; other errors pass through.
    """
    started, tally = clock(), _Tally()
    method = "whole" if not table.key else "spans" if by_value(table) else "buckets"
    detail = ""
    try:
        with suppress(TimeoutError):  # a target that is behind may agree all the same
            settle()
        _run(_Comparison(table, source, target, settle, most_differences, sightings, rounds, judge), method, tally)
        state, reason = tally.verdict()
    except TimeoutError:
        state, reason = tally.verdict()
        tally.complete = False
        if state is not Verdict.DIFFERENT:
            state, reason = Verdict.UNSETTLED, "target_behind"
    except Refused as e:
        state, reason, method, detail = Verdict.REFUSED, e.code, "none", e.rule
    read_source, read_target = merge(tally.source), merge(tally.target)
    return Result(
        table=table,
        target=target.name,
        state=state,
        method=method,
        reason=reason,
        detail=detail,
        rows_source=read_source.rows,
        rows_target=read_target.rows,
        pieces=len(tally.source),
        pieces_different=tally.pieces_different,
        rechecked=tally.rechecked,
        unsettled=tally.unsettled,
        differences=tuple(tally.differences),
        complete=tally.complete,
        seconds=clock() - started,
    )


def _run(c: _Comparison, method: str, tally: _Tally) -> None:
    if method == "whole":
        _whole(c, tally)
        return
    suspects = _span_suspects(c, tally) if method == "spans" else _bucket_suspects(c, tally)
    while batch := list(islice(suspects, BATCH_KEYS)):
        if len(tally.differences) >= c.most_differences:
            tally.complete = False
            return
        _judge(c, batch, tally)


def _span_suspects(c: _Comparison, tally: _Tally) -> Iterator[Key]:
    for span, source in c.source.spans():
        target = c.target.digest(span)
        if tally.differ(source, target):
            yield from _narrow(c, span, source, target)


def _narrow(c: _Comparison, span: KeySpan, source: Digest, target: Digest) -> Iterator[Key]:
    """The keys of a span that differ now, found by halving; a half that agrees meanwhile was late, not different."""
    rows = max(source.rows, target.rows)
    fuller = c.source if source.rows == rows else c.target
    middle = fuller.middle(span, rows // 2) if rows > NARROW_ROWS else None
    if middle is None:
        yield from _unequal(c.source.rows(span), c.target.rows(span))
        return
    for half in (KeySpan(span.after, middle), KeySpan(middle, span.upto)):
        digests = c.source.digest(half), c.target.digest(half)
        if digests[0] != digests[1]:
            yield from _narrow(c, half, *digests)


def _bucket_suspects(c: _Comparison, tally: _Tally) -> Iterator[Key]:
    count = bucket_count(c.source.estimate())
    source, target = c.source.buckets(count), c.target.buckets(count)
    pairs = {
        bucket: (source.get(bucket, Digest()), target.get(bucket, Digest())) for bucket in sorted({*source, *target})
    }
    suspect = {bucket: max(s.rows, t.rows) for bucket, (s, t) in pairs.items() if tally.differ(s, t)}
    for chosen in _groups(suspect):
        yield from _unequal(c.source.bucket_rows(count, chosen), c.target.bucket_rows(count, chosen))


def bucket_count(rows: int) -> int:
    """A power of two, about `ROWS_PER_BUCKET` rows each."""
    return min(MOST_BUCKETS, 1 << (max(0, rows - 1) // ROWS_PER_BUCKET).bit_length())


def _groups(suspect: Mapping[int, int]) -> Iterator[frozenset[int]]:
    """Differing buckets in groups whose rows fit in memory: each group costs a pass over the table."""
    chosen: list[int] = []
    held = 0
    for bucket, rows in suspect.items():
        if chosen and held + rows > GROUP_ROWS:
            yield frozenset(chosen)
            chosen, held = [], 0
        chosen.append(bucket)
        held += rows
    if chosen:
        yield frozenset(chosen)


def _unequal(source: Rows, target: Rows) -> list[Key]:
    return [key for key in {**source, **target} if source.get(key) != target.get(key)]


def _judge(c: _Comparison, keys: list[Key], tally: _Tally) -> None:
    """Tell difference from lag for keys that differed once."""
    tally.rechecked += len(keys)
    equal = c.judge(keys) if c.judge is not None else frozenset()
    waiting = {key: _Sighting(c.sightings) for key in keys if key not in equal}
    before = c.source.rows_of(waiting)
    for _ in range(c.rounds):
        found: dict[Key, Kind] = {}
        c.settle()
        target = c.target.rows_of(waiting)
        after = c.source.rows_of(waiting)
        for key, sighting in list(waiting.items()):
            now, then, there = after.get(key), before.get(key), target.get(key)
            if there in (then, now):
                del waiting[key]
            elif sighting.confirmed(then, there, now) and not _equal_to_codec(c, key, now):
                found[key] = Kind.MISSING if there is None else Kind.EXTRA if now is None else Kind.DIFFERENT
                del waiting[key]
        tally.differences += _named(c, found)  # at once: a target that falls behind later hides none of them
        if not waiting:
            break
        before = after
    tally.unsettled += len(waiting)


def _equal_to_codec(c: _Comparison, key: Key, source: str | None) -> bool:
    """Whether the judge calls the row equal, or the source moved while it was asked; the next round decides then."""
    if c.judge is None or source is None:
        return False
    return key in c.judge([key]) or c.source.rows_of([key]).get(key) != source


def _named(c: _Comparison, found: Mapping[Key, Kind]) -> list[Difference]:
    both = [key for key, kind in found.items() if kind is Kind.DIFFERENT]
    source, target = (c.source.columns_of(both), c.target.columns_of(both)) if both else ({}, {})
    none: tuple[str | None, ...] = ()
    return [
        Difference(
            kind,
            key,
            tuple(
                column.name
                for column, s, t in zip(c.table.columns, source.get(key, none), target.get(key, none))
                if s != t
            ),
        )
        for key, kind in found.items()
    ]


def _whole(c: _Comparison, tally: _Tally) -> None:
    """The same judgement for a table without a key, as if it were one row."""
    sighting = _Sighting(c.sightings)
    before = c.source.whole()
    target = c.target.whole()
    if target == before:
        tally.differ(before, target)
        return
    for _ in range(c.rounds):
        c.settle()
        target = c.target.whole()
        after = c.source.whole()
        if target in (before, after):
            tally.differ(target, target)
            return
        tally.rechecked += 1
        if sighting.confirmed(before, target, after):
            if c.judge is not None:
                raise Refused(
                    "policy_unverifiable",
                    c.table.qualified,
                    "checksums cannot say what policies make of its values, "
                    "and without a key its rows cannot be told apart",
                    "give it a primary key",
                )
            tally.differ(after, target)
            tally.whole_differs = True
            return
        before = after
    tally.differ(before, target)
    tally.unsettled = 1
