"""What the log says, one slotted dataclass per thing said; `BinlogReader` yields these and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cdc.model.position import Position
from cdc.model.table import Table

Kind = Literal["c", "u", "d", "p"]
"""Of rows: created, changed, deleted; "p" is an update of which the row before is not known."""


class TableMap:
    """One shape of one table as the log describes it: the same object for as long as the bytes stay the same.

    `fingerprint` is the map's bytes after the table id: equal fingerprints are equal shapes. `table()` parses on first
    use.
    """

    __slots__ = ("_parse", "_table", "db", "fingerprint", "name", "raw", "table_id")

    def __init__(
        self, table_id: int, db: str, name: str, fingerprint: bytes, raw: bytes, parse: Callable[[bytes], Table]
    ) -> None:
        self.table_id, self.db, self.name, self.fingerprint, self.raw = table_id, db, name, fingerprint, raw
        self._parse = parse
        self._table: Table | None = None

    def table(self) -> Table:
        """The table's columns and key, equal to what `Catalog.tables` says of the same table."""
        if self._table is None:
            self._table = self._parse(self.raw)
        return self._table


@dataclass(slots=True)
class Begin:
    """A transaction (or a group of a non-transactional table) opens."""

    transaction: str
    """Its id in records: a GTID, or file=NAME,pos=END without GTIDs."""
    ts_us: int
    """Commit time, microseconds since the epoch, by the source's clock."""


@dataclass(slots=True)
class RowsEvent:
    """One rows event of a wanted table, undecoded."""

    table: TableMap
    kind: Kind
    body: bytes
    start: int
    """Where the first row image starts in `body`."""
    end: int
    """Where the last one ends."""
    server_id: int
    file: str
    offset: int
    """Where the event starts in `file`, 0 when unknown; inside a compressed transaction: where that starts."""
    ts_us: int
    unchecked: bool = False
    """Whether the session had foreign_key_checks off: the engine did nothing by foreign keys."""
    columns: tuple[int, ...] = ()
    """The table's columns that its images have, if those are not all."""


@dataclass(slots=True)
class Commit:
    """A transaction ended; also one without a wanted row. The only place where the position moves."""

    position: Position
    transaction: str
    ts_us: int


@dataclass(slots=True)
class LoggedStatement:
    """A logged statement that is neither transaction control nor known harmless: `ddl.classify` judges it."""

    sql: str
    db: str
    """The default database it ran in."""
    transaction: str
    ts_us: int
    sql_mode: int = 0
    """Of its session: it decides what a quote and a backslash are."""


@dataclass(slots=True)
class Heartbeat:
    """The server is alive and has nothing newer than `at`."""

    at: Position
    ts_us: int
    """The source's clock when nothing was on its way, as the reader knows it (the event itself carries time 0);
    0: that was never seen."""


Event = Begin | RowsEvent | Commit | LoggedStatement | Heartbeat
