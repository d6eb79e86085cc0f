"""A small bank at work: every transaction keeps three sums, so that a reader of the target can tell a torn state from a whole one.

savings + current     money only moves between rows of two tables, in one transaction each
counter               one counter per clerk grows by one with every transaction
journal               has no key and holds equal rows; as many rows as the counters say, less those taken out again
"""

from __future__ import annotations

import threading
from contextlib import closing
from random import Random
from typing import Any

import psycopg
import pymysql

from tests.helpers.servers import SourceDatabase, TargetDatabase

TOTAL = 100_000
ACCOUNTS, CLERKS = 40, 8
TABLES = ("savings", "current", "counter", "journal", "odd", "odd_heap")
KEYLESS = ("journal", "odd_heap")
_SHAPE = """(id BIGINT UNSIGNED NOT NULL, small TINYINT UNSIGNED NULL, whole INT UNSIGNED NOT NULL, huge BIGINT UNSIGNED NULL,
 money DECIMAL(12,4) NULL, ratio DOUBLE NULL, text VARCHAR(80) NULL, long_text MEDIUMTEXT NULL, bytes VARBINARY(40) NULL,
 day DATE NULL, moment DATETIME(6) NULL, stamp TIMESTAMP(3) NULL, span TIME(2) NULL, kind ENUM('a','b','ü') NULL, flag BIT(1) NULL{key})"""
_TEXTS = ("NULL", "''", "'NULL'", "'\\\\N'", "'Zähne 🦷 und 😀'", "'a\\tb\\nc\"d''e\\\\'", "'x  '")
_DAYS = ("NULL", "'0001-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-02-29'")


def create(source: SourceDatabase, engine: str = "InnoDB") -> None:
    """The empty bank with its accounts."""
    half = TOTAL // 2 // ACCOUNTS
    source.execute(
        f"CREATE TABLE savings (id INT UNSIGNED NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(40) NULL) ENGINE={engine}",
        "CREATE TABLE current (branch VARCHAR(10) NOT NULL, id INT NOT NULL, balance DECIMAL(14,2) NOT NULL, PRIMARY KEY (branch, id))"
        f" ENGINE={engine}",
        f"CREATE TABLE counter (clerk VARCHAR(20) NOT NULL PRIMARY KEY, n BIGINT UNSIGNED NOT NULL) ENGINE={engine}",
        f"CREATE TABLE journal (text VARCHAR(20) NULL, amount DECIMAL(8,2) NULL, day DATE NULL) ENGINE={engine}",
        f"CREATE TABLE odd {_SHAPE.format(key=', PRIMARY KEY (id)')} ENGINE={engine}",
        f"CREATE TABLE odd_heap {_SHAPE.format(key='')} ENGINE={engine}",
        "INSERT INTO savings VALUES " + ", ".join(f"({i}, {half}, NULL)" for i in range(ACCOUNTS)),
        "INSERT INTO current VALUES " + ", ".join(f"('{'Müß'[i % 3]}', {i}, {half})" for i in range(ACCOUNTS)),
        "INSERT INTO counter VALUES ('removed', 0), " + ", ".join(f"('clerk {i}', 0)" for i in range(CLERKS)),
        "SET SESSION sql_mode = ''",
        *(f"INSERT INTO {table} VALUES " + ", ".join(_odd(i, Random(i)) for i in range(60)) for table in ("odd", "odd_heap")),
    )


def create_wide(source: SourceDatabase) -> None:
    """A table of 2,048 rows of 64 kB: it takes several chunks, whatever the speed of this machine, because a chunk ends at 32 MB."""
    source.execute(
        "CREATE TABLE wide (id INT NOT NULL PRIMARY KEY, body MEDIUMTEXT NOT NULL)",
        "INSERT INTO wide VALUES (0, REPEAT('0123456789abcdef', 4096))",
        *(f"INSERT INTO wide SELECT id + {1 << n}, body FROM wide" for n in range(11)),
    )


