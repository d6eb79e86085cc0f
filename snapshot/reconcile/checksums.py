"""The source's side of verification: checksums read in small pieces, so that the practice does not notice.

On MyISAM a SELECT holds the table's read lock while it runs, so pieces are sized by time (`PieceSizer`); a table that
can only be read in one statement is refused there above a size. Nothing is locked and no transaction is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymysql.connections import Connection

from cdc.codec.select_list import quoted
from cdc.errors import Refused
from cdc.model.digest import MYSQL, Digest, Key, KeySpan, RowSql, digest, merge, row_sql
from cdc.model.table import Table
from cdc.mysql.connection import deciding
from cdc.mysql.engines import locks_on_read
from cdc.mysql.key_range import Bound, KeyRange, bound, bound_list, key_list, qualified
from cdc.mysql.key_text import any_of
from cdc.runtime import timing

_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 500, 50, 100_000
_LOCKED_ROWS = 50_000
"""One statement over so many rows takes about half a second: the longest lock that a table without a key may cost."""
_ALL = 1 << 62
"""A LIMIT keeps the optimiser from merging the inner SELECT, which would compute each hash once per use of it."""


class PieceSizer:
    """How many rows to read next, and how long to rest: pieces of a given duration, at most so many rows a second."""

    def __init__(
        self,
        seconds: float,
        rows_per_second: float = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rows = _FIRST_ROWS
        self._seconds, self._rate, self._clock, self._sleep = seconds, rows_per_second, clock, sleep
        self._started = clock()

    def start(self) -> None:
        """A piece begins."""
        self._started = self._clock()

    def done(self, rows: int) -> None:
        """A piece of `rows` rows ended: size the next one, and rest as the rate demands."""
        took = self._clock() - self._started
        factor = min(2.0, max(0.25, self._seconds / max(took, 1e-4)))
        self.rows = int(min(_MOST_ROWS, max(_LEAST_ROWS, self.rows * factor)))
        if self._rate and (rest := rows / self._rate - took) > 0:
            self._sleep(rest)


def pace_for(engine: str, rows_per_second: float = 0) -> PieceSizer:
    """The pace that suits a storage engine."""
    return PieceSizer(
        timing.TIMES.verify_locking_seconds if locks_on_read(engine) else timing.TIMES.verify_seconds, rows_per_second
    )


class SourceSide:
    """One table of the source; `connection` is `cdc.mysql.connection.connect(source, raw=True)`,
    used by nobody else meanwhile."""

    def __init__(
        self,
        connection: Connection[Any],
        table: Table,
        engine: str,
        estimate: int,
        *,
        rows_per_second: float = 0,
        locked_rows: int = _LOCKED_ROWS,
        told: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """`told` hears of rows as they are read in the walk over the table."""
        self.table = table
        self._connection, self._engine, self._estimate, self._locked_rows = (
            connection,
            engine.lower(),
            estimate,
            locked_rows,
        )
        self._pace, self._told = pace_for(engine, rows_per_second), told
        self._sql: RowSql = row_sql(MYSQL, table)
        self._from = f"FROM {qualified(table)}"
        self._key = quoted(table.columns[table.key[0]].name) if table.key else ""

    @property
    def name(self) -> str:
        """The table's name with its database."""
        return self.table.qualified

    def estimate(self) -> int:
        """The server's own estimate, as the caller read it."""
        return self._estimate

    def spans(self) -> Iterator[tuple[KeySpan, Digest]]:
        """Spans from minus to plus infinity, each read in one short statement."""
        after: int | None = None
        while True:
            self._pace.start()
            span = KeySpan(after, self.middle(KeySpan(after), self._pace.rows - 1))
            found = self.digest(span)
            self._done(found.rows)
            yield span, found
            if span.upto is None:
                return
            after = span.upto

    def digest(self, span: KeySpan) -> Digest:
        """See `snapshot.reconcile.sides.Side`."""
        return self._digest(span.condition(self._key))

    def middle(self, span: KeySpan, skip: int) -> int | None:
        """See `snapshot.reconcile.sides.Side`."""
        found = self._query(
            f"SELECT {self._key} {self._from} WHERE {span.condition(self._key)} ORDER BY {self._key} LIMIT {skip}, 1"
        )
        return int(found[0][0]) if found else None

    def rows(self, span: KeySpan) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        return self._rows(span.condition(self._key))

    def buckets(self, count: int) -> Mapping[int, Digest]:
        """The table is walked in its own key order, piece by piece, and the pieces' buckets are added up."""
        total: dict[int, Digest] = {}
        for piece in self._pieces():
            rows = 0
            for row in self._query(
                f"SELECT b, COUNT(*), BIT_XOR(x), 0, COUNT(x) FROM (SELECT {self._sql.bucket} & {count - 1} AS b, "
                f"{self._sql.xor} AS x "
                f"{self._from} WHERE {piece} LIMIT {_ALL}) AS r GROUP BY b"
            ):
                bucket, found = int(row[0]), self._checked(row[1:])
                total[bucket] = merge((total.get(bucket, Digest()), found))
                rows += found.rows
            self._done(rows)
        return total

    def bucket_rows(self, count: int, chosen: frozenset[int]) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        found: dict[Key, str] = {}
        wanted = f"{self._sql.bucket} & {count - 1} IN ({', '.join(map(str, sorted(chosen)))})"
        for piece in self._pieces():
            found.update(self._rows(f"({piece}) AND {wanted}"))
            self._pace.done(self._pace.rows)
        return found

    def rows_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """See `snapshot.reconcile.sides.Side`."""
        wanted = set(keys)
        found = self._rows(any_of(self.table, wanted)) if wanted else {}
        return {key: value for key, value in found.items() if key in wanted}

    def columns_of(self, keys: Iterable[Key]) -> dict[Key, tuple[str | None, ...]]:
        """See `snapshot.reconcile.sides.Side`."""
        rows = self._query(
            f"SELECT {', '.join(self._sql.keys + self._sql.columns)} {self._from} WHERE {any_of(self.table, keys)}"
        )
        return {_texts(row[: len(self.table.key)]): tuple(_text(v) for v in row[len(self.table.key) :]) for row in rows}

    def raw_rows(self, keys: Iterable[Key], expressions: Sequence[str]) -> dict[Key, tuple[bytes | None, ...]]:
        """Those of the keys that exist, with these expressions as the server sends them."""
        wanted, parts = set(keys), len(self.table.key)
        if not wanted:
            return {}
        rows = self._query(
            f"SELECT {', '.join((*self._sql.keys, *expressions))} {self._from} WHERE {any_of(self.table, wanted)}"
        )
        return {key: tuple(row[parts:]) for row in rows if (key := _texts(row[:parts])) in wanted}

    def whole(self) -> Digest:
        """See `snapshot.reconcile.sides.Side`; refused where the statement would hold writers up for long."""
        if locks_on_read(self._engine) and self._estimate > self._locked_rows:
            raise Refused(
                "long_lock",
                self.name,
                f"without a key it is read at once, which on {self._engine} holds up its writers",
                "give it a primary key, convert it to InnoDB, or raise the limit of rows read under the lock",
            )
        # Each hash is computed twice: better than a temporary table as long as the table.
        return digest(self._query(f"SELECT COUNT(*), BIT_XOR({self._sql.xor}), SUM({self._sql.sum}) {self._from}")[0])

    def _digest(self, condition: str) -> Digest:
        return self._checked(
            self._query(
                f"SELECT COUNT(*), BIT_XOR(x), 0, COUNT(x) FROM "
                f"(SELECT {self._sql.xor} AS x {self._from} WHERE {condition} LIMIT {_ALL}) AS r"
            )[0]
        )

    def _done(self, rows: int) -> None:
        self._told(rows)
        self._pace.done(rows)

    def _checked(self, row: tuple[bytes, ...]) -> Digest:
        # NULL is what a concatenation beyond max_allowed_packet yields, with a warning nobody reads.
        found = digest(row[:3])
        if int(row[3]) != found.rows:
            raise self._too_long()
        return found

    def _too_long(self) -> Refused:
        return Refused(
            "row_too_long",
            self.name,
            "a row's text exceeds the server's max_allowed_packet",
            "raise max_allowed_packet",
        )

    def _rows(self, condition: str) -> dict[Key, str]:
        rows = self._query(f"SELECT {', '.join((*self._sql.keys, self._sql.row))} {self._from} WHERE {condition}")
        found = {_texts(row[:-1]): _text(row[-1]) for row in rows}
        if None in found.values():
            raise self._too_long()
        return {key: text for key, text in found.items() if text is not None}

    def _pieces(self) -> Iterator[str]:
        """Conditions that cover the table in its own key order; the reader calls `PieceSizer.done` after each."""
        after: Bound | None = None
        while True:
            self._pace.start()
            last = self._query(
                f"SELECT {bound_list(self.table)} {self._from} WHERE {KeyRange(after).condition(self.table)} "
                f"ORDER BY {key_list(self.table)} LIMIT {self._pace.rows - 1}, 1"
            )
            upto = bound(self.table, last[0]) if last else None
            yield KeyRange(after, upto).condition(self.table)
            if upto is None:
                return
            after = upto

    def _query(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        with deciding(self.name), self._connection.cursor() as cursor:
            cursor.execute(sql)
            found: tuple[tuple[Any, ...], ...] = cursor.fetchall()
            return found


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _texts(values: Iterable[bytes]) -> Key:
    return tuple(value.decode() for value in values)
