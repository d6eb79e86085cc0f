"""The two tables that everything is measured on, and the statements that fill and change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from examples.opendental.columns import Spec
from examples.opendental.rows import Filler
from examples.opendental.tables import BY_NAME

DATABASE, SEEDS = "bench", "bench_seed"
TRANSACTION_ROWS = 1000

_NARROW = """ProcNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, PatNum bigint NOT NULL, AptNum bigint NOT NULL, ProcDate date NOT NULL,
 ProcFee double NOT NULL, Surf varchar(10) DEFAULT '', ToothNum varchar(2) DEFAULT '', Priority bigint NOT NULL DEFAULT 0,
 ProcStatus tinyint unsigned NOT NULL, ProvNum bigint NOT NULL, Dx bigint NOT NULL, DateEntryC datetime NOT NULL, Note text,
 SecDateTEdit timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, Discount decimal(10,2) NOT NULL, UnitQty int NOT NULL,
 IsLocked tinyint NOT NULL DEFAULT 0"""
_NARROW_SEED = """SELECT a.i * 10 + b.i + 1, a.i * 7 + b.i, a.i * b.i, DATE_ADD('2015-01-01', INTERVAL a.i DAY), a.i + 0.25,
 IF(a.i % 3 = 0, 'MOD', ''), a.i % 32, b.i, a.i % 7, b.i % 40, a.i, DATE_ADD('2015-01-01 08:00:00', INTERVAL a.i * 97 + b.i MINUTE),
 IF(a.i % 5 = 0, CONCAT('Pt tolerated procedure well ', a.i), ''), '2026-01-02 03:04:05', a.i / 4, 1, 0
 FROM {seeds}.seq a JOIN {seeds}.seq b ON b.i < 10"""
_MORE = "\ndecimal(10,2): InsuranceCredit\ndatetime: SecDateTEdit\nint(11): VisitCount"  # a patient has 87 columns: 90 with these


@dataclass(frozen=True, slots=True)
class Shape:
    """A table: its rows are copies of `seeds` different ones, numbered from 1."""

    label: str
    table: str
    key: str
    columns: tuple[str, ...]
    body: str
    seeds: int
    changes: str
    """What an UPDATE sets."""

    @property
    def name(self) -> str:
        return f"{DATABASE}.{self.table}"

    @property
    def seed(self) -> str:
        return f"{SEEDS}.{self.table}"

    def create(self, name: str) -> list[str]:
        """The table made anew, empty."""
        return [f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({self.body}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"]

    def fill_seed(self) -> Iterator[str]:
        """The statements that make the seed rows."""
        if self.label == "narrow":
            yield f"CREATE TABLE IF NOT EXISTS {SEEDS}.seq (i int PRIMARY KEY)"
            yield f"REPLACE INTO {SEEDS}.seq VALUES {','.join(f'({i})' for i in range(1000))}"
            yield f"INSERT INTO {self.seed} {_NARROW_SEED.format(seeds=SEEDS)}"
            return
        filler = Filler(_WIDE, "bench", 1.0)
        for first in range(1, self.seeds + 1, 200):
            yield filler.insert(first, 200).replace(f"`{_WIDE.name}`", self.seed, 1)

    def insert(self, low: int, high: int) -> str:
        """Rows low+1 to high, which must lie within one run of the seeds."""
        return self._copy(low // self.seeds * self.seeds, low % self.seeds + 1, low % self.seeds + high - low)

    def insert_one(self, key: int, like: int) -> str:
        """One row under a key of its own."""
        seed = like % self.seeds + 1
        return self._copy(key - seed, seed, seed)

    def _copy(self, offset: int, first: int, last: int) -> str:
        others = ", ".join(f"`{name}`" for name in self.columns if name != self.key)
        return (
            f"INSERT INTO {self.name} ({self.key}, {others}) SELECT {self.key} + {offset}, {others} FROM {self.seed} "
            f"WHERE {self.key} BETWEEN {first} AND {last}"
        )

    def update(self, low: int, high: int) -> str:
        """Rows low+1 to high changed."""
        return f"UPDATE {self.name} SET {self.changes} WHERE {self.key} BETWEEN {low + 1} AND {high}"


def _narrow() -> Shape:
    columns = re.findall(r"(?:^|,)\s*([A-Z]\w+) ", _NARROW)
    changes = "ProcFee = ProcFee + 1, Note = CONCAT('upd ', ProcNum), SecDateTEdit = CURRENT_TIMESTAMP"
    return Shape("narrow", "procedurelog", "ProcNum", tuple(columns), _NARROW, 10_000, changes)


_WIDE = Spec("patient", 0, BY_NAME["patient"].text.rstrip() + _MORE)


def _wide() -> Shape:
    body = ",\n".join([*(column.ddl() for column in _WIDE.columns), "PRIMARY KEY (PatNum)"])
    changes = "EstBalance = EstBalance + 1, AddrNote = CONCAT('upd ', PatNum), VisitCount = VisitCount + 1"
    return Shape("wide", "patient", "PatNum", tuple(column.name for column in _WIDE.columns), body, 2_000, changes)


SHAPES: dict[str, Shape] = {shape.label: shape for shape in (_narrow(), _wide())}


def transactions(low: int, high: int, rows: int = TRANSACTION_ROWS) -> Iterator[tuple[int, int]]:
    """The ranges, one a transaction."""
    return ((at, min(at + rows, high)) for at in range(low, high, rows))
