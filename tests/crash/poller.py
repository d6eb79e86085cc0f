"""A reader of the target during all of it, who may only ever see whole states, each newer than the one before."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from tests.crash.places import advanced
from tests.crash.workload import ACCOUNTS, BULK_ROWS, LISTED, MONEY, TABLES, TILLS
from tests.helpers.servers import TargetDatabase

ABSENT = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn)
"""What is said of tables that are not there before the copy."""


class Poller:
    """Looks again and again, each time in one statement; what no whole state can show is in `faults`."""

    def __init__(self, target: TargetDatabase, pipeline: str, schema: str, pause_seconds: float = 0.02) -> None:
        self.target, self.pause_seconds = target, pause_seconds
        self.looks = self.whole = 0
        self.faults: list[str] = []
        self._counters: dict[str, int] = {}
        self._position: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller")
        self._sql = f"""
            SELECT (SELECT count(*) FROM cdc.tables WHERE pipeline = '{pipeline}' AND state IN ('consistent', 'quarantined')
               AND "table" IN ({LISTED})),
             (SELECT position FROM cdc.progress WHERE pipeline = '{pipeline}'),
             (SELECT sum(balance) FROM "{schema}".account), (SELECT sum(balance) FROM "{schema}".till),
             (SELECT json_object_agg(k, n) FROM "{schema}".counter), (SELECT count(*) FROM "{schema}".audit),
             (SELECT count(*) FROM "{schema}".ledger), (SELECT count(*) FROM "{schema}".trail),
             (SELECT array[count(*), count(DISTINCT op)] FROM "{schema}".bulk),
             (SELECT array[count(*), (SELECT sum(n) FROM "{schema}".wound)::int8, (SELECT count(*) FROM cdc.quarantine
               WHERE pipeline = '{pipeline}' AND "table" = 'wound')] FROM "{schema}".ledger WHERE kind = 'wound')""".encode()

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                with self.target.connect() as line:
                    while not self._stop.wait(self.pause_seconds):
                        self._look(line)
            except psycopg.OperationalError:
                continue

    def _look(self, line: psycopg.Connection[tuple[Any, ...]]) -> None:
        try:
            row = line.execute(self._sql).fetchone()
        except ABSENT:
            return  # before the copy
        assert row is not None
        self.looks += 1
        self._judge_place(row[1])
        if row[0] == len(TABLES):
            self.whole += 1
            self._judge(*row[2:])

    def _judge_place(self, position: dict[str, Any] | None) -> None:
        if self._position is not None and (position is None or not advanced(self._position, position)):
            self._find(f"the stored position went back from {self._position} to {position}")
        self._position = position

    def _judge(
        self, account: int, till: int, counters: dict[str, int], audit: int, ledger: int, trail: int, bulk: list[int], wounds: list[int]
    ) -> None:
        said = sum(counters.values())
        if account != (ACCOUNTS + 2) * MONEY or till != TILLS * MONEY:
            self._find(f"the money is {account} and {till}")
        if not said == audit == ledger:
            self._find(f"{said} by the counters, {audit} in the audit, {ledger} in the ledger")
        if trail % 3:
            self._find(f"{trail} rows of statements that write three each")
        if bulk not in ([0, 0], [BULK_ROWS, 1]):
            self._find(f"{bulk[0]} rows of {bulk[1]} large transactions")
        if wounds[0] != wounds[1] + wounds[2]:
            self._find(f"{wounds[0]} changes of rows that may be refused, {wounds[1]} of them shown, {wounds[2]} waiting")
        for k, n in counters.items():
            if n < self._counters.get(k, 0):
                self._find(f"counter {k} stepped back from {self._counters[k]} to {n}")
        self._counters = counters

    def _find(self, fault: str) -> None:
        self.faults.append(f"look {self.looks}: {fault}")
