"""What foreign keys change at the source without a word in its log is changed in the target too, at its place in the order."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from threading import Event, Thread
from typing import Any

import pymysql
import pytest

from sinks.cascades import PASSED, UNTOLD
from tests import run
from tests.e2e import oracle
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up
from tests.helpers.servers import SourceDatabase, TargetDatabase, lent

ACTIONS = {
    "cc": "ON DELETE CASCADE ON UPDATE CASCADE",
    "nn": "ON DELETE SET NULL ON UPDATE SET NULL",
    "cn": "ON DELETE CASCADE ON UPDATE SET NULL",
    "nc": "ON DELETE SET NULL ON UPDATE CASCADE",
    "cr": "ON DELETE CASCADE ON UPDATE RESTRICT",
    "na": "ON DELETE NO ACTION ON UPDATE SET NULL",
}
"""By child table: what its foreign key says."""
SCHEMA = [
    "CREATE TABLE p (id INT PRIMARY KEY, n INT NOT NULL, UNIQUE (n))",
    *(f"CREATE TABLE {name} (id INT PRIMARY KEY, p INT, CONSTRAINT fk_{name} FOREIGN KEY (p) REFERENCES p (id) {action})"
      for name, action in ACTIONS.items()),
    "CREATE TABLE by_n (id INT PRIMARY KEY, n INT, FOREIGN KEY (n) REFERENCES p (n) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE deep (id INT PRIMARY KEY, p INT, k BIGINT UNSIGNED UNIQUE, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
    "CREATE TABLE deeper (a INT, b INT, k BIGINT UNSIGNED, PRIMARY KEY (a, b), FOREIGN KEY (k) REFERENCES deep (k) ON DELETE CASCADE)",
    "CREATE TABLE deepest (id INT PRIMARY KEY, a INT, b INT, FOREIGN KEY (a, b) REFERENCES deeper (a, b) ON DELETE SET NULL)",
    "CREATE TABLE bare (a INT, b INT, v INT, FOREIGN KEY (a, b) REFERENCES deeper (a, b) ON DELETE CASCADE)",
    "CREATE TABLE tree (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)",
    "CREATE TABLE chain (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES chain (id) ON DELETE SET NULL)",
    "CREATE TABLE up1 (c VARCHAR(8) COLLATE utf8mb4_general_ci PRIMARY KEY) CHARSET utf8mb4",
    "CREATE TABLE up2 (c VARCHAR(8) COLLATE utf8mb4_general_ci PRIMARY KEY, FOREIGN KEY (c) REFERENCES up1 (c)"
    " ON DELETE CASCADE ON UPDATE CASCADE) CHARSET utf8mb4",
    "CREATE TABLE up3 (id INT PRIMARY KEY, c VARCHAR(8) COLLATE utf8mb4_general_ci, FOREIGN KEY (c) REFERENCES up2 (c)"
    " ON DELETE SET NULL ON UPDATE CASCADE) CHARSET utf8mb4",
    "CREATE TABLE isam (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE) ENGINE MyISAM",
]  # fmt: skip


def light(*parents: int) -> list[str]:
    """Parents of which the key may change, and what hangs on them."""
    made = []
    for p in parents:
        made += [f"INSERT INTO p VALUES ({p}, {p * 10})", f"INSERT INTO by_n VALUES ({p}, {p * 10})"]
        made += [f"REPLACE INTO {name} VALUES ({p * 2}, {p}), ({p * 2 + 1}, {p})" for name in ("cc", "nn", "cn", "nc")]
    return made


def fill(first: int, last: int) -> list[str]:
    """Parents of which the key may not change, and what hangs on them."""
    made = []
    for p in range(first, last + 1):
        made += [*light(p), f"INSERT INTO cr VALUES ({p}, {p})"]
        made += [f"INSERT INTO deep VALUES ({p * 2}, {p}, {p * 2}), ({p * 2 + 1}, {p}, {p * 2 + 1})",
                 f"INSERT INTO deeper VALUES ({p}, 1, {p * 2}), ({p}, 2, {p * 2}), ({p}, 3, {p * 2 + 1})",
                 f"REPLACE INTO deepest VALUES ({p * 3}, {p}, 1), ({p * 3 + 1}, {p}, 3), ({p * 3 + 2}, {p}, NULL)",
                 f"INSERT INTO bare VALUES ({p}, 1, 7), ({p}, 1, 7), ({p}, 2, 7), ({p}, NULL, 7)"]  # fmt: skip
    return made


ORPHANS = " UNION ALL ".join(
    f"SELECT count(*) FROM {child} c WHERE {' AND '.join(f'c.{one} IS NOT NULL' for one in columns)}"
    f" AND NOT EXISTS (SELECT FROM {parent} p WHERE {' AND '.join(f'p.{b} = c.{a}' for a, b in zip(columns, referenced, strict=True))})"
    for child, columns, parent, referenced in [
        *((name, ("p",), "p", ("id",)) for name in (*ACTIONS, "deep")),
        ("by_n", ("n",), "p", ("n",)), ("deeper", ("k",), "deep", ("k",)), ("deepest", ("a", "b"), "deeper", ("a", "b")),
        ("bare", ("a", "b"), "deeper", ("a", "b")), ("tree", ("up",), "tree", ("id",)), ("chain", ("up",), "chain", ("id",)),
    ]
)  # fmt: skip
"""As long as no session has its checks off, no state of the source has a child without its parent."""


@contextmanager
def watched(target: TargetDatabase, schema: str) -> Iterator[None]:
    """Reads the target at any moment: each commit is a state of the source."""
    over, seen, failed = Event(), list[int](), list[Any]()

    def watch() -> None:
        with target.connect() as line:
            line.execute(f'SET search_path = "{schema}"'.encode())
            while not over.is_set():
                found = [count for (count,) in line.execute(ORPHANS.encode())]
                seen.append(sum(found))
                failed.extend([found] if any(found) else [])

    thread = Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert ([], True) == (failed, len(seen) > 2)


def settle(source: SourceDatabase, target: TargetDatabase, works: Streaming) -> None:
    """Everything is applied, and equal."""
    works.check()
    caught_up(works.pipeline)
    assert {} == oracle.differences(source, target, oracle.source_tables(source))


def in_one(source: SourceDatabase, *statements: str) -> None:
    source.execute("BEGIN", *statements, "COMMIT")


@pytest.fixture
def cascading(request: Any) -> Iterator[SourceDatabase]:
    """A source: "native" is a MySQL that does foreign keys in the engine, as all did before 9.6; "mysql" logs what they change."""
    if request.param != "native":
        yield request.getfixturevalue(request.param)
        return
    server: Any = run.private("mysql", options=("--innodb-native-foreign-keys=ON",))
    try:
        with lent(SourceDatabase(server)) as database:
            yield database
    finally:
        server.purge()


@pytest.mark.parametrize(
    ("cascading", "way"),
    [("mariadb", "direct"), pytest.param("native", "kafka", marks=pytest.mark.soak)],
    indirect=["cascading"],
)
def test_what_foreign_keys_change_unlogged_is_changed_in_the_target(
    cascading: SourceDatabase, way: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    source, kafka = cascading, request.getfixturevalue("kafka") if way == "kafka" else None
    source.execute(*SCHEMA, *fill(1, 12), *light(50, 51, 52, 53, 54, 55))
    source.execute("INSERT INTO isam SELECT id, id FROM p", "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 1)",
                   "INSERT INTO chain VALUES (1, NULL), (2, 1), (3, 2)", "INSERT INTO up1 VALUES ('ab'), ('cd')",
                   "INSERT INTO up2 VALUES ('AB'), ('cD ')", "INSERT INTO up3 VALUES (1, 'aB'), (2, 'cd')")  # fmt: skip
    with streaming(pipeline, source, postgres, kafka, way) as works:
        with watched(postgres, source.name):
            # each action, deep, of several columns, of a table without a key
            source.execute(
                "DELETE FROM p WHERE id = 1", "UPDATE p SET id = 151, n = 1510 WHERE id = 51", "DELETE FROM p WHERE id IN (3, 4)"
            )
            settle(source, postgres, works)
            # of text that is equal by its collation alone, through two tables
            source.execute("UPDATE up1 SET c = 'Xy' WHERE c = 'AB'", "DELETE FROM up1 WHERE c = 'CD'")
            # in one transaction: parents come again, children that were re-made stay, others are changed between
            in_one(source, "DELETE FROM p WHERE id = 5", *fill(5, 5), "INSERT INTO cc VALUES (500, 5)",
                   "UPDATE nn SET p = 6 WHERE p IS NULL",
                   "DELETE FROM p WHERE id = 6", "REPLACE INTO p VALUES (7, 77), (8, 90)", "INSERT INTO nc VALUES (700, 7)")  # fmt: skip
            in_one(source, "UPDATE p SET id = id + 1 WHERE id BETWEEN 52 AND 55 ORDER BY id DESC", "UPDATE p SET id = 52 WHERE id = 56",
                   "INSERT INTO na VALUES (1, 54)", "UPDATE p SET id = 99, n = 8 WHERE id = 54", "DELETE FROM p WHERE id = 55")  # fmt: skip
            settle(source, postgres, works)
        # no checks in the session: nothing happens to children
        source.execute("SET foreign_key_checks = 0", "DELETE FROM p WHERE id = 10", "UPDATE p SET id = 57 WHERE id = 52",
                       "SET foreign_key_checks = 1")  # fmt: skip
        # rows that hang on one another in one table; two tables by one statement; undone to a savepoint
        source.execute("DELETE FROM tree WHERE id IN (2, 5)", "DELETE FROM chain WHERE id IN (1, 2)")
        in_one(source, *fill(20, 24), "DELETE p, by_n FROM p JOIN by_n ON by_n.n = p.n WHERE p.id = 20", "SAVEPOINT s",
               "DELETE FROM p WHERE id = 21", "ROLLBACK TO SAVEPOINT s", "DELETE FROM p WHERE id IN (22, 23)")  # fmt: skip
        settle(source, postgres, works)
        works.kill()
        source.execute(*fill(30, 36), "DELETE FROM p WHERE id BETWEEN 32 AND 35 ORDER BY id DESC", *fill(33, 34),
                       "DELETE FROM p WHERE id = 33")  # fmt: skip
        works.start()
        settle(source, postgres, works)
        # an accent is no letter for the source, and more than the target can tell: these rows come by a copy
        source.execute("INSERT INTO up1 VALUES ('é')", "INSERT INTO up2 VALUES ('E')", "INSERT INTO up3 VALUES (3, 'e')",
                       "DELETE FROM up1 WHERE c = 'e'")  # fmt: skip
        caught_up(works.pipeline)
        asked = "SELECT reason FROM cdc.tables WHERE state = 'refused' ORDER BY \"table\""
        assert [UNTOLD, PASSED] == [reason.partition(":")[0] for (reason,) in postgres.execute(asked)]
        for table in ("up2", "up3"):
            assert "done" == works.pipeline.json("copy", f"{source.name}.{table}")["outcome"]
        settle(source, postgres, works)


def act(dice: random.Random) -> list[str]:
    """Statements of one transaction, any of which may fail."""
    made = []
    for _ in range(dice.choice((1, 1, 2, 5, 12))):
        p, q, few = dice.randrange(30), dice.randrange(30), dice.randrange(1, 5)
        child = dice.choice(("cc", "nn", "cn", "nc", "cr", "na", "deep"))
        made.append(dice.choice((
            f"INSERT IGNORE INTO p VALUES ({p}, {q})", f"REPLACE INTO p VALUES ({p}, {q})",
            f"DELETE FROM p WHERE id BETWEEN {p} AND {p + few}",
            f"UPDATE p SET id = {q} WHERE id = {p}", f"UPDATE p SET n = n + 1 WHERE id >= {p} ORDER BY n DESC",
            f"UPDATE p SET id = id + 1 WHERE id >= {p} ORDER BY id DESC", f"DELETE FROM p WHERE id = {p}",
            f"REPLACE INTO {child} (id, p) VALUES ({q}, {p})", f"UPDATE {child} SET p = {p} WHERE id = {q}",
            f"DELETE FROM {child} WHERE id = {q}",
            f"REPLACE INTO by_n VALUES ({q}, {p})", f"UPDATE deep SET k = {q} WHERE id = {p}", f"INSERT INTO deep VALUES ({p}, {q}, {p})",
            f"INSERT IGNORE INTO deeper VALUES ({p % 5}, {q % 5}, {p})", f"INSERT INTO bare VALUES ({p % 5}, {q % 5}, {few})",
            f"DELETE FROM bare WHERE v = {few} LIMIT 1", f"REPLACE INTO deepest VALUES ({p}, {p % 5}, {q % 5})",
            f"DELETE FROM deeper WHERE a = {few}",
            f"REPLACE INTO tree VALUES ({p}, {q})", f"REPLACE INTO tree VALUES ({p}, NULL)", f"DELETE FROM tree WHERE id > {p} LIMIT {few}",
            f"REPLACE INTO chain VALUES ({p}, {q})", f"REPLACE INTO chain VALUES ({p}, NULL)", f"DELETE FROM chain WHERE id IN ({p}, {q})",
            f"SAVEPOINT s{few}", f"ROLLBACK TO SAVEPOINT s{few}",
        )))  # fmt: skip
    return ["BEGIN", *made, dice.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK"))]


@pytest.mark.soak
@pytest.mark.parametrize(("cascading", "way"), [("mariadb", "kafka"), ("native", "direct"), ("mysql", "direct")], indirect=["cascading"])
def test_whatever_is_done_to_parents_and_children_the_target_is_equal(
    cascading: SourceDatabase, way: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Random transactions, with kills between them; `CDC_SEED` draws others."""
    source, kafka = cascading, request.getfixturevalue("kafka") if way == "kafka" else None
    dice = random.Random(int(os.environ.get("CDC_SEED", "1")))
    source.execute(*SCHEMA)
    logs = source.execute("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'")[:1] == [("innodb_native_foreign_keys", "OFF")]
    watching = nullcontext() if logs else watched(postgres, source.name)  # MySQL 9.7 itself leaves rows without their parent
    with streaming(pipeline, source, postgres, kafka, way) as works, watching:
        for lap in range(int(os.environ.get("CDC_LAPS", "4"))):
            with closing(source.connect(autocommit=True)) as line, line.cursor() as cursor:
                for _ in range(300):
                    for statement in act(dice):
                        with suppress(pymysql.IntegrityError, pymysql.OperationalError):
                            cursor.execute(statement)
            if lap % 2:
                works.kill()
                works.start()
            settle(source, postgres, works)
