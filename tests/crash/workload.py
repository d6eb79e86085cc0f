"""Writers that leave a trail in the source, in the same transactions as their work, by which the target can be judged.

Every committed transaction of InnoDB inserts one row into `ledger`, raises one `counter` by one, and enters that counter's value in
`audit`, which has no key; so the three agree in every whole state, and a row of `audit` that is there twice, or missing, has a name.
Money only moves: between `account`s in one transaction, between `till`s (MyISAM) in one statement. On request a third writer works in
XA transactions, and some rows of `wound` and `scar` bear a text that no PostgreSQL takes, so that their keys go into quarantine: each
change of one of these raises its `n` by one, so that what the target shows and what waits add up to what was done.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

import pymysql

from tests.helpers.servers import SourceDatabase

ACCOUNTS, TILLS, SLOTS, WRITERS, COUNTERS, WOUNDS = 20, 10, 15, 2, 4, 10
XA_WRITER = WRITERS
"""The writer of XA transactions, whose counters and accounts are nobody else's: what is prepared keeps its locks."""
MONEY = 1000
BULK_ROWS = 560
"""Of 64 kB each: 36 MB in one transaction, more than capture takes in one piece."""
TABLES = ("account", "till", "ledger", "counter", "audit", "slot", "heap", "trail", "bulk", "number", "wound", "scar")
LISTED = ", ".join(f"'{table}'" for table in TABLES)
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
        "CREATE TABLE wound (id INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, note VARCHAR(20) NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE scar (id INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, note VARCHAR(20) NOT NULL) ENGINE=InnoDB",
        "INSERT INTO account VALUES " + ", ".join(f"({i}, {MONEY})" for i in range(ACCOUNTS + 2)),
        "INSERT INTO till VALUES " + ", ".join(f"({i}, {MONEY})" for i in range(TILLS)),
        "INSERT INTO counter VALUES " + ", ".join(f"({w * 10 + i}, 0)" for w in range(WRITERS + 1) for i in range(COUNTERS)),
        "INSERT INTO slot VALUES " + ", ".join(f"('r{i}', {i}, NULL)" for i in range(SLOTS)),
        "INSERT INTO heap VALUES " + ", ".join(f"({_TEXTS[i % 5]}, {i % 3})" for i in range(30)),
        "INSERT INTO number VALUES " + ", ".join(f"({i})" for i in range(BULK_ROWS)),
        *(f"INSERT INTO {table} VALUES " + ", ".join(f"({i}, 0, 'sound')" for i in range(WOUNDS)) for table in ("wound", "scar")),
    )


@dataclass(frozen=True)
class Habits:
    """What the writers do besides; a plan draws it."""

    myisam: bool = True
    xa: bool = False
    """A third writer prepares its transactions and decides them later."""
    wounds: bool = False
    """Some rows change that bear, while `Workload.wounding`, a text that the target refuses."""


PLAIN = Habits()


