"""The tables that everything is measured on, and the statements that fill and change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from cdc.demo.opendental.columns import Spec
from cdc.demo.opendental.rows import Filler
from cdc.demo.opendental.tables import BY_NAME

DATABASE, SEEDS = "bench", "bench_seed"
TRANSACTION_ROWS = 1000
ROUND = (50, 40, 10)
"""Rows of the three statements that mixed work repeats: inserted, updated, deleted."""

_NARROW = """ProcNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, PatNum bigint NOT NULL, AptNum bigint NOT NULL, ProcDate date NOT NULL,
 ProcFee double NOT NULL, Surf varchar(10) DEFAULT '', ToothNum varchar(2) DEFAULT '', Priority bigint NOT NULL DEFAULT 0,
 ProcStatus tinyint unsigned NOT NULL, ProvNum bigint NOT NULL, Dx bigint NOT NULL, DateEntryC datetime NOT NULL, Note text,
 SecDateTEdit timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, Discount decimal(10,2) NOT NULL, UnitQty int NOT NULL,
 IsLocked tinyint NOT NULL DEFAULT 0"""
_NARROW_SEED = """SELECT a.i * 10 + b.i + 1, a.i * 7 + b.i, a.i * b.i, DATE_ADD('2015-01-01', INTERVAL a.i DAY), a.i + 0.25,
 IF(a.i % 3 = 0, 'MOD', ''), a.i % 32, b.i, a.i % 7, b.i % 40, a.i, DATE_ADD('2015-01-01 08:00:00', INTERVAL a.i * 97 + b.i MINUTE),
 IF(a.i % 5 = 0, CONCAT('Pt tolerated procedure well ', a.i), ''), '2026-01-02 03:04:05', a.i / 4, 1, 0
 FROM {seeds}.seq a JOIN {seeds}.seq b ON b.i < 10 WHERE a.i * 10 + b.i < {rows}"""
_MORE = """
decimal(10,2): InsuranceCredit PaymentPlanDue
datetime: SecDateTEdit DateLastStatement
int(11): VisitCount MissedCount
tinyint(4): IsDeceased NoReminders
varchar(50): EmployerNote GuardianName
bigint(20): SecUserNumChange PharmacyNum
date?: DateLastSeen"""  # a patient has 87 columns: 100 with these
_WORDS = """patient tolerated the procedure well anaesthesia lidocaine composite occlusal distal mesial buccal margin caries excavated
 rubber dam isolated bite adjusted polished post-op instructions given follow-up in two weeks no complaints radiograph taken""".split()


@dataclass(frozen=True, slots=True)
class Shape:
    """A table: its rows are copies of `seeds` different ones, numbered from 1."""

    label: str
    table: str
    key: str
    columns: tuple[str, ...]
    body: str
    seeds: int
    """So many different rows; a multiple of a transaction's rows."""
    changes: str
    """What an UPDATE sets."""
    checked: str
    """A column whose sum an UPDATE changes, exact in either database."""
    share: int
    """The table gets this part of the rows that are asked for: they are larger."""
    engine: str = "InnoDB"
    spec: Spec | None = None
    """Whose generator makes the seed rows; None: the narrow table's own."""
    words: int = 0
    """Up to so many words are in its long text."""

    @property
    def name(self) -> str:
        return f"{DATABASE}.{self.table}"

    @property
    def seed(self) -> str:
        return f"{SEEDS}.{self.table}"

    def create(self, name: str) -> list[str]:
        """The table made anew, empty."""
        return [f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({self.body}) ENGINE={self.engine} DEFAULT CHARSET=utf8mb4"]

    def fill_seed(self) -> Iterator[str]:
        """The statements that make the seed rows."""
        if self.spec is None:
            yield f"CREATE TABLE IF NOT EXISTS {SEEDS}.seq (i int PRIMARY KEY)"
            yield f"REPLACE INTO {SEEDS}.seq VALUES {','.join(f'({i})' for i in range(1000))}"
            yield f"INSERT INTO {self.seed} {_NARROW_SEED.format(seeds=SEEDS, rows=self.seeds)}"
            yield from self._texts()
            return
        filler = Filler(self.spec, "bench", 1.0)
        for first in range(1, self.seeds + 1, 200):
            yield filler.insert(first, 200).replace(f"`{self.spec.name}`", self.seed, 1)

    def _texts(self) -> Iterator[str]:
        random = Random(1)
        for number in range(1, self.seeds + 1) if self.words else ():
            text = " ".join(random.choices(_WORDS, k=random.randint(self.words // 10, self.words)))
            yield f"UPDATE {self.seed} SET Note = '{text}' WHERE {self.key} = {number}"

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

    def delete(self, low: int, high: int) -> str:
        """Rows low+1 to high gone."""
        return f"DELETE FROM {self.name} WHERE {self.key} BETWEEN {low + 1} AND {high}"

    def mixed(self, number: int, rounds: int, rows: int) -> list[str]:
        """One of `rounds` rounds of inserts, updates and deletes on a table of `rows` rows, at least half of a round's for each."""
        new, changed, gone = ROUND
        updated = rounds * gone + number * changed  # the first keys are for the deletes
        return [
            self.insert(rows + number * new, rows + (number + 1) * new),
            self.update(updated, updated + changed),
            self.delete(number * gone, (number + 1) * gone),
        ]


def _narrow() -> Shape:
    columns = re.findall(r"(?:^|,)\s*([A-Z]\w+) ", _NARROW)
    changes = "ProcFee = ProcFee + 1, Note = CONCAT('upd ', ProcNum), SecDateTEdit = CURRENT_TIMESTAMP"
    return Shape("narrow", "procedurelog", "ProcNum", tuple(columns), _NARROW, 10_000, changes, "ProcFee", 1)


def _of(label: str, spec: Spec, changes: str, checked: str, share: int) -> Shape:
    key, columns = spec.columns[0].name, tuple(column.name for column in spec.columns)
    body = ",\n".join([*(column.ddl() for column in spec.columns), f"PRIMARY KEY ({key})"])
    return Shape(label, spec.name, key, columns, body, 2_000, changes, checked, share, spec=spec)


def _shapes() -> Iterator[Shape]:
    narrow = _narrow()
    yield narrow
    yield replace(narrow, label="myisam", table="procedurelog_myisam", engine="MyISAM")
    noted = _NARROW.replace("Note text", "Note mediumtext")
    changes = "ProcFee = ProcFee + 1, Note = CONCAT('upd ', Note)"
    yield replace(narrow, label="text", table="procnote", body=noted, seeds=1_000, changes=changes, share=10, words=600)
    claim = "\n".join(BY_NAME["claimproc"].text.strip().splitlines()[:-4])  # without its last four columns
    yield _of("middle", Spec("claimproc", 0, claim), "InsPayAmt = InsPayAmt + 1, PaymentRow = PaymentRow + 1", "PaymentRow", 2)
    patient = Spec("patient", 0, BY_NAME["patient"].text.rstrip() + _MORE)
    yield _of("wide", patient, "EstBalance = EstBalance + 1, VisitCount = VisitCount + 1", "VisitCount", 4)


SHAPES: dict[str, Shape] = {shape.label: shape for shape in _shapes()}


def transactions(low: int, high: int, rows: int = TRANSACTION_ROWS) -> Iterator[tuple[int, int]]:
    """The ranges, one a transaction."""
    return ((at, min(at + rows, high)) for at in range(low, high, rows))
