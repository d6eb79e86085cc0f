"""Fifty kills of a copy, of the source and of the target: no chunk lost, none doubled, none copied twice, and no restart from zero.

The moments follow from a seed, which a failing test prints; CDC_TEST_SEED sets it, CDC_TEST_KILLS how many.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from cdc.stack import Server
from tests.e2e import oracle
from tests.e2e.bank import KEYLESS, Bank, create
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.pipelines import Pipeline, Running
from tests.helpers.servers import SourceDatabase, TargetDatabase, lent

ROWS, RATE = 120_000, 15_000
_LEDGER = 'SELECT "table", load_no, chunk_no, low::text, high::text, rows, xmin::text FROM cdc.chunks WHERE pipeline = %s'


def _big(source: SourceDatabase) -> None:
    """Two large tables beside the bank's: keys with gaps, and keys in no order at all; one is MyISAM, which a crash may tear if written."""
    source.execute(
        "CREATE TABLE gaps (id BIGINT NOT NULL PRIMARY KEY, v INT, t VARCHAR(60)) ENGINE=MyISAM",
        "INSERT INTO gaps SELECT seq * 3 + seq DIV 100 * 57, seq, REPEAT('ä', seq MOD 60) FROM numbers",
        "CREATE TABLE sparse (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, v INT, t VARCHAR(60)) ENGINE=InnoDB",
        "INSERT INTO sparse SELECT CONV(LEFT(SHA2(seq, 256), 15), 16, 10), seq, REPEAT('z', seq MOD 60) FROM numbers",
        "FLUSH TABLES",
    )


def _numbers(source: SourceDatabase) -> None:
    source.execute(
        "CREATE TABLE numbers (seq INT NOT NULL PRIMARY KEY)",
        "INSERT INTO numbers VALUES " + ", ".join(f"({n})" for n in range(1000)),
        f"INSERT INTO numbers SELECT a.seq + 1000 * (b.seq + 1) FROM numbers a JOIN numbers b ON b.seq < {ROWS // 2000 - 1}",
    )


@dataclass
class Campaign:
    """One copy after the other, and what was killed of them."""

    source: SourceDatabase
    target: TargetDatabase
    make: Callable[..., Pipeline]
    rng: Random
    kills: Counter[str] = field(default_factory=Counter)
    copies: int = 0

    def ledger(self, name: str) -> set[tuple[Any, ...]]:
        with self.target.connect() as line:
            if line.execute("SELECT to_regclass('cdc.chunks')").fetchone() == (None,):
                return set()
            return set(line.execute(_LEDGER.encode(), [name]).fetchall())

    def copy(self, kills: int) -> None:
        """One whole copy under fire; then the log is followed to its end, and both judges agree."""
        self.copies += 1
        name = f"copy_{self.copies}"
        made = self.make(self.source, self.target, pipeline={"name": name}, snapshot={"parallel": 3, "max_rows_per_second": RATE},
                         target={"url": self.target.url, "schema": name})  # fmt: skip
        process, before = made.start("snapshot"), set[tuple[Any, ...]]()
        while self.kills.total() < kills and self._goes_on(process, name, len(before)):
            before = self._checked(name, before)
            process = self._kill(made, process)
        assert 0 == process.process.wait(120), process.output()[-3000:]
        self._checked(name, before)
        self._prove(made, name)

    def _goes_on(self, process: Running, name: str, chunks: int) -> bool:
        """Wait for a chunk more, mostly, and a random while; whether the copy is still under way."""
        if self.rng.random() < 0.8:
            until(lambda: not process.alive or len(self.ledger(name)) > chunks, 60, "one more chunk, or the end")
        threading.Event().wait(self.rng.random() * 0.8)
        return process.alive

    def _checked(self, name: str, before: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """What was in the ledger is in it, by the same transaction; nothing began anew."""
        now = self.ledger(name)
        kept = {row for row in before if row[0] not in KEYLESS}  # those are read anew until they are finished
        assert kept <= now, kept - now
        assert {1} >= {row[1] for row in now if row[0] not in KEYLESS}
        return now

    def _kill(self, made: Pipeline, process: Running) -> Running:
        victim = self.rng.choices(("copy", "source", "target"), (6, 2, 2))[0]
        self.kills[victim] += 1
        if victim == "copy":
            process.kill()
            return made.start("snapshot")
        place: Server = (self.source if victim == "source" else self.target).server
        if victim == "source":
            self.source.close()
        place.kill()
        threading.Event().wait(self.rng.random() * 0.5)
        place.start()
        return process

    def _prove(self, made: Pipeline, name: str) -> None:
        """The ledger counts each row of the static tables once, and everything is equal once the log is followed."""
        counted = Counter[str]()
        for row in self.ledger(name):
            counted[row[0]] += row[5]
        assert (ROWS // 2, ROWS // 2) == (counted["gaps"], counted["sparse"])
        running = made.start("run")
        caught_up(made)
        assert {} == oracle.differences(self.source, self.target, ("gaps", "sparse"), name)
        equal(made)
        assert 0 == running.stop()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_kills_at_random_moments_of_a_copy_lose_double_and_repeat_nothing(flavour: str, private: Callable[..., Any], pipeline: Any) -> None:
    """Of the copying process, of the source and of the target, beside writers; as many copies as fifty kills need."""
    seed = int(os.environ.get("CDC_TEST_SEED") or secrets.randbelow(1 << 32))
    print(f"CDC_TEST_SEED={seed}")
    kills = int(os.environ.get("CDC_TEST_KILLS", "50"))
    with lent(SourceDatabase(private(flavour, durable=True))) as source, lent(TargetDatabase(private("postgres", durable=True))) as target:
        create(source)
        _numbers(source)
        _big(source)
        campaign = Campaign(source, target, pipeline, Random(seed))
        with Bank(source, seed, pause_seconds=0.1) as bank:
            while campaign.kills.total() < kills:
                campaign.copy(kills)
        print(f"{campaign.kills.total()} kills {dict(campaign.kills)} in {campaign.copies} copies, {bank.done} transactions beside them")
