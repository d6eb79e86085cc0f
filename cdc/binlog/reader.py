"""The source's log as a stream of whole transactions, from an exact position on.

What it checks: every checksum, every length, that each event is of a known kind, that rows have a table map of their
own statement and full images, that transactions neither repeat nor go back. What it does not promise: rows are not
decoded, and statements are not understood, only handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from cdc.binlog import event_bodies as decode, event_types as kinds, xa
from cdc.binlog.events import Begin, Commit, Event, Heartbeat, Kind, LoggedStatement
from cdc.binlog.header import ARTIFICIAL, UNPLACED, LogCursor
from cdc.binlog.packets import dump, event_of, prepare
from cdc.binlog.rows_event import RowsEncoding, TableMaps
from cdc.binlog.texts import statement_of
from cdc.binlog.transaction import TransactionBuffer
from cdc.config.load import SourceConfig
from cdc.errors import Halt, Malformed
from cdc.model.position import Position, Tracker, file_transaction, log_number
from cdc.mysql.catalog import Catalog
from cdc.mysql.connection import Session, clock_offset_us, connect, deciding, measured_offset_us
from cdc.mysql.log_heads import Xid
from cdc.mysql.log_identity import ANOTHER_SOURCE
from cdc.runtime import timing
from cdc.runtime.moments import SourceClock


class BinlogReader:
    """Iterate for events; `position` is where to start again. One reader per connection:
    after an error make a new one."""

    def __init__(
        self,
        source: SourceConfig,
        server_id: int,
        start: Position,
        *,
        heartbeat_seconds: float = timing.TIMES.heartbeat_seconds,
        wants: Callable[[str, str], bool],
    ) -> None:
        self.place = f"{source.url.host}:{source.url.port}"
        with Catalog(source) as catalog:
            catalog.identity.check(start)
            self._collations = catalog.collations()
            self._maps = TableMaps(wants, start.flavour, self._collations, catalog.disguised())
            written = catalog.log.written_position()
            self._horizon = (log_number(written.file), written.offset) if written.file else (("", 0), 0)
            if start.server != catalog.server:  # another server of the same history: its files are its own
                start = catalog.identity.proven(start.moved_to(catalog.server))
            self._end_sql = catalog.log.log_end_sql
        self._again = None if start.floor is None else xa.Reread(start, start.floor)
        self._start, self._tracker, self._mariadb = start, Tracker(start), start.flavour == "mariadb"
        timeout = max(timing.TIMES.log_silence_seconds, 3 * heartbeat_seconds)
        self._ask_for = partial(Session, source, timeout)
        self._asked: Session | None = None
        """While the log is silent."""
        self._connection = connect(source, read_timeout=timeout)
        self._check_server(start)
        self.source_clock = SourceClock(
            clock_offset_us(self._connection, self.place), partial(measured_offset_us, source)
        )
        prepare(self._connection, start.begin, server_id, heartbeat_seconds, self.place)
        self._packets = dump(self._connection, start.begin, server_id, self.place, timeout, heartbeat_seconds)
        self._at, self._placed = LogCursor(), bool(start.file)
        self._group, self._prepared = TransactionBuffer(), xa.PreparedTransactions()
        self._open: str | None = None
        self._known = False
        """The transaction that is open was said before: it lies between the floor and the position."""
        self._gtid, self._ts_us, self._single, self._in_payload = "", 0, False, False

    @property
    def position(self) -> Position:
        """The end of the last transaction, or of what followed it outside of transactions."""
        return self._tracker.position()

    def undecided(self) -> frozenset[Xid]:
        """The XA transactions that are prepared there and not decided."""
        return self._prepared.names()

    def pending(self) -> bool:
        """Whether more can be read without waiting."""
        return self._packets.pending()

    def close(self) -> None:
        """Break the connection off; a second time does nothing."""
        self._connection._force_close()  # type: ignore[attr-defined]  # a goodbye is no command while the log is sent
        if self._asked is not None:
            self._asked.close()
        self._group.clear()
        self._prepared.clear()

    def __iter__(self) -> Iterator[Event]:
        """Events for as long as the connection holds; it ends by an error only."""
        packets, place, checked = self._packets, self.place, self._at.checked
        while True:
            event = event_of(packets.next(), place)
            end = checked(event)
            handler = HANDLERS.get(event[4])
            if handler is None:
                raise kinds.fatal(event[4], str(self._at))
            yield from handler(self, event, end)

    def clock_us(self) -> int:
        """The source's clock now, microseconds since the epoch, as it was measured."""
        return self.source_clock.now_us()

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
            rule = "the file is not the one that the position was read in (it was created at another time)"
            raise Halt("log_rewritten", self._at.file, rule, "the source was reset: cdc reset --all, and start again")
        if int.from_bytes(event[13:17], "little"):
            self._at.offset = int.from_bytes(event[13:17], "little")
        return ()

    def _on_quiet(self, event: bytes, end: int) -> Iterable[Event]:
        """An event without rows; outside of a transaction the position moves past it."""
        if self._open is None and not event[17] & ARTIFICIAL:
            self._move()
        return ()

    def _on_heartbeat(self, event: bytes, end: int) -> Iterable[Event]:
        return self._heartbeat(
            event[decode.HEADER : end].decode("utf-8", "replace"),
            self._at.widened(int.from_bytes(event[13:17], "little")),
        )

    def _on_heartbeat_v2(self, event: bytes, end: int) -> Iterable[Event]:
        file, offset, at = self._at.file, self._at.offset, decode.HEADER
        while at < end and event[at]:
            kind, at = decode.lenenc(event, at)
            length, at = decode.lenenc(event, at)
            if kind == 1:
                file = event[at : at + length].decode("utf-8", "replace")
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
        self._check_silence()
        self._placed = self._placed or not self._mariadb
        self._move()
        return (Heartbeat(self._tracker.position(), self._quiet_us()),)

    def _quiet_us(self) -> int:
        """The source's clock when we last saw that it sent nothing:
        if we were busy since, what it sent then is still to be read."""
        quiet_at = self._packets.quiet_at
        return 0 if quiet_at is None else self.source_clock.proved(quiet_at)

    def _check_silence(self) -> None:
        """A server whose log was reset sends heartbeats from the old one until the new one is as long."""
        self._asked = self._asked or self._ask_for()
        file, offset, *_ = self._asked.all(self._end_sql)[0]
        if (log_number(file), offset) < (log_number(self._at.file), self._at.offset):
            rule = f"the server's log ends before this place, at {file}:{offset}"
            raise Halt("log_rewritten", str(self._at), rule, ANOTHER_SOURCE)

    def _move(self) -> None:
        """Take the place between two transactions for the position, if that is forward.

        While the server still skips what the position holds, its file and offset lie behind the position's GTIDs.
        """
        at, held = self._at, self._tracker
        if self._placed and (not held.file or (log_number(at.file), at.offset) > (log_number(held.file), held.offset)):
            held.move(at.file, at.offset, at.created)

    # Transactions

    def _on_gtid(self, event: bytes, end: int) -> Iterable[Event]:
        head = (decode.tagged_gtid_event if event[4] == kinds.TAGGED_GTID else decode.mysql_gtid_event)(event, end)
        by_file = self._start.by_file
        if not head.gtid and not by_file:
            rule = "a transaction has no GTID, the position goes by them"
            raise Halt("gtid_off", str(self._at), rule, "SET GLOBAL gtid_mode = ON")
        self._gtid = "" if by_file else head.gtid
        place = file_transaction(self._at.file, self._at.start + head.length)
        return self._opened(self._gtid or place, head.ts_us, single=True)

    def _on_mariadb_gtid(self, event: bytes, end: int) -> Iterable[Event]:
        head = decode.mariadb_gtid_event(event)
        self._gtid = head.gtid
        return self._opened(head.gtid, int.from_bytes(event[0:4], "little") * 1_000_000, single=head.standalone)

    def _opened(self, transaction: str, ts_us: int, *, single: bool) -> Iterable[Event]:
        if self._open is not None:
            raise Malformed("log_order", str(self._at), "a transaction begins within another one")
        self._open, self._ts_us, self._single = transaction, ts_us, single
        self._known = self._again is not None and self._again.holds(transaction)
        return () if self._known else (Begin(transaction, ts_us),)

    def _on_xid(self, event: bytes, end: int) -> Iterable[Event]:
        return self._committed()

    def _committed(self) -> Iterator[Event]:
        transaction = self._transaction()
        if self._known:
            self._group.clear()
        yield from self._group.drain()
        if (
            self._start.by_file
            and not self._in_payload
            and transaction != file_transaction(self._at.file, self._at.offset)
        ):
            raise Malformed("log_order", str(self._at), "a transaction does not end where its head says")
        self._open = None
        self._maps.clear()
        if not self._in_payload:
            yield from self._ended(transaction)

    def _ended(self, transaction: str) -> Iterable[Event]:
        """Move the position behind a transaction, and say so unless that was said before."""
        at, known = self._at, self._known
        if self._again is not None and self._again.add(self._gtid, at.file, at.offset, at.created):
            self._again = None
        if known:
            return ()
        self._tracker.move(at.file, at.offset, at.created)
        self._tracker.add(self._gtid, at.file, at.offset)
        if self._again is None:  # until then the floor of the start holds: not all that is prepared is known again
            self._tracker.floor = self._prepared.floor()
        self._placed = True
        self.source_clock.doubt(self._ts_us)
        return (Commit(self._tracker.position(), transaction, self._ts_us),)

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
                raise kinds.fatal(inner[4], str(self._at))
            yield from handler(self, inner, len(inner))
        self._in_payload = False
        if self._open is not None:
            raise Malformed("payload", str(self._at), "a compressed transaction does not end")
        yield from self._ended(transaction)

    # XA

    def _on_xa_prepare(self, event: bytes, end: int) -> Iterable[Event]:
        """The group ends, and its rows wait for the outcome; unless it was a commit in ONE PHASE."""
        xid, one_phase = xa.prepare_event(event, end)
        if not one_phase:
            self._transaction()
            before = (self._again.reached if self._again is not None else self._tracker.position)()
            self._prepared.hold(xid, self._group, before, str(self._at))
            self._group = TransactionBuffer()
        return self._committed()

    def _said_xa(self, sql: bytes, transaction: str) -> Iterator[Event]:
        said = xa.statement(sql, str(self._at))
        self._single = False
        if said.verb not in (b"COMMIT", b"ROLLBACK"):
            return
        decided = self._prepared.decide(said, transaction, self._ts_us, known=self._known)
        if decided is None and said.verb == b"COMMIT" and not said.one_phase and not self._known:
            raise Halt(
                "xa_unknown",
                f"{transaction} at {self._at!s}",
                "an XA transaction is committed whose PREPARE was not read",
                "it was prepared before the copy began: decide such transactions first (XA RECOVER), "
                "then cdc reset --all, and start again",
            )
        if said.verb == b"ROLLBACK":
            self._group.roll_back()
        yield from decided or ()
        yield from self._committed()

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
            return self._said_xa(query.sql, transaction)
        self._group.add(LoggedStatement(self._text(query), query.db, transaction, self._ts_us, query.sql_mode))
        return self._committed() if self._single else ()

    def _text(self, query: decode.Query) -> str:
        charset, _ = self._collations.get(query.collation, ("utf8mb4", 4))
        return statement_of(charset, query.sql)

    # Rows

    def _on_table_map(self, event: bytes, end: int) -> Iterable[Event]:
        self._maps.learn(event, end)
        return ()

    def _on_rows(
        self, event: bytes, end: int, kind: Kind, version: int, form: RowsEncoding = "plain"
    ) -> Iterable[Event]:
        rows = self._maps.rows(event, end, self._at, self._ts_us, kind, version, form)
        if rows is not None:
            self._transaction()
            self._group.add(rows)
        return ()

    # The connection

    def _check_server(self, start: Position) -> None:
        """A name may lead to several servers: the one that sends the log must be the one that was checked."""
        variable = "server_uid" if self._mariadb else "server_uuid"
        with deciding(self.place), self._connection.cursor() as cursor:
            cursor.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ('{variable}', 'server_id')")
            found = dict(cursor.fetchall())
        if (found.get(variable) or found.get("server_id")) != start.server:
            hint = "give source.url the address of one server"
            raise Halt("other_server", self.place, "two connections reached two servers", hint)


