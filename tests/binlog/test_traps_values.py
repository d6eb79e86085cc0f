"""Traps in which other readers of this log have bent values or broken off: each is laid for ours, beside the server's own words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from cdc import codec
from cdc.binlog.event_bodies import query_event
from cdc.binlog.events import RowsEvent
from cdc.binlog.table_map import table_of
from cdc.errors import Refused
from cdc.model.record import Record
from cdc.model.table import Column, Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.table_reader import TableReader
from tests.codec.test_kernels import read
from tests.codec.test_types import ID, stamp
from tests.helpers.log_values import asked, told
from tests.helpers.own_servers import mariadb_server, mysql_server  # noqa: F401
from tests.helpers.servers import SourceDatabase, TargetDatabase, lent
from tests.helpers.source_log import config, events_since, position

Private = Callable[..., Any]


def keys(source: SourceDatabase, table: str) -> tuple[list[bytes], list[bytes]]:
    """The keys of a table's rows: as its deletes have them in the log, and as a SELECT gives them, both in key order."""
    with Catalog(config(source)) as catalog:
        [described] = catalog.tables([f"{source.name}.{table}"])
        selected: list[Record] = []
        plan = codec.RowPlan(described)
        reader = TableReader(config(source), catalog, described)

        def take(block: bytearray, start: int, end: int) -> int:
            return codec.encode_select(plan, block, start, end, stamp(), codec.Numbers(1, 1), selected)

        assert 1 == len(list(reader.pieces(None, take)))
        reader.close()
    start = position(source)
    source.execute(f"DELETE FROM {table}")
    logged: list[Record] = []
    for event in events_since(source, start):
        if isinstance(event, RowsEvent):
            plan = codec.RowPlan(event.table.table())
            codec.encode_rows(plan, event.body, event.start, event.end, event.kind, stamp(), codec.Numbers(1, 1), logged)
    return sorted(one.key or b"" for one in logged if one.value is not None), sorted(one.key or b"" for one in selected)


ZEROS = {
    "binary": ("BINARY(16)", "x'00'", "x'0102'", "x'ffffffffffffffffffffffffffffff00'", "x'ffffffffffffffffffffffffffffffff'"),
    "uuid": ("UUID", "'00000000-0000-0000-0000-000000000000'", "'123e4567-e89b-12d3-a456-426655440000'"),
    "inet4": ("INET4", "'0.0.0.0'", "'10.0.0.0'", "'10.0.0.1'"),
    "inet6": ("INET6", "'::'", "'fe80::'", "'::1'"),
}


@pytest.mark.parametrize("kind", ZEROS)
def test_zeros_at_the_end_of_a_key_are_part_of_it(source: SourceDatabase, kind: str) -> None:
    """The log leaves zeros at the end of fixed bytes out: one UUID in 256 becomes another key where they are not put back."""
    ddl, *values = ZEROS[kind] if source.flavour == "mariadb" else ZEROS["binary"]
    source.execute(f"CREATE TABLE t (v {ddl} PRIMARY KEY)", f"INSERT INTO t VALUES {','.join(f'({value})' for value in values)}")
    logged, selected = keys(source, "t")
    assert selected == logged
    assert len(values) == len(set(logged))


ODD_JSON = (
    "JSON_OBJECT('t', CAST('838:59:59.000001' AS TIME(6)))",
    "JSON_OBJECT('t', CAST('-838:59:59' AS TIME))",
    "JSON_OBJECT('t', CAST('-00:00:00.000001' AS TIME(6)))",
    "JSON_ARRAY(CAST('24:00:00' AS TIME), CAST('00:00:00' AS TIME))",
    "JSON_ARRAY(CAST('2024-00-00' AS DATE), CAST('0000-00-00' AS DATE), CAST('9999-12-31' AS DATE))",
    "JSON_ARRAY(CAST('2024-00-15 01:02:03' AS DATETIME), CAST('0000-00-00 00:00:00' AS DATETIME(6)))",
    "JSON_ARRAY(TIMESTAMP('2024-02-29 23:59:59.999999'))",
    "JSON_OBJECT('b', CAST(REPEAT('x', 300) AS BINARY), 'y', CAST(2024 AS YEAR))",
    "JSON_ARRAY(CAST(b'101' AS JSON), ST_GeomFromText('POINT(1 2)'))",
    "CAST('null' AS JSON)",
    "JSON_OBJECT('', 1, 'a', 2, 'aa', JSON_OBJECT())",
)


