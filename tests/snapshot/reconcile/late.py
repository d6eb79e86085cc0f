"""A writer on the source and a copier that carries each of its changes over a moment later: lag on real servers."""

from __future__ import annotations

import threading
from contextlib import closing

from tests.snapshot.reconcile.servers import Pair


class LateCopier:
    """Writes rows on the source and carries each change over a moment later, in order, as a pipeline would."""

    def __init__(self, both: Pair, name: str) -> None:
        self._both, self._name = both, name
        self._late: list[str] = []
        self._written = self._applied = 0
        self._changed = threading.Condition()
        self._stopping = False

    def at_work(self):
        threads = [threading.Thread(target=self._write), threading.Thread(target=self._copy)]
        return Running(self, threads)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def settle(self) -> None:
        with self._changed:
            owed = self._written
            assert self._changed.wait_for(lambda: self._applied >= owed, 60)

    def _write(self) -> None:
        with closing(self._both.source.connect()) as line, line.cursor() as cursor:
            n = 0
            while not self._stopping:
                n += 1
                for statement in self._act(n):
                    cursor.execute(statement)
                    with self._changed:
                        self._late.append(statement)
                        self._written += 1
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: len(self._late) < 60 or self._stopping, 60)

    def _act(self, n: int) -> list[str]:
        """A row that comes and goes, one that flips, and one that grows, beside the planted ones and apart from them."""
        return [
            f"INSERT INTO {self._name} VALUES ({14_001 + n}, 1, 'new')",
            f"UPDATE {self._name} SET note = '{n % 2}' WHERE id = {7 * (n % 5 + 10)}",
            f"UPDATE {self._name} SET fee = {n} WHERE id = {7 * (n % 90 + 200)}",
            f"DELETE FROM {self._name} WHERE id = {14_001 + n - 20}",
        ]

    def _copy(self) -> None:
        with closing(self._both.postgres.connect()) as line:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._late) > 40 or self._stopping, 0.3)
                    taken = self._late[:20]
                    if not taken and self._stopping:
                        return
                for statement in taken:
                    line.execute(statement.encode())
                    with self._changed:
                        self._late.pop(0)
                        self._applied += 1
                        self._changed.notify_all()


class Running:
    """Threads for the length of a block."""

    def __init__(self, copier: LateCopier, threads: list[threading.Thread]) -> None:
        self._copier, self._threads = copier, threads

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._copier.stop()
        for thread in self._threads:
            thread.join(60)
