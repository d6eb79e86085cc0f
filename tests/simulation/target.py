"""PostgreSQL as the sink sees it: tables and the pipeline's state, which move in one transaction or not at all.

It stands for `sinks.postgres.target.PostgresTarget`; what it keeps of that is asked of both by `test_contract`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from cdc.errors import CdcError, Halt, Refused, Retry, RowRefused
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.protocol.applied import MADE, Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Ended
from cdc.protocol.table_states import TableState
from sinks.contract import Plan, TableBatch
from sinks.fold import FRAME
from sinks.halves import Foreseen
from sinks.postgres.quarantine import Schemas
from sinks.postgres.tables import TargetTable
from sinks.quarantine import Queued, Unit, units
from tests.simulation.scheduler import Killed, Scheduler

R = TypeVar("R")
Tuple = tuple[int | None, ...]
REFUSED_VALUE, DEFERRED_VALUE = 666, 777
"""Values that the target's tables refuse: at once, and at the commit."""


@dataclass
class Stock:
    """What a table holds: rows by key, or a multiset."""

    keyed: bool
    rows: dict[bytes, Tuple] = field(default_factory=dict)
    bag: Counter[Tuple] = field(default_factory=Counter)

    def copy(self) -> Stock:
        return Stock(self.keyed, dict(self.rows), Counter(self.bag))

    def content(self) -> tuple[Tuple, ...]:
        """All rows, sorted."""
        return tuple(sorted(self.rows.values() if self.keyed else self.bag.elements(), key=str))

    def __bool__(self) -> bool:
        return bool(self.rows) or any(self.bag.values())


@dataclass(frozen=True)
class Shard:
    """Where one of several sinks is."""

    fence: int
    place: Progress
    waits_at: int | None = None


@dataclass
class Content:
    """Everything that a commit makes durable."""

    stocks: dict[str, Stock] = field(default_factory=dict)
    progress: Progress | None = None
    tables: dict[TableName, TableProgress] = field(default_factory=dict)
    waiting: tuple[tuple[TableName, Queued], ...] = ()
    copies: dict[tuple[str, str, str], Ended] = field(default_factory=dict)
    fence: int = 0
    shards: dict[int, Shard] = field(default_factory=dict)
    """Where each shard is; none: one process applies all."""
    releases: int = 0
    anomalies: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def copy(self) -> Content:
        return Content(
            {name: stock.copy() for name, stock in self.stocks.items()}, self.progress, dict(self.tables), self.waiting,
            dict(self.copies), self.fence, dict(self.shards), self.releases, Counter(self.anomalies),
        )  # fmt: skip


class SimPostgres:
    """The server."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.content = Content()
        self.history: list[Content] = []
        """Earlier contents, newest last: what a standby that lost the last commits has."""
        self.holder: SimTarget | None = None
        """Who holds the pipeline's row."""
        self.connections: list[SimTarget] = []
        self.down = False
        self.breaking = 0.0
        """How likely a statement loses its connection."""
        self.committed: Callable[[Content], None] = lambda content: None
        """Told of each commit."""

    def commit(self, content: Content) -> None:
        """Make it so."""
        self.history = [*self.history[-20:], self.content]
        self.content = content
        self.committed(content)
        self.scheduler.notify("target")

    def put(self, name: str, stock: Stock) -> None:
        """Somebody else puts a table here, wherever a standby may be."""
        if self.holder is not None:
            self.holder.cut()
        for content in (*self.history, self.content):
            content.stocks[name] = stock.copy()

    def release(self, name: TableName, identity: bytes, row: Tuple | None) -> None:
        """A person's command has applied what waited for a key: the row that it is, or that it is gone."""
        content = self.content.copy()
        rows = content.stocks[_stock(*name)].rows
        if row is None:
            rows.pop(identity, None)
        else:
            rows[identity] = row
        SimQuarantine(content).drop(name, [identity])
        content.releases += 1
        self.commit(content)

    def fail_over(self, lost: int) -> None:
        """A standby takes over that has not seen the last commits."""
        for connection in self.connections:
            connection.cut()
        lost = min(lost, len(self.history))
        if lost:
            self.content = self.history[-lost]
            del self.history[-lost:]

    def keep_up(self) -> None:
        """The standby has what was committed so far: none is behind for as long as a topic keeps its records."""
        self.history.clear()


