"""Whether a server's log continues a stored position exactly: proven, or a stop that says why. docs/identity.md lists
every case.

GTIDs say which transactions a server has, by number; they do not say that its number 5 is our number 5. A server that
was reset, restored or cloned hands numbers out again, and in MariaDB any two servers have a 0-1-5. So wherever this
server's log was read before, the very place is looked at: the file, the time in its header, its length, and (MariaDB)
the GTIDs there; and if the file is gone, whether the server deleted it. A position that goes by GTIDs alone carries a
place as its peer (`proven`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdc.config.load import SourceConfig
from cdc.errors import Halt, Retry
from cdc.model.position import PEERS, Flavour, Position, canonical_gtids, log_number, mariadb_gtids, mariadb_text
from cdc.mysql.connection import Session
from cdc.mysql.log_heads import gtids_at, log_created

ANOTHER_SOURCE = "the source was restored, reset or replaced: cdc reset --all, and start again"
KEEP_LONGER = "cdc reset --all, and start again, and let the server keep its log longer (binlog_expire_logs_seconds)"
BEHIND = (
    "a replica that has not caught up: start again when it has; else the source was restored or replaced: "
    "cdc reset --all, and start again"
)
_BINLOG_GTID_POS_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True)
class Identity:
    """One server, as a stored position is held against it."""

    session: Session
    source: SourceConfig
    flavour: Flavour
    server: str
    server_id: int
    gtid_mode: bool

    def check(self, position: Position) -> None:
        """Stops unless the log of this server continues the position exactly."""
        if position.flavour != self.flavour:
            raise self._halt("other_server", "the position was read on another kind of server")
        if position.server != self.server and position.by_file:
            raise self._halt("other_server", "a position without GTIDs is followed on its own server only")
        files = self._files()
        places = position.places(self.server)
        if position.server == self.server and not places:
            raise self._halt(
                "place_unknown",
                "the position names no place in this server's log: numbers alone do not prove that it is it",
            )
        found = [place for place in places if self._check_place(place, files)]
        held = found[0] if found else None
        if self.purged(position):
            raise self._halt("log_purged", "the server deleted log files that are still needed", KEEP_LONGER)
        if self.flavour == "mysql":
            self._check_executed(position)
        elif held is not position:
            self._check_domains(position, position if self._is_same_log(position, files) else held)
        if position.floor is not None:
            self._check_floor(position.floor, files)

    def proven(self, position: Position) -> Position:
        """A position of this server's log with what tells this log from any other that gives the same numbers.

        Where it has a place, the time in the file's header. Else a place as a peer: the head of the newest log file.
        """
        if position.file:
            return replace(position, file_created=self._created(position.file))
        newest = list(self._files())[-1]
        gtids = position.gtids if self.flavour == "mysql" else self._gtids_at(newest, 4) or ""
        head = Position(self.flavour, self.server, gtids, newest, 4, self._created(newest))
        return replace(position, peers=(head, *position.peers)[:PEERS])

    def _created(self, file: str) -> int:
        created = log_created(self.source, file)
        if created is None:
            raise Retry(
                "source_lost", f"{self.session.place} {file}", "the server deleted the log file that it has just named"
            )
        return created

    def purged(self, position: Position) -> bool:
        """Whether the server no longer has everything after the position."""
        if position.by_file or (self.flavour == "mariadb" and position.server == self.server and position.file):
            if position.file in self._files():
                return False
            if position.by_file:
                return True
        files = self._files()
        return not files or not position.covers(self._at(self._deleted(files)))

    # A place in a file

    def _check_place(self, position: Position, files: dict[str, int]) -> bool:
        """Whether the log still holds the place where the position was read; False when its file was deleted. Stops for
        any other log.

        A reset and a restored copy begin their files anew; a crash without sync_binlog=1 shortens the log and hands out
        the same numbers again.
        """
        place, size = f"{position.file}:{position.offset}", files.get(position.file)
        if size is None:
            if (
                files
                and log_number(position.file) > log_number(list(files)[-1])
                and _series(position.file) == _series(list(files)[-1])
            ):
                raise Halt(
                    "log_rewritten",
                    place,
                    f"the server's log ends before this file, with {list(files)[-1]}",
                    ANOTHER_SOURCE,
                )
            self._check_deleted(position, files)
            return False
        if position.file_created:
            self._check_header(position)
        if position.offset > size:
            raise Halt("log_shortened", place, f"the file ends at {size}", ANOTHER_SOURCE)
        return self.flavour == "mysql" or self._check_gtids(position)

    def _check_deleted(self, position: Position, files: dict[str, int]) -> None:
        """The file of a place is not there any more: what stands up to the place must be what the server says that it
        deleted.

        A log that begins anew, under another name too, deleted nothing.
        """
        deleted = self._at(self._deleted(files))
        if not position.by_file and not (position.gtids and deleted.covers(self._at(position.gtids))):
            place = f"{position.file}:{position.offset}"
            raise Halt(
                "log_rewritten",
                place,
                "the server's log begins before this place, and does not hold it",
                ANOTHER_SOURCE,
            )

    def _deleted(self, files: dict[str, int]) -> str:
        """The GTIDs of what was in log files that the server has deleted."""
        if self.flavour == "mysql":
            return str(self.session.one("SELECT @@GLOBAL.gtid_purged"))
        oldest = next(iter(files), "")
        return self._gtids_at(oldest, 4) or "" if oldest else ""

    def _check_header(self, position: Position) -> None:
        created = log_created(self.source, position.file)
        if created is None:
            place = f"{self.session.place} {position.file}"
            raise Halt("log_purged", place, "the server lists a log file that it cannot read", KEEP_LONGER)
        if created != position.file_created:
            raise Halt(
                "log_rewritten",
                position.file,
                "the file is not the one that the position was read in (it was created at another time)",
                ANOTHER_SOURCE,
            )

    def _check_gtids(self, position: Position) -> bool:
        if self._gtids_at(position.file, position.offset) != position.gtids:
            raise Halt(
                "log_rewritten",
                f"{position.file}:{position.offset}",
                "the server has other GTIDs at this place",
                ANOTHER_SOURCE,
            )
        return True

    def _is_same_log(self, position: Position, files: dict[str, int]) -> bool:
        """Whether the position's own place stands in this log, although the server goes by another name.

        MariaDB makes its server_uid of a network address and its port: a container that is made anew has another one.
        """
        if not position.file_created or position.offset > files.get(position.file, 0):
            return False
        same = log_created(self.source, position.file) == position.file_created
        return same and self._gtids_at(position.file, position.offset) == position.gtids

    # GTIDs

    def _check_executed(self, position: Position) -> None:
        if position.gtids and not self.gtid_mode:
            raise self._halt(
                "gtid_off", "the position goes by GTIDs and gtid_mode is not ON", "SET GLOBAL gtid_mode = ON"
            )
        if not self._at(str(self.session.one("SELECT @@GLOBAL.gtid_executed"))).covers(self._at(position.gtids)):
            raise self._diverged(position)

    def _check_domains(self, position: Position, held: Position | None) -> None:
        """`held`: a place that was read before and stands in this log.

        Sequence numbers alone tell nothing: any two servers have a 0-1-5. So what this server's id has written must lie
        below a place that proves whose log this is.
        """
        ours, elsewhere = mariadb_gtids(position.gtids), position.server != self.server
        written = Position(
            self.flavour, "", mariadb_text({d: last for d, last in ours.items() if last[0] == self.server_id})
        )
        if elsewhere and written.gtids and (held is None or not self._at(held.gtids).covers(written)):
            raise self._halt(
                "other_server",
                f"another server than the position's that has the server_id {self.server_id} of a transaction in it",
            )
        theirs = self._at(str(self.session.one("SELECT @@GLOBAL.gtid_binlog_pos")))
        if not theirs.covers(self._at(position.gtids)):
            raise self._diverged(position)
        unknown = sorted(mariadb_gtids(theirs.gtids).keys() - ours.keys())
        if elsewhere and position.gtids and unknown:
            raise self._halt(
                "unknown_domain", f"another server with replication domains that the position lacks: {unknown}"
            )

    def _check_floor(self, floor: Position, files: dict[str, int]) -> None:
        if self.purged(floor):
            raise self._halt(
                "log_purged",
                "the server deleted log files that hold changes of "
                "an XA transaction which was prepared and not decided",
                "cdc reset --all, and start again, and decide XA transactions while the server keeps its log "
                "(binlog_expire_logs_seconds)",
            )
        if floor.server == self.server and floor.file:
            self._check_place(floor, files)

    # What the server says

    def _files(self) -> dict[str, int]:
        return {str(row[0]): int(row[1]) for row in self.session.all("SHOW BINARY LOGS")}

    def _gtids_at(self, file: str, offset: int) -> str | None:
        """MariaDB's GTIDs at a place of its log; None when nothing ends there.
        Where the server cannot tell, its log does."""
        found = (
            self.session.one("SELECT BINLOG_GTID_POS(%s, %s)", file, offset)
            if offset < _BINLOG_GTID_POS_LIMIT
            else None
        )
        return gtids_at(self.source, file, offset) if found is None else canonical_gtids("mariadb", str(found))

    def _at(self, gtids: str) -> Position:
        return Position(self.flavour, self.server, canonical_gtids(self.flavour, gtids))

    def _diverged(self, position: Position) -> Halt:
        """No server is behind itself."""
        hint = ANOTHER_SOURCE if position.server == self.server else BEHIND
        return self._halt("source_diverged", "the position holds transactions that this server never had", hint)

    def _halt(self, code: str, rule: str, hint: str = ANOTHER_SOURCE) -> Halt:
        return Halt(code, self.session.place, rule, hint)


def _series(file: str) -> str:
    return log_number(file)[0]
