"""A log made by hand for the sink, in the in-process transport, and the simulation's target, which notes what it is asked."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import fastavro
import pytest

from cdc.codec import envelope
from cdc.errors import CdcError, Retry, RowRefused
from cdc.model.position import Position
from cdc.model.record import Message, Partition, Record
from cdc.model.table import Table, TableName
from cdc.protocol.applied import MADE, Progress, Stored, TableProgress
from cdc.protocol.control import Base, Copy, Cut, Entry, Followed, Named, Start, key, to_document
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, logs
from cdc.transport.direct import DirectLog
from sinks.apply import Apply, SinkMemory
from sinks.contract import TableBatch
from sinks.quarantine import QuarantineLimits
from tests.simulation.scheduler import Scheduler
from tests.simulation.source import DB as DB, made
from tests.simulation.target import Content, SimPostgres, SimTarget, Stock

CONFLICT = Retry("target_conflict", "pipeline sim", "met another transaction", "")
AWAY = Retry("target_lost", "pipeline sim", "there is no connection", "")
DEFERRED = RowRefused("target_value", "the commit", "a deferred constraint refuses it", "", "23503")

START = 1_700_000_000
"""When the first transaction of a test is committed, in seconds; one a second."""
P, Q, HEAP = made("p", keyed=True), made("q", keyed=True), made("heap", keyed=False)
TABLES = (P, Q, HEAP)
Row = tuple[int, int]


def position(number: int) -> Position:
    return Position("mariadb", "1", f"0-1-{number}" if number else "", "b.000001", number * 100)


def when(number: int) -> int:
    return (START + number) * 1_000_000


class Log(DirectLog):
    """Never waits for anything, and notes what its reader asks."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__("p", partitions=partitions)
        self.asked: list[tuple[Any, ...]] = []
        self.polled: list[float] = []
        self.at_poll: Callable[[], None] = lambda: None
        self.before: bytes | None = None
        self._kept: list[Any] = []

    def _append(self, partition: Partition, records: Sequence[Record], *, is_cut: bool = False) -> int:
        numbered = super()._append(partition, records, is_cut=is_cut)
        self._kept.append(self._held[-1])
        return numbered

    def poll(self, seconds: float) -> list[Message]:
        self.polled.append(seconds)
        self.at_poll()
        return super().poll(0) if len(self._held) > self._read else []

    def unread(self) -> bool:
        return len(self._held) > self._read

    def hold(self, partitions: frozenset[Partition]) -> None:
        self.asked.append(("hold", partitions))

    def release(self, offsets: Mapping[Partition, int], control: int) -> None:
        self.asked.append(("release", dict(offsets), control))

    def assign(self, offsets: Mapping[Partition, int], control: int) -> None:
        self.asked.append(("assign", dict(offsets), control))
        self._held = deque(self._kept)  # as a broker, which forgets nothing
        super().assign(offsets, control)

    def control_before(self, offset: int) -> bytes | None:
        return self.before


class Target(SimTarget):
    """Notes what it is asked, fails where it is told to, and lets another release keys."""

    def __init__(self, server: SimPostgres, *more: Any) -> None:
        super().__init__(server, SimpleNamespace(targets=[], alive=True), *more)
        self.calls: list[str] = []
        self.fails: deque[tuple[str, Exception]] = deque()
        """What fails next: the name of a call, and how."""
        self.refuses: dict[str, CdcError] = {}
        """What it never does, by the name of the call, and why."""
        self.changed: Mapping[tuple[str, str, str, str], int] = {}
        self.commits: list[Progress] = []
        self.saved: list[set[str]] = []
        """The tables whose state was stored with each commit."""

    def _note(self, name: str, said: object = "") -> CdcError | None:
        self.calls.append(f"{name} {said}".strip())
        if self.fails and self.fails[0][0] == name:
            _, error = self.fails.popleft()
            super().rollback()
            raise error
        return self.refuses.get(name)

    def lock(self, *, immediate: bool = False) -> int:
        self._note("lock", "strictly" if immediate else "")
        return super().lock(immediate=immediate)

    def write(self, batch: TableBatch, *, locate: bool = True) -> None:
        self._note("write", f"{batch.table}{'/shadow' if batch.shadow else ''}{' and locate' if locate else ''}")
        super().write(batch, locate=locate)

    def write_bisected(self, batch: TableBatch, room: int) -> Any:
        self._note("bisect", f"{batch.table}{'/shadow' if batch.shadow else ''}")
        return super().write_bisected(batch, room)

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Any:
        self._note("commit")
        said = list(self.calls)
        super().commit(progress, tables)
        self.calls = said  # what the target does within it is nobody's business
        self.commits += [progress] if progress is not None else []
        self.saved.append({state.table for state in tables})
        return self.changed

    def rollback(self) -> None:
        if hasattr(self, "calls"):
            self.calls.append("rollback")
        super().rollback()

    def empty(self, name: TableName, *, readable: bool = False) -> CdcError | None:
        return self._note("empty", name[1]) or super().empty(name, readable=readable)

    def make_shadow(self, name: TableName) -> CdcError | None:
        return self._note("second", name[1]) or super().make_shadow(name)

    def drop_shadow(self, name: TableName) -> None:
        self._note("drop second", name[1])
        super().drop_shadow(name)

    def become_equal(self, plan: Any, *, strict: bool) -> CdcError | None:
        return self._note("become equal", "strictly" if strict else "") or super().become_equal(plan, strict=strict)

    def create_table(self, plan: Any, schema: Mapping[str, object] | None = None) -> TableProgress:
        refused = self._note("create", plan.table)
        if refused is not None:
            raise refused
        return super().create_table(plan, schema)