class SimTarget:
    """The one writer of a pipeline's target, its open transaction, and what is done in that: there is one at a time."""

    pipeline = "sim"

    def __init__(self, server: SimPostgres, process: Any) -> None:
        self._server, self._process = server, process
        self.fence = 0
        self.foreseen: defaultdict[TableName, dict[bytes, Foreseen]] = defaultdict(dict)
        self.strictly = self._open = self._lent = False
        self._work: Content | None = None
        self._immediate = False
        process.targets.append(self)
        server.connections = [one for one in server.connections if one._open] + [self]

    # -- the connection ----------------------------------------------------------------------------------------------

    def open(self) -> Stored:
        """Become the only writer and read what is stored."""
        self.close()
        self._ask(connected=False)
        self._open = True
        if self._server.holder is not None:  # whoever held it is ended, and its transaction is gone
            self._server.holder.cut()
        content = self._server.content
        if self.fence and content.fence != self.fence:
            raise Halt("fenced", "pipeline sim", "another process has taken over")
        if not self.fence:
            raised = content.copy()
            raised.fence += 1
            self._server.commit(raised)
            self.fence = raised.fence
        self._server.scheduler.step()
        return self.read()

    def read(self) -> Stored:
        """What is stored, as of now."""
        self._ask()
        content = self._server.content
        return Stored(content.progress, dict(content.tables))

    def close(self) -> None:
        """Give up what is not committed, and the connection."""
        self.rollback()
        self._open = False

    def cut(self) -> None:
        """The connection is lost; what is not committed is undone."""
        self.rollback()
        self._open = False

    def _ask(self, *, connected: bool = True) -> None:
        server = self._server
        server.scheduler.step()
        if not self._process.alive:
            raise Killed
        if server.down or (self._work is not None and server.breaking and server.scheduler.random.random() < server.breaking):
            self.cut()
        if server.down or (connected and not self._open):
            self.cut()
            raise Retry("target_lost", "pipeline sim", "there is no connection to the target", "open it again")

    def begin(self) -> SimTarget:
        """The transaction that begins with what is asked of it first."""
        self._check_idle()
        self._lent = True
        return self

    def _check_idle(self) -> None:
        if self._lent:
            self.rollback()
            raise Halt("transaction_open", "pipeline sim", "a batch is not committed yet", "this is a defect: report it")

    @property
    def loads(self) -> SimTarget:
        """Tables and their states, in transactions of their own."""
        return self

    def tables_of(self, transaction: SimTarget) -> SimTarget:
        """What copies do to tables in the open transaction."""
        return self

    def held(self) -> Mapping[TableName, set[bytes]]:
        """The identities of rows that wait in quarantine."""
        self._ask()
        return SimQuarantine(self._server.content).held()

    def _begin(self) -> Content:
        self._ask()
        while self._work is None and self._server.holder is not None:
            self._server.scheduler.wait("target", 1.0)
            self._ask()
        if self._work is None:
            self._check_owner(self._server.content)
            self._work, self._server.holder, self._immediate = self._server.content.copy(), self, False
        return self._work

    def _check_owner(self, content: Content) -> None:
        """Raise unless we may write."""
        if content.fence != self.fence:
            raise Halt("fenced", "pipeline sim", "another process has taken over")

    def _do(self, work: Callable[[Content], R]) -> R:
        try:
            return work(self._begin())
        except (Retry, Halt, Refused):
            self.rollback()
            raise

    def rollback(self) -> None:
        """Undo what is not committed."""
        self._work, self._lent = None, False
        if self._server.holder is self:
            self._server.holder = None
            self._server.scheduler.notify("target")

    def lock(self, *, immediate: bool = False) -> int:
        """Begin; how often others than the sink have released keys."""
        work = self._do(lambda content: content)
        self._immediate = self._immediate or immediate
        return work.releases

    def place(self, db: str, table: str) -> TargetTable:
        """Where a source table goes."""
        return TargetTable(db, table)

    # -- rows --------------------------------------------------------------------------------------------------------

    def write(self, batch: TableBatch, *, locate: bool = True) -> None:
        """Apply a batch."""

        def work(content: Content) -> None:
            for unit in units(batch):
                self._unit(content, unit, batch.shadow)

        self._do(work)

    def write_bisected(self, batch: TableBatch, room: int) -> list[Unit]:
        """Apply what can be held of a batch."""

        def work(content: Content) -> list[Unit]:
            done: list[Unit] = []
            for unit in units(batch):
                try:
                    self._unit(content, unit, batch.shadow)
                    done.append(unit)
                except RowRefused as error:
                    done.append(replace(unit, error=error))
            bad = [unit for unit in done if unit.error]
            if len(bad) > room:
                raise Halt("quarantine_limit", f"{batch.db}.{batch.table}", f"more than {room} rows are refused")
            return done

        return self._do(work)

    def _unit(self, content: Content, unit: Unit, shadow: str) -> None:
        batch = unit.batch
        stock = content.stocks[_stock(batch.db, batch.table, bool(shadow))]
        for key in batch.deletes:
            stock.rows.pop(key[FRAME:], None)
        for row, key in zip(batch.upserts, batch.keys):
            stock.rows[key[FRAME:]] = self._fit(batch.plan, row)
        for row, count in batch.removes:
            made = _tuple(batch.plan, row)
            if stock.bag[made] < count:
                raise Halt(
                    "row_missing",
                    f"{batch.db}.{batch.table}",
                    f"{count} rows were to go and {stock.bag[made]} were there",
                )
            stock.bag[made] -= count
        for row in batch.adds:
            stock.bag[self._fit(batch.plan, row)] += 1

    def _fit(self, plan: Plan, row: tuple[bytes, int]) -> Tuple:
        made = _tuple(plan, row)
        if REFUSED_VALUE in made or (self._immediate and DEFERRED_VALUE in made):
            raise RowRefused("target_value", f"{plan.db}.{plan.table}", "the target refuses it", "", "22003")
        return made

    # -- quarantine, copies ------------------------------------------------------------------------------------------

    def quarantine(self, work: Callable[[Any], R]) -> R:
        """Read, add to or take from the quarantine."""
        return self._do(lambda content: work(SimQuarantine(content)))

    def attempt(self, place: str, work: Callable[[Any], object]) -> CdcError | None:
        """Do work in the open transaction, or leave that as it was: then what stands in the way."""
        saved = self._do(lambda content: content.copy())
        try:
            work(None)
        except (Refused, RowRefused) as error:
            self._work, self._server.holder, self._lent = saved, self, True
            return error
        return None

    def empty(self, name: TableName, *, readable: bool = False) -> CdcError | None:
        """Empty a table and its quarantine."""

        def work(content: Content) -> None:
            stock = content.stocks[_stock(*name)]
            stock.rows, stock.bag = {}, Counter()
            SimQuarantine(content).clear(name)

        self._do(work)
        return None

    def make_shadow(self, name: TableName) -> CdcError | None:
        """Make the second table."""

        def work(content: Content) -> None:
            content.stocks[_stock(*name, True)] = Stock(content.stocks[_stock(*name)].keyed)

        self._do(work)
        return None

    def become_equal(self, plan: Plan, *, strict: bool) -> CdcError | None:
        """Make the first table equal to the second; `strict`: deferred constraints are checked here."""
        shadow = _stock(plan.db, plan.table, True)

        def work(content: Content) -> None:
            if strict and any(DEFERRED_VALUE in row for row in content.stocks[shadow].content()):
                raise RowRefused("target_value", shadow, "a deferred constraint refuses it", "", "23503")
            content.stocks[_stock(plan.db, plan.table)] = content.stocks[shadow].copy()

        return self.attempt(shadow, lambda _: self._within(work))

    def _within(self, work: Callable[[Content], None]) -> None:
        """In the open transaction, which an error leaves open."""
        work(self._begin())

    def create(self, plan: Plan) -> TableProgress | CdcError:
        """Make the table, or take the one that is there, in the open transaction; refuse one with rows in it unless it is ours."""
        made: list[TableProgress] = []
        return self.attempt(_stock(plan.db, plan.table), lambda _: made.append(self._create(self._begin(), plan, {}))) or made[0]

    def fit(self, plan: Plan, known: TableProgress) -> CdcError | None:
        """All tables have the same columns here."""
        return self.attempt(_stock(plan.db, plan.table), lambda _: self._begin())

    def drop_shadow(self, name: TableName) -> None:
        """Drop the second table."""
        self._do(lambda content: content.stocks.pop(_stock(*name, True), None))

    def record(self, ended: Ended) -> None:
        """Keep what became of a copy."""
        if ended.request:
            self._do(lambda content: content.copies.update({(ended.request, ended.db, ended.table): ended}))

    def count_anomalies(self, db: str, table: str, found: Mapping[tuple[str, str], int]) -> None:
        """Count."""
        self._do(lambda content: content.anomalies.update({(db, table, *what): times for what, times in found.items()}))

    # -- commits -----------------------------------------------------------------------------------------------------

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Mapping[tuple[str, str, str, str], int]:
        """Store the position and the tables that changed, and commit all."""

        self._do(lambda content: self._store(content, progress, tables))
        self._durable()
        return {}

    def finish(self) -> None:
        """Commit, without a position."""
        self._do(self._check_deferred)
        self._durable()

    def _store(self, content: Content, progress: Progress | None, tables: Sequence[TableProgress]) -> None:
        """Keep positions and states of tables."""
        content.tables.update({state.name: state for state in tables})
        if progress is not None:
            content.progress = replace(progress, partitions=self._moved(content, progress))
        self._check_deferred(content)

    def _moved(self, content: Content, progress: Progress) -> Mapping[Partition, tuple[int, int]]:
        """All partitions after a commit, which must go on from what is stored."""
        known = dict(content.progress.partitions) if content.progress is not None else {}
        if any(place is not None and known.get(p, (0, 0)) != place for p, place in progress.since.items()):
            raise Halt("place_apart", "pipeline sim", "a commit goes on from elsewhere than what is stored")
        return {**known, **progress.partitions}

    def _check_deferred(self, content: Content) -> None:
        if any(DEFERRED_VALUE in row for stock in content.stocks.values() for row in stock.content()):
            raise RowRefused("target_value", "the commit", "a deferred constraint refuses it", "", "23503")

    def _durable(self) -> None:
        chance, content = self._server.scheduler.random.random(), self._work
        assert content is not None
        if self._server.breaking and chance < self._server.breaking:
            self.cut()
            raise Retry("target_lost", "the commit", "the connection was lost before it", "read the positions")
        self._server.commit(content)
        self.rollback()
        if self._server.breaking and chance < 2 * self._server.breaking:
            self.cut()
            raise Retry("target_lost", "the commit", "the connection was lost behind it", "read the positions")

    def save(self, tables: Sequence[TableProgress], progress: Progress | None = None) -> None:
        """Store states of tables in a transaction of their own."""
        self.commit(progress, tables)

    def create_table(self, plan: Plan, schema: Mapping[str, object] | None = None) -> TableProgress:
        """Make the table, or take the one that is there; refuse one with rows in it unless it is ours."""
        self._check_idle()
        made = self._do(lambda content: self._create(content, plan, schema or {}))
        self._durable()
        return made

    def _create(self, content: Content, plan: Plan, schema: Mapping[str, object]) -> TableProgress:
        name = _stock(plan.db, plan.table)
        known, stock = content.tables.get((plan.db, plan.table)), content.stocks.get(name)
        if known is not None and known.settled:
            if stock is None:
                raise Halt("target_missing", name, "the table was loaded and is not there any more")
            return known
        if stock:
            raise Refused("target_not_empty", name, "holds rows that are not this pipeline's", "empty it, or adopt it")
        content.stocks[name] = Stock(bool(plan.key))
        state = TableProgress(plan.db, plan.table, plan.db, plan.table, TableState.NEW, schema={**schema, MADE: True})
        content.tables[state.name] = state
        return state


