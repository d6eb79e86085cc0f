"""Whether a source is fit for capture: settings, filters, privileges in, findings out,
each with the SQL that mends it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from cdc.codec.select_list import quoted
from cdc.model.finding import Finding
from cdc.model.position import Flavour
from cdc.model.table import TableName

OLDEST: Mapping[Flavour, tuple[int, int, int]] = {"mysql": (8, 0, 14), "mariadb": (10, 5, 0)}
"""Older servers cannot put column names into the log (MySQL: all of them only from 8.0.14 on)."""


class ServerSettings(NamedTuple):
    """A server's flavour, version and global variables (names in lower case, values as text)."""

    flavour: Flavour
    version: str
    values: Mapping[str, str]

    @property
    def server_id(self) -> int:
        return int(self.values["server_id"])

    @property
    def server(self) -> str:
        """What tells it from every other server; the number where it has no id of its own."""
        return self.values.get("server_uuid" if self.flavour == "mysql" else "server_uid") or str(self.server_id)

    @property
    def gtid_mode(self) -> bool:
        """Whether every transaction has a GTID."""
        return self.flavour == "mariadb" or self.values.get("gtid_mode") == "ON"


class _Demand(NamedTuple):
    flavours: str
    level: Literal["error", "warning"]
    code: str
    variable: str
    wanted: str
    rule: str
    sql: str


_DEMANDS = (
    _Demand(
        "both",
        "error",
        "log_off",
        "log_bin",
        "ON",
        "the server writes no binary log",
        "-- server option log_bin, then restart",
    ),
    _Demand(
        "both",
        "error",
        "binlog_format",
        "binlog_format",
        "ROW",
        "statements in the log cannot be replayed elsewhere",
        "SET GLOBAL binlog_format = ROW",
    ),
    _Demand(
        "both",
        "error",
        "row_image",
        "binlog_row_image",
        "FULL",
        "an insert that leaves out columns does not say their defaults, and stops the pipeline",
        "SET GLOBAL binlog_row_image = FULL",
    ),
    _Demand(
        "both",
        "error",
        "row_metadata",
        "binlog_row_metadata",
        "FULL",
        "the log must name columns and keys",
        "SET GLOBAL binlog_row_metadata = FULL",
    ),
    _Demand(
        "mysql",
        "warning",
        "gtid_mode",
        "gtid_mode",
        "ON",
        "without GTIDs capture cannot move to another server",
        "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; "
        "SET GLOBAL gtid_mode = ON_PERMISSIVE; "
        "SET GLOBAL gtid_mode = ON",
    ),
    _Demand(
        "mariadb",
        "warning",
        "gtid_strict_mode",
        "gtid_strict_mode",
        "ON",
        "sequence numbers may go backwards",
        "SET GLOBAL gtid_strict_mode = ON",
    ),
    _Demand(
        "both",
        "warning",
        "sync_binlog",
        "sync_binlog",
        "1",
        "a power loss can take back logged transactions and use their numbers again",
        "SET GLOBAL sync_binlog = 1",
    ),
)
_SYNONYMS = {"1": "ON", "0": "OFF"}


def settings(server: ServerSettings, place: str) -> list[Finding]:
    """Findings about the version and the global variables."""
    found = [] if version_of(server.version) >= OLDEST[server.flavour] else [_too_old(server, place)]
    found += [
        Finding(demand.level, demand.code, f"{place} {demand.variable}", demand.rule, demand.sql)
        for demand in _DEMANDS
        if demand.flavours in ("both", server.flavour) and not _meets(server.values.get(demand.variable), demand.wanted)
    ]
    if server.values.get("server_id") == "0":
        found.append(
            Finding(
                "error",
                "server_id",
                f"{place} server_id",
                "with server_id 0 the log cannot be read",
                "SET GLOBAL server_id = 1",
            )
        )
    return found + _expiry(server.values, place)


def _meets(value: str | None, wanted: str) -> bool:
    """A variable that this version does not have (any more) has its only value."""
    return value is None or value == wanted or _SYNONYMS.get(value, value) == wanted


def _too_old(server: ServerSettings, place: str) -> Finding:
    oldest = ".".join(map(str, OLDEST[server.flavour]))
    rule = f"{server.flavour} {server.version} is older than {oldest}"
    return Finding("error", "server_version", place, rule, "-- upgrade the server")


