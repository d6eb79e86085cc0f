"""Every kind of event that MySQL (to 9.x) and MariaDB (to 12.x) can write: its name, and what becomes of it. Nothing is
guessed.

A kind is handled (`cdc.binlog.reader.HANDLERS`), or it is known to say nothing about rows (`HARMLESS`), or it stops the
process with its reason (`FATAL`). A number that is not here at all stops as `unknown_event`. A test holds that each
number is in exactly one place. The numbers are mysql-replication's where it has them
(docs/decisions/045-given-packages.md).

https://dev.mysql.com/doc/dev/mysql-server/latest/namespacemysql_1_1binlog_1_1event.html (Log_event_type) and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

from collections.abc import Mapping

from pymysqlreplication.constants import BINLOG

from cdc.errors import Halt

QUERY: int = BINLOG.QUERY_EVENT
STOP: int = BINLOG.STOP_EVENT
ROTATE: int = BINLOG.ROTATE_EVENT
INTVAR: int = BINLOG.INTVAR_EVENT
APPEND_BLOCK: int = BINLOG.APPEND_BLOCK_EVENT
DELETE_FILE: int = BINLOG.DELETE_FILE_EVENT
RAND: int = BINLOG.RAND_EVENT
USER_VAR: int = BINLOG.USER_VAR_EVENT
FORMAT: int = BINLOG.FORMAT_DESCRIPTION_EVENT
XID: int = BINLOG.XID_EVENT
BEGIN_LOAD: int = BINLOG.BEGIN_LOAD_QUERY_EVENT
EXECUTE_LOAD: int = BINLOG.EXECUTE_LOAD_QUERY_EVENT
TABLE_MAP: int = BINLOG.TABLE_MAP_EVENT
INCIDENT: int = BINLOG.INCIDENT_EVENT
HEARTBEAT: int = BINLOG.HEARTBEAT_LOG_EVENT
IGNORABLE: int = BINLOG.IGNORABLE_LOG_EVENT
ROWS_QUERY: int = BINLOG.ROWS_QUERY_LOG_EVENT
WRITE_V1: int = BINLOG.WRITE_ROWS_EVENT_V1
UPDATE_V1: int = BINLOG.UPDATE_ROWS_EVENT_V1
DELETE_V1: int = BINLOG.DELETE_ROWS_EVENT_V1
WRITE: int = BINLOG.WRITE_ROWS_EVENT_V2
UPDATE: int = BINLOG.UPDATE_ROWS_EVENT_V2
DELETE: int = BINLOG.DELETE_ROWS_EVENT_V2
PARTIAL_UPDATE: int = BINLOG.PARTIAL_UPDATE_ROWS_EVENT
GTID: int = BINLOG.GTID_LOG_EVENT
ANONYMOUS_GTID: int = BINLOG.ANONYMOUS_GTID_LOG_EVENT
PREVIOUS_GTIDS: int = BINLOG.PREVIOUS_GTIDS_LOG_EVENT
XA_PREPARE: int = BINLOG.XA_PREPARE_EVENT
ANNOTATE: int = BINLOG.MARIADB_ANNOTATE_ROWS_EVENT
CHECKPOINT: int = BINLOG.MARIADB_BINLOG_CHECKPOINT_EVENT
MARIADB_GTID: int = BINLOG.MARIADB_GTID_EVENT
GTID_LIST: int = BINLOG.MARIADB_GTID_GTID_LIST_EVENT
START_ENCRYPTION: int = BINLOG.MARIADB_START_ENCRYPTION_EVENT

# What mysql-replication does not know, MySQL's from 8.0 on and MariaDB's from 10.2 on:
CONTEXT, VIEW_CHANGE, PAYLOAD, HEARTBEAT_V2, TAGGED_GTID = 36, 37, 40, 41, 42
QUERY_COMPRESSED = 165
(
    WRITE_COMPRESSED_V1,
    UPDATE_COMPRESSED_V1,
    DELETE_COMPRESSED_V1,
    WRITE_COMPRESSED,
    UPDATE_COMPRESSED,
    DELETE_COMPRESSED,
) = range(166, 172)
FRAGMENT = 172

_OLDEST: Mapping[int, str] = {
    BINLOG.UNKNOWN_EVENT: "UNKNOWN", BINLOG.START_EVENT_V3: "START_V3", BINLOG.LOAD_EVENT: "LOAD",
    BINLOG.SLAVE_EVENT: "SLAVE", BINLOG.CREATE_FILE_EVENT: "CREATE_FILE", BINLOG.EXEC_LOAD_EVENT: "EXEC_LOAD",
    BINLOG.NEW_LOAD_EVENT: "NEW_LOAD", BINLOG.PRE_GA_WRITE_ROWS_EVENT: "PRE_GA_WRITE_ROWS",
    BINLOG.PRE_GA_UPDATE_ROWS_EVENT: "PRE_GA_UPDATE_ROWS", BINLOG.PRE_GA_DELETE_ROWS_EVENT: "PRE_GA_DELETE_ROWS",
}  # fmt: skip
"""Those that only servers before MySQL 5.1 wrote."""

NAMES: Mapping[int, str] = {
    **_OLDEST, QUERY: "QUERY", STOP: "STOP", ROTATE: "ROTATE", INTVAR: "INTVAR", APPEND_BLOCK: "APPEND_BLOCK",
    DELETE_FILE: "DELETE_FILE", RAND: "RAND", USER_VAR: "USER_VAR", FORMAT: "FORMAT_DESCRIPTION", XID: "XID",
    BEGIN_LOAD: "BEGIN_LOAD_QUERY", EXECUTE_LOAD: "EXECUTE_LOAD_QUERY", TABLE_MAP: "TABLE_MAP",
    WRITE_V1: "WRITE_ROWS_V1", UPDATE_V1: "UPDATE_ROWS_V1", DELETE_V1: "DELETE_ROWS_V1", INCIDENT: "INCIDENT",
    HEARTBEAT: "HEARTBEAT", IGNORABLE: "IGNORABLE", ROWS_QUERY: "ROWS_QUERY", WRITE: "WRITE_ROWS",
    UPDATE: "UPDATE_ROWS", DELETE: "DELETE_ROWS", GTID: "GTID", ANONYMOUS_GTID: "ANONYMOUS_GTID",
    PREVIOUS_GTIDS: "PREVIOUS_GTIDS", CONTEXT: "TRANSACTION_CONTEXT", VIEW_CHANGE: "VIEW_CHANGE",
    XA_PREPARE: "XA_PREPARE", PARTIAL_UPDATE: "PARTIAL_UPDATE_ROWS", PAYLOAD: "TRANSACTION_PAYLOAD",
    HEARTBEAT_V2: "HEARTBEAT_V2", TAGGED_GTID: "GTID_TAGGED", ANNOTATE: "ANNOTATE_ROWS",
    CHECKPOINT: "BINLOG_CHECKPOINT", MARIADB_GTID: "MARIADB_GTID", GTID_LIST: "GTID_LIST",
    START_ENCRYPTION: "START_ENCRYPTION", QUERY_COMPRESSED: "QUERY_COMPRESSED",
    WRITE_COMPRESSED_V1: "WRITE_ROWS_COMPRESSED_V1", UPDATE_COMPRESSED_V1: "UPDATE_ROWS_COMPRESSED_V1",
    DELETE_COMPRESSED_V1: "DELETE_ROWS_COMPRESSED_V1", WRITE_COMPRESSED: "WRITE_ROWS_COMPRESSED",
    UPDATE_COMPRESSED: "UPDATE_ROWS_COMPRESSED", DELETE_COMPRESSED: "DELETE_ROWS_COMPRESSED",
    FRAGMENT: "PARTIAL_ROW_DATA",
}  # fmt: skip

HARMLESS: Mapping[int, str] = {
    STOP: "the server shut down in order",
    **dict.fromkeys((INTVAR, RAND, USER_VAR), "a value for the statement that follows, which is handed over"),
    **dict.fromkeys(
        (APPEND_BLOCK, DELETE_FILE, BEGIN_LOAD), "data of the LOAD statement that follows, which is handed over"
    ),
    IGNORABLE: "a newer server's comment",
    ROWS_QUERY: "the statement's text, for people",
    PREVIOUS_GTIDS: "the catalog was asked for these",
    **dict.fromkeys((CONTEXT, VIEW_CHANGE), "group replication's own"),
    ANNOTATE: "the statement's text, for people",
    CHECKPOINT: "which files a crash recovery needs",
    GTID_LIST: "the catalog was asked for these",
    START_ENCRYPTION: "how the file lies on the server's disk; the events that it sends are plain",
}
"""Outside of a transaction the position moves past them."""

_OLD = ("unknown_event", "a kind of event that only servers before MySQL 5.1 wrote", "report the server's version")
FATAL: Mapping[int, tuple[str, str, str]] = {
    INCIDENT: ("incident", "the source lost events and says so", "cdc reset --all, and start again"),
    FRAGMENT: (
        "row_fragments",
        "a rows event comes in fragments, which this version cannot put together",
        "raise binlog_row_event_fragment_threshold, then cdc reset --all, and start again",
    ),
    **dict.fromkeys(_OLDEST, _OLD),
}
"""Code, rule and hint of the stop."""


def fatal(kind: int, place: str) -> Halt:
    """The stop for a kind that is not handled here."""
    if kind in FATAL:
        code, rule, hint = FATAL[kind]
        return Halt(code, place, rule, hint)
    name = f" ({NAMES[kind]})" if kind in NAMES else ""
    return Halt(
        "unknown_event",
        place,
        f"event type {kind}{name} is not known here",
        "upgrade cdc, or report the server's version",
    )
