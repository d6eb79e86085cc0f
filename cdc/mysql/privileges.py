"""What the account may do on the source, and what it lacks: SHOW GRANTS taken apart, findings out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cdc.model.finding import Finding
from cdc.model.position import Flavour
from cdc.model.table import Table, TableName
from cdc.mysql.preflight import dotted

_NAME = r"\*|`(?:[^`]|``)+`"
_GRANT = re.compile(
    rf"GRANT (?P<what>.+?) ON (?:TABLE )?(?P<db>{_NAME}|\S+?)\.(?P<table>{_NAME}|\S+) TO ", re.IGNORECASE
)
_NEEDED: Mapping[Flavour, tuple[tuple[str, ...], ...]] = {
    "mysql": (("REPLICATION SLAVE",), ("REPLICATION CLIENT",)),
    "mariadb": (("REPLICATION SLAVE", "REPLICATION REPLICA"), ("BINLOG MONITOR", "REPLICATION CLIENT")),
}


class Grants:
    """SHOW GRANTS, taken apart."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.everywhere: set[str] = set()
        self.selected: list[TableName] = []
        self.locked: list[str] = []
        self.account = "CURRENT_USER()"
        for line in lines:
            self._read(line)

    def _read(self, line: str) -> None:
        grant = _GRANT.match(line)
        if not grant:
            return
        privileges = {one.strip().upper() for one in re.sub(r"\([^)]*\)", "(COLUMNS)", grant["what"]).split(",")}
        db, table = _unquoted(grant["db"]), _unquoted(grant["table"])
        if (db, table) == ("*", "*"):
            self.everywhere |= privileges
            self.account = re.split(r" (?:IDENTIFIED|REQUIRE|WITH)\b", line[grant.end() :])[0].rstrip(";")
        if privileges & {"SELECT", "ALL PRIVILEGES"}:
            self.selected.append((db, table))
        if privileges & {"LOCK TABLES", "ALL PRIVILEGES"} and table == "*":
            self.locked.append(db)

    def may_lock(self, table: Table) -> bool:
        return any(_like(db, table.db) for db in self.locked)

    def may(self, *names: str) -> bool:
        return "ALL PRIVILEGES" in self.everywhere or bool(self.everywhere.intersection(names))

    def may_read(self, table: Table) -> bool:
        return any(one in ("*", table.name) and _like(db, table.db) for db, one in self.selected)


def quoted_account(account: str) -> str:
    """What CURRENT_USER() says, as GRANT takes it: cdc@% becomes 'cdc'@'%'."""
    return "@".join("'" + part.replace("'", "''") + "'" for part in account.rpartition("@")[::2])


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _like(pattern: str, db: str) -> bool:
    """Whether a grant's database, a LIKE pattern with backslash as escape, names this one."""
    if pattern == "*":
        return True
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return (
        re.fullmatch("".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts), db, re.DOTALL)
        is not None
    )


def privileges(
    flavour: Flavour, grants: Grants, tables: Iterable[Table], *, gtids: bool, to_lock: Iterable[Table] = ()
) -> list[Finding]:
    """What the account lacks: reading the log, asking for its end, holding it for a moment, reading each table,
    locking some."""
    needed = _NEEDED[flavour] if gtids else (*_NEEDED[flavour], ("BACKUP_ADMIN", "RELOAD"))
    found = [
        Finding(
            "error",
            "privilege",
            names[0],
            f"the account lacks {names[0]}",
            f"GRANT {names[0]} ON *.* TO {grants.account}",
        )
        for names in needed
        if not grants.may(*names)
    ]
    return (
        found
        + [
            Finding(
                "error",
                "privilege",
                table.qualified,
                "the account may not read the table",
                f"GRANT SELECT ON {dotted((table.db, table.name))} TO {grants.account}",
            )
            for table in tables
            if not grants.may_read(table)
        ]
        + [
            Finding(
                "error",
                "privilege",
                table.qualified,
                "the table has no key, is copied under LOCK TABLES .. READ, and the account may not lock it",
                f"GRANT LOCK TABLES ON {dotted((table.db,))}.* TO {grants.account}",
            )
            for table in to_lock
            if not grants.may_lock(table)
        ]
    )


def recovers_xa(flavour: Flavour, grants: Grants, place: str) -> list[Finding]:
    """A finding for an account that cannot see what is prepared; MariaDB shows it to everybody."""
    if flavour == "mariadb" or grants.may("XA_RECOVER_ADMIN"):
        return []
    rule = (
        "the account may not list prepared XA transactions: "
        "one that is older than the copy stops capture when it is committed"
    )
    return [Finding("warning", "xa_unseen", place, rule, f"GRANT XA_RECOVER_ADMIN ON *.* TO {grants.account}")]
