"""The source's log as a stream of whole transactions, from an exact position on.

What it checks: every checksum, every length, that each event is of a known kind, that rows have a table map of their own
statement and full images, that transactions neither repeat nor go back. What it does not promise: rows are not decoded, and
statements are not understood, only handed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from cdc import binlog_decode as decode
from cdc.binlog_events import Begin, Commit, Event, Heartbeat, Kind, Rows, Statement, TableMap
from cdc.binlog_group import Group
from cdc.binlog_place import ARTIFICIAL, FORMAT, HEARTBEAT, HEARTBEAT_V2, ROTATE, UNPLACED, Place
from cdc.binlog_tables import column_count, names_of, table_of, text_of
from cdc.binlog_wire import dump, event_of, prepare
from cdc.catalog import Catalog
from cdc.config import SourceConfig
from cdc.errors import Halt, Malformed
from cdc.mysql import clock_offset_us, connect, deciding
from cdc.position import Position, Tracker, file_transaction, log_number

_STATEMENT_END = 0x01
_DUMMY_TABLE = 0xFFFFFF
_SHAPES_KEPT = 10_000

Wanted = tuple[TableMap, tuple[bytes, ...], tuple[bytes, ...]]
"""A followed table, and how the part of a rows event before the first image begins: for one image, and for two."""


class BinlogReader:
    """Iterate for events; `position` is where to start again. One reader per connection: after an error make a new one."""

    def __init__(
        self,
        source: SourceConfig,
        server_id: int,
        start: Position,
        *,
        heartbeat_seconds: float = 0.5,
        wants: Callable[[str, str], bool],
    ) -> None:
        self.place = f"{source.url.host}:{source.url.port}"
        self._wants = wants
        with Catalog(source) as catalog:
            catalog.check(start)
            self._collations, self._disguised = catalog.collations(), catalog.disguised()
            written = catalog.written_position()
            self._horizon = (log_number(written.file), written.offset) if written.file else (("", 0), 0)
            if start.server != catalog.server:  # another server of the same history: its files are its own
                start = replace(start, server=catalog.server, file="", offset=0, file_created=0)
        self._start, self._tracker, self._mariadb = start, Tracker(start), start.flavour == "mariadb"
        timeout = max(5.0, 3 * heartbeat_seconds)
        self._connection = connect(source, read_timeout=timeout)
        self._check_server(start)
        self.clock_offset_us = clock_offset_us(self._connection, self.place)
        prepare(self._connection, start, server_id, heartbeat_seconds, self.place)
        self._packets = dump(self._connection, start, server_id, self.place, timeout)
        self._at, self._placed = Place(), bool(start.file)
        self._shapes: dict[bytes, Wanted | None] = {}
        self._maps: dict[int, Wanted | None] = {}
        self._group = Group()
        self._open: str | None = None
        self._gtid, self._ts_us, self._single, self._in_payload = "", 0, False, False

    @property
    def position(self) -> Position:
        """The end of the last transaction, or of what followed it outside of transactions."""
        return self._tracker.position()

    def pending(self) -> bool:
        """Whether more can be read without waiting."""
        return self._packets.pending()

    def close(self) -> None:
        """Break the connection off; a second time does nothing."""
        self._connection._force_close()  # type: ignore[attr-defined]  # a goodbye is no command while the log is sent
        self._group.clear()

    def __iter__(self) -> Iterator[Event]:
        """Events for as long as the connection holds; it ends by an error only."""
        packets, place, checked = self._packets, self.place, self._at.checked
        while True:
            event = event_of(packets.next(), place)
            end = checked(event)
            handler = HANDLERS.get(event[4])
            if handler is None:
                raise self._unknown(event[4])
            yield from handler(self, event, end)

    def _unknown(self, kind: int) -> Halt:
        if kind in _REASONS:
            code, rule, hint = _REASONS[kind]
            return Halt(code, str(self._at), rule, hint)
        return Halt("unknown_event", str(self._at), f"event type {kind} is not known", "upgrade cdc, or report the server's version")

    def clock_us(self) -> int:
        """The source's clock now, microseconds since the epoch: this machine's plus the offset measured at the connection."""
        return time.time_ns() // 1000 + self.clock_offset_us

    # Files

    def _on_rotate(self, event: bytes, end: int) -> Iterable[Event]:
        if not event[17] & ARTIFICIAL:
            return ()  # the end of a file; the server announces the next one itself
        self._at.opened(event[27:end].decode("utf-8", "replace"), int.from_bytes(event[19:27], "little"))
        log_number(self._at.file)
        return ()

    def _on_format(self, event: bytes, end: int) -> Iterable[Event]:
        if int.from_bytes(event[19:21], "little") != 4 or event[75] != decode.HEADER:
            raise Malformed("format", str(self._at), "the log is not of version 4")
        self._forget()  # a group that a crashed server left unfinished is not committed
        self._at.created = int.from_bytes(event[0:4], "little")
        known = self._start.file_created if self._at.file == self._start.file else 0
        if known and known != self._at.created:
            raise Halt(
                "log_rewritten",
                self._at.file,
                "the file is not the one that the position was read in (it was created at another time)",
                "the source was reset: copy the tables again",
            )
        if int.from_bytes(event[13:17], "little"):
            self._at.offset = int.from_bytes(event[13:17], "little")
        return ()

    def _on_quiet(self, event: bytes, end: int) -> Iterable[Event]:
        """An event without rows; outside of a transaction the position moves past it."""
        if self._open is None and not event[17] & ARTIFICIAL:
            self._move()
        return ()

    def _on_heartbeat(self, event: bytes, end: int) -> Iterable[Event]:
        return self._heartbeat(event[decode.HEADER : end].decode(), self._at.widened(int.from_bytes(event[13:17], "little")))

    def _on_heartbeat_v2(self, event: bytes, end: int) -> Iterable[Event]:
        file, offset, at = self._at.file, self._at.offset, decode.HEADER
        while at < end and event[at]:
            kind, at = decode.lenenc(event, at)
            length, at = decode.lenenc(event, at)
            if kind == 1:
                file = event[at : at + length].decode()
            elif kind == 2:
                offset, _ = decode.lenenc(event, at)
            at += length
        return self._heartbeat(file, offset)

    def _heartbeat(self, file: str, offset: int) -> Iterable[Event]:
        if self._open is not None or file != self._at.file:
            return ()
        self._at.offset = max(self._at.offset, offset)
        if (log_number(file), self._at.offset) < self._horizon:
            return ()  # MySQL sends these too while it skips what the position holds: no sign of having caught up
        self._placed = self._placed or not self._mariadb
        self._move()
        return (Heartbeat(self._tracker.position(), self.clock_us()),)

    def _move(self) -> None:
        """Take the place between two transactions for the position, if that is forward.

        While the server still skips what the position holds, its file and offset lie behind the position's GTIDs.
        """
        at, held = self._at, self._tracker
        if self._placed and (not held.file or (log_number(at.file), at.offset) > (log_number(held.file), held.offset)):
            held.move(at.file, at.offset, at.created)

    # Transactions

    def _on_gtid(self, event: bytes, end: int) -> Iterable[Event]:
        head = (decode.tagged_gtid_event if event[4] == _TAGGED else decode.mysql_gtid_event)(event, end)
        by_file = self._start.by_file
        if not head.gtid and not by_file:
            raise Halt("gtid_off", str(self._at), "a transaction has no GTID, the position goes by them", "SET GLOBAL gtid_mode = ON")
        self._gtid = "" if by_file else head.gtid
        place = file_transaction(self._at.file, self._at.start + head.length)
        return self._opened(self._gtid or place, head.ts_us, single=True)

    def _on_mariadb_gtid(self, event: bytes, end: int) -> Iterable[Event]:
        head = decode.mariadb_gtid_event(event)
        if head.xa:
            raise self._unknown(_XA_PREPARE)
        self._gtid = head.gtid
        return self._opened(head.gtid, int.from_bytes(event[0:4], "little") * 1_000_000, single=head.standalone)

    def _opened(self, transaction: str, ts_us: int, *, single: bool) -> Iterable[Event]:
        if self._open is not None:
            raise Malformed("log_order", str(self._at), "a transaction begins within another one")
        self._open, self._ts_us, self._single = transaction, ts_us, single
        return (Begin(transaction, ts_us),)

    def _on_xid(self, event: bytes, end: int) -> Iterable[Event]:
        return self._committed()

    def _committed(self) -> Iterator[Event]:
        transaction = self._transaction()
        yield from self._group.drain()
        if self._start.by_file and not self._in_payload and transaction != file_transaction(self._at.file, self._at.offset):
            raise Malformed("log_order", str(self._at), "a transaction does not end where its head says")
        self._open = None
        self._maps.clear()
        if not self._in_payload:
            yield self._commit(transaction)

    def _commit(self, transaction: str) -> Commit:
        self._tracker.move(self._at.file, self._at.offset, self._at.created)
        self._tracker.add(self._gtid, self._at.file, self._at.offset)
        self._placed = True
        return Commit(self._tracker.position(), transaction, self._ts_us)

    def _transaction(self) -> str:
        if self._open is None:
            raise Malformed("log_order", str(self._at), "a change stands outside of any transaction")
        return self._open

    def _forget(self) -> None:
        self._open = None
        self._maps.clear()
        self._group.clear()

    def _on_payload(self, event: bytes, end: int) -> Iterator[Event]:
        transaction = self._transaction()
        self._in_payload, self._at.size = True, 0
        for inner in decode.payload_events(event, end):
            handler = HANDLERS.get(inner[4]) if inner[4] not in UNPLACED else None
            if handler is None:
                raise self._unknown(inner[4])
            yield from handler(self, inner, len(inner))
        self._in_payload = False
        if self._open is not None:
            raise Malformed("payload", str(self._at), "a compressed transaction does not end")
        yield self._commit(transaction)

    # Statements

    def _on_query(self, event: bytes, end: int) -> Iterable[Event]:
        return self._said(decode.query_event(event, end))

    def _on_query_compressed(self, event: bytes, end: int) -> Iterable[Event]:
        return self._said(decode.query_event(event, end, compressed=True))

    def _on_load_query(self, event: bytes, end: int) -> Iterable[Event]:
        return self._said(decode.query_event(event, end, extra=13))

    def _said(self, query: decode.Query) -> Iterable[Event]:
        transaction = self._transaction()
        words = query.sql[:13].upper()
        if words == b"BEGIN":
            self._single = False
            return ()
        if query.sql.upper() in (b"COMMIT", b"ROLLBACK"):
            if words == b"ROLLBACK":
                self._group.roll_back()
            return self._committed()
        if words.startswith(b"SAVEPOINT "):
            self._group.mark(query.sql[10:].decode("utf-8", "surrogateescape"))
            return ()
        if words.startswith(b"ROLLBACK TO "):
            self._group.roll_back_to(query.sql[12:].decode("utf-8", "surrogateescape"), str(self._at))
            return ()
        if words.startswith(b"XA "):
            raise self._unknown(_XA_PREPARE)
        self._group.add(Statement(self._text(query), query.db, transaction, self._ts_us, query.sql_mode))
        return self._committed() if self._single else ()

    def _text(self, query: decode.Query) -> str:
        charset, _ = self._collations.get(query.collation, ("utf8mb4", 4))
        found = text_of(charset, query.sql)
        return query.sql.decode("utf-8", "replace") if found is None else found

    # Rows

    def _on_table_map(self, event: bytes, end: int) -> Iterable[Event]:
        shape = event[25:end]
        known = self._shapes.get(shape, ...)
        if known is ...:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            known = self._shapes[shape] = self._followed(shape, int.from_bytes(event[19:25], "little"))
        self._maps[int.from_bytes(event[19:25], "little")] = known
        return ()

    def _followed(self, shape: bytes, table_id: int) -> Wanted | None:
        db, name = names_of(shape, 2)
        if not self._wants(db, name):
            return None
        parse = partial(table_of, flavour=self._start.flavour, collations=self._collations, disguised=self._disguised)
        count = column_count(shape, 2)
        head, images = _lenenc(count), _full(count)
        table = TableMap(table_id, db, name, shape, shape[2:], parse)
        return table, tuple(head + one for one in images), tuple(head + one + two for one in images for two in images)

    def _on_rows(self, event: bytes, end: int, kind: Kind, version: int, compressed: bool = False) -> Iterable[Event]:
        table_id = int.from_bytes(event[19:25], "little")
        wanted = self._maps.get(table_id, ...)
        if event[25] & _STATEMENT_END:
            self._maps.clear()
        if wanted is None:
            return ()
        if wanted is ...:
            if table_id == _DUMMY_TABLE:
                return ()
            raise Halt(
                "table_map_missing", str(self._at), "rows without a table map of their statement", "report this: the log is not understood"
            )
        at = 27 if version == 1 else 27 + int.from_bytes(event[27:29], "little")
        heads = wanted[2] if kind == "u" else wanted[1]
        if not event.startswith(heads, at):
            raise Halt(
                "row_image",
                f"{wanted[0].db}.{wanted[0].name} at {self._at!s}",
                "a row image lacks columns",
                "SET GLOBAL binlog_row_image = FULL, reconnect the writers, and copy the table again",
            )
        at += len(heads[0])
        if compressed:
            event, at = decode.inflated(event[:end], at), 0
            end = len(event)
        self._transaction()
        server_id = int.from_bytes(event[5:9], "little")
        self._group.add(Rows(wanted[0], kind, event, at, end, server_id, self._at.file, self._at.start, self._ts_us))
        return ()

    # The connection

    def _check_server(self, start: Position) -> None:
        """A name may lead to several servers: the one that sends the log must be the one that was checked."""
        variable = "server_uid" if self._mariadb else "server_uuid"
        with deciding(self.place), self._connection.cursor() as cursor:
            cursor.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ('{variable}', 'server_id')")
            found = dict(cursor.fetchall())
        if (found.get(variable) or found.get("server_id")) != start.server:
            raise Halt("other_server", self.place, "two connections reached two servers", "give source.url the address of one server")


def _lenenc(count: int) -> bytes:
    return bytes([count]) if count < 251 else b"\xfc" + count.to_bytes(2, "little")


def _full(count: int) -> tuple[bytes, ...]:
    """Bitmaps of `count` set bits: servers fill the rest of the last byte with ones or with zeros."""
    size, rest = (count + 7) // 8, count % 8
    ones = b"\xff" * size
    return (ones, ones[:-1] + bytes([(1 << rest) - 1])) if rest else (ones,)


Handler = Callable[[BinlogReader, bytes, int], Iterable[Event]]
_XA_PREPARE, _TAGGED = 38, 42
_quiet, _rows = BinlogReader._on_quiet, BinlogReader._on_rows

HANDLERS: Mapping[int, Handler] = {
    2: BinlogReader._on_query,
    3: _quiet,  # STOP: the server shut down in order
    ROTATE: BinlogReader._on_rotate,
    5: _quiet,  # INTVAR, RAND (13), USER_VAR (14): values for the statement that follows, which is handed over
    9: _quiet,  # APPEND_BLOCK, DELETE_FILE (11), BEGIN_LOAD_QUERY (17): data of the LOAD statement that follows, which is handed over
    **dict.fromkeys((11, 13, 14), _quiet),
    FORMAT: BinlogReader._on_format,
    16: BinlogReader._on_xid,
    17: _quiet,
    18: BinlogReader._on_load_query,
    19: BinlogReader._on_table_map,
    23: partial(_rows, kind="c", version=1),
    24: partial(_rows, kind="u", version=1),
    25: partial(_rows, kind="d", version=1),
    HEARTBEAT: BinlogReader._on_heartbeat,
    28: _quiet,  # IGNORABLE: a newer server's comment
    29: _quiet,  # ROWS_QUERY: the statement's text
    30: partial(_rows, kind="c", version=2),
    31: partial(_rows, kind="u", version=2),
    32: partial(_rows, kind="d", version=2),
    33: BinlogReader._on_gtid,
    34: BinlogReader._on_gtid,
    35: _quiet,  # PREVIOUS_GTIDS: the catalog was asked for these
    **dict.fromkeys((36, 37), _quiet),  # TRANSACTION_CONTEXT, VIEW_CHANGE: group replication's own
    40: BinlogReader._on_payload,
    HEARTBEAT_V2: BinlogReader._on_heartbeat_v2,
    _TAGGED: BinlogReader._on_gtid,
    160: _quiet,  # ANNOTATE_ROWS: the statement's text, for people
    161: _quiet,  # BINLOG_CHECKPOINT: which files a crash recovery needs
    162: BinlogReader._on_mariadb_gtid,
    163: _quiet,  # GTID_LIST: the catalog was asked for these
    165: BinlogReader._on_query_compressed,
    166: partial(_rows, kind="c", version=1, compressed=True),
    167: partial(_rows, kind="u", version=1, compressed=True),
    168: partial(_rows, kind="d", version=1, compressed=True),
    169: partial(_rows, kind="c", version=2, compressed=True),
    170: partial(_rows, kind="u", version=2, compressed=True),
    171: partial(_rows, kind="d", version=2, compressed=True),
}
_REASONS: Mapping[int, tuple[str, str, str]] = {
    26: ("incident", "the source lost events and says so", "copy the tables again"),
    _XA_PREPARE: ("xa", "XA transactions are not supported yet", "keep the writers from using XA"),
    39: ("row_image", "partial JSON updates are not full row images", "SET GLOBAL binlog_row_value_options = '', and copy the table again"),
    164: ("log_encrypted", "the server sends its log encrypted", "switch encrypt_binlog off"),
    172: ("unknown_event", "a row event in fragments is not supported", "raise binlog_row_event_fragment_threshold"),
}
