"""A MariaDB server as the product sees it: a log of transactions, tables that show them a moment later, and connections to both."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from cdc.binlog.events import Begin, Commit, Event, Heartbeat, LoggedStatement, RowsEvent, TableMap
from cdc.errors import Retry
from cdc.model.position import Position
from cdc.model.selection import Selection
from cdc.model.table import Column, Table, TableName
from cdc.mysql.key_range import KeyRange
from cdc.mysql.table_reader import Piece
from cdc.runtime import clock
from cdc.runtime.moments import SourceClock
from tests.simulation.scheduler import Killed, Scheduler

DB = "d"
SERVER = "1"
PER_FILE = 50
EPOCH_US = 1_700_000_000_000_000
Row = tuple[int, int]
State = tuple[Row, ...]
"""All rows of a table, sorted; equal rows as often as they occur."""
EMPTY: State = ()


@dataclass(frozen=True)
class Change:
    """One row of one table changes."""

    table: str
    before: Row | None
    after: Row | None


@dataclass
class Transaction:
    """What stands in the log between two commits."""

    number: int
    ts_us: int
    changes: tuple[Change, ...] = ()
    sql: str = ""
    visible_at: float = 0.0


@dataclass
class SimTable:
    """A table and all that it ever held."""

    table: Table
    created: int
    dropped: int | None = None
    numbers: list[int] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    ever: set[Row] = field(default_factory=set)
    """Every row that it held between two transactions."""

    def at(self, number: int) -> State:
        """What it held after a transaction."""
        found = bisect_right(self.numbers, number)
        return self.states[found - 1] if found else EMPTY


def made(name: str, *, keyed: bool) -> Table:
    """A table of two numbers: a key and a value, or any two."""
    columns = (Column("a", "int", nullable=not keyed), Column("b", "int", nullable=False))
    return Table(DB, name, columns, (0,) if keyed else ())


class SimSource:
    """The server."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.log: list[Transaction] = []
        self.tables: dict[str, SimTable] = {}
        self.dropped: list[SimTable] = []
        self.skew_us = 0
        """Its clock, compared with true time."""
        self._most_skew_us = 0
        self.down = False
        self.far = 0.0
        """The longest that an answer of it takes, in seconds."""
        self.now_visible = 0

    # -- what applications do ----------------------------------------------------------------------------------------

    def clock_us(self) -> int:
        """Its clock."""
        self._most_skew_us = max(self._most_skew_us, self.skew_us)
        return EPOCH_US + int(self.scheduler.now * 1e6) + self.skew_us

    def latest_us(self) -> int:
        """What its clock would show had it never been set back: a reader that has not measured it again may go by that."""
        return self.clock_us() - self.skew_us + self._most_skew_us

    def create(self, name: str, *, keyed: bool, rows: Sequence[Row] = ()) -> None:
        """A table comes to be; with rows in it where it was filled elsewhere and renamed."""
        if name not in self.tables:
            number = self.write(sql=f"RENAME TABLE aside.`{name}` TO `{name}`" if rows else f"CREATE TABLE `{name}` (a INT, b INT)")
            table = self.tables[name] = SimTable(made(name, keyed=keyed), number)
            if rows:
                table.numbers, table.states, table.ever = [number], [tuple(sorted(rows))], set(rows)

    def truncate(self, name: str) -> None:
        """All of a table's rows go by a statement that names none of them."""
        number = self.write(sql=f"TRUNCATE TABLE `{name}`")
        self.tables[name].numbers.append(number)
        self.tables[name].states.append(EMPTY)

    def drop(self, name: str) -> None:
        """A table goes."""
        number = self.write(sql=f"DROP TABLE `{name}`")
        self.dropped.append(replace(self.tables.pop(name), dropped=number))

    def table(self, name: str, number: int) -> SimTable | None:
        """The table of this name after a transaction, or the one that came to be with the next ones."""
        there = [one for one in (*self.dropped, *self.tables.values()) if one.table.name == name]
        return next((one for one in there if one.dropped is None or number < one.dropped), None)

    def write(self, changes: Sequence[Change] = (), *, ts_us: int | None = None, sql: str = "", delay: float = 0.0) -> int:
        """A transaction commits: it is in the log now, and readers of tables see it a moment later. Its number."""
        number = len(self.log) + 1
        moment = (self.clock_us() if ts_us is None else ts_us) // 1_000_000 * 1_000_000
        before = self.log[-1].visible_at if self.log else 0.0
        visible = max(self.scheduler.now + delay, before)
        self.log.append(Transaction(number, moment, tuple(changes), sql, visible))
        for name in dict.fromkeys(change.table for change in changes):
            self._state(name, number, [change for change in changes if change.table == name])
        self.scheduler.notify("log")
        return number

    def _state(self, name: str, number: int, changes: Sequence[Change]) -> None:
        table = self.tables[name]
        rows = Counter(table.at(number))
        for change in changes:
            if change.before is not None:
                rows[change.before] -= 1
                assert rows[change.before] >= 0
            if change.after is not None:
                rows[change.after] += 1
        table.numbers.append(number)
        table.states.append(tuple(sorted(rows.elements())))
        table.ever.update(row for row, count in rows.items() if count)

    # -- positions ---------------------------------------------------------------------------------------------------

    def visible(self) -> int:
        """The last transaction that a SELECT sees."""
        while self.now_visible < len(self.log) and self.log[self.now_visible].visible_at <= self.scheduler.now:
            self.now_visible += 1
        return self.now_visible

    def position(self, number: int) -> Position:
        """The end of a transaction in the log."""
        return Position(
            "mariadb",
            SERVER,
            f"0-1-{number}" if number else "",
            f"log.{number // PER_FILE + 1:06}",
            4 + 100 * (number % PER_FILE),
            0,
        )

    def asked(self) -> None:
        """A connection is used."""
        if self.far and self.scheduler.random.random() < 0.5:
            self.scheduler.take(self.scheduler.random.uniform(0, self.far))
        self.scheduler.step()
        if self.down:
            raise Retry("source_lost", "source", "the server is away", "tried again")


