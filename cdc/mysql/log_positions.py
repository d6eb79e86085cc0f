"""Positions of a server's log: where a reader of tables stands in it, and where it ends."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from cdc.config.load import SourceConfig
from cdc.errors import Refused, Retry
from cdc.model.position import Position, canonical_gtids
from cdc.mysql.connection import Session
from cdc.mysql.log_heads import Heads, Xid, xid_of
from cdc.mysql.log_identity import Identity
from cdc.mysql.preflight import ServerSettings, version_of
from cdc.runtime import timing


class LogPositions:
    """Asks over a catalog's connection; not for use by several threads."""

    def __init__(self, source: SourceConfig, session: Session, settings: ServerSettings, identity: Identity) -> None:
        self._source, self._settings, self._identity = source, settings, identity
        self._execute, self._all, self._one = session.execute, session.all, session.one
        self.place, self.flavour = session.place, settings.flavour

    def visible_position(self) -> Position:
        """A position whose every transaction a SELECT that starts now sees.

        The log holds a transaction before the engine shows it, so the status of the log would promise too much. An XA
        transaction may be logged below it and committed above: whatever is prepared now must be decided first, and what
        was prepared meanwhile lies above the position's floor.
        """
        return self._identity.proven(self._visible())

    def _visible(self) -> Position:
        end, before = self._log_end(), self.shown_position()
        self._await_decisions()
        at = self.shown_position()
        if at == before:
            return at
        if self.flavour == "mariadb":
            self._await_commits(end)
        return replace(at, floor=before)

    def shows(self, position: Position, undecided: frozenset[Xid] = frozenset()) -> bool:
        """Whether a SELECT that starts now sees every transaction of a position of this server's log, or of one it came
        from.

        `undecided`: XA transactions that are known to be prepared there and not decided; any other that is prepared now
        may be decided there.
        """
        if self.flavour == "mysql":
            return self.shown_position().covers(position)
        here = bool(position.file) and position.server == self._settings.server
        seen = self._snapshot(position) if here else self.shown_position()
        return seen.covers(position) and not self._left(self.prepared() - undecided, timing.TIMES.xa_shown_seconds)

    def shown_position(self) -> Position:
        """As `visible_position`, where what is prepared and not decided is followed in the log from before."""
        if self.flavour == "mariadb":
            return self._snapshot_position()
        if self._settings.gtid_mode:
            return self._at(str(self._one("SELECT @@GLOBAL.gtid_executed")))  # updated after the engine's commit
        return self._locked_position()

    def written_position(self) -> Position:
        """A position that holds everything visible to anyone when this was called; nothing newer needs to be waited
        for.

        Its file and offset are exact. Its GTIDs may hold a little more, never less: on MySQL `gtid_executed` lags
        behind the log, so the transactions that still own their GTID are added (asked first: a GTID goes from owned to
        executed).
        """
        file, offset = self._log_end()
        if self.flavour == "mariadb":
            return self._at(str(self._one("SELECT @@GLOBAL.gtid_binlog_pos")), file, offset)
        if not self._settings.gtid_mode:
            return self._at("", file, offset)
        owned = _owned(str(self._one("SELECT @@GLOBAL.gtid_owned")))
        gtids = ",".join(filter(None, [str(self._one("SELECT @@GLOBAL.gtid_executed")), owned]))
        return self._at(gtids, file, offset) if gtids else self._at("")

    def _at(self, gtids: str, file: str = "", offset: int = 0) -> Position:
        return Position(self.flavour, self._settings.server, canonical_gtids(self.flavour, gtids), file, offset)

    def _snapshot_position(self) -> Position:
        """MariaDB: GTIDs first, then snapshots until one stands at or past the end that the log had after that.

        The order matters: GTIDs asked for after the log's end may name a transaction behind it, which no snapshot has
        to show yet. A snapshot's own place is exact, but `BINLOG_GTID_POS` turns it into GTIDs by reading the file, and
        not past a large event.
        """
        gtids = str(self._one("SELECT @@GLOBAL.gtid_binlog_pos"))
        written = self._at(gtids, *self._log_end())
        until, pause = time.monotonic() + timing.TIMES.invisible_seconds, 0.0
        while time.monotonic() < until:
            seen = self._snapshot(written)
            if seen.covers(written):
                moved = seen != written or str(self._one("SELECT @@GLOBAL.gtid_binlog_pos")) != written.gtids
                return self._at(written.gtids) if moved else written
            time.sleep(pause)
            pause = min(0.02, pause + 0.0005)
        raise Retry(
            "busy", self.place, "transactions stay invisible behind the log's end", "does a commit hang on the server?"
        )

    def _snapshot(self, written: Position) -> Position:
        """Where a snapshot taken now stands in the log; its GTIDs are not told."""
        self._execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            status = {name.lower(): value for name, value in self._all("SHOW STATUS LIKE 'binlog_snapshot_%'")}
        finally:
            self._execute("ROLLBACK")
        return replace(
            written, file=str(status["binlog_snapshot_file"]), offset=int(status["binlog_snapshot_position"])
        )

    def _locked_position(self) -> Position:
        """MySQL without GTIDs: commits are held for the moment of reading the status."""
        try:
            where = json.loads(self._one("SELECT LOCAL FROM performance_schema.log_status"))
            return self._at("", str(where["binary_log_file"]), int(where["binary_log_position"]))
        except Refused:
            self._execute("FLUSH TABLES WITH READ LOCK")  # the account may not read log_status
            try:
                return self._at("", *self._log_end())
            finally:
                self._execute("UNLOCK TABLES")

    def _await_decisions(self) -> None:
        """Wait until none of the XA transactions that are prepared now is left; Retry when that takes long."""
        waiting = self.prepared() | self.prepared()  # twice: it is in the log a moment before it shows here
        self._await(waiting)

    def _await_commits(self, since: tuple[str, int]) -> None:
        """Wait for XA COMMITs that MariaDB has logged, and shows in a snapshot's place, and that its engine has not
        done yet.

        They are all shown as prepared; of those, the log since `since` holds the others as undecided.
        """
        if shown := self.prepared():
            heads = Heads(self._source, *since, "")
            heads.to(*self._log_end())
            self._await(shown - heads.undecided)

    def _await(self, waiting: frozenset[Xid]) -> None:
        if left := self._left(waiting, timing.TIMES.decision_seconds):
            rule = f"{len(left)} XA transactions are prepared and not decided"
            raise Retry("xa_prepared", self.place, rule, "XA COMMIT or XA ROLLBACK each: XA RECOVER lists them")

    def _left(self, waiting: frozenset[Xid], seconds: float) -> frozenset[Xid]:
        """Those of them that are still prepared after so long; none as soon as none is."""
        until = time.monotonic() + seconds
        while waiting and time.monotonic() < until:
            time.sleep(timing.TIMES.decision_poll_seconds)
            waiting &= self.prepared()
        return waiting

    def prepared(self) -> frozenset[Xid]:
        """The XA transactions that are prepared and not decided; none where the account may not see them."""
        try:
            if self.flavour == "mariadb":
                return frozenset(xid_of(*row) for row in self._all("XA RECOVER"))
            rows = self._all("XA RECOVER CONVERT XID")
            return frozenset(
                xid_of(number, gtrid, bqual, bytes.fromhex(data[2:])) for number, gtrid, bqual, data in rows
            )
        except Refused:
            return frozenset()  # an XA COMMIT in the log whose PREPARE was not read stops capture

    def _log_end(self) -> tuple[str, int]:
        rows = self._all(self.log_end_sql)
        if not rows:
            raise Refused("log_off", self.place, "the server writes no binary log", "start it with log_bin")
        return str(rows[0][0]), int(rows[0][1])

    @property
    def log_end_sql(self) -> str:
        """Asks for the file that is written and its length: the first two columns of one row."""
        renamed = self.flavour == "mysql" and version_of(self._settings.version) >= (8, 2, 0)
        return "SHOW BINARY LOG STATUS" if renamed else "SHOW MASTER STATUS"


def _owned(text: str) -> str:
    """@@GLOBAL.gtid_owned ("uuid:7#12:9#13,uuid2:1#5") as a GTID set: the thread numbers left out."""
    return ",".join(":".join(part.split("#")[0] for part in item.split(":")) for item in text.split(",") if item)
