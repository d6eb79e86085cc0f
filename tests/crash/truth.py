"""A reader of the target that knows the truth: what is stored and shown at each moment is held against what the source and topics had.

In one statement it sees positions, states, numbers, lag and rows. Then, for each table whose rows are only ever added:

- *known*: no position is past a row of a selected table of which the target knows nothing;
- *consistent*: every row that was committed before the position shown is there, once, and nobody else's rows are;
- *stored numbers*: a row that is seen for the first time has a number of its partition that is stored already, for what is stored is
  what a sink goes on behind (the topics are read by `counting`);
- *lag*: not shown shorter than the oldest missing row has been waiting.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any, NamedTuple

import psycopg

from tests.crash.comers import Comers
from tests.crash.counting import Counting
from tests.crash.places import advanced
from tests.crash.poller import ABSENT, Poller
from tests.crash.sightings import Sightings
from tests.helpers.servers import TargetDatabase

_BASE = ("ledger", "audit")
LAG_SECONDS = 1.5
"""So much shorter the lag may be shown: a look takes its time, and MariaDB's commit times are whole seconds."""
_SETTLED_SECONDS = 1.5
"""So long after a look its numbers are judged: the reader of the topics has come by then."""


_THERE = "SELECT tablename FROM pg_tables WHERE schemaname = %s"


class Look(NamedTuple):
    """What one look saw for the first time, to be judged once the topics are read."""

    at: float
    numbers: dict[tuple[str, int], int]
    new: dict[str, set[int]]


class Truth(Poller):
    """Looks as long as a block."""

    def __init__(
        self, target: TargetDatabase, pipeline: str, schema: str, sightings: Sightings, comers: Comers, counting: Counting | None,
        *, clocks: bool,
    ) -> None:  # fmt: skip
        """`clocks`: those of the pipeline's machines agree with one another, so that its lag is to be right."""
        super().__init__(target, pipeline, schema, pause_seconds=0.07)
        self._pipeline, self._schema, self._sightings, self._comers, self._counting = pipeline, schema, sightings, comers, counting
        self.clocks = clocks
        self._seen: dict[str, set[int]] = {}
        self._looked: list[Look] = []
        self._since: dict[str, float] = {}
        self.numbers: dict[tuple[str, int], int] = {}
        """What is stored of each partition, by the last look."""
        self.offsets: dict[tuple[str, int], int] = {}
        self.judged = 0
        """How many rows were held against the numbers stored with them."""
        self.longest_lag = 0.0
        self.topics_lost: set[str] = set()
        """Topics that somebody made anew: their numbers say nothing any more."""

    def close(self) -> None:
        super().close()
        self._judge_numbers(everything=True)

    def _look(self, line: psycopg.Connection[tuple[Any, ...]]) -> None:
        names = [*_BASE, *self._comers.judged()]
        before = time.monotonic()
        try:
            there = {name for (name,) in line.execute(_THERE, [self._schema]).fetchall()}
            names = [name for name in names if name in there]
            row = line.execute(self._asked(names)).fetchone()
        except ABSENT:
            return
        assert row is not None
        self.looks += 1
        position, states, partitions, lag, *rows = row
        self._judge_place(position)
        self.numbers = {(topic, number): seq for topic, number, seq, _ in partitions or ()}
        self.offsets = {(topic, number): offset for topic, number, _, offset in partitions or ()}
        shown = dict(zip(names, rows, strict=True))
        if position is not None:
            self._judge_states(states or {}, self._sightings.owed(position), shown)
            self._judge_lag(states or {}, lag, shown, before)
        self._note(shown)
        self._judge_numbers()

    def _asked(self, names: list[str]) -> bytes:
        of = f"FROM cdc.{{}} WHERE pipeline = '{self._pipeline}'"
        ops = "".join(f", (SELECT coalesce(array_agg(op), '{{}}') FROM \"{self._schema}\".{name})" for name in names)
        return f"""
            SELECT (SELECT position {of.format("progress")}), (SELECT json_object_agg("table", state) {of.format("tables")}),
             (SELECT json_agg(json_build_array(topic, partition, seq, next_offset)) {of.format("partition")}),
             (SELECT seconds_behind {of.format("freshness")} AND "table" = 'ledger'){ops}""".encode()

    def _judge_place(self, position: dict[str, Any] | None) -> None:
        if self._position is not None and (position is None or not advanced(self._position, position)):
            self._find(f"the stored position went back from {self._position} to {position}")
        self._position = position

    def _judge_states(self, states: dict[str, str], owed: dict[str, set[int]], shown: dict[str, list[int]]) -> None:
        for name in self._comers.always_selected() & owed.keys() - states.keys():
            self._find(f"I8: the position shown is past {len(owed[name])} rows of {name}, of which the target knows nothing")
        for name, ops in shown.items():
            if states.get(name) != "consistent":
                continue
            have = Counter(ops)
            if lost := owed.get(name, set()) - have.keys():
                self._find(f"I2: {name} is consistent and lacks {len(lost)} rows from before the position shown, {min(lost)} first")
            if double := [op for op, times in have.items() if times > 1]:
                self._find(f"I6: {name} is consistent and has {len(double)} rows more than once, {double[0]} first")
            if foreign := [op for op in have if op < 0]:
                self._find(f"I3: {name} is consistent and holds {len(foreign)} rows of somebody else")

    def _judge_lag(self, states: dict[str, str], lag: float | None, shown: dict[str, list[int]], now: float) -> None:
        """What is missing was committed at the latest when it was seen: so long at least the target is behind."""
        if states.get("ledger") != "consistent" or lag is None or "ledger" not in shown or not self.clocks:
            return
        at = self._sightings.oldest_missing("ledger", set(shown["ledger"]))
        if at is None:
            return
        self.longest_lag = max(self.longest_lag, now - at)
        if lag < now - at - LAG_SECONDS:
            self._find(f"the lag is shown as {lag:.1f} s, and a row that was committed {now - at:.1f} s ago is missing")

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _note(self, shown: dict[str, list[int]]) -> None:
        if self._counting is None:
            return
        new = {name: set(ops) - self._seen.setdefault(name, set()) for name, ops in shown.items()}
        for name, ops in new.items():
            self._seen[name] |= ops
        if any(new.values()):
            self._looked.append(Look(time.monotonic(), self.numbers, new))

    def _judge_numbers(self, *, everything: bool = False) -> None:
        while self._looked and (everything or time.monotonic() - self._looked[0].at > _SETTLED_SECONDS):
            self._judge_look(self._looked.pop(0))

    def _judge_look(self, look: Look) -> None:
        assert self._counting is not None
        for name, ops in look.new.items():
            topic = f"{self._counting.prefix}.{self._schema}.{name}"
            if topic in self.topics_lost:
                continue
            for op in ops:
                known = self._counting.number(topic, op)
                stored = look.numbers.get((topic, known[0])) if known else None
                if known is None or stored is None:
                    continue  # it came by the initial copy
                self.judged += 1
                if stored < known[1]:
                    self._find(f"row {op} of {name} is there, number {known[1]} of partition {known[0]}, and {stored} is stored")
                    return

    def _find(self, fault: str) -> None:
        what = re.sub(r"[\d.]+", "", fault)[:60]
        if time.monotonic() - self._since.get(what, 0.0) > 5:  # once is enough, and again only if it stays
            self._since[what] = time.monotonic()
            super()._find(fault)