def number_of(position: Position) -> int:
    """Which transaction a position is the end of."""
    return int(position.gtids.rpartition("-")[2] or 0)


class SimCatalog:
    """What `cdc.mysql.catalog.Catalog` is asked."""

    flavour = "mariadb"
    server = SERVER
    server_id = 1
    settings = SimpleNamespace(flavour="mysql", version="9.6.0", values={})
    """Of a server that logs what its foreign keys do."""

    def __init__(self, source: SimSource) -> None:
        self._source = source
        source.asked()

    @property
    def log(self) -> SimCatalog:
        """Positions of the log: this answers for all of a catalog."""
        return self

    identity = session = log

    def lacks(self, db: str, table: str) -> bool:
        """Whether there is no such table."""
        self._source.asked()
        return table not in self._source.tables

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> SimCatalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def selection(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> Selection:
        """Which names the patterns select."""
        return Selection(patterns, exclude)

    def tables(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[Table]:
        """The selected tables that exist."""
        self._source.asked()
        selects = self.selection(patterns, exclude)
        return [one.table for name, one in sorted(self._source.tables.items()) if selects(DB, name)]

    def visible_position(self) -> Position:
        """A position whose every transaction a SELECT shows."""
        self._source.asked()
        return self._source.position(self._source.visible())

    shown_position = visible_position

    def written_position(self) -> Position:
        """The log's end."""
        self._source.asked()
        return self._source.position(len(self._source.log))

    def shows(self, position: Position, undecided: frozenset[object] = frozenset()) -> bool:
        """Whether a SELECT sees everything up to a position."""
        self._source.asked()
        return self._source.visible() >= number_of(position)

    def computed(self, tables: Sequence[Table]) -> frozenset[TableName]:
        """None has a column that is computed."""
        return frozenset()

    def changed(self, tables: Sequence[Table]) -> list[Table]:
        """Those that are not any more as they were listed."""
        found = self._source.tables
        return [table for table in tables if table.name not in found or found[table.name].table != table]

    def check(self, position: Position) -> None:
        """The log goes on behind the position."""
        self._source.asked()
        assert number_of(position) <= len(self._source.log)


class SimTableReader:
    """What `cdc.mysql.table_reader.TableReader` is to copies."""

    locks = False

    def __init__(self, source: SimSource, table: Table) -> None:
        self._source, self.table = source, table
        self._snapshot: State | None = None
        self.known: object = None
        source.asked()

    def narrowed(self, seconds: float, where: str = "") -> SimTableReader:
        """All pieces are small here."""
        return self

    def check_server(self) -> None:
        """There is one server."""
        self._source.asked()

    def close(self) -> None:
        """Nothing is held."""

    def _rows(self) -> State:
        if self._snapshot is not None:
            return self._snapshot
        table = self._source.tables.get(self.table.name)
        return table.at(self._source.visible()) if table is not None else EMPTY

    def pieces(self, after: tuple[str, ...] | None, consume: Callable[[bytearray, int, int], int]) -> Iterator[Piece]:
        """Key range after key range, each read at its own moment."""
        while True:
            self._source.asked()
            low = int(after[0]) if after else None
            rows = [row for row in self._rows() if low is None or row[0] > low]
            size = self._source.scheduler.random.randint(1, 6)
            last = len(rows) <= size
            upto = None if last else (str(rows[size - 1][0]),)
            self._give(rows if last else rows[:size], consume)
            yield Piece(KeyRange(after, upto), 0.001)
            if last:
                return
            after = upto

    @contextmanager
    def exact(self) -> Iterator[Position]:
        """A snapshot whose position is known."""
        self._source.asked()
        number = self._source.visible()
        self._snapshot = self._rows()
        try:
            yield self._source.position(number)
        finally:
            self._snapshot = None

    def read(self, piece: KeyRange, consume: Callable[[bytearray, int, int], int]) -> None:
        """The whole table."""
        self._source.asked()
        self._give(list(self._rows()), consume)

    def select(self, condition: str, consume: Callable[[bytearray, int, int], int]) -> None:
        """The rows with one of the keys that a condition names."""
        self._source.asked()
        wanted = {int(text) for text in re.findall(r"-?\d+", condition)}
        self._give([row for row in self._rows() if row[0] in wanted], consume)

    def execute(self, sql: str) -> list[tuple[bytes, ...]]:
        """SELECT of constants."""
        self._source.asked()
        return [tuple(text.encode() for text in re.findall(r"'(-?\d+)'", sql))]

    def _give(self, rows: Sequence[Row], consume: Callable[[bytearray, int, int], int]) -> None:
        block = bytearray(b"".join(_packet(b"".join(_lenenc(value) for value in row)) for row in rows) + _packet(b"\xfe\0\0\0\0"))
        consume(block, 0, len(block))


def _packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


def _lenenc(value: int) -> bytes:
    text = str(value).encode()
    return bytes([len(text)]) + text


class SimServer:
    """What `cdc.mysql.source_server.SourceServer` is."""

    def __init__(self, source: SimSource, config: Any) -> None:
        self._source, self._config = source, config

    def catalog(self) -> Any:
        """A connection to ask questions by."""
        return SimCatalog(self._source)

    def selected(self, catalog: SimCatalog, policies: object) -> list[Table]:
        """The selected tables."""
        return catalog.tables(self._config.tables, self._config.exclude)

    def reader(self, catalog: object, table: Table) -> Any:
        """A connection to read one table by."""
        return SimTableReader(self._source, table)


class SimLog:
    """What `cdc.binlog.reader.BinlogReader` yields from a position on."""

    def __init__(
        self,
        source: SimSource,
        start: Position,
        wants: Callable[[str, str], bool],
        heartbeat_seconds: float,
        process: Any,
    ) -> None:
        self._source, self._wants, self._heartbeat, self._process = source, wants, heartbeat_seconds, process
        self._at = number_of(start)
        self._start = start
        self._maps: dict[Table, TableMap] = {}
        self.source_clock = SourceClock(self._offset_us(), self._offset_us)

    def close(self) -> None:
        """Nothing is held."""

    def undecided(self) -> frozenset[Any]:
        """There is no XA here."""
        return frozenset()

    def pending(self) -> bool:
        """Whether more of the log has arrived."""
        return self._at < len(self._source.log)

    def clock_us(self) -> int:
        """The server's clock, as the reader measured it."""
        return self.source_clock.now_us()

    def _offset_us(self) -> int:
        return self._source.clock_us() - clock.now_us()

    def __iter__(self) -> Iterator[Event]:
        while True:
            self._alive()
            if self._at < len(self._source.log):
                yield from self._transaction(self._source.log[self._at])
                continue
            self._source.scheduler.wait("log", self._heartbeat)
            self._alive()
            if self._at == len(self._source.log):
                yield Heartbeat(self._position(), self.source_clock.proved(clock.monotonic()))

    def _alive(self) -> None:
        if not self._process.alive:
            raise Killed
        self._source.asked()

    def _position(self) -> Position:
        return self._source.position(self._at)

    def _transaction(self, one: Transaction) -> Iterator[Event]:
        gtid = f"0-1-{one.number}"
        if one.sql:
            yield LoggedStatement(one.sql, DB, gtid, one.ts_us)
        else:
            yield Begin(gtid, one.ts_us)
        for change in one.changes:
            if self._wants(DB, change.table):
                self._alive()
                yield self._rows(change, one)
        self._at = one.number
        self.source_clock.doubt(one.ts_us)
        yield Commit(self._position(), gtid, one.ts_us)

    def _rows(self, change: Change, one: Transaction) -> RowsEvent:
        known = self._source.tables.get(change.table)
        table = (
            known.table
            if known is not None
            else next(old.table for old in reversed(self._source.dropped) if old.table.name == change.table)
        )
        kind = "c" if change.before is None else "d" if change.after is None else "u"
        body = b"".join(_image(row) for row in (change.before, change.after) if row is not None)
        position = self._source.position(one.number)
        return RowsEvent(self._map(table), kind, body, 0, len(body), 1, position.file, position.offset, one.ts_us)  # type: ignore[arg-type]

    def _map(self, table: Table) -> TableMap:
        if table not in self._maps:
            self._maps[table] = TableMap(len(self._maps) + 1, table.db, table.name, repr(table).encode(), b"", lambda _: table)
        return self._maps[table]


def _image(row: Row) -> bytes:
    return b"\xfc" + b"".join(value.to_bytes(4, "little", signed=True) for value in row)
