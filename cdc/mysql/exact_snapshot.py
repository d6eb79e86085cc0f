"""A snapshot of InnoDB whose position in the log is known exactly: it shows what stands up to there, and nothing
behind.

MariaDB tells where a snapshot stands, and that is true of every transaction but one kind: an XA COMMIT is in the log
before the engine does it, and the snapshot may be taken in between. All the while the transaction is shown as prepared.
So a snapshot is taken only if the log (`Heads`) holds as undecided, at its place, whatever was shown as prepared just
before, and decides nothing from then on up to there. MySQL counts a transaction as executed when the engine has done
it, XA COMMIT included. Docs: docs/decisions/030-exact-beside-xa.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdc.config.load import SourceConfig
from cdc.errors import Retry
from cdc.model.position import Position, log_number
from cdc.mysql.log_heads import Heads, Xid, xid_of
from cdc.runtime import clock, timing

Rows = list[tuple[bytes, ...]]
Execute = Callable[[str], list[Rows]]
"""Runs a statement on the connection that is to have the snapshot:
each of its answers, values as the bytes that the server sent."""
Place = tuple[str, int]
_SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT"
_AT_ONCE = f"BEGIN NOT ATOMIC SHOW MASTER STATUS; XA RECOVER; {_SNAPSHOT}; SHOW STATUS LIKE 'binlog_snapshot_%'; END"
"""One round trip, so that as little as possible is decided meanwhile."""


NO_SNAPSHOT = frozenset({"busy", "xa_prepared"})
"""The codes of what is no fault: there is none now, there may be one later."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a reader of the log knows where it stands."""

    position: Position
    undecided: frozenset[Xid]
    """The XA transactions that are prepared there and not decided; fewer only make a snapshot harder to get."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Opens snapshots on one connection."""

    execute: Execute
    source: SourceConfig
    place: str
    known: Known | None
    """If given, the log is followed meanwhile: nobody waits for long."""

    def begin(self, mariadb: bool) -> tuple[str, Place | None]:
        """Open one: its GTIDs, and on MariaDB its place in the log. Retry when there is none in time;
        nothing is open then."""
        if not mariadb:
            return self._quiet_one(), None
        file, offset, gtids = self._where_known()
        return self._decided_one(
            Heads(self.source, file, offset, gtids, self.known.undecided if self.known else frozenset())
        )

    def _until(self) -> float:
        return clock.monotonic() + (timing.TIMES.exact_on_the_way_seconds if self.known else timing.TIMES.exact_seconds)

    # -- MySQL

    def _quiet_one(self) -> str:
        """No commit falls between the two readings and none is halfway:
        without the second test 18 of 6,810 were wrong."""
        until = self._until()
        while True:
            before = self._row("SELECT @@GLOBAL.gtid_executed")[0]
            self.execute(_SNAPSHOT)
            if self._row("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_owned") == (before, b""):
                return before.decode()
            self.execute("ROLLBACK")
            if clock.monotonic() > until:
                raise Retry(
                    "busy", self.place, "there is no moment without a commit", "does a commit hang on the server?"
                )

    # -- MariaDB

    def _decided_one(self, heads: Heads) -> tuple[str, Place]:
        until = self._until()
        while True:
            end, recovered, status, *_ = self.execute(_AT_ONCE)
            shown, at = {xid_of(*row) for row in recovered}, _taken(status)
            if _order(at) >= _order((heads.file, heads.offset)):
                heads.to(*at)
                if shown <= heads.undecided and _order(heads.decided) <= _order(_place(end)):
                    return heads.gtids, at
            self.execute("ROLLBACK")
            if clock.monotonic() > until:
                raise self._late(len(shown - heads.undecided))

    def _late(self, open_: int) -> Retry:
        if open_:
            rule = f"{open_} XA transactions are prepared and not decided"
            return Retry("xa_prepared", self.place, rule, "XA COMMIT or XA ROLLBACK each: XA RECOVER lists them")
        return Retry("busy", self.place, "no snapshot shows the log's end", "does a commit hang on the server?")

    def _where_known(self) -> tuple[str, int, str]:
        """A place of the log and its GTIDs."""
        if self.known is not None and self.known.position.file:
            return self.known.position.file, self.known.position.offset, self.known.position.gtids
        until = self._until()
        while True:
            gtids = self._gtids()
            file, offset = _place(self.execute("SHOW MASTER STATUS")[0])
            if gtids == self._gtids():  # they move before the log's end does
                return file, offset, gtids
            if clock.monotonic() > until:
                raise Retry("busy", self.place, "there is no moment without a commit")

    def _gtids(self) -> str:
        return self._row("SELECT @@GLOBAL.gtid_binlog_pos")[0].decode()

    def _row(self, sql: str) -> tuple[bytes, ...]:
        return self.execute(sql)[0][0]


def _place(status: Rows) -> Place:
    file, offset = status[0][:2]
    return file.decode(), int(offset)


def _taken(status: Rows) -> Place:
    found = {name.lower(): value for name, value in status}
    return found[b"binlog_snapshot_file"].decode(), int(found[b"binlog_snapshot_position"])


def _order(place: Place) -> tuple[tuple[str, int], int]:
    return log_number(place[0]), place[1]
