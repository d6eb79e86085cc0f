"""Sessions that log less than whole rows (binlog_row_image MINIMAL and NOBLOB): what they say exactly is applied exactly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

TABLE = """CREATE TABLE {} (id INT AUTO_INCREMENT, part VARCHAR(20) NOT NULL, n INT DEFAULT 9, nn INT NOT NULL DEFAULT 5,
  note LONGTEXT, name VARCHAR(300) NOT NULL, at DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  price DECIMAL(12,3), kind ENUM('a','b'), doc JSON, bits BIT(10), raw BLOB NOT NULL, stored_n INT AS (n + 1) STORED,
  virtual_n INT AS (n + 2) VIRTUAL, long_text TEXT AS (CONCAT(name, COALESCE(n, 0))) VIRTUAL, PRIMARY KEY (part, id), KEY (id))
  ENGINE={}"""
COLUMNS = "(id, part, n, nn, note, name, at, price, kind, doc, bits, raw)"
VALUES = "({0}, 'p{0}', {0}, 1, REPEAT('note', 100), 'name', '2026-01-02 03:04:05.678', 1.5, 'a', '{{\"a\": 1}}', b'101', 'raw')"
CHANGES = (
    "UPDATE {} SET n = 4 WHERE id = 1",
    "UPDATE {} SET n = NULL, price = -7.125, bits = b'1' WHERE id = 2",
    "UPDATE {} SET note = 'new', raw = 'r', doc = '[2]' WHERE id = 3",
    "UPDATE {} SET name = CONCAT(name, id), kind = NULL WHERE id > 3 AND id < 80",
    "UPDATE {} SET nn = nn + 1 WHERE id > 3",
    "DELETE FROM {} WHERE id > 90",
    "DELETE FROM {} WHERE id = 5",
    "REPLACE INTO {} (id, part, name, raw) VALUES (6, 'p6', 'replaced', '')",
    "INSERT INTO {} (id, part, name, raw) VALUES (7, 'p7', 'x', '') ON DUPLICATE KEY UPDATE n = 77",
)
WHOLE = "SET SESSION binlog_row_image = FULL"


def _fill(source: SourceDatabase, *tables: str) -> None:
    for table in tables:
        source.execute(f"INSERT INTO {table} {COLUMNS} VALUES " + ", ".join(VALUES.format(number) for number in range(1, 100)))


@pytest.mark.parametrize("way", ["direct", "split"])
def test_changes_of_sessions_with_other_images_are_applied_exactly(
    way: str, mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Between whole images, in one transaction and alone, of few rows and of many; with triggers and computed columns."""
    tables = ("inno", "isam") if way == "direct" else ("inno",)
    mysql.execute(TABLE.format("inno", "InnoDB"), TABLE.format("isam", "MyISAM"), "CREATE TABLE heap (a INT, b TEXT, c INT)")
    mysql.execute("CREATE TRIGGER changes BEFORE UPDATE ON inno FOR EACH ROW SET NEW.price = COALESCE(NEW.price, 0) + 1")
    _fill(mysql, *tables)
    mysql.execute("INSERT INTO heap VALUES (1, 'b', 1), (1, 'b', 1), (2, NULL, 2)")
    with streaming(pipeline, mysql, postgres, None if way == "direct" else kafka, way) as works:
        for image in ("MINIMAL", "NOBLOB") if way == "direct" else ("MINIMAL",):
            less = f"SET SESSION binlog_row_image = {image}"
            for table in tables:
                mysql.execute(less, "BEGIN", *(change.format(table) for change in CHANGES), "COMMIT")
            caught_up(works.pipeline)
            assert {} == oracle.differences(mysql, postgres, tables), image
            for table in tables:
                mysql.execute(WHOLE, f"DELETE FROM {table}")
                _fill(mysql, table)
                for change in CHANGES:
                    mysql.execute(less, change.format(table), WHOLE, f"UPDATE {table} SET n = n + 1 WHERE id < 4")
            mysql.execute(less, "UPDATE heap SET c = 7 WHERE a = 1 LIMIT 1", "DELETE FROM heap WHERE a = 2")
            mysql.execute("UPDATE heap SET b = 'other' WHERE a = 1", WHOLE, "INSERT INTO heap VALUES (2, NULL, 2)")
        caught_up(works.pipeline)
        assert {} == oracle.differences(mysql, postgres, (*tables, "heap"))
        if way == "direct":
            _refused(mysql, postgres, works)
        equal(works.pipeline)


def _refused(source: SourceDatabase, target: TargetDatabase, works: Streaming) -> None:
    """What is said of some columns waits behind a refused row, and is replayed on top of it; of a row that is not there it is counted."""
    table = f'"{source.name}".inno'
    target.execute(f"ALTER TABLE {table} ADD CONSTRAINT small CHECK (n < 1000)", f"DELETE FROM {table} WHERE id = 9")
    source.execute("UPDATE inno SET n = 5000, name = 'whole' WHERE id = 2", "SET SESSION binlog_row_image = MINIMAL")
    source.execute(
        "UPDATE inno SET n = 5000 WHERE id = 1", "UPDATE inno SET kind = 'b' WHERE id IN (1, 2)", "UPDATE inno SET n = 1 WHERE id = 9"
    )

    def waiting() -> int:
        return sum(one["changes"] for one in works.pipeline.json("quarantine", "list")["keys"])

    until(lambda: waiting() == 4, 60, "what waits", *works.processes.values())
    absent = "SELECT count FROM cdc.anomaly WHERE reason = 'row_absent'"
    until(lambda: target.execute(absent) == [(1,)], 60, "what found no row", *works.processes.values())
    target.execute(f"ALTER TABLE {table} DROP CONSTRAINT small")
    works.pipeline.json("quarantine", "replay")
    source.execute("DELETE FROM inno WHERE id = 9", WHOLE)
    caught_up(works.pipeline)
    assert {} == oracle.differences(source, target, ("inno",))