class Story:
    """What capture writes, by hand, and one sink that applies it."""

    def __init__(
        self, *states: TableProgress, progress: Progress | None = None, partitions: int = 1, tables: Sequence[Table] = TABLES
    ) -> None:
        """`states`: what is stored of tables; none: all are copied, and stand at the first position."""
        self.tables = tables
        self.log = Log(partitions)
        self.server = SimPostgres(Scheduler(1))
        content = self.server.content = Content(fence=1)
        for table in tables:
            content.stocks[f"{DB}.{table.name}"] = Stock(bool(table.key))
        content.tables = {state.name: state for state in states or [state(one.name) for one in tables]}
        content.progress = progress or Progress(0, -1, 0, position(0), when(0))
        self.target = Target(self.server)
        self.target.fence, self.target._open = 1, True
        self.told: list[Retry] = []
        self.epoch = self.cut_no = self.number = 0
        self._seqs: dict[Partition, int] = {}
        self._offsets: dict[Partition, int] = {}
        self._changed: dict[Partition, Named] = {}

    # -- what capture writes -----------------------------------------------------------------------------------------

    def say(self, entry: Entry) -> int:
        return self.log.append_control(key(entry), to_document(entry))

    def begins(self, **more: Any) -> Base:
        """A start and a base with all tables, at the newest cut."""
        self.epoch = self.say(Start("s", 0))
        followed = []
        for table in self.tables:
            topic = self.log.topic(DB, table.name)
            self.log.prepare(topic)
            schema = envelope.key_schema("p", table)
            ids = None if schema is None else self.log.register("k", schema), self.log.register("v", self.schema(table))
            followed.append(Followed(DB, table.name, topic, self.log._partitions, *ids))
        ends = {p: end for p, end in self.log._ends.items() if p[0] != self.log.control_topic}
        named = dict(self._changed)
        base = Base(self.epoch, self.cut_no, position(self.number), when(self.number), False, ends, named, tuple(followed))
        base = replace(base, **more)
        self.say(base)
        self.base, self.cut_no = base, base.cut_no
        return base

    @staticmethod
    def schema(table: Any, *, older: bool = False) -> Any:
        return envelope.value_schema("p", table, "mariadb") | ({"doc": "of an earlier version"} if older else {})

    def put(
        self, table: Any, before: Row | None, after: Row | None, *, read: bool = False, partition: int = 0, older: bool = False
    ) -> None:
        """One record; of the transaction that comes next, or one that a copy reads; `older`: by the schema that was used before."""
        topic, number = self.log.topic(DB, table.name), self.number + 1
        place = (topic, partition)
        seq = self._seqs[place] = self._seqs.get(place, 0) + 1
        op = "r" if read else "c" if before is None else "d" if after is None else "u"
        gtid = None if read else f"0-1-{number}"
        source = {"version": "0", "connector": "mariadb", "name": "p", "ts_ms": when(number) // 1000,
                  "snapshot": "incremental" if read else "false", "db": DB, "sequence": f"{self.epoch}.{seq}", "ts_us": when(number),
                  "ts_ns": when(number) * 1000, "table": table.name, "server_id": 1, "gtid": gtid, "file": "b.000001", "pos": 4, "row": 0,
                  "thread": None, "query": None}  # fmt: skip
        block = None if read else {"id": gtid, "total_order": 1, "data_collection_order": 1}
        rows = [None if row is None else dict(zip("ab", row, strict=True)) for row in (before, after)]
        document = {
            "before": rows[0],
            "after": rows[1],
            "source": source,
            "transaction": block,
            "op": op,
            "ts_ms": 0,
            "ts_us": 0,
            "ts_ns": 0,
        }
        schema = envelope.key_schema("p", table)
        told = after or before
        assert told is not None
        bare = None if schema is None else self._framed("k", schema, {"a": told[0]})
        self.log.send(topic, [Record(partition, bare, self._framed("v", self.schema(table, older=older), document))])
        self._offsets[place] = self.log._ends[place] - 1
        self._changed[place] = Named(self._offsets[place], self.epoch, seq)

    def _framed(self, subject: str, schema: Any, document: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), document)
        return b"\0" + self.log.register(subject, schema).to_bytes(4, "big") + out.getvalue()

    def cut(self, **more: Any) -> None:
        """The next cut, which ends a transaction."""
        self.cut_no += 1
        if not more.get("partial"):
            self.number += 1
        fields: dict[str, Any] = {"followed": tuple((DB, table.name) for table in self.tables)} | more
        named = dict(self._changed)
        self.say(replace(Cut(self.epoch, self.cut_no, position(self.number), when(self.number), True, False, named), **fields))

    def copy(self, table: Any, id_: str, *, exact: bool = False, swap: bool = False, at: int | None = None) -> None:
        """A copy's barrier."""
        where = position(self.number if at is None else at)
        self.say(Copy(self.epoch, self.cut_no + 1, DB, table.name, where, id_, exact, swap))

    # -- the sink ----------------------------------------------------------------------------------------------------

    def sink(self, memory: SinkMemory | None = None, **more: Any) -> Apply:
        """One that has not begun."""
        target: Any = self.target
        return Apply(self.log, target, Stored(self.content.progress, dict(self.content.tables)), memory or self.memory(), **more)

    def memory(self, limits: QuarantineLimits | None = None) -> SinkMemory:
        return SinkMemory(limits, self.told.append)

    def applied(self, memory: SinkMemory | None = None, delay: float = 0.0, **more: Any) -> Apply:
        """A sink that has applied all there is to apply, and its stop."""
        sink = self.sink(memory, **more)
        rounds = 0

        def stopped() -> bool:
            nonlocal rounds
            rounds += 1
            return rounds > 2 and not self.log.unread()

        sink.run(stopped, delay)
        return sink

    @property
    def content(self) -> Content:
        return self.server.content

    @property
    def stored(self) -> Progress:
        progress = self.content.progress
        assert progress is not None
        return progress

    def rows(self, table: Any, shadow: bool = False) -> list[tuple[int | None, ...]]:
        """What the target shows of a table."""
        return list(self.content.stocks[f"{DB}.{table.name}{'/shadow' if shadow else ''}"].content())

    def of(self, table: Any) -> TableProgress:
        return self.content.tables[DB, table.name]

    def waiting(self) -> list[str]:
        """The tables of what waits in quarantine, a change each."""
        return [name for (_, name), _ in self.content.waiting]


def state(name: str, stands: TableState = TableState.CATCHING_UP, **more: Any) -> TableProgress:
    """A table of the target; copied at the first position, unless it says otherwise."""
    fields: dict[str, Any] = {"floor": position(0), "ceiling": position(0), "schema": {MADE: True}} | more
    return replace(TableProgress(DB, name, DB, name, stands), **fields)


def begun(*states: TableProgress, **more: Any) -> Story:
    """A story whose first base is said."""
    story = Story(*states, **more)
    story.begins()
    return story


@dataclass
class Time:
    """A clock that stands still unless somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @contextmanager
    def lent(self) -> Iterator[Time]:
        with clock.lend(monotonic=lambda: self.now, sleep=self.sleep, now=lambda: when(100) / 1e6):
            yield self


class Said:
    """Stands in for `cdc.runtime.logs.logger`, and keeps what is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self.facts: list[dict[str, Any]] = []
        monkeypatch.setattr(logs, "logger", lambda component: self)

    def __getattr__(self, level: str) -> Callable[..., None]:
        def say(event: str, **facts: Any) -> None:
            self.lines.append(f"{level} {event} {facts.get('table', facts.get('place', ''))}")
            self.facts.append(facts)

        return say
