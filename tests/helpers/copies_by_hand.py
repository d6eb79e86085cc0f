"""Copies beside the stream, by hand: a server that shows and reads what a test says, requests, and a capture that follows a log by hand."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cdc.capture.incremental_snapshot import IncrementalSnapshot
from cdc.capture.restart import Restart
from cdc.errors import CdcError
from cdc.model.position import Position
from cdc.model.table import Table
from cdc.mysql.key_range import KeyRange
from cdc.mysql.table_reader import Piece
from cdc.protocol.control import Copy, Cut, Entry
from cdc.protocol.copy_progress import NOTHING, Copies
from cdc.protocol.signals import CopyJob
from cdc.runtime.lag import PUBLISH
from tests.capture.test_capture import Run
from tests.capture.test_signals import collections, signal
from tests.helpers.logs_by_hand import Put, T, U, position, when

Row = tuple[int, str | None]
"""A key and a date."""
DATE = "2024-02-29"
FIVE = tuple((number, DATE) for number in range(1, 6))
ASK, OPEN, CLOSE, OVER = "ask", ["open t", "check"], "close", "ask no more"


def lenenc(text: str | None) -> bytes:
    return b"\xfb" if text is None else bytes([len(text)]) + text.encode()


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


def block(rows: Sequence[Row]) -> bytearray:
    """The rows of a SELECT, and what stands behind the last."""
    return bytearray(b"".join(packet(lenenc(str(id_)) + lenenc(date)) for id_, date in rows) + packet(b"\xfe\0\0\0\0"))


def copy_of(table: str = "t", **more: Any) -> bytes:
    """The signal that asks for a copy."""
    return signal("execute-snapshot", collections(f"db.{table}", **more))


class Server:
    """What `SourceServer`, `Catalog` and `TableReader` are to copies; notes what it is asked."""

    server = "s"
    locks = False

    def __init__(self, *rows: Row, piece: int = 2) -> None:
        self.rows, self.piece = list(rows), piece
        self.calls: list[str] = []
        self.written = position(0)
        """The log's end, as the server says it."""
        self.shown: Callable[[Position], bool] = lambda at: True
        self.asked: list[tuple[Position, frozenset[Any]]] = []
        self.fails: deque[tuple[str, CdcError]] = deque()
        self.torn: list[Table] = []
        self.known: Any = None
        self.wheres: list[tuple[float, str]] = []
        self.selected: list[str] = []
        self.at_read: Callable[[], None] = lambda: None
        self.exactly = position(0)
        self.answers: list[list[tuple[bytes, ...]]] = []
        self.given: list[int] = []
        self.used: list[int] = []
        """Bytes that were handed over, and how many of each were taken."""

    def _note(self, name: str, said: object = "") -> None:
        self.calls.append(f"{name} {said}".strip())
        if self.fails and self.fails[0][0] == name:
            raise self.fails.popleft()[1]

    def hand_over(self, given: bytearray, consume: Callable[[bytearray, int, int], int]) -> None:
        self.given.append(len(given))
        self.used.append(consume(given, 0, len(given)))

    def catalog(self) -> Any:
        self._note("ask")
        return self

    @property
    def log(self) -> Server:
        """Positions of the log: this answers for all of a catalog."""
        return self

    def shows(self, at: Position, undecided: frozenset[Any]) -> bool:
        self.asked.append((at, undecided))
        return self.shown(at)

    def written_position(self) -> Position:
        return self.written

    def changed(self, tables: Sequence[Table]) -> list[Table]:
        return [table for table in tables if table in self.torn]

    def close(self) -> None:
        self._note("ask no more")

    def reader(self, catalog: object, table: Table) -> Any:
        assert catalog is self
        self._note("open", table.name)
        return Reader(self)


