"""The applications that write at the source, and time that passes between what people do."""

from __future__ import annotations

import math

from tests.simulation.source import Change, Row
from tests.simulation.target import DEFERRED_VALUE, REFUSED_VALUE
from tests.simulation.world import Process, World

DAY = 86_400.0
MOST_ROWS = 24


class Applications:
    """Writes rows as they come."""

    def __init__(self, world: World, until: float) -> None:
        """`until`: when the life ends, in seconds."""
        self.world = world
        self.random, self.scheduler, self.source = world.random, world.scheduler, world.source
        self.processes: dict[str, Process] = {}
        self._until, self._next_key = until, 0
        self._weights: dict[str, float] = {}

    def _write(self, changes: int, *, delay: float = 0.0, ts_us: int | None = None) -> None:
        rows: dict[str, list[Row]] = {name: list(table.at(len(self.source.log))) for name, table in self.source.tables.items()}
        made = [self._change(self.random.choice(list(rows)), rows) for _ in range(changes)]
        self.source.write(made, delay=delay, ts_us=ts_us)

    def _change(self, name: str, rows: dict[str, list[Row]]) -> Change:
        there, keyed = rows[name], bool(self.source.tables[name].table.key)
        kind = self.random.random()
        if there and (kind < 0.3 or len(there) >= MOST_ROWS):
            before = there.pop(self.random.randrange(len(there)))
            return Change(name, before, None)
        if there and kind < 0.6:
            at = self.random.randrange(len(there))
            before = there[at]
            there[at] = (
                before[0] if keyed and kind < 0.55 else self._key() if keyed else before[0],
                self._value(keyed),
            )
            return Change(name, before, there[at])
        row = (self._key() if keyed else self.random.randint(1, 3), self._value(keyed))
        there.append(row)
        return Change(name, None, row)

    def _key(self) -> int:
        self._next_key += 1
        return self._next_key

    def _value(self, keyed: bool) -> int:
        if keyed and self.processes and self._weights.get("refused") and self.random.random() < 0.02:
            return self.random.choice((REFUSED_VALUE, DEFERRED_VALUE))
        return self.random.randint(1, 40 if keyed else 3)

    def _do_work(self) -> None:
        for _ in range(self.random.randint(1, 12)):
            self._write(self.random.randint(1, 4), delay=self._lag())
            if self.random.random() < 0.5:
                self._pass(math.exp(self.random.uniform(math.log(0.001), math.log(30))))

    def _lag(self) -> float:
        return self.random.uniform(0, 0.5) if self._weights.get("slow_source") and self.random.random() < 0.3 else 0.0

    def _do_slow_source(self) -> None:
        self._write(2, delay=self.random.uniform(0, 3))

    def _do_large(self) -> None:
        self._write(self.random.randint(20, 80))

    def _do_halfway(self) -> None:
        """One transaction writes a key twice, much stands between, and the target refuses what comes last."""
        rows: dict[str, list[Row]] = {name: list(table.at(len(self.source.log))) for name, table in self.source.tables.items()}
        name = self.random.choice([name for name, table in self.source.tables.items() if table.table.key])
        if not rows[name]:
            return
        first = rows[name].pop()
        between = [self._change(self.random.choice(list(rows)), rows) for _ in range(self.random.randint(2, 30))]
        middle, last = (first[0], self._value(True)), (first[0], self.random.choice((REFUSED_VALUE, DEFERRED_VALUE)))
        self.source.write([Change(name, first, middle), *between, Change(name, middle, last)])

    def _do_odd_time(self) -> None:
        self._write(1, ts_us=self.random.choice((2_000_000_000_000_000, 1_000_000, self.source.clock_us() + 3_600_000_000)))

    def _do_refused(self) -> None:
        self._write(4)

    def _do_idle(self) -> None:
        self._pass(math.exp(self.random.uniform(math.log(0.1), math.log(min(40 * DAY, max(1.0, self._until))))))

    def _pass(self, seconds: float) -> None:
        self.scheduler.lazy_until = self.scheduler.now + seconds
        self.scheduler.sleep(seconds)
        self.scheduler.lazy_until = 0.0

    def _pause(self) -> None:
        self._pass(math.exp(self.random.uniform(math.log(0.01), math.log(600))))