Handler = Callable[[BinlogReader, bytes, int], Iterable[Event]]
_quiet, _rows, _gtid = BinlogReader._on_quiet, BinlogReader._on_rows, BinlogReader._on_gtid

HANDLERS: Mapping[int, Handler] = {
    **dict.fromkeys(kinds.HARMLESS, _quiet),
    kinds.QUERY: BinlogReader._on_query,
    kinds.QUERY_COMPRESSED: BinlogReader._on_query_compressed,
    kinds.EXECUTE_LOAD: BinlogReader._on_load_query,
    kinds.ROTATE: BinlogReader._on_rotate,
    kinds.FORMAT: BinlogReader._on_format,
    kinds.HEARTBEAT: BinlogReader._on_heartbeat,
    kinds.HEARTBEAT_V2: BinlogReader._on_heartbeat_v2,
    kinds.XID: BinlogReader._on_xid,
    kinds.XA_PREPARE: BinlogReader._on_xa_prepare,
    kinds.PAYLOAD: BinlogReader._on_payload,
    **dict.fromkeys((kinds.GTID, kinds.ANONYMOUS_GTID, kinds.TAGGED_GTID), _gtid),
    kinds.MARIADB_GTID: BinlogReader._on_mariadb_gtid,
    kinds.TABLE_MAP: BinlogReader._on_table_map,
    kinds.WRITE_V1: partial(_rows, kind="c", version=1),
    kinds.UPDATE_V1: partial(_rows, kind="u", version=1),
    kinds.DELETE_V1: partial(_rows, kind="d", version=1),
    kinds.WRITE: partial(_rows, kind="c", version=2),
    kinds.UPDATE: partial(_rows, kind="u", version=2),
    kinds.DELETE: partial(_rows, kind="d", version=2),
    kinds.PARTIAL_UPDATE: partial(_rows, kind="u", version=2, form="partial"),
    kinds.WRITE_COMPRESSED_V1: partial(_rows, kind="c", version=1, form="compressed"),
    kinds.UPDATE_COMPRESSED_V1: partial(_rows, kind="u", version=1, form="compressed"),
    kinds.DELETE_COMPRESSED_V1: partial(_rows, kind="d", version=1, form="compressed"),
    kinds.WRITE_COMPRESSED: partial(_rows, kind="c", version=2, form="compressed"),
    kinds.UPDATE_COMPRESSED: partial(_rows, kind="u", version=2, form="compressed"),
    kinds.DELETE_COMPRESSED: partial(_rows, kind="d", version=2, form="compressed"),
}