class Reader:
    """A connection to read one table by."""

    def __init__(self, server: Server) -> None:
        self.server, self.locks, self.known = server, server.locks, None

    def narrowed(self, seconds: float, where: str = "") -> Reader:
        self.server.wheres.append((seconds, where))
        return self

    def check_server(self) -> None:
        self.server.known = self.known
        self.server._note("check")

    def close(self) -> None:
        self.server._note("close")

    def pieces(self, after: tuple[str, ...] | None, consume: Callable[[bytearray, int, int], int]) -> Iterator[Piece]:
        while True:
            self.server._note("read", f"behind {'.'.join(after)}" if after else "")
            rows = [row for row in self.server.rows if after is None or row[0] > int(after[0])]
            taken, last = rows[: self.server.piece], len(rows) <= self.server.piece
            upto = None if last else (str(taken[-1][0]),)
            self.server.hand_over(block(taken), consume)
            self.server.at_read()
            yield Piece(KeyRange(after, upto), 0.0)
            if last:
                return
            after = upto

    @contextmanager
    def exact(self) -> Iterator[Position]:
        self.server._note("lock" if self.locks else "snapshot")
        yield self.server.exactly
        self.server._note("free")

    def read(self, piece: KeyRange, consume: Callable[[bytearray, int, int], int]) -> None:
        assert piece == KeyRange()
        self.server._note("read")
        for row in self.server.rows:
            self.server.hand_over(block([row]), consume)

    def select(self, condition: str, consume: Callable[[bytearray, int, int], int]) -> None:
        self.server._note("select")
        self.server.selected.append(condition)
        wanted = {int(text) for text in re.findall(r"\d+", condition)}
        self.server.hand_over(block([row for row in self.server.rows if row[0] in wanted]), consume)

    def execute(self, sql: str) -> list[tuple[bytes, ...]]:
        self.server._note("execute", sql)
        return (
            self.server.answers.pop(0)
            if self.server.answers
            else [tuple(part.strip(" '").encode() for part in sql.removeprefix("SELECT").split(","))]
        )


@dataclass
class Requests:
    """A channel of signals."""

    stage = PUBLISH
    asked: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    next: int = 0
    anew: bool = False
    closed: int = 0

    def resume(self, known: Copies) -> Copies:
        return replace(known, next=0, read=0, last=None, channel="anew") if self.anew else replace(known, channel="here")

    def seek(self, number: int) -> None:
        self.next = number

    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        found = [(number, *one) for number, one in enumerate(self.asked) if number >= self.next]
        self.next = max(self.next, len(self.asked))
        return found

    def close(self) -> None:
        self.closed += 1


class Copied:
    """A capture with copies, and what it wrote."""

    def __init__(
        self,
        *rows: Row,
        tables: Sequence[Table] = (T, U),
        uncopied: Sequence[str] = ("t",),
        copies: Copies = NOTHING,
        rate: int = 0,
        piece: int = 2,
        **restart: Any,
    ) -> None:
        """`uncopied`: tables that were added, and whose copy nobody has to ask for."""
        self.server, self.requests = Server(*rows, piece=piece), Requests()
        self.run = Run(*tables)
        followed = frozenset((table.db, table.name) for table in tables if table.name not in uncopied)
        self.restart = Restart(position(0), when(0), 1, followed=followed, copies=copies, **restart)
        self.breaths = 0
        self.run.start(self.restart, lambda db, table: True)
        self.rate = rate

    def begin(self, anew: bool = False) -> IncrementalSnapshot:
        """The windows of this epoch."""
        self.requests.anew = anew

        def check_stop() -> None:
            self.breaths += 1

        source: Any = self.server
        more = {"rows_per_second": self.rate} if self.rate else {}
        self.windows = IncrementalSnapshot(self.run.capture, source, self.requests, self.restart, 5, check_stop, **more)
        self.run.capture.copying = self.windows
        return self.windows

    def ask(self, value: bytes) -> None:
        self.requests.asked.append((b"p", value))

    def follow(self, *events: Any, **log: Any) -> list[Entry | Put]:
        return self.run.follow(*events, **log)


def told(found: Sequence[Entry | Put]) -> list[str]:
    """What was written, a few words each."""
    return [_word(one) for one in found]


def _word(one: Entry | Put) -> str:
    if isinstance(one, Put):
        return f"{one.place[0]} {one.op} {one.key}"
    if isinstance(one, Copy):
        return f"copy {one.table}"
    if isinstance(one, Cut):
        active = one.copies.active
        progress = f" {active.table} behind {'.'.join(active.after)} ({active.rows})" if active else ""
        ends = "".join(f" {each.table} {each.outcome} ({each.rows}){' ' + each.reason if each.reason else ''}" for each in one.ended)
        return f"{'piece' if one.partial else 'cut'} at {one.position.offset // 100}{progress}{ends}"
    return type(one).__name__


def job(kind: str = "whole", **more: Any) -> CopyJob:
    return replace(CopyJob(3, "r", "db", "t", kind), **more)