def test_odd_members_of_json_are_the_server_s_text(mysql: SourceDatabase) -> None:
    """Times of more than a day, partial dates and bytes inside JSON break other decoders, or come out as another value."""
    mysql.execute("SET SESSION sql_mode = ''", "CREATE TABLE t (n INT PRIMARY KEY, v JSON)")
    start = position(mysql)
    for n, expression in enumerate(ODD_JSON):
        mysql.execute(f"INSERT INTO t SELECT {n}, {expression}")
    texts = [text for (text,) in mysql.execute(f"SELECT {asked(Column('v', 'json'))} FROM t ORDER BY n")]
    assert len(ODD_JSON) == len(texts)
    assert texts == [(change.after or {})["v"] for change in told(mysql, start)]


def test_an_index_over_an_array_does_not_disturb_its_table(mysql: SourceDatabase) -> None:
    """MySQL 8.0.17 and 8.0.18 write more into the table map of such a table than its types take: lengths are honoured, not guessed."""
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v JSON, w VARCHAR(9), INDEX i ((CAST(v->'$.a' AS UNSIGNED ARRAY))))")
    start = position(mysql)
    mysql.execute("""INSERT INTO t VALUES (1, '{"a": [1, 2, 3]}', 'w')""", "UPDATE t SET w = 'x'")
    row = {"id": 1, "v": '{"a": [1, 2, 3]}', "w": "w"}
    assert [(None, row), (row, {**row, "w": "x"})] == [(change.before, change.after) for change in told(mysql, start)]


def test_a_key_that_the_server_invents_is_the_key(mysql: SourceDatabase) -> None:
    """MySQL gives a table without a key an invisible one, my_row_id, if it is told to: it is in the log and in the catalog."""
    mysql.execute("SET SESSION sql_generate_invisible_primary_key = ON", "CREATE TABLE t (a INT)")
    with Catalog(config(mysql)) as catalog:
        [listed] = catalog.tables([f"{mysql.name}.t"])
    start = position(mysql)
    mysql.execute("INSERT INTO t VALUES (7), (7)")
    changes = told(mysql, start)
    assert [{"my_row_id": 1, "a": 7}, {"my_row_id": 2, "a": 7}] == [change.after for change in changes]
    assert {listed} == {change.table for change in changes}
    assert (0,) == listed.key


def test_computed_and_hidden_columns_are_columns(source: SourceDatabase) -> None:
    """Virtual, stored and invisible columns stand in the row image; SELECT * does not show the last."""
    hidden = "INVISIBLE DEFAULT 5" if source.flavour == "mariadb" else "DEFAULT 5 INVISIBLE"
    source.execute(f"CREATE TABLE t (id INT PRIMARY KEY, n INT, v INT AS (n + 1) VIRTUAL, s INT AS (n + 2) STORED, h INT {hidden})")
    with Catalog(config(source)) as catalog:
        [listed] = catalog.tables([f"{source.name}.t"])
    start = position(source)
    source.execute("INSERT INTO t (id, n) VALUES (1, 10)")
    [change] = told(source, start)
    assert ({"id": 1, "n": 10, "v": 11, "s": 12, "h": 5}, listed) == (change.after, change.table)


def test_a_key_whose_text_loses_digits_is_refused(source: SourceDatabase) -> None:
    """FLOAT prints six digits: the bounds of a copy in pieces would fall beside their rows."""
    source.execute("CREATE TABLE t (f FLOAT PRIMARY KEY)", "INSERT INTO t VALUES (16777216), (0.1)")
    with pytest.raises(Refused) as refused:
        keys(source, "t")
    assert "key_type" == refused.value.code


def test_seconds_behind_2038_are_no_time_before_1901() -> None:
    """MariaDB from 11.5 on keeps TIMESTAMPs up to 2106: read as signed they fall into another century."""
    table = Table("db", "t", (ID, Column("v", "timestamp", scale=6)), (0,))
    for seconds, text in ((0x7FFFFFFF, "2038-01-19T03:14:07"), (0x80000000, "2038-01-19T03:14:08"), (0xFFFFFFFF, "2106-02-07T06:28:15")):
        body = b"\0" + struct.pack("<q", 1) + struct.pack(">I", seconds) + (999_999).to_bytes(3, "big")
        out: list[Record] = []
        codec.encode_rows(codec.RowPlan(table), body, 0, len(body), "c", stamp(), codec.Numbers(1, 1), out)
        assert f"{text}.999999Z" == read(table, out[0])["after"]["v"]


