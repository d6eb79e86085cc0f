"""Writers that leave a trail in the source, in the same transactions as their work, by which the target can be judged.

Every committed transaction of InnoDB inserts one row into `ledger`, raises one `counter` by one, and enters that counter's value in
`audit`, which has no key; so the three agree in every whole state, and a row of `audit` that is there twice, or missing, has a name.
Money only moves: between `account`s in one transaction, between `till`s (MyISAM) in one statement.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import Any

import pymysql

from tests.servers import SourceDatabase

ACCOUNTS, TILLS, SLOTS, WRITERS, COUNTERS = 20, 10, 15, 2, 4
MONEY = 1000
BULK_ROWS = 560
"""Of 64 kB each: 36 MB in one transaction, more than capture takes in one piece."""
TABLES = ("account", "till", "ledger", "counter", "audit", "slot", "heap", "trail", "bulk", "number")
_LOST = (pymysql.err.OperationalError, pymysql.err.InterfaceError, pymysql.err.InternalError, pymysql.err.IntegrityError)
_TEXTS = ("NULL", "''", "'x'", "'Zähne 🦷'", "'a\\tb\\nc\\\\'")


def create(source: SourceDatabase) -> None:
    """Empty tables, and the money."""
    source.execute(
        "CREATE TABLE account (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE till (id INT NOT NULL PRIMARY KEY, balance DECIMAL(12,2) NOT NULL) ENGINE=MyISAM",
        "CREATE TABLE ledger (op BIGINT NOT NULL PRIMARY KEY, kind VARCHAR(12) NOT NULL, check_sum BINARY(16) NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE counter (k INT NOT NULL PRIMARY KEY, n BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE audit (op BIGINT NOT NULL, k INT NOT NULL, n BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE slot (room VARCHAR(8) NOT NULL, place INT NOT NULL, note VARCHAR(20) NULL, PRIMARY KEY (room, place)) ENGINE=InnoDB",
        "CREATE TABLE heap (note VARCHAR(20) NULL, amount DECIMAL(8,2) NULL) ENGINE=InnoDB",
        "CREATE TABLE trail (op BIGINT NOT NULL, part INT NOT NULL) ENGINE=MyISAM",
        "CREATE TABLE bulk (id INT NOT NULL PRIMARY KEY, op BIGINT NOT NULL, body MEDIUMTEXT NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE number (n INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO account VALUES " + ", ".join(f"({i}, {MONEY})" for i in range(ACCOUNTS)),
        "INSERT INTO till VALUES " + ", ".join(f"({i}, {MONEY})" for i in range(TILLS)),
        "INSERT INTO counter VALUES " + ", ".join(f"({w * 10 + i}, 0)" for w in range(WRITERS) for i in range(COUNTERS)),
        "INSERT INTO slot VALUES " + ", ".join(f"('r{i}', {i}, NULL)" for i in range(SLOTS)),
        "INSERT INTO heap VALUES " + ", ".join(f"({_TEXTS[i % 5]}, {i % 3})" for i in range(30)),
        "INSERT INTO number VALUES " + ", ".join(f"({i})" for i in range(BULK_ROWS)),
    )


class Workload:
    """Writers at work for the length of a block."""

    def __init__(self, source: SourceDatabase, seed: int, *, pause_seconds: float = 0.02, myisam: bool = True, big: float = 0.0) -> None:
        self.source, self.pause_seconds, self.myisam, self.big = source, pause_seconds, myisam, big
        self.rolled_back: set[int] = set()
        """Operations of which the source said that they are undone."""
        self.done = 0
        self._wanted_big = threading.Event()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._guard, args=(w, Random(f"{seed} {w}")), name=f"writer-{w}") for w in range(WRITERS)]

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End after the transactions under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert [] == self._errors

    def grow(self) -> None:
        """Let the next transaction of the first writer be one that passes in pieces."""
        self._wanted_big.set()

    def last(self) -> int:
        """After the end: one more operation, by which everything before it can be waited for; its number."""
        op = 9_000_000_000 + time.time_ns() // 1000 % 1_000_000_000
        patiently(lambda: self.source.execute("BEGIN", *_entries(op, 0, "last"), "COMMIT"), self.source)
        return op

    def _guard(self, writer: int, rng: Random) -> None:
        op = writer * 1_000_000_000
        try:
            while not self._stop.is_set():
                try:
                    with closing(self.source.connect(autocommit=False)) as line, line.cursor() as cursor:
                        while not self._stop.wait(self.pause_seconds * rng.random() * 2):
                            op += 1
                            self._transaction(line, cursor, rng, writer, op)
                except _LOST:
                    self._stop.wait(0.1)  # two writers met, or the source is away: the ledger says what became of it
        except BaseException as error:  # noqa: BLE001 - handed to the owner, whom it fails
            self._errors.append(error)

    def _transaction(self, line: Any, cursor: Any, rng: Random, writer: int, op: int) -> None:
        if self.myisam and rng.random() < 0.3:
            _myisam(cursor, rng, op)
            line.commit()
            return
        big = writer == 0 and (self._wanted_big.is_set() or rng.random() < self.big)
        one, other, amount = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS), rng.randint(1, 50)
        entries = _entries(op, writer * 10 + rng.randrange(COUNTERS), "big" if big else "transfer")
        for statement in (
            f"UPDATE account SET balance = balance - {amount} WHERE id = {one}",
            f"UPDATE account SET balance = balance + {amount} WHERE id = {other}",
            *(rng.choice(_ACTS)(rng)),
            *(_bulk(op) if big else ()),
            *entries,
        ):
            cursor.execute(statement)
        if not big and rng.random() < 0.1:
            line.rollback()
            self.rolled_back.add(op)
            return
        line.commit()
        self.done += 1
        if big:
            self._wanted_big.clear()


def patiently(work: Callable[[], Any], source: SourceDatabase, seconds: float = 60.0) -> Any:
    """Do it on the kept connection, again while the source is away."""
    until = time.monotonic() + seconds
    while True:
        try:
            return work()
        except _LOST:
            source.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _entries(op: int, k: int, kind: str) -> tuple[str, ...]:
    return (
        f"UPDATE counter SET n = n + 1 WHERE k = {k}",
        f"INSERT INTO audit SELECT {op}, k, n FROM counter WHERE k = {k}",
        f"INSERT INTO ledger VALUES ({op}, '{kind}', X'{hashlib.sha256(f'{op} {kind}'.encode()).hexdigest()[:32]}')",
    )


def _bulk(op: int) -> tuple[str, ...]:
    """All rows of a table change, or the first ones come: rows of 64 kB, so that the transaction passes in pieces."""
    rows = f"INSERT INTO bulk SELECT n, {op}, REPEAT(LPAD(n, 8, 'x'), 8192) FROM number"
    return ("DELETE FROM bulk WHERE id % 4 = 1", f"{rows} ON DUPLICATE KEY UPDATE op = {op}")


def _myisam(cursor: Any, rng: Random, op: int) -> None:
    one, other = rng.sample(range(TILLS), 2)
    amount = rng.randint(1, 50)
    cursor.execute(f"UPDATE till SET balance = balance + IF(id = {one}, {amount}, -{amount}) WHERE id IN ({one}, {other})")
    cursor.execute(f"INSERT INTO trail VALUES ({op}, 1), ({op}, 2), ({op}, 3)")


def _move(rng: Random) -> tuple[str, ...]:
    """A key changes, away and perhaps back."""
    place = rng.randrange(SLOTS)
    return tuple(f"UPDATE slot SET room = '{rng.choice('abß')}' WHERE place = {place}" for _ in range(rng.randint(1, 2)))


def _renew(rng: Random) -> tuple[str, ...]:
    """A row goes and comes again in one transaction."""
    place = rng.randrange(SLOTS)
    return (f"DELETE FROM slot WHERE place = {place}", f"INSERT INTO slot VALUES ('n', {place}, {rng.choice(_TEXTS)})")


def _leave(rng: Random) -> tuple[str, ...]:
    return (f"DELETE FROM slot WHERE place = {rng.randrange(SLOTS)}",)


def _heap(rng: Random) -> tuple[str, ...]:
    """Equal rows come, change and go."""
    text, amount = rng.choice(_TEXTS), rng.choice(("NULL", "1", "2.5"))
    return (
        f"INSERT INTO heap VALUES ({text}, {amount}), ({text}, {amount})",
        f"UPDATE heap SET amount = {amount} WHERE note = {rng.choice(_TEXTS[1:])} LIMIT 2",
        f"DELETE FROM heap WHERE note <=> {rng.choice(_TEXTS)} LIMIT {rng.randint(1, 3)}",
    )


_ACTS: tuple[Callable[[Random], tuple[str, ...]], ...] = (_move, _renew, _leave, _heap, _heap)
