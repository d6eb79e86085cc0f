"""Every kind of event that MySQL (to 9.x) and MariaDB (to 12.x) can write: its name, and what becomes of it. Nothing is guessed.

A kind is handled (`cdc.binlog.reader.HANDLERS`), or it is known to say nothing about rows (`HARMLESS`), or it stops the process with its
reason (`FATAL`). A number that is not here at all stops as `unknown_event`. A test holds that each number is in exactly one place.

https://dev.mysql.com/doc/dev/mysql-server/latest/namespacemysql_1_1binlog_1_1event.html (Log_event_type) and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

from collections.abc import Mapping

from cdc.errors import Halt

QUERY, STOP, ROTATE, INTVAR, APPEND_BLOCK, DELETE_FILE, RAND, USER_VAR, FORMAT, XID = 2, 3, 4, 5, 9, 11, 13, 14, 15, 16
BEGIN_LOAD, EXECUTE_LOAD, TABLE_MAP, INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY = 17, 18, 19, 26, 27, 28, 29
WRITE_V1, UPDATE_V1, DELETE_V1, WRITE, UPDATE, DELETE, PARTIAL_UPDATE = 23, 24, 25, 30, 31, 32, 39
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, CONTEXT, VIEW_CHANGE, XA_PREPARE, PAYLOAD, HEARTBEAT_V2, TAGGED_GTID = (
    33,
    34,
    35,
    36,
    37,
    38,
    40,
    41,
    42,
)
ANNOTATE, CHECKPOINT, MARIADB_GTID, GTID_LIST, START_ENCRYPTION, QUERY_COMPRESSED = 160, 161, 162, 163, 164, 165
WRITE_COMPRESSED_V1, UPDATE_COMPRESSED_V1, DELETE_COMPRESSED_V1, WRITE_COMPRESSED, UPDATE_COMPRESSED, DELETE_COMPRESSED = range(166, 172)
FRAGMENT = 172

NAMES: Mapping[int, str] = {
    0: "UNKNOWN", 1: "START_V3", QUERY: "QUERY", STOP: "STOP", ROTATE: "ROTATE", INTVAR: "INTVAR", 6: "LOAD", 7: "SLAVE",
    8: "CREATE_FILE", APPEND_BLOCK: "APPEND_BLOCK", 10: "EXEC_LOAD", DELETE_FILE: "DELETE_FILE", 12: "NEW_LOAD", RAND: "RAND",
    USER_VAR: "USER_VAR", FORMAT: "FORMAT_DESCRIPTION", XID: "XID", BEGIN_LOAD: "BEGIN_LOAD_QUERY", EXECUTE_LOAD: "EXECUTE_LOAD_QUERY",
    TABLE_MAP: "TABLE_MAP", 20: "PRE_GA_WRITE_ROWS", 21: "PRE_GA_UPDATE_ROWS", 22: "PRE_GA_DELETE_ROWS", WRITE_V1: "WRITE_ROWS_V1",
    UPDATE_V1: "UPDATE_ROWS_V1", DELETE_V1: "DELETE_ROWS_V1", INCIDENT: "INCIDENT", HEARTBEAT: "HEARTBEAT", IGNORABLE: "IGNORABLE",
    ROWS_QUERY: "ROWS_QUERY", WRITE: "WRITE_ROWS", UPDATE: "UPDATE_ROWS", DELETE: "DELETE_ROWS", GTID: "GTID",
    ANONYMOUS_GTID: "ANONYMOUS_GTID", PREVIOUS_GTIDS: "PREVIOUS_GTIDS", CONTEXT: "TRANSACTION_CONTEXT", VIEW_CHANGE: "VIEW_CHANGE",
    XA_PREPARE: "XA_PREPARE", PARTIAL_UPDATE: "PARTIAL_UPDATE_ROWS", PAYLOAD: "TRANSACTION_PAYLOAD", HEARTBEAT_V2: "HEARTBEAT_V2",
    TAGGED_GTID: "GTID_TAGGED", ANNOTATE: "ANNOTATE_ROWS", CHECKPOINT: "BINLOG_CHECKPOINT", MARIADB_GTID: "MARIADB_GTID",
    GTID_LIST: "GTID_LIST", START_ENCRYPTION: "START_ENCRYPTION", QUERY_COMPRESSED: "QUERY_COMPRESSED",
    WRITE_COMPRESSED_V1: "WRITE_ROWS_COMPRESSED_V1", UPDATE_COMPRESSED_V1: "UPDATE_ROWS_COMPRESSED_V1",
    DELETE_COMPRESSED_V1: "DELETE_ROWS_COMPRESSED_V1", WRITE_COMPRESSED: "WRITE_ROWS_COMPRESSED",
    UPDATE_COMPRESSED: "UPDATE_ROWS_COMPRESSED", DELETE_COMPRESSED: "DELETE_ROWS_COMPRESSED", FRAGMENT: "PARTIAL_ROW_DATA",
}  # fmt: skip

HARMLESS: Mapping[int, str] = {
    STOP: "the server shut down in order",
    **dict.fromkeys((INTVAR, RAND, USER_VAR), "a value for the statement that follows, which is handed over"),
    **dict.fromkeys((APPEND_BLOCK, DELETE_FILE, BEGIN_LOAD), "data of the LOAD statement that follows, which is handed over"),
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
    INCIDENT: ("incident", "the source lost events and says so", "copy the tables again"),
    FRAGMENT: (
        "row_fragments",
        "a rows event comes in fragments, which this version cannot put together",
        "raise binlog_row_event_fragment_threshold, and copy the tables again",
    ),
    **dict.fromkeys((0, 1, 6, 7, 8, 10, 12, 20, 21, 22), _OLD),
}
"""Code, rule and hint of the stop."""


def fatal(kind: int, place: str) -> Halt:
    """The stop for a kind that is not handled here."""
    if kind in FATAL:
        code, rule, hint = FATAL[kind]
        return Halt(code, place, rule, hint)
    name = f" ({NAMES[kind]})" if kind in NAMES else ""
    return Halt("unknown_event", place, f"event type {kind}{name} is not known here", "upgrade cdc, or report the server's version")