class Workload:
    """Writers at work for the length of a block."""

    def __init__(self, source: SourceDatabase, seed: int, habits: Habits = PLAIN, *, pause_seconds: float = 0.02) -> None:
        self.source, self.pause_seconds, self.habits = source, pause_seconds, habits
        self.rolled_back: set[int] = set()
        """Operations of which the source said that they are undone."""
        self.done = 0
        self.wounding = False
        """Whether rows that the target refuses are written now."""
        self.prepared = threading.Event()
        """Whether an XA transaction is prepared and not decided."""
        self.may_decide = threading.Event()
        """While it is cleared, what is prepared stays so."""
        self.may_decide.set()
        self.may_work = threading.Event()
        """While it is cleared, no transaction begins."""
        self.may_work.set()
        self.before_commit: Callable[[], None] = lambda: None
        """Called by each writer before each of its commits."""
        self._wanted_big = threading.Event()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        writers = [*range(WRITERS), *([XA_WRITER] if habits.xa else [])]
        self._threads = [threading.Thread(target=self._guard, args=(w, Random(f"{seed} {w}")), name=f"writer-{w}") for w in writers]

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End after the transactions under way."""
        self._stop.set()
        self.may_decide.set()
        self.may_work.set()
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

    def heal(self) -> None:
        """After the end: every row that may bear what the target refuses gets a text that it takes."""
        for table, number in [(table, number) for table in ("wound", "scar") for number in range(WOUNDS)]:
            op = 8_000_000_000 + time.time_ns() // 1000 % 1_000_000_000
            change = f"UPDATE {table} SET n = n + 1, note = 'healed' WHERE id = {number}"
            statements = ("BEGIN", change, *_entries(op, 0, table), "COMMIT")
            patiently(lambda statements=statements: self.source.execute(*statements), self.source)  # type: ignore[misc]

    def _guard(self, writer: int, rng: Random) -> None:
        op = writer * 1_000_000_000
        work = self._xa if writer == XA_WRITER else self._transaction
        try:
            while not self._stop.is_set():
                try:
                    with closing(self.source.connect(autocommit=False)) as line, line.cursor() as cursor:
                        self._decide_all(cursor) if writer == XA_WRITER else None
                        while not self._stop.wait(self.pause_seconds * rng.random() * 2):
                            self.may_work.wait()
                            op += 1
                            work(line, cursor, rng, writer, op)
                except _LOST:
                    self._stop.wait(0.1)  # two writers met, or the source is away: the ledger says what became of it
            if writer == XA_WRITER:
                patiently(lambda: self._decide_all_on(self.source), self.source)
        except BaseException as error:  # noqa: BLE001 - handed to the owner, whom it fails
            self._errors.append(error)

    def _xa(self, line: Any, cursor: Any, rng: Random, writer: int, op: int) -> None:
        """One transaction in two steps, decided a while after it was prepared."""
        xid, amount, undone = f"'{self.source.name}-{op}'", rng.randint(1, 50), rng.random() < 0.2
        for statement in (
            f"XA START {xid}",
            f"UPDATE account SET balance = balance - {amount} WHERE id = {ACCOUNTS}",
            f"UPDATE account SET balance = balance + {amount} WHERE id = {ACCOUNTS + 1}",
            *_entries(op, writer * 10 + rng.randrange(COUNTERS), "xa"),
            f"XA END {xid}",
            f"XA PREPARE {xid}",
        ):
            cursor.execute(statement)
        self.prepared.set()
        self._stop.wait(rng.choice((0, 0.05, 0.5)) * rng.random())
        self.may_decide.wait()
        self.before_commit()
        cursor.execute(f"XA {'ROLLBACK' if undone else 'COMMIT'} {xid}")
        self.prepared.clear()
        if undone:
            self.rolled_back.add(op)
        else:
            self.done += 1

    def _decide_all(self, cursor: Any) -> None:
        """Commit what an earlier connection left prepared; which were decided by then, the ledger says."""
        self.may_decide.wait()
        cursor.execute("XA RECOVER")
        for _, length, _, data in cursor.fetchall():
            name = (data if isinstance(data, str) else bytes(data).decode())[:length]
            if name.startswith(f"{self.source.name}-"):
                cursor.execute(f"XA COMMIT '{name}'")
        self.prepared.clear()

    def _decide_all_on(self, source: SourceDatabase) -> None:
        with closing(source.connect()) as line, line.cursor() as cursor:
            self._decide_all(cursor)

    def _transaction(self, line: Any, cursor: Any, rng: Random, writer: int, op: int) -> None:
        if self.habits.myisam and rng.random() < 0.3:
            _myisam(cursor, rng, op)
            line.commit()
            return
        big = writer == 0 and self._wanted_big.is_set()
        one, other, amount = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS), rng.randint(1, 50)
        wounded = self.habits.wounds and not big and rng.random() < 0.2
        kind = "big" if big else rng.choice(("wound", "wound", "scar")) if wounded else "transfer"
        entries = _entries(op, writer * 10 + rng.randrange(COUNTERS), kind)
        for statement in (
            f"UPDATE account SET balance = balance - {amount} WHERE id = {one}",
            f"UPDATE account SET balance = balance + {amount} WHERE id = {other}",
            *(rng.choice(_ACTS)(rng)),
            *(_bulk(op) if big else ()),
            *([self._wound(rng, kind)] if wounded else ()),
            *entries,
        ):
            cursor.execute(statement)
        self.before_commit()
        if not big and rng.random() < 0.1:
            line.rollback()
            self.rolled_back.add(op)
            return
        line.commit()
        self.done += 1
        if big:
            self._wanted_big.clear()

    def _wound(self, rng: Random, table: str) -> str:
        """A change of a row that may be one which the target refuses."""
        note = "CONCAT('a', CHAR(0))" if self.wounding and rng.random() < 0.5 else "'sound'"
        return f"UPDATE {table} SET n = n + 1, note = {note} WHERE id = {rng.randrange(WOUNDS)}"


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
