"""A source and a target in memory, with a writer and a late copier that act whenever anybody looks: lag, made repeatable by a seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from cdc.model.digest import Digest, Key, KeySpan, merge
from cdc.model.table import Column, Table

INTEGERS = Table("db", "ints", (Column("id", "int"), Column("v", "varchar")), key=(0,))
TEXTS = Table("db", "texts", (Column("id", "varchar"), Column("v", "varchar")), key=(0,))
KEYLESS = Table("db", "keyless", (Column("id", "int"), Column("v", "varchar")))
Content = dict[int, str]


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def of_row(key: int, value: str) -> Digest:
    return Digest(1, hashed(f"{key},{value}"), hashed(f"{value},{key}") >> 4)


class MemorySide:
    """Both protocols of `snapshot.reconcile.compare` over a dictionary; `looked` runs before every statement."""

    def __init__(self, content: Content, looked: Callable[[], None] = lambda: None, piece: int = 100) -> None:
        self.content, self.piece = content, piece
        self._looked = looked
        self.statements = 0

    name = "memory"

    def _now(self) -> Content:
        self.statements += 1
        self._looked()
        return self.content

    def _in(self, span: KeySpan) -> list[int]:
        low, high = span
        return sorted(k for k in self._now() if (low is None or k > low) and (high is None or k <= high))

    def estimate(self) -> int:
        return len(self.content)

    def spans(self) -> Iterator[tuple[KeySpan, Digest]]:
        after: int | None = None
        while True:
            span = KeySpan(after, self.middle(KeySpan(after), self.piece - 1))
            yield span, self.digest(span)
            if span.upto is None:
                return
            after = span.upto

    def digest(self, span: KeySpan) -> Digest:
        return merge(of_row(k, self.content[k])._replace(sum=0) for k in self._in(span))

    def middle(self, span: KeySpan, skip: int) -> int | None:
        return dict(enumerate(self._in(span))).get(skip)

    def rows(self, span: KeySpan) -> dict[Key, str]:
        return {(str(k),): self.content[k] for k in self._in(span)}

    def buckets(self, count: int) -> Mapping[int, Digest]:
        found: dict[int, Digest] = {}
        for k, v in self._now().items():
            bucket = hashed(str(k)) & (count - 1)
            found[bucket] = merge((found.get(bucket, Digest()), of_row(k, v)))
        return found

    def bucket_rows(self, count: int, chosen: frozenset[int]) -> dict[Key, str]:
        return {(str(k),): v for k, v in self._now().items() if hashed(str(k)) & (count - 1) in chosen}

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        now = self._now()
        return {key: now[int(key[0])] for key in keys if int(key[0]) in now}

    def columns_of(self, keys: Iterable[Key]) -> dict[Key, tuple[str | None, ...]]:
        return {key: (key[0], value) for key, value in self.rows_of(keys).items()}

    def whole(self) -> Digest:
        return merge(of_row(k, v) for k, v in self._now().items())


class Clinic:
    """A source that is written while it is compared, and a target that follows `lag` changes behind at most."""

    def __init__(self, seed: int, rows: int = 300, *, lag: int = 40, togglers: int = 0, writes: int = 2) -> None:
        self._random = random.Random(seed)
        self.source: Content = dict.fromkeys(range(0, rows * 3, 3), "a")
        self.target: Content = dict(self.source)
        self.still: set[int] = set()
        self._late: list[tuple[int, str | None]] = []
        self._lag, self._writes, self._togglers = lag, writes, list(self.source)[:togglers]

    def sides(self) -> tuple[MemorySide, MemorySide]:
        return MemorySide(self.source, self._live), MemorySide(self.target, self._live)

    def settle(self) -> None:
        """Return when what was late at the call is applied; the world goes on meanwhile."""
        owed = len(self._late)
        while owed > 0:
            owed -= self._apply(self._random.randint(1, 5))
            self._write()

    def _live(self) -> None:
        for _ in range(self._random.randint(0, self._writes)):
            self._write()
        self._apply(self._random.randint(0, 2 * self._writes))
        self._apply(len(self._late) - self._lag)

    def _write(self) -> None:
        if self._togglers and self._random.random() < 0.9:
            key = self._random.choice(self._togglers)
            self._change(key, "b" if self.source.get(key) == "a" else "a")
            return
        key = self._random.randrange(0, 1000)
        if key not in self.still:
            self._change(key, None if self._random.random() < 0.3 else self._random.choice("abcdef"))

    def _change(self, key: int, value: str | None) -> None:
        if value is None and key not in self.source:
            return
        _put(self.source, key, value)
        self._late.append((key, value))

    def _apply(self, count: int) -> int:
        now, self._late[:] = self._late[: max(0, count)], self._late[max(0, count) :]
        for key, value in now:
            _put(self.target, key, value)
        return len(now)


def _put(content: Content, key: int, value: str | None) -> None:
    if value is None:
        content.pop(key, None)
    else:
        content[key] = value
