"""What a comparison asks of each of the two servers that hold a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from cdc.model.digest import Digest, Key, KeySpan

Rows = dict[Key, str]
"""Row hash by key."""


class Side(Protocol):
    """One table on one server. Every answer is of one moment per statement; two statements may see two moments."""

    @property
    def name(self) -> str:
        """The table as people know it there."""

    def estimate(self) -> int:
        """About how many rows there are; cheap."""

    def digest(self, span: KeySpan) -> Digest:
        """The digest of the rows in a span of the integer key."""

    def middle(self, span: KeySpan, skip: int) -> int | None:
        """The integer key that `skip` keys of the span precede; None when there is none."""

    def rows(self, span: KeySpan) -> Rows:
        """The row hashes of a span."""

    def buckets(self, count: int) -> Mapping[int, Digest]:
        """The digest of each bucket, of a power of two many, in one pass over the table."""

    def bucket_rows(self, count: int, chosen: frozenset[int]) -> Rows:
        """The row hashes of some buckets, in one pass."""

    def rows_of(self, keys: Iterable[Key]) -> Rows:
        """The row hashes of those of the keys that exist."""

    def columns_of(self, keys: Iterable[Key]) -> Mapping[Key, tuple[str | None, ...]]:
        """A hash of each column of those of the keys that exist."""

    def whole(self) -> Digest:
        """The digest of the table, with `sum`, in one statement."""


class LeadingSide(Side, Protocol):
    """The side that leads: it chooses the pieces, sized and paced so that it stays a good host."""

    def spans(self) -> Iterator[tuple[KeySpan, Digest]]:
        """Spans that cover every integer key there is on any side, each with its digest."""