class SimQuarantine:
    """What `sinks.postgres.quarantine.Quarantine` is, on a content."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def held(self) -> dict[TableName, set[bytes]]:
        """The identities that are held, by table."""
        found: dict[TableName, set[bytes]] = {}
        for name, one in self._content.waiting:
            found.setdefault(name, set()).add(one.identity)
        return found

    def add(self, name: TableName, schemas: Schemas, changes: Sequence[Queued], at: object) -> None:
        """Queue changes behind those that wait already."""
        self._content.waiting += tuple((name, one) for one in changes)

    def drop(self, name: TableName, identities: Iterable[bytes]) -> None:
        """Forget what waits for these."""
        gone = set(identities)
        self._content.waiting = tuple(w for w in self._content.waiting if w[0] != name or w[1].identity not in gone)

    def clear(self, name: TableName) -> None:
        """Forget what waits for a table."""
        self._content.waiting = tuple(w for w in self._content.waiting if w[0] != name)


def _stock(db: str, table: str, shadow: bool = False) -> str:
    return f"{db}.{table}{'/shadow' if shadow else ''}"


def _tuple(plan: Plan, row: tuple[bytes, int]) -> Tuple:
    """A row's values, read from its binary COPY tuple."""
    out = bytearray()
    plan.copy_rows([row], out)
    values: list[int | None] = []
    at = 2
    for _ in range(int.from_bytes(out[:2], "big")):
        size = int.from_bytes(out[at : at + 4], "big", signed=True)
        at += 4
        values.append(None if size < 0 else int.from_bytes(out[at : at + size], "big", signed=True))
        at += max(size, 0)
    return tuple(values)
