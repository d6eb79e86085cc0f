"""Reading a table of the source in pieces, as raw row packets, without locking anybody out.

On MyISAM a SELECT holds the table's read lock while it runs and blocks writers
(https://dev.mysql.com/doc/refman/8.4/en/table-locking.html), so pieces are sized by time and read off the socket at once.
A table without a key is read whole at an exact position of the log (docs/decisions/003-copy.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pymysql import err
from pymysql.connections import Connection
from pymysql.constants import COMMAND
from pymysql.protocol import FieldDescriptorPacket

from cdc import codec
from cdc.catalog import Catalog
from cdc.config import SourceConfig
from cdc.errors import Halt, Refused
from cdc.keyrange import Bound, KeyRange, bound, bound_list, check_walkable, key_list, qualified
from cdc.model import Table
from cdc.mysql import connect, deciding, decision
from cdc.position import Position, canonical_gtids

_RECEIVE_BYTES = 256 << 10
_SECONDS = {"myisam": 0.015, "aria": 0.015}
_SECONDS_MVCC = 0.5
_SILENCE_SECONDS = 600.0
_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 500, 50, 100_000
_EOF, _ERR = 0xFE, 0xFF
KEYLESS_BYTES = 256 << 20  # a table without a key that must be read under its lock: refused above this size

Consume = Callable[[bytearray, int, int], int]
"""Takes a buffer with row packets in [start, end); returns how many bytes it used up."""


class Stoppable(Protocol):
    """Raises to give up; called between pieces."""

    def __call__(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A key range that was read: the ledger's unit."""

    range: KeyRange
    seconds: float


class TableReader:
    """Reads one table's rows over a connection of its own, piece by piece in key order."""

    def __init__(self, source: SourceConfig, catalog: Catalog, table: Table) -> None:
        """`catalog` is asked here and no more: it may serve another thread afterwards."""
        engine = catalog.engine(table)
        self.table = table
        self._source, self._flavour, self._server = source, catalog.flavour, catalog.server
        self._by_snapshot = catalog.has_snapshots(table)
        self._place = table.qualified
        self._columns = ", ".join(codec.select_list(table, catalog.flavour))
        self._target_seconds = _SECONDS.get(engine.lower(), _SECONDS_MVCC)
        self._rows = _FIRST_ROWS
        self._shape: list[bytes] | None = None
        self._connection: Connection[Any] = connect(source, read_timeout=_SILENCE_SECONDS, raw=True)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def pieces(self, after: Bound | None, consume: Consume) -> Iterator[Piece]:
        """Read from `after` to the end of the table; each piece is complete in `consume` when it is yielded."""
        check_walkable(self.table)
        while True:
            upto = self._next_bound(after)
            piece = KeyRange(after, upto)
            started = time.monotonic()
            self.read(piece, consume)
            seconds = time.monotonic() - started
            yield Piece(piece, seconds)
            if upto is None:
                return
            self._resize(seconds)
            after = upto

    def _resize(self, seconds: float) -> None:
        factor = min(2.0, max(0.25, self._target_seconds / max(seconds, 1e-4)))
        self._rows = int(min(_MOST_ROWS, max(_LEAST_ROWS, self._rows * factor)))

    def _next_bound(self, after: Bound | None) -> Bound | None:
        # Reads self._rows entries of the key's index and nothing else; the LIMIT starts at `after`, never at the table's start.
        sql = (
            f"SELECT {bound_list(self.table)} FROM {qualified(self.table)} WHERE {KeyRange(after).condition(self.table)} "
            f"ORDER BY {key_list(self.table)} LIMIT {self._rows - 1}, 1"
        )
        with deciding(self._place), self._connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        return None if row is None else bound(self.table, row)

    def read(self, piece: KeyRange, consume: Consume) -> None:
        """Read one range at once; the whole table for KeyRange()."""
        self.stream(f"SELECT {self._columns} FROM {qualified(self.table)} WHERE {piece.condition(self.table)}", consume)

    def stream(self, sql: str, consume: Consume) -> None:
        """Run a SELECT and hand its row packets over as they arrive; the shape must stay that of the first SELECT."""
        try:
            self._connection._execute_command(COMMAND.COM_QUERY, sql.encode())  # type: ignore[attr-defined]
            self._check_shape()
            self._rows_to(consume)
        except (err.MySQLError, OSError) as e:
            raise decision(e, self._place) from None

    def execute(self, sql: str) -> list[tuple[bytes, ...]]:
        """Run a statement on this connection."""
        with deciding(self._place), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

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

        InnoDB with GTIDs: a snapshot whose position is known, nobody waits. Else LOCK TABLES .. READ for as long as the block
        runs, refused above a size limit; under the lock every write of this table is in the log, so any position taken now serves.
        """
        if self._by_snapshot:
            yield self._begin_snapshot()
            self.execute("COMMIT")
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
                yield catalog.written_position()
        finally:
            self.execute("UNLOCK TABLES")

    def _begin_snapshot(self) -> Position:
        """Open an InnoDB snapshot on this connection; the position that it shows exactly."""
        if self._flavour == "mariadb":
            self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            status = {n.lower(): v.decode() for n, v in self.execute("SHOW STATUS LIKE 'binlog_snapshot_%'")}
            file, offset = status[b"binlog_snapshot_file"], int(status[b"binlog_snapshot_position"])
            gtids = self.execute(f"SELECT BINLOG_GTID_POS('{file}', {offset})")[0][0].decode()
            return self._at(gtids, file, offset)
        while True:  # until no commit falls between the two readings and none is halfway: without the second test 18 of 6,810 were wrong
            before = self.execute("SELECT @@GLOBAL.gtid_executed")[0][0]
            self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            if self.execute("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_owned")[0] == (before, b""):
                return self._at(before.decode())
            self.execute("COMMIT")

    def _at(self, gtids: str, file: str = "", offset: int = 0) -> Position:
        return Position(self._flavour, self._server, canonical_gtids(self._flavour, gtids), file, offset)

    def _check_shape(self) -> None:
        connection: Any = self._connection
        count = connection._read_packet().read_length_encoded_integer()
        fields = [connection._read_packet(FieldDescriptorPacket) for _ in range(count)]
        connection._read_packet()  # EOF
        shape = [bytes(f.get_all_data()) for f in fields]
        if len(fields) != len(self.table.columns) or self._shape not in (None, shape):
            raise Halt("shape_changed", self._place, "the table's columns changed while it was read", "start again")
        self._shape = shape

    def _rows_to(self, consume: Consume) -> None:
        receive = self._connection._rfile.read1  # type: ignore[attr-defined]
        buffer = bytearray()
        while True:
            data = receive(_RECEIVE_BYTES)
            if not data:
                raise err.OperationalError(2013, "")
            buffer += data
            used = consume(buffer, 0, len(buffer))
            if _ended(buffer, used, self._place):
                return
            del buffer[:used]


def _ended(buffer: bytearray, at: int, place: str) -> bool:
    if len(buffer) < at + 5:
        return False
    size = int.from_bytes(buffer[at : at + 3], "little")
    if buffer[at + 4] == _ERR and len(buffer) >= at + 4 + size:
        raise decision(err.OperationalError(int.from_bytes(buffer[at + 5 : at + 7], "little"), ""), place)
    return buffer[at + 4] == _EOF and size < 9 and len(buffer) >= at + 4 + size
