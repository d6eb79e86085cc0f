"""What the source says about itself: its identity, its tables, and positions of its log that are safe to start from or to wait for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from cdc.config.load import Config, SourceConfig
from cdc.errors import Halt, Refused, Retry
from cdc.model.finding import Finding
from cdc.model.position import Flavour, Position, canonical_gtids
from cdc.model.selection import Selection, chosen
from cdc.model.table import Table
from cdc.mysql import preflight
from cdc.mysql.connection import Session
from cdc.mysql.information_schema import COLUMNS_SQL, HASHED_SQL, KEYS_SQL, OLD, canonical_charset, tables_of
from cdc.mysql.log_heads import Heads, Xid, xid_of
from cdc.mysql.log_identity import Identity
from cdc.mysql.preflight import ServerSettings
from cdc.runtime import timing

_TABLES_SQL = """
SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, TABLE_TYPE FROM information_schema.TABLES
WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND
  TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"""
_DISGUISED_SQL = f"""
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, IF(COLUMN_TYPE LIKE '%{OLD}', CAST(DATETIME_PRECISION AS CHAR), LOWER(DATA_TYPE))
FROM information_schema.COLUMNS
WHERE (DATA_TYPE IN ('uuid', 'inet4', 'inet6', 'vector') OR (DATA_TYPE IN ('datetime', 'timestamp', 'time') AND COLUMN_TYPE LIKE '%{OLD}'))
  AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"""


class Catalog:
    """One connection that asks the source; give it up with `close` or `with`. Not for use by several threads."""

    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self._session = Session(source)
        self.place = self._session.place
        self._execute, self._all, self._one = self._session.execute, self._session.all, self._session.one
        self.version = str(self._one("SELECT VERSION()"))
        self.flavour: Flavour = "mariadb" if "mariadb" in self.version.lower() else "mysql"
        self._settings = self._variables()
        self.server_id = int(self._settings["server_id"])
        self.server = self._settings.get("server_uuid" if self.flavour == "mysql" else "server_uid") or str(self.server_id)
        self.fold_case = self._settings["lower_case_table_names"] != "0"
        self._found: dict[tuple[str, str], tuple[str, int, str]] = {}
        if self.flavour == "mysql":
            self._execute("SET SESSION information_schema_stats_expiry = 0")

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        self._session.close()

    # Tables

    def selection(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> Selection:
        """Which names the patterns select, with the server's own rule for upper and lower case."""
        return Selection(patterns, exclude, fold_case=self.fold_case)

    def tables(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[Table]:
        """The existing tables that are selected, ordered by name; views, sequences and system schemas never."""
        selected = self.selection(patterns, exclude)
        self._found = {(db, name): (engine or "", int(rows or 0), kind) for db, name, engine, rows, kind in self._all(_TABLES_SQL)}
        wanted = frozenset(name for name in self._found if selected.wants(*name))
        schemas = sorted({db for db, _ in wanted})
        columns = [row for schema in schemas for row in self._all(COLUMNS_SQL, schema)]
        versioned = frozenset(name for name, listed in self._found.items() if listed[2] == "SYSTEM VERSIONED")
        return tables_of(columns, [row for schema in schemas for row in self._all(KEYS_SQL, schema)], wanted, versioned)

    def check_unchanged(self, tables: Iterable[Table]) -> None:
        """Stops when one of these tables is not any more as it was listed.

        Asked once a copy's position is taken: what changes later is in the log, what changed since the listing is nowhere.
        """
        for table in self.changed(tables):
            raise Halt("shape_changed", table.qualified, "the table's columns changed while its copy began", "start again")

    def changed(self, tables: Iterable[Table]) -> list[Table]:
        """Which of these selected tables are not any more as they were listed; one that is gone is none of what it was."""
        now = {(table.db, table.name): table for table in self.tables(self._source.tables, self._source.exclude)}
        return [table for table in tables if now.get((table.db, table.name)) != table]

    def lists(self, db: str, table: str) -> bool:
        """Whether the table existed when tables were listed last, selected or not."""
        return (db, table) in self._found

    def engine(self, table: Table) -> str:
        """The storage engine's name as the server writes it ("InnoDB", "MyISAM")."""
        return self._listed(table)[0]

    def has_snapshots(self, table: Table) -> bool:
        """Whether a read of the table can be exact at a known position without a lock."""
        return self.engine(table).lower() == "innodb" and self.gtid_mode

    def row_estimate(self, table: Table) -> int:
        """The server's guess of the number of rows."""
        return self._listed(table)[1]

    def _listed(self, table: Table) -> tuple[str, int, str]:
        if (table.db, table.name) not in self._found:
            rows = self._all(_TABLES_SQL + " AND TABLE_SCHEMA = %s AND TABLE_NAME = %s", table.db, table.name)
            if not rows:
                raise Halt("table_missing", table.qualified, "the table does not exist any more")
            self._found[table.db, table.name] = (rows[0][2] or "", int(rows[0][3] or 0), rows[0][4])
        return self._found[table.db, table.name]

    def collations(self) -> dict[int, tuple[str, int]]:
        """Each collation's number -> its character set and that set's longest character in bytes."""
        longest = {
            str(name): int(size) for name, size in self._all("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        }
        rows = self._all(
            "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL AND CHARACTER_SET_NAME IS NOT NULL"
        )
        if self.flavour == "mariadb" and preflight.version_of(self.version) >= (10, 10, 1):  # the uca1400 family: one name, an id per set
            rows += self._all(
                "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL"
            )
        return {int(number): (canonical_charset(name), longest[name]) for number, name in rows}

    def disguised(self) -> dict[tuple[str, str, str], str]:
        """What of its columns MariaDB's log does not tell."""
        if self.flavour == "mysql":
            return {}
        return {(db, table, column): kind for db, table, column, kind in self._all(_DISGUISED_SQL)}

    # Positions

    def visible_position(self) -> Position:
        """A position whose every transaction a SELECT that starts now sees.

        The log holds a transaction before the engine shows it, so the status of the log would promise too much. An XA transaction
        may be logged below it and committed above: whatever is prepared now must be decided first, and what was prepared meanwhile
        lies above the position's floor.
        """
        return self.proven(self._visible())

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
        """Whether a SELECT that starts now sees every transaction of a position of this server's log, or of one it came from.

        `undecided`: XA transactions that are known to be prepared there and not decided; any other that is prepared now may be
        decided there.
        """
        if self.flavour == "mysql":
            return self.shown_position().covers(position)
        here = bool(position.file) and position.server == self.server
        seen = self._snapshot(position) if here else self.shown_position()
        return seen.covers(position) and not self._left(self.prepared() - undecided, timing.TIMES.xa_shown_seconds)

    def shown_position(self) -> Position:
        """As `visible_position`, where what is prepared and not decided is followed in the log from before."""
        if self.flavour == "mariadb":
            return self._snapshot_position()
        if self.gtid_mode:
            return self._at(str(self._one("SELECT @@GLOBAL.gtid_executed")))  # updated after the engine's commit
        return self._locked_position()

    def written_position(self) -> Position:
        """A position that holds everything visible to anyone when this was called; nothing newer needs to be waited for.

        Its file and offset are exact. Its GTIDs may hold a little more, never less: on MySQL `gtid_executed` lags behind the
        log, so the transactions that still own their GTID are added (asked first: a GTID goes from owned to executed).
        """
        file, offset = self._log_end()
        if self.flavour == "mariadb":
            return self._at(str(self._one("SELECT @@GLOBAL.gtid_binlog_pos")), file, offset)
        if not self.gtid_mode:
            return self._at("", file, offset)
        owned = _owned(str(self._one("SELECT @@GLOBAL.gtid_owned")))
        gtids = ",".join(filter(None, [str(self._one("SELECT @@GLOBAL.gtid_executed")), owned]))
        return self._at(gtids, file, offset) if gtids else self._at("")

    @property
    def gtid_mode(self) -> bool:
        """Whether every transaction has a GTID."""
        return self.flavour == "mariadb" or self._settings.get("gtid_mode") == "ON"

    def _at(self, gtids: str, file: str = "", offset: int = 0) -> Position:
        return Position(self.flavour, self.server, canonical_gtids(self.flavour, gtids), file, offset)

    def _snapshot_position(self) -> Position:
        """MariaDB: GTIDs first, then snapshots until one stands at or past the end that the log had after that.

        The order matters: GTIDs asked for after the log's end may name a transaction behind it, which no snapshot has to show yet.
        A snapshot's own place is exact, but `BINLOG_GTID_POS` turns it into GTIDs by reading the file, and not past a large event.
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
        raise Retry("busy", self.place, "transactions stay invisible behind the log's end", "does a commit hang on the server?")

    def _snapshot(self, written: Position) -> Position:
        """Where a snapshot taken now stands in the log; its GTIDs are not told."""
        self._execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            status = {name.lower(): value for name, value in self._all("SHOW STATUS LIKE 'binlog_snapshot_%'")}
        finally:
            self._execute("ROLLBACK")
        return replace(written, file=str(status["binlog_snapshot_file"]), offset=int(status["binlog_snapshot_position"]))

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
        """Wait for XA COMMITs that MariaDB has logged, and shows in a snapshot's place, and that its engine has not done yet.

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
            return frozenset(xid_of(number, gtrid, bqual, bytes.fromhex(data[2:])) for number, gtrid, bqual, data in rows)
        except Refused:
            return frozenset()  # an XA COMMIT in the log whose PREPARE was not read stops capture

    def _log_end(self) -> tuple[str, int]:
        rows = self._log_status()
        if not rows:
            raise Refused("log_off", self.place, "the server writes no binary log", "start it with log_bin")
        return str(rows[0][0]), int(rows[0][1])

    def _log_status(self) -> list[tuple[Any, ...]]:
        return self._all(self.log_end_sql)

    @property
    def log_end_sql(self) -> str:
        """Asks for the file that is written and its length: the first two columns of one row."""
        renamed = self.flavour == "mysql" and preflight.version_of(self.version) >= (8, 2, 0)
        return "SHOW BINARY LOG STATUS" if renamed else "SHOW MASTER STATUS"

    # A stored position, against this server

    @property
    def _identity(self) -> Identity:
        return Identity(self._session, self._source, self.flavour, self.server, self.server_id, self.gtid_mode)

    def check(self, position: Position) -> None:
        """Stops unless the log of this server continues the stored position exactly."""
        self._identity.check(position)

    def proven(self, position: Position) -> Position:
        """A position of this server's log, now, with what tells this log from any other that gives the same numbers."""
        return self._identity.proven(position)

    def purged(self, position: Position) -> bool:
        """Whether the server no longer has everything after the position."""
        return self._identity.purged(position)

    # Fitness

    def preflight(self) -> list[Finding]:
        """What of the server's settings and the account's privileges stands in the way, with the SQL that mends it."""
        status = self._log_status_or_nothing()
        tables = self.tables(self._source.tables, self._source.exclude)
        selected = {(table.db, table.name) for table in tables}
        findings = preflight.settings(ServerSettings(self.flavour, self.version, self._settings), self.place)
        findings += preflight.filters(status[0][2:4] if status else (), self.place)
        findings += preflight.unlogged_updates(self._settings, self._follows, self.place)
        grants = preflight.Grants(self._grants())
        to_lock = [table for table in tables if not table.key and not self.has_snapshots(table)]
        findings += preflight.privileges(self.flavour, grants, tables, gtids=self.gtid_mode, to_lock=to_lock)
        findings += preflight.prepared(len(self.prepared()), self.place) + preflight.recovers_xa(self.flavour, grants, self.place)
        findings += [preflight.system_versioned(name) for name in sorted(selected) if self._found[name][2] == "SYSTEM VERSIONED"]
        if self.flavour == "mariadb":
            hashed = {(db, name) for schema in sorted({db for db, _ in selected}) for db, name in self._all(HASHED_SQL, schema)}
            findings += [preflight.hashed(name) for name in sorted(hashed & selected) if self._found[name][0] != "MEMORY"]
        elif preflight.version_of(self.version) >= (9, 6, 0):
            return findings  # cascades are logged
        return findings + [finding for table in tables if grants.may_read(table) for finding in self._cascades(table)]

    def _follows(self) -> bool | None:
        """Whether this server is a replica; None: it may be one that rests, and the account may not ask."""
        try:
            return bool(self._all(preflight.replica_status_sql(self.version)))
        except Refused:
            running = self._all("SHOW GLOBAL STATUS LIKE 'Slaves_running'")  # MariaDB tells everybody
            return True if any(int(count) for _, count in running) else (None if self._settings.get("gtid_slave_pos") else False)

    def _cascades(self, table: Table) -> list[Finding]:
        """information_schema shows foreign keys only to accounts that may do more than read."""
        return preflight.cascades(table, str(self._all("SHOW CREATE TABLE " + preflight.dotted((table.db, table.name)))[0][1]))

    def _log_status_or_nothing(self) -> list[tuple[Any, ...]]:
        try:
            return self._log_status()
        except Refused:
            return []  # the missing privilege is a finding of its own

    def _grants(self) -> list[str]:
        role = str(self._one("SELECT CURRENT_ROLE()") or "NONE")
        using = f" FOR CURRENT_USER() USING {role}" if self.flavour == "mysql" and role != "NONE" else ""
        return [str(row[0]) for row in self._all("SHOW GRANTS" + using)]

    def _variables(self) -> dict[str, str]:
        return {str(name).lower(): str(value) for name, value in self._all("SHOW GLOBAL VARIABLES")}


def _owned(text: str) -> str:
    """@@GLOBAL.gtid_owned ("uuid:7#12:9#13,uuid2:1#5") as a GTID set: the thread numbers left out."""
    return ",".join(":".join(part.split("#")[0] for part in item.split(":")) for item in text.split(",") if item)


def selected_tables(config: Config, catalog: Catalog, patterns: Sequence[str] = ()) -> list[Table]:
    """The selected tables, with the policies of their columns."""
    return chosen(catalog.tables(patterns or config.source.tables, config.source.exclude), config.policies.policies)