ZEROFILL = "i INT(9) ZEROFILL, b BIGINT UNSIGNED ZEROFILL, d DECIMAL(9,2) ZEROFILL, f FLOAT ZEROFILL, g DOUBLE ZEROFILL, PRIMARY KEY (b, d)"


def test_zeros_in_front_are_no_part_of_a_number(source: SourceDatabase) -> None:
    """ZEROFILL is how a SELECT prints a number; the log has the number."""
    source.execute(f"CREATE TABLE t ({ZEROFILL})")
    start = position(source)
    source.execute("INSERT INTO t VALUES (42, 18446744073709551615, 7.5, 0.1, 1e3), (0, 0, 0, 0, 0), (7, 1, 1, 1, 1)")
    logged = [change.after or {} for change in told(source, start)]
    assert (42, 18446744073709551615, "7.50", 1000.0) == (logged[0]["i"], logged[0]["b"], str(logged[0]["d"]), logged[0]["g"])
    known, selected = keys(source, "t")
    assert selected == known
    assert 3 == len(set(known))


WALKED = {
    "DOUBLE": [
        f"{sign}{number}" for number in ("1e-300", "0.1", "0.30000000000000004", "1e22", "1.7976931348623157e308") for sign in ("", "-")
    ],
    "DECIMAL(65,30)": ["-0.000000000000000000000000000001", "0", "1e34", "-1e34", "12345678901234567890.5"],
    "BIGINT UNSIGNED": ["0", "9223372036854775807", "9223372036854775808", "18446744073709551615"],
    "BIT(40)": ["0", "1", "b'1000000000000000000000000000000000000001'", "b'1111111111111111111111111111111111111111'"],
    "YEAR": ["1901", "1999", "2000", "2155"],
    "DATETIME(6)": ["'1000-01-01'", "'2024-03-31 02:30:00.000001'", "'2024-03-31 02:30:00.000002'", "'9999-12-31 23:59:59.999999'"],
    "TIMESTAMP(6)": ["'1970-01-02'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'", "'2038-01-19 03:14:07.999999'"],
    "TIME(6)": ["'-838:59:59'", "'-00:00:00.000001'", "'00:00:00'", "'00:00:00.000001'", "'838:59:59'"],
    "ENUM('z','a','m')": ["'z'", "'a'", "'m'"],
    "SET('z','a','m')": ["''", "'z'", "'a'", "'z,a'", "'m'", "'z,a,m'"],
    "VARCHAR(20) CHARACTER SET utf8mb4": ["''", "'a'", "'B '", "'äb'", "'日'", "'😀'", "'%_\\\\'", "'it''s'"],
    "VARCHAR(20) CHARACTER SET utf16": ["''", "'a'", "'äb'", "'日'", "'😀'"],
    "CHAR(5) CHARACTER SET latin1 COLLATE latin1_bin": ["'a'", "'A'", "'ä'", "x'81'", "'z'"],
    "VARBINARY(5)": ["x''", "x'00'", "x'0000'", "x'5c27'", "x'ff'"],
}


@pytest.mark.parametrize("kind", WALKED)
def test_a_table_is_walked_by_any_key_without_missing_or_doubling_a_row(source: SourceDatabase, kind: str) -> None:
    """The bound between two pieces is a value that went to the client and back: one that comes back changed loses rows."""
    source.execute("SET SESSION sql_mode = '', time_zone = '+00:00'", f"CREATE TABLE t (k {kind} NOT NULL, n INT, PRIMARY KEY (k, n))")
    for n in range(3):
        source.execute(f"INSERT INTO t VALUES {','.join(f'({value}, {n})' for value in WALKED[kind])}")
    with Catalog(config(source)) as catalog:
        [table] = catalog.tables([f"{source.name}.t"])
        for rows in (1, 2, 5):
            reader, found, plan = TableReader(config(source), catalog, table), list[Record](), codec.RowPlan(table)

            def take(block: bytearray, start: int, end: int, plan: Any = plan, found: list[Record] = found) -> int:
                return codec.encode_select(plan, block, start, end, stamp(), codec.Numbers(1, 1), found)

            reader._resize = lambda seconds: None  # type: ignore[method-assign]
            reader._rows = rows
            pieces = len(list(reader.pieces(None, take)))
            reader.close()
            assert 3 * len(WALKED[kind]) == len(found) == len({record.key for record in found})
            assert pieces >= len(found) // rows