def _expiry(values: Mapping[str, str], place: str) -> list[Finding]:
    seconds = (
        float(values.get("binlog_expire_logs_seconds") or 0) or float(values.get("expire_logs_days") or 0) * 86_400
    )
    if not 0 < seconds < 86_400:
        return []
    return [
        Finding(
            "warning",
            "log_expiry",
            f"{place} binlog_expire_logs_seconds",
            "a pause of a day means a new copy",
            "SET GLOBAL binlog_expire_logs_seconds = 604800",
        )
    ]


def filters(do_and_ignore: Iterable[object], place: str) -> list[Finding]:
    """A finding when the server keeps databases out of its log; the two columns of the log's status."""
    if not any(do_and_ignore):
        return []
    return [
        Finding(
            "error",
            "log_filter",
            place,
            "the server logs only some databases (binlog_do_db or binlog_ignore_db)",
            "-- remove these options and restart the server",
        )
    ]


_UPDATES = ("log_replica_updates", "log_slave_updates")


def unlogged_updates(values: Mapping[str, str], follows: Callable[[], bool | None], place: str) -> list[Finding]:
    """A finding for a server that takes changes from other servers and keeps them out of its own log.

    `follows` asks whether it is a replica; None: it may be one, and the account may not know.
    """
    variable = next((name for name in _UPDATES if name in values), "")
    if _meets(values.get(variable), "ON"):
        return []
    cluster = values.get("wsrep_on") == "ON" or bool(values.get("group_replication_group_name"))
    if not cluster and (replica := follows()) is not True:
        if replica is False:
            return []
        rule = (
            f"with {variable} off changes of a server that this one follows are not in its log, "
            "and the account may not ask if it does"
        )
        return [
            Finding(
                "warning",
                "log_replica_updates",
                f"{place} {variable}",
                rule,
                "-- GRANT REPLICA MONITOR, or give the option",
            )
        ]
    rule = f"the server follows others, and with {variable} off their changes are not in its log"
    return [
        Finding(
            "error", "log_replica_updates", f"{place} {variable}", rule, f"-- server option {variable}, then restart"
        )
    ]


_REPLICA = (8, 0, 22)
"""MySQL speaks of replicas from here on, and since 8.4 of nothing else; every MariaDB understands the old word."""


def replica_status_sql(version: str) -> str:
    """Asks for the servers that this one follows: a row each."""
    if "mariadb" in version.lower():
        return "SHOW ALL SLAVES STATUS"
    return "SHOW REPLICA STATUS" if version_of(version) >= _REPLICA else "SHOW SLAVE STATUS"


def prepared(count: int, place: str) -> list[Finding]:
    """A finding for XA transactions that nobody has decided: a copy cannot begin, and the log behind them is needed."""
    if not count:
        return []
    rule = (
        f"{count} XA transactions are prepared and not decided: a copy waits for them, "
        "and the log is needed from there on"
    )
    return [Finding("warning", "xa_prepared", place, rule, "XA RECOVER; -- then XA COMMIT or XA ROLLBACK each")]


def system_versioned(name: TableName) -> Finding:
    """The finding for a MariaDB table WITH SYSTEM VERSIONING: its history rows look like further inserts in the log."""
    rule = "history rows cannot be told from current ones in the log"
    mend = f"-- exclude it, or: ALTER TABLE {dotted(name)} DROP SYSTEM VERSIONING"
    return Finding("error", "system_versioned", ".".join(name), rule, mend)


def undescribed(name: TableName, account: str) -> Finding:
    """The finding for a table of which information_schema lists no column: it would be left out without a word."""
    rule = "the server lists the table and none of its columns: the account may not read it, or it is damaged"
    mend = f"GRANT SELECT ON {dotted(name)} TO {account}; -- or mend the table (CHECK TABLE says more), or exclude it"
    return Finding("error", "table_undescribed", ".".join(name), rule, mend)


def version_of(text: str) -> tuple[int, int, int]:
    """The numbers of "10.11.19-MariaDB-log" or "8.4.2"; a leading "5.5.5-" that old replication protocols need is
    skipped."""
    numbers = re.match(r"(?:5\.5\.5-(?=1\d\.))?(\d+)\.(\d+)\.(\d+)", text)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)


def dotted(name: Sequence[str]) -> str:
    """A database's table, or any dotted name, as the server wants it quoted."""
    return ".".join(quoted(part) for part in name)