def _odd(number: int, rng: Random) -> str:
    values = (
        str(number), rng.choice(("NULL", "0", "255")), rng.choice(("0", "4294967295", "2147483648")),
        rng.choice(("NULL", "18446744073709551615", "9223372036854775808", "1")), rng.choice(("NULL", "-0.0001", "99999999.9999", "0")),
        rng.choice(("NULL", "1e308", "-0.1", "0.30000000000000004")), rng.choice(_TEXTS), rng.choice(("NULL", "REPEAT('ß🦷', 500)")),
        rng.choice(("NULL", "''", "X'00FF0D0A5C'")), rng.choice(_DAYS),
        rng.choice(("NULL", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2024-03-31 02:30:00.000001'")),
        rng.choice(("NULL", "'1970-01-01 00:00:01.001'", "'2038-01-19 03:14:07.999'")),
        rng.choice(("NULL", "'-838:59:59.00'", "'25:00:00.50'")),
        rng.choice(("NULL", "'a'", "'ü'")), rng.choice(("NULL", "b'0'", "b'1'")),
    )  # fmt: skip
    return f"({', '.join(values)})"


class Bank:
    """Clerks at work in a thread, for the length of a block."""

    def __init__(self, source: SourceDatabase, seed: int, *, pause_seconds: float = 0.02) -> None:
        self.source, self.rng, self.pause_seconds = source, Random(seed), pause_seconds
        self.done = 0
        self.counter_closed = threading.Lock()
        """Who holds it keeps the clerks from beginning a transaction; none is under way then."""
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bank")

    def __enter__(self) -> Bank:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End after the transaction under way."""
        self._stop.set()
        self._thread.join()
        assert self._error is None, self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._work()
                except (pymysql.err.OperationalError, pymysql.err.InterfaceError):
                    self._stop.wait(0.2)  # the source is away; what was not committed is undone
        except BaseException as error:  # noqa: BLE001 - handed to the test, which fails by it
            self._error = error

    def _work(self) -> None:
        with closing(self.source.connect(autocommit=False, init_command="SET sql_mode = ''")) as line, line.cursor() as cursor:
            while not self._stop.wait(self.pause_seconds):
                with self.counter_closed:
                    self._transaction(cursor)
                    if self.rng.random() < 0.1:
                        line.rollback()
                    else:
                        line.commit()
                        self.done += 1

    def _transaction(self, cursor: Any) -> None:
        rng = self.rng
        amount = rng.randint(-500, 500)
        one, other = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS)
        cursor.execute(f"UPDATE savings SET balance = balance - {amount}, note = {rng.choice(_TEXTS)} WHERE id = {one}")
        moved = cursor.rowcount
        cursor.execute(f"UPDATE current SET balance = balance + {amount * moved} WHERE id = {other} LIMIT 1")
        if not cursor.rowcount:  # nobody there: the money goes back
            cursor.execute(f"UPDATE savings SET balance = balance + {amount * moved} WHERE id = {one}")
        cursor.execute(f"UPDATE counter SET n = n + 1 WHERE clerk = 'clerk {rng.randrange(CLERKS)}'")
        cursor.execute(f"INSERT INTO journal VALUES ({rng.choice(_TEXTS[:4])}, {rng.choice(('NULL', '1.5'))}, {rng.choice(_DAYS[:2])})")
        for act in rng.sample(_ACTS, 2):
            act(cursor, rng)


def _take_out(cursor: Any, rng: Random) -> None:
    """One of several equal rows of the journal goes."""
    cursor.execute(f"DELETE FROM journal WHERE text = {rng.choice(_TEXTS[1:4])} LIMIT {rng.randint(1, 2)}")
    cursor.execute(f"UPDATE counter SET n = n + {cursor.rowcount} WHERE clerk = 'removed'")


def _move_in(cursor: Any, rng: Random) -> None:
    """An account changes its key; sometimes one closes and opens again in the same transaction."""
    if rng.random() < 0.5:
        cursor.execute(f"UPDATE current SET branch = '{rng.choice('ABaß')}' WHERE id = {rng.randrange(ACCOUNTS)}")
        return
    number = rng.randrange(ACCOUNTS)
    cursor.execute(f"SELECT balance FROM savings WHERE id = {number}")
    balance = cursor.fetchone()[0]
    cursor.execute(f"DELETE FROM savings WHERE id = {number}")
    cursor.execute(f"INSERT INTO savings VALUES ({number}, {balance}, 'again')")


def _correct(cursor: Any, rng: Random) -> None:
    """Equal rows of the journal change together."""
    cursor.execute(f"UPDATE journal SET amount = {rng.choice(('2', 'NULL'))} WHERE text = {rng.choice(_TEXTS[1:4])} LIMIT 3")


def _oddities(cursor: Any, rng: Random) -> None:
    table, number = rng.choice(("odd", "odd_heap")), rng.randrange(120)
    if table == "odd":
        cursor.execute(f"REPLACE INTO odd VALUES {_odd(number, rng)}")
    elif rng.random() < 0.6:
        cursor.execute(f"INSERT INTO odd_heap VALUES {_odd(number, rng)}")
    else:
        cursor.execute(f"UPDATE odd_heap SET small = 7, text = {rng.choice(_TEXTS)} WHERE id = {number}")
    if rng.random() < 0.4:
        cursor.execute(f"DELETE FROM {table} WHERE id = {rng.randrange(120)} LIMIT 1")


_ACTS = (_take_out, _move_in, _correct, _oddities, _oddities)


class Auditor:
    """Reads the target all the time, each time in one statement, and remembers what no whole state of the source can show."""

    def __init__(self, target: TargetDatabase, pipeline: str, schema: str) -> None:
        self.target, self.schema = target, schema
        self.polls = 0
        self.faults: list[str] = []
        self._counters: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor")
        self._sql = f"""
            SELECT (SELECT count(*) FROM cdc.tables WHERE pipeline = '{pipeline}' AND state = 'consistent'),
             (SELECT sum(balance) FROM "{schema}".savings) + (SELECT sum(balance) FROM "{schema}".current),
             (SELECT count(*) FROM "{schema}".journal) + (SELECT n FROM "{schema}".counter WHERE clerk = 'removed'),
             (SELECT json_object_agg(clerk, n) FROM "{schema}".counter)""".encode()

    def __enter__(self) -> Auditor:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert kind is not None or [] == self.faults
        assert kind is not None or self.polls, "the target was never seen consistent"

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                with self.target.connect() as line:
                    while not self._stop.wait(0.05):
                        self._look(line)
            except psycopg.OperationalError:
                continue

    def _look(self, line: psycopg.Connection[tuple[Any, ...]]) -> None:
        try:
            row = line.execute(self._sql).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return  # before the copy
        assert row is not None
        consistent, total, entries, counters = row
        if consistent < len(TABLES):
            return
        self.polls += 1
        said = sum(n for clerk, n in counters.items() if clerk != "removed")
        if total != TOTAL:
            self.faults.append(f"poll {self.polls}: the money is {total}")
        if entries != said:
            self.faults.append(f"poll {self.polls}: the journal has {entries} entries, the clerks made {said}")
        self.faults += [f"poll {self.polls}: {clerk} went back" for clerk, n in counters.items() if n < self._counters.get(clerk, 0)]
        self._counters = counters
