"""The numbers of the log's protocol: mysql-replication's and ours are those of the servers' documentation."""

from __future__ import annotations

from typing import Any

import pymysql.constants
from pymysqlreplication.constants import BINLOG, FIELD_TYPE, STATUS_VAR_KEY
from pymysqlreplication.row_event import MetadataFieldType

from cdc.binlog import event_bodies, event_types, partial_json, table_map
from cdc.codec import json_text

EVENTS = (
    "UNKNOWN START_V3 QUERY STOP ROTATE INTVAR LOAD SLAVE CREATE_FILE APPEND_BLOCK EXEC_LOAD DELETE_FILE NEW_LOAD RAND USER_VAR "
    "FORMAT_DESCRIPTION XID BEGIN_LOAD_QUERY EXECUTE_LOAD_QUERY TABLE_MAP PRE_GA_WRITE_ROWS PRE_GA_UPDATE_ROWS PRE_GA_DELETE_ROWS "
    "WRITE_ROWS_V1 UPDATE_ROWS_V1 DELETE_ROWS_V1 INCIDENT HEARTBEAT IGNORABLE ROWS_QUERY WRITE_ROWS UPDATE_ROWS DELETE_ROWS GTID "
    "ANONYMOUS_GTID PREVIOUS_GTIDS TRANSACTION_CONTEXT VIEW_CHANGE XA_PREPARE PARTIAL_UPDATE_ROWS TRANSACTION_PAYLOAD HEARTBEAT_V2 "
    "GTID_TAGGED"
).split()
MARIADB_EVENTS = (
    "ANNOTATE_ROWS BINLOG_CHECKPOINT MARIADB_GTID GTID_LIST START_ENCRYPTION QUERY_COMPRESSED WRITE_ROWS_COMPRESSED_V1 "
    "UPDATE_ROWS_COMPRESSED_V1 DELETE_ROWS_COMPRESSED_V1 WRITE_ROWS_COMPRESSED UPDATE_ROWS_COMPRESSED DELETE_ROWS_COMPRESSED "
    "PARTIAL_ROW_DATA"
).split()
NOT_IN_THE_PACKAGE = {36, 37, 40, 41, 42, *range(165, 173)}


def numbers(module: Any) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}


def test_each_kind_of_event_has_the_number_that_the_servers_give_it() -> None:
    assert dict(enumerate(EVENTS)) | dict(enumerate(MARIADB_EVENTS, 160)) == dict(event_types.NAMES)


def test_numbers_of_our_own_are_only_those_of_events_that_the_package_lacks() -> None:
    """When it learns one, it is to be taken from there."""
    theirs = {value for name, value in numbers(BINLOG).items() if name.endswith(("_EVENT", "_V1", "_V2", "_V3"))}
    assert set(event_types.NAMES) - theirs == NOT_IN_THE_PACKAGE


def test_types_of_columns_have_the_numbers_that_the_driver_knows_too() -> None:
    theirs, drivers = numbers(FIELD_TYPE), numbers(pymysql.constants.FIELD_TYPE)
    assert drivers.items() <= theirs.items()
    assert {"TIMESTAMP2": 17, "DATETIME2": 18, "TIME2": 19} == {name: theirs[name] for name in set(theirs) - set(drivers)}
    assert {140, 141, 242}.isdisjoint(theirs.values()), "what we name ourselves, the package lacks"


def test_the_log_reader_s_tables_of_types_are_those_of_the_servers() -> None:
    plain = {1: "tinyint", 2: "smallint", 9: "mediumint", 3: "int", 8: "bigint", 4: "float", 5: "double", 10: "date", 14: "date"}
    assert plain | {13: "year", 245: "json", 255: "geometry", 242: "vector"} == dict(table_map._PLAIN)
    assert ({15, 16, 141, 246, 247, 248, 253, 254}, {4, 5, 17, 18, 19, 140, 242, 245, 252, 255}) == (
        set(table_map._TWO_BYTES),
        set(table_map._ONE_BYTE),
    )
    assert {1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14} == set(table_map._NO_BYTES)
    assert {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 7: 4, 8: 8, 9: 3, 10: 3, 11: 3, 12: 8, 13: 1, 14: 3} == dict(partial_json._PLAIN)


def test_the_json_kernel_s_numbers_are_the_types_of_columns() -> None:
    """It keeps C constants: a value within a document bears the type that its column would have."""
    assert (FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DATE, FIELD_TYPE.TIME) == (json_text.DECIMAL, json_text.DATE, json_text.TIME)
    assert {FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATETIME} == set(json_text.DATETIMES)


def test_the_kinds_of_a_table_map_s_metadata_are_those_of_the_package_and_one_that_it_lacks() -> None:
    theirs = {kind.value for kind in MetadataFieldType} - {MetadataFieldType.UNKNOWN_METADATA_FIELD_TYPE.value}
    assert theirs | {13} == set(table_map._EXTRA) | set(table_map._UNUSED_EXTRA)


def test_status_variables_have_the_sizes_that_the_servers_give_them() -> None:
    sizes = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1, 128: 3, 129: 8}
    assert sizes == dict(event_bodies._STATUS_SIZES)
    assert {130, 131}.isdisjoint(numbers(STATUS_VAR_KEY).values())
