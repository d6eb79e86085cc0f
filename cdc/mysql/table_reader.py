"""Reading a table of the source in pieces, as raw row packets, without locking anybody out.

On MyISAM a SELECT holds the table's read lock while it runs and blocks writers
(https://dev.mysql.com/doc/refman/8.4/en/table-locking.html), so pieces are sized by time and read off the socket at
once. A table without a key is read whole at an exact position of the log (docs/decisions/003-copy.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pymysql import err
from pymysql.connections import Connection
from pymysql.constants import COMMAND
from pymysql.protocol import FieldDescriptorPacket

from cdc import codec
from cdc.config.load import SnapshotConfig, SourceConfig
from cdc.errors import Halt, Refused
from cdc.model.position import Position, canonical_gtids
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.connection import connect, deciding, decision
from cdc.mysql.engines import locks_on_read
from cdc.mysql.exact_snapshot import Known, Snapshots
from cdc.mysql.key_range import Bound, KeyRange, bound, bound_list, check_walkable, key_list, qualified
from cdc.runtime import timing

_RECEIVE_BYTES = 256 << 10
_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 500, 5, 100_000
_FIRST_SPAN, _LEAST_SPAN, _MOST_SPAN = 5_000, 500, 50_000
_EOF, _ERR, _FULL = 0xFE, 0xFF, 0xFFFFFF
KEYLESS_BYTES = 256 << 20  # a table without a key that must be read under its lock: refused above this size

Consume = Callable[[bytearray, int, int], int]
"""Takes a buffer with row packets in [start, end); returns how many bytes it used up."""


class Stoppable(Protocol):
    """Raises to give up; called between pieces."""

    def __call__(self) -> None: ...


@dataclass(slots=True)
class ResultShape:
    """The columns of a table's result sets as the server described them first; one for all readers of a copy."""

    _seen: list[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def holds(self, fields: list[bytes]) -> bool:
        """Whether these are the same; the first that are shown are."""
        with self._lock:
            self._seen = self._seen or fields
            return self._seen == fields


@dataclass(frozen=True, slots=True)
class Piece:
    """A key range that was read: the ledger's unit."""

    range: KeyRange
    seconds: float
    """From the question to the last byte taken: so long the server may have held its lock."""


class TableReader:
    """Reads one table's rows over a connection of its own, piece by piece in key order."""

    def __init__(
        self,
        source: SourceConfig,
        catalog: Catalog,
        table: Table,
        shape: ResultShape | None = None,
        most_rows: int = _MOST_ROWS,
        spare: list[Connection[Any]] | None = None,
    ) -> None:
        """`catalog` is asked here and no more: it may serve another thread afterwards. `shape` is shared by all readers
        of a copy.

        A piece has at most `most_rows` rows, however fast the server is: what a pace lets through at once. Connections
        are taken from `spare` and left there, if it is given.
        """
        engine = catalog.engine(table)
        self.table = table
        self.locking = locks_on_read(engine)
        """Whether writers wait while a piece is read."""
        self._source, self._flavour, self._server = source, catalog.flavour, catalog.server
        self._by_snapshot = catalog.has_snapshots(table)
        self._place = table.qualified
        self._columns = ", ".join(codec.select_list(table, catalog.flavour))
        self._target_seconds = timing.TIMES.locking_read_seconds if self.locking else timing.TIMES.read_seconds
        self._most = max(1, most_rows)
        self._rows, self._span = min(_FIRST_ROWS, self._most), _FIRST_SPAN
        self._shape = shape or ResultShape()
        self._spare, self._whole, self._closed = spare, True, False
        self.known: Callable[[], Known | None] = lambda: None
        """Where the log is followed to now, by whoever wants an exact read meanwhile."""
        self._connection: Connection[Any] = spare.pop() if spare else connect(source, raw=True)

    def close(self) -> None:
        """Leave the connection to others if it can serve them, else end it; a second time does nothing."""
        closed, self._closed = self._closed, True
        if not closed and self._spare is not None and self._whole and self._connection.open:
            self._spare.append(self._connection)
        elif not closed:
            self._end()

    def _end(self) -> None:
        if self._connection.open:
            self._connection.close()

    def _let_go(self, sql: str) -> None:
        """Give up what the session holds; in the middle of an answer by its end,
        else the rest would be taken for the next answer."""
        if self._whole:
            self._whole = False
            self.execute(sql)
            self._whole = True
        else:
            self._end()

    _where = ""

    def narrowed(self, seconds: float, where: str = "") -> TableReader:
        """This reader with pieces of at most so many seconds, and of the rows that meet a condition alone."""
        self._target_seconds, self._where = min(self._target_seconds, seconds), where
        return self

    @property
    def locks(self) -> bool:
        """Whether `exact` keeps writers of the table waiting."""
        return not self._by_snapshot

    def check_server(self) -> None:
        """Stops where a name leads to several servers: rows must come from the one whose log is read."""
        variable = b"server_uid" if self._flavour == "mariadb" else b"server_uuid"
        rows = self.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uid', 'server_uuid', 'server_id')")
        found = {row[0]: row[1] for row in rows}
        if (found.get(variable) or found[b"server_id"]).decode() != self._server:
            raise Halt(
                "other_server",
                self._place,
                "two connections reached two servers",
                "give source.url the address of one server",
            )

    def pieces(self, after: Bound | None, consume: Consume, upto: Bound | None = None) -> Iterator[Piece]:
        """Read from `after` to `upto` (None: to the end of the table);
        each piece is complete in `consume` when it is yielded."""
        check_walkable(self.table)
        while True:
            piece = KeyRange(after, self._bound(KeyRange(after, upto), self._rows) or upto)
            started = time.monotonic()
            self.read(piece, consume)
            seconds = time.monotonic() - started
            yield Piece(piece, seconds)
            if piece.upto == upto:
                return
            self._resize(seconds)
            after = piece.upto

    def _resize(self, seconds: float) -> None:
        factor = min(2.0, max(0.25, self._target_seconds / max(seconds, 1e-4)))
        self._rows = min(self._most, _MOST_ROWS, max(_LEAST_ROWS, int(self._rows * factor)))

    def scout(self, after: Bound | None) -> Bound | None:
        """Where a span of many pieces that begins at `after` may end, found in the key's index;
        None: it is the table's last."""
        check_walkable(self.table)
        started = time.monotonic()
        found = self._bound(KeyRange(after), self._span)
        factor = min(2.0, max(0.25, timing.TIMES.scout_seconds / max(time.monotonic() - started, 1e-4)))
        self._span = int(min(_MOST_SPAN, max(_LEAST_SPAN, self._span * factor)))
        return found

    def _bound(self, within: KeyRange, rows: int) -> Bound | None:
        """The key of the range's row number `rows`; None when it has fewer."""
        # Reads so many entries of the key's index and nothing else; the LIMIT starts where the range does, never at the
        # table's start.
        sql = (
            f"SELECT {bound_list(self.table)} FROM {qualified(self.table)} WHERE {within.condition(self.table)} "
            f"ORDER BY {key_list(self.table)} LIMIT {rows - 1}, 1"
        )
        with deciding(self._place), self._connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        return None if row is None else bound(self.table, row)

    def read(self, piece: KeyRange, consume: Consume) -> None:
        """Read one range at once; the whole table for KeyRange()."""
        self.select(piece.condition(self.table) + (f" AND ({self._where})" if self._where else ""), consume)

    def select(self, condition: str, consume: Consume) -> None:
        """Read the rows that meet a condition."""
        self.stream(f"SELECT {self._columns} FROM {qualified(self.table)} WHERE {condition}", consume)

    def stream(self, sql: str, consume: Consume) -> None:
        """Run a SELECT and hand its row packets over as they arrive; the shape must stay that of the first SELECT."""
        self._whole = False
        try:
            self._connection._execute_command(COMMAND.COM_QUERY, sql.encode())  # type: ignore[attr-defined]
            self._check_shape()
            self._rows_to(consume)
        except (err.MySQLError, OSError) as e:
            raise decision(e, self._place) from None
        self._whole = True

    def execute(self, sql: str) -> list[tuple[bytes, ...]]:
        """Run a statement on this connection."""
        return self._answers(sql)[0]

    def _answers(self, sql: str) -> list[list[tuple[bytes, ...]]]:
        with deciding(self._place), self._connection.cursor() as cursor:
            cursor.execute(sql)
            found = [list(cursor.fetchall())]
            while cursor.nextset():
                found.append(list(cursor.fetchall()))
            return found

    def _data_bytes(self) -> int:
        """The size of the table's data as the server last knew it."""
        db, name = (v.encode().hex() for v in (self.table.db, self.table.name))
        rows = self.execute(
            "SELECT COALESCE(data_length, 0) FROM information_schema.tables "
            f"WHERE table_schema = CONVERT(X'{db}' USING utf8mb4) AND table_name = CONVERT(X'{name}' USING utf8mb4)"
        )
        return int(rows[0][0]) if rows else 0

    @contextmanager
    def exact(self) -> Iterator[Position]:
        """Hold the table still: within the block a read of it is exact at the position that the block is given.

        InnoDB with GTIDs: a snapshot whose position is known, nobody waits. Else LOCK TABLES .. READ for as long as the
        block runs, refused above a size limit; under the lock every write of this table is in the log, so any position
        taken now serves.
        """
        if self._by_snapshot:
            position = self._begin_snapshot()
            try:
                yield position
            finally:
                self._let_go("COMMIT")
            return
        size = self._data_bytes()
        if size > KEYLESS_BYTES:
            raise Refused(
                "keyless_too_large",
                self._place,
                f"has no primary key and {size} bytes, and would be locked while it is read",
                "give it a primary key, or exclude it",
            )
        self.execute(f"LOCK TABLES {qualified(self.table)} READ")
        try:
            with Catalog(self._source) as catalog:
                yield catalog.log.written_position()
        finally:
            self._let_go("UNLOCK TABLES")

    def _begin_snapshot(self) -> Position:
        """Open an InnoDB snapshot on this connection; the position that it shows exactly."""
        gtids, at = Snapshots(self._answers, self._source, self._place, self.known()).begin(self._flavour == "mariadb")
        return self._at(gtids, *(at or ()))

    def _at(self, gtids: str, file: str = "", offset: int = 0) -> Position:
        return Position(self._flavour, self._server, canonical_gtids(self._flavour, gtids), file, offset)

    def _check_shape(self) -> None:
        connection: Any = self._connection
        count = connection._read_packet().read_length_encoded_integer()
        fields = [connection._read_packet(FieldDescriptorPacket) for _ in range(count)]
        connection._read_packet()  # EOF
        shape = [bytes(f.get_all_data()) for f in fields]
        if len(fields) != len(self.table.columns) or not self._shape.holds(shape):
            raise Halt(
                "shape_changed",
                self._place,
                "the table's columns changed while it was copied",
                "cdc reset --all, and start again",
            )

    def _rows_to(self, consume: Consume) -> None:
        receive = self._connection._rfile.read1  # type: ignore[attr-defined]
        buffer = bytearray()
        while True:
            data = receive(_RECEIVE_BYTES)
            if not data:
                raise err.OperationalError(2013, "")
            buffer += data
            if not _begins_whole(buffer):  # else each arrival of a row of many megabytes would be looked at anew
                continue
            used = consume(buffer, 0, len(buffer))
            if _ended(buffer, used, self._place):
                return
            del buffer[:used]


class Readers:
    """Opens readers for the workers of one copy, over few connections; `close` ends those that nobody uses.

    All see the same columns, and no piece is more than the pace lets through in a second.
    """

    def __init__(self, source: SourceConfig, catalog: Catalog, snapshot: SnapshotConfig) -> None:
        self._source, self._catalog = source, catalog
        self._asking = threading.Lock()  # the catalog has one connection
        self._shapes: dict[str, ResultShape] = {}
        self._spare: list[Connection[Any]] = []
        self._most = (
            max(1, snapshot.max_rows_per_second // snapshot.parallel) if snapshot.max_rows_per_second else _MOST_ROWS
        )

    def __call__(self, table: Table) -> TableReader:
        """A reader of the table, for one worker."""
        with self._asking:
            shape = self._shapes.setdefault(table.qualified, ResultShape())
            return TableReader(self._source, self._catalog, table, shape, self._most, self._spare)

    def changed(self, table: Table) -> bool:
        """Whether the table is not any more as it was listed."""
        with self._asking:
            return bool(self._catalog.changed([table]))

    def close(self) -> None:
        """End the connections that no reader has."""
        while self._spare:
            self._spare.pop().close()


def _begins_whole(buffer: bytearray) -> bool:
    """Whether the first packet is there to its end; one that is full goes on in the next."""
    at, size = 0, _FULL
    while size == _FULL and len(buffer) >= at + 4:
        size = int.from_bytes(buffer[at : at + 3], "little")
        at += 4 + size
    return size < _FULL and len(buffer) >= at


def _ended(buffer: bytearray, at: int, place: str) -> bool:
    if len(buffer) < at + 5:
        return False
    size = int.from_bytes(buffer[at : at + 3], "little")
    if buffer[at + 4] == _ERR and len(buffer) >= at + 4 + size:
        raise decision(err.OperationalError(int.from_bytes(buffer[at + 5 : at + 7], "little"), ""), place)
    return buffer[at + 4] == _EOF and size < 9 and len(buffer) >= at + 4 + size
