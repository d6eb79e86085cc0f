"""What a transaction said, held back until its outcome is known.

A group in the log can still be undone: MariaDB, and MySQL without GTIDs, log `ROLLBACK` and `ROLLBACK TO` behind the
rows that they undo once a temporary table or a MyISAM table was touched in between. Rows of non-transactional tables
never stand in such a group (in row format they are logged at once, in a group of their own), so its rows go, whole or
back to the savepoint. Statements stay: in statement format a change of a MyISAM table is logged there and survives.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from cdc.binlog.events import LoggedStatement, RowsEvent, TableMap
from cdc.errors import Halt, Retry

HELD_BYTES = 64 << 20
"""Rows of one transaction kept in memory; what is more goes to a nameless file in the temporary directory."""


class TransactionBuffer:
    """Rows and statements of one open transaction, in order."""

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        self._limit = held_bytes
        self._items: list[RowsEvent | LoggedStatement] = []
        self._size = 0
        self._marks: dict[str, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None
        self._tables: list[TableMap] = []
        self._numbers: dict[int, int] = {}

    def add(self, item: RowsEvent | LoggedStatement) -> None:
        """Hold one more."""
        self._items.append(item)
        if isinstance(item, RowsEvent):
            self._size += len(item.body)
            if self._size > self._limit:
                self.spill()

    def mark(self, savepoint: str) -> None:
        """A savepoint stands here; an earlier one of the same name is gone."""
        self._marks.pop(savepoint, None)
        self._marks[savepoint] = (self._file.tell() if self._file else 0, len(self._items))

    def roll_back_to(self, savepoint: str, place: str) -> None:
        """Forget the rows held since the savepoint, and the savepoints since."""
        if savepoint not in self._marks:
            raise Halt(
                "savepoint",
                place,
                "the log rolls back to a savepoint that it did not set",
                "report this: the log is not understood",
            )
        offset, count = self._marks[savepoint]
        names = list(self._marks)
        self._marks = {name: self._marks[name] for name in names[: names.index(savepoint) + 1]}
        stored = self._file.tell() if self._file else 0
        undone = [
            *(list(self._stored(offset)) if stored > offset else []),
            *(self._items if stored > offset else self._items[count:]),
        ]
        if self._file and stored > offset:
            self._file.seek(offset)
            self._file.truncate()
            self._items = []
        self._items = self._items[:count] + [item for item in undone if isinstance(item, LoggedStatement)]

    def roll_back(self) -> None:
        """Forget all rows."""
        held = [*self._stored(0), *self._items]
        statements: list[RowsEvent | LoggedStatement] = [item for item in held if isinstance(item, LoggedStatement)]
        self.clear()
        self._items = statements

    def clear(self) -> None:
        """Forget everything."""
        self._items, self._size, self._marks, self._tables, self._numbers = [], 0, {}, [], {}
        if self._file:
            with suppress(OSError):  # what found no room goes with it
                self._file.close()
            self._file = None

    def drain(self) -> Iterator[RowsEvent | LoggedStatement]:
        """Everything held, in order; forgotten afterwards."""
        if self._file is None:
            items, self._items, self._size = self._items, [], 0
            self._marks.clear()
            yield from items
            return
        yield from self._stored(0)
        yield from self._items
        self.clear()

    @property
    def size(self) -> int:
        """Bytes of rows in memory."""
        return self._size

    def spill(self) -> None:
        """Move what is held to the file, and the savepoints with it;
        Retry where it finds no room, and all of it is read again then."""
        try:
            self._spill()
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise Retry("no_room", "the temporary directory", f"takes no more of a large transaction: {why}",
                        "make room there, or set TMPDIR to a larger one") from None  # fmt: skip

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="cdc-")  # noqa: SIM115 - closed by clear
        start = self._file.tell()
        offsets = [start]
        for item in self._items:
            pickle.dump(self._plain(item), self._file, pickle.HIGHEST_PROTOCOL)
            offsets.append(self._file.tell())
        self._file.flush()
        self._marks = {
            name: (offsets[count], 0) if offset == start else (offset, count)
            for name, (offset, count) in self._marks.items()
        }
        self._items, self._size = [], 0

    def _plain(self, item: RowsEvent | LoggedStatement) -> tuple[object, ...]:
        if isinstance(item, LoggedStatement):
            return (item.sql, item.db, item.transaction, item.ts_us, item.sql_mode)
        number = self._numbers.setdefault(id(item.table), len(self._tables))
        if number == len(self._tables):
            self._tables.append(item.table)
        place = (item.start, item.end, item.server_id, item.file, item.offset)
        return (number, item.kind, item.body, *place, item.ts_us, item.unchecked)

    def _stored(self, offset: int) -> Iterator[RowsEvent | LoggedStatement]:
        if self._file is None:
            return
        end = self._file.tell()
        self._file.seek(offset)
        while self._file.tell() < end:
            plain = pickle.load(self._file)
            yield (
                RowsEvent(self._tables[plain[0]], *plain[1:]) if isinstance(plain[0], int) else LoggedStatement(*plain)
            )
