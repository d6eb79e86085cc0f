"""The practice at work: acts dealt from a shuffled deck, paced by the rows they change, until told to stop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from random import Random

import pymysql

from cdc.demo.opendental.acts import ACTS, Act
from cdc.demo.opendental.build import ConnectionArgs
from cdc.demo.opendental.desk import Desk
from cdc.demo.opendental.pace import TokenBucket

RECONNECT_SECONDS = 0.2
LOST = (2003, 2006, 2013, 1053, 1927, 4031)
"""Client and server error numbers that mean: the connection is gone."""
CONFLICT = (1062, 1205, 1213)
"""Duplicate key, lock wait timeout, deadlock: another writer was there first."""


def lost(error: pymysql.MySQLError) -> bool:
    """PyMySQL raises InterfaceError for a connection that it closed itself after an earlier failure."""
    return isinstance(error, pymysql.err.InterfaceError) or error.args[0] in LOST


@dataclass(frozen=True, slots=True)
class Report:
    """What a workload did. `changes` counts affected rows that stayed,
    by kind (REPLACE and upserts as the server counts them)."""

    seconds: float
    acts: dict[str, int]
    changes: dict[str, int]
    rolled_back: dict[str, int]
    conflicts: int
    """Acts given up because of a deadlock, a lock wait, or a key that another writer took."""
    reconnects: int
    statements: int
    p50_ms: float
    p99_ms: float
    longest_ms: float

    @property
    def total(self) -> int:
        """All row changes that stayed."""
        return sum(self.changes.values())

    @property
    def per_second(self) -> float:
        return self.total / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, object]:
        return {"total": self.total, "per_second": round(self.per_second, 1), **asdict(self)}


class Workload:
    """Changes a loaded practice at about `rate` row changes per second; 0 or less means as fast as one connection can.

    One seed does the same acts with the same values to the same practice (only the server's own timestamps differ).
    Every kind of act comes up within each deck of about 120. A server that goes away is waited for.
    """

    def __init__(
        self,
        connection_args: ConnectionArgs,
        database: str = "opendental",
        rate: float = 100.0,
        seed: int = 1,
        engine: str = "MyISAM",
    ) -> None:
        self.rate, self.seed = rate, seed
        self._desk = Desk(connection_args, database, engine, seed, rate)
        self._began = self._ended = 0.0
        self._done: Counter[str] = Counter()
        self._conflicts = self._reconnects = 0

    def run(self, stop: threading.Event, acts: int | None = None) -> Report:
        """Works until `stop` is set or that many acts are done; never stops inside a transaction."""
        self._desk.open()
        self._began = time.monotonic()
        try:
            self._work(self._desk, stop, acts)
        finally:
            self._ended = time.monotonic()
            self._desk.close()
        return self.report()

    def report(self) -> Report:
        """What was done so far; may be asked from another thread while it runs."""
        desk, latency = self._desk, self._desk.latency
        return Report(
            seconds=(self._ended or time.monotonic()) - self._began if self._began else 0.0,
            acts=dict(self._done),
            changes={kind: count for kind, count in dict(desk.kept).items() if count},
            rolled_back=dict(desk.undone),
            conflicts=self._conflicts,
            reconnects=self._reconnects,
            statements=latency.counts.copy().total(),
            p50_ms=round(latency.quantile(0.5) * 1000, 3),
            p99_ms=round(latency.quantile(0.99) * 1000, 3),
            longest_ms=round(latency.longest * 1000, 3),
        )

    def _work(self, desk: Desk, stop: threading.Event, acts: int | None) -> None:
        bucket = TokenBucket(self.rate, time.monotonic())
        deck = Deck(Random(f"{self.seed}/deck"), desk.transactional)
        while not stop.is_set() and (acts is None or desk.acts < acts):
            pause = bucket.wait(time.monotonic())
            if pause:
                stop.wait(pause)
                continue
            before = desk.kept.total()
            self._act(desk, deck.deal(), stop)
            bucket.take(max(1, desk.kept.total() - before))

    def _act(self, desk: Desk, act: Act, stop: threading.Event) -> None:
        desk.acts += 1
        try:
            self._try(desk, act)
        except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as e:
            if not lost(e):
                raise
            self._reconnect(desk, stop)

    def _try(self, desk: Desk, act: Act) -> None:
        try:
            act.do(desk)
            self._done[act.name] += 1
        except (pymysql.err.IntegrityError, pymysql.err.OperationalError) as e:
            if e.args[0] not in CONFLICT:
                raise
            self._conflicts += 1
            desk.rollback()

    def _reconnect(self, desk: Desk, stop: threading.Event) -> None:
        while not stop.wait(RECONNECT_SECONDS):
            try:
                desk.open()
            except pymysql.err.OperationalError as e:
                if not lost(e):
                    raise
            else:
                self._reconnects += 1
                return


class Deck:
    """Deals every act as often as it should come up, in shuffled order, again and again."""

    def __init__(self, rng: Random, transactional: bool) -> None:
        self.rng = rng
        self.acts = [act for act in ACTS for _ in range(act.times) if transactional or not act.transactional]
        self.left: list[Act] = []

    def deal(self) -> Act:
        if not self.left:
            self.left = self.rng.sample(self.acts, len(self.acts))
        return self.left.pop()
