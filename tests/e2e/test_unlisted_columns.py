"""Tables whose log shows more than information_schema lists, copied and followed: what arrives is what a SELECT shows."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.pipelines import Pipeline
from tests.helpers.refusals import rows, streaming
from tests.helpers.servers import SourceDatabase, TargetDatabase

TABLES = {
    "mariadb": (
        "CREATE TABLE hashed (id INT PRIMARY KEY, b TEXT UNIQUE, c VARCHAR(3000) UNIQUE, v INT AS (id + 1) VIRTUAL)",
        "CREATE TABLE heap (id INT, b TEXT NOT NULL UNIQUE) ENGINE = MyISAM",
        "CREATE TABLE plain (id INT PRIMARY KEY, b TEXT)",
    ),
    "mysql": (
        "CREATE TABLE hashed (id INT PRIMARY KEY, b VARCHAR(99) UNIQUE, UNIQUE ((CONCAT(b, 'x'))), v INT AS (id + 1) VIRTUAL)",
        "CREATE TABLE heap (id INT, b VARCHAR(99) NOT NULL)",
        "CREATE TABLE plain (id INT PRIMARY KEY, b JSON, KEY ((CAST(b AS CHAR(9) ARRAY))))",
    ),
}


def test_a_table_with_columns_that_nobody_lists_is_copied_and_followed(
    source: SourceDatabase, postgres: TargetDatabase, pipeline: Callable[..., Pipeline]
) -> None:
    if source.flavour == "mysql":
        source.execute("SET SESSION sql_generate_invisible_primary_key = ON")
    source.execute(*TABLES[source.flavour])
    for table in ("hashed", "heap", "plain"):
        source.execute(f"INSERT INTO {table} (id, b) VALUES (1, '\"a\"'), (2, '\"b\"'), (3, '\"c\"'), (4, '\"d\"')")
    made = pipeline(source, postgres)
    (running,) = streaming(made)
    for table in ("hashed", "heap", "plain"):
        source.execute(
            f"INSERT INTO {table} (id, b) VALUES (5, '\"e\"')",
            f"UPDATE {table} SET b = '\"changed\"' WHERE id = 2",
            f"DELETE FROM {table} WHERE id = 3",
        )
    made.json("wait", "--timeout", "60")
    arrived = [(row[-3:] if source.flavour == "mysql" else row) for row in rows(postgres, source.name, "hashed")]
    assert [1, 2, 4, 5] == [row[0] for row in arrived]
    made.json("reconcile", "--report", str(made.folder))
    assert 0 == running.stop()