def test_rows_of_partitions_and_of_triggers_are_rows(source: SourceDatabase) -> None:
    """MySQL writes the partitions of a row in front of it; what a trigger did stands under a table map of its own in the same statement."""
    source.execute(
        "CREATE TABLE p (id INT PRIMARY KEY, n INT) PARTITION BY HASH (id) PARTITIONS 3",
        "CREATE TABLE seen (n INT AUTO_INCREMENT PRIMARY KEY, id INT)",
        "CREATE TRIGGER tr AFTER UPDATE ON p FOR EACH ROW INSERT INTO seen (id) VALUES (NEW.id)",
    )
    start = position(source)
    source.execute("INSERT INTO p VALUES (1, 1), (2, 2)", "UPDATE p SET id = id + 3, n = 9 ORDER BY id DESC", "DELETE FROM p WHERE id = 4")
    found = [(change.table.name, change.kind, [tuple(image.values()) for image in change.images]) for change in told(source, start)]
    assert [("p", "c", [(1, 1)]), ("p", "c", [(2, 2)])] == found[:2]
    assert [("p", "u", [(2, 2), (5, 9)]), ("p", "u", [(1, 1), (4, 9)])] == [change for change in found[2:-1] if change[0] == "p"]
    assert [("seen", "c", [(1, 5)]), ("seen", "c", [(2, 4)])] == [change for change in found[2:-1] if change[0] == "seen"]
    assert ("p", "d", [(4, 9)]) == found[-1]


# -- what stands beside the rows


def query(status: bytes, sql: bytes) -> bytes:
    """A QUERY event with these status variables, in the database `db`."""
    head = bytes(19) + struct.pack("<IIBHH", 1, 0, 2, 0, len(status))
    return head + status + b"db\0" + sql


def test_variables_of_a_session_that_nobody_knows_hide_nothing() -> None:
    """MariaDB has variables of its own in front of a statement (GTID flags, character sets' collations), and new ones come."""
    mode = b"\x01" + (4).to_bytes(8, "little")
    first, second, collations = b"\x82\x02", b"\x82\x04" + bytes(8), b"\x83\x02" + bytes(8)
    charset = b"\x04" + struct.pack("<HHH", 33, 33, 8)
    hrnow, xid = b"\x80\x01\x02\x03", b"\x81" + bytes(8)
    for status in (mode + first + charset, mode + second + charset, mode + collations + charset, mode + hrnow + xid + charset):
        event = query(status, b"DROP TABLE t")
        assert (b"DROP TABLE t", "db", 33, 4) == tuple(query_event(event, len(event)))
    event = query(mode + b"\xfe\x01\x02" + charset, b"DROP TABLE t")
    assert (b"DROP TABLE t", "db", 0, 4) == tuple(query_event(event, len(event)))


def table_map(optional: bytes) -> bytes:
    """A map's body: database db, table t, an INT and a VARCHAR, and optional metadata."""
    return b"\2db\0\1t\0" + b"\2" + b"\x03\x0f" + b"\2" + b"\x28\0" + b"\x03" + optional


def test_an_empty_field_of_a_table_map_is_none() -> None:
    """Some servers write a default character set of no bytes."""
    names = b"\4\4\1a\1v"
    plain = table_of(table_map(b"\1\1\0" + b"\2\0" + names), "mysql", {}, {})
    assert (Column("a", "int"), Column("v", "varbinary", length=40)) == plain.columns
    assert plain == table_of(table_map(b"\1\1\0" + names + b"\x0c\1\xc0"), "mysql", {}, {})


def test_a_log_without_checksums_keeps_the_last_field_of_its_table_maps(private: Private) -> None:
    """Where four bytes are always cut off for a checksum, a log without any loses the primary key, the map's last field."""
    with lent(SourceDatabase(private("mariadb", options=("--binlog-checksum=NONE",)))) as source:
        source.execute("CREATE TABLE t (a INT, b INT UNSIGNED, c VARCHAR(9), PRIMARY KEY (c, b))")
        start = position(source)
        source.execute("INSERT INTO t VALUES (-1, 4294967295, 'x')", "SET GLOBAL binlog_checksum = CRC32", "FLUSH BINARY LOGS")
        source.execute("INSERT INTO t VALUES (-2, 4294967294, 'y')")
        assert [((2, 1), {"a": -1, "b": 2**32 - 1, "c": "x"}), ((2, 1), {"a": -2, "b": 2**32 - 2, "c": "y"})] == [
            (change.table.key, change.after) for change in told(source, start)
        ]


# -- the server's defaults

MODES = "PAD_CHAR_TO_FULL_LENGTH,ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,NO_ZERO_DATE,STRICT_ALL_TABLES"
ODD = (
    "CREATE TABLE t (id INT PRIMARY KEY, c CHAR(9), l CHAR(9) CHARACTER SET latin1, d DATETIME(3), s TIMESTAMP(6) NULL, b BINARY(4), "
    "f FLOAT, e ENUM('a', 'b '), z DATE)",
    "INSERT INTO t VALUES (1, 'a  ', 'caf\u00e9', '2024-03-31 02:30:00', '2024-10-27 00:30:00', 'x', 16777217, 'b ', NULL)",
    "INSERT INTO t VALUES (2, '', '', '1000-01-01 00:00:00', '2024-10-27 01:30:00', '', 0.1, 'a', '2024-02-29')",
)


@pytest.mark.parametrize("flavour", ["mariadb", pytest.param("mysql", marks=pytest.mark.slow)])
def test_the_server_s_own_session_settings_bend_nothing(flavour: str, private: Private, postgres: TargetDatabase, pipeline: Any) -> None:
    """Padding, quoting and a zone with daylight saving are session settings: what the server sets by default must not reach a copy."""
    options = (f"--sql-mode={MODES}", "--default-time-zone=+05:30")
    with lent(SourceDatabase(private(flavour, options=options))) as source:
        source.execute(*ODD)
        made = pipeline(source, postgres)
        assert 0 == made.run("snapshot").returncode
        running = made.start("run")
        source.execute("INSERT INTO t SELECT id + 10, c, l, d, s, b, f, e, z FROM t")
        assert 0 == made.run("wait", "--timeout", "60").returncode
        rows = postgres.execute(f'SELECT id % 10, c, l, d::text, s, b, f, e, z FROM "{source.name}".t ORDER BY id')
        assert rows[:2] == rows[2:]
        assert ("a", "caf\u00e9", "2024-03-31 02:30:00", b"x\0\0\0", 16777216.0, "b") == (*rows[0][1:4], *rows[0][5:7], rows[0][7].strip())
        assert "2024-10-26T19:00:00+00:00" == rows[0][4].isoformat()
        assert 0 == made.run("reconcile").returncode
        assert 0 == running.stop()


PRESET = {
    "mariadb": ("sql_select_limit = 1500", "max_join_size = 1", "completion_type = 'CHAIN'", "max_statement_time = 0.001"),
    "mysql": ("sql_select_limit = 1500", "max_join_size = 1", "completion_type = 'CHAIN'", "max_execution_time = 1",
              "show_gipk_in_create_table_and_information_schema = OFF"),
}  # fmt: skip


@pytest.mark.parametrize("flavour", ["mariadb", pytest.param("mysql", marks=pytest.mark.slow)])
def test_limits_that_the_server_presets_end_no_answer(flavour: str, private: Private, postgres: TargetDatabase, pipeline: Any) -> None:
    """A copy whose SELECT ends after so many rows, in silence, lacks the others; one that is ended after a millisecond never ends."""
    with lent(SourceDatabase(private(flavour))) as source:
        if flavour == "mysql":
            source.execute("SET SESSION sql_generate_invisible_primary_key = ON", "CREATE TABLE invented (n INT)")
            source.execute("SET SESSION sql_generate_invisible_primary_key = OFF", "INSERT INTO invented VALUES (1), (1)")
        source.execute("CREATE TABLE digits (n INT PRIMARY KEY)", *(f"INSERT INTO digits VALUES ({n})" for n in range(10)))
        source.execute("CREATE TABLE heap (n INT)", "INSERT INTO heap SELECT a.n FROM digits a, digits b, digits c, digits d")
        source.execute(*(f"SET GLOBAL {setting}" for setting in PRESET[flavour]))
        made = pipeline(source, postgres)
        assert 0 == made.run("snapshot").returncode
        assert [(10_000,)] == postgres.execute(f"SELECT count(*) FROM {source.name}.heap")
        assert 0 == made.run("reconcile").returncode
