"""PostgreSQL as the target of one shard: its rows and its place move in one transaction, under its own fence, beside
other shards'.

A transaction locks the shard's row and finds there its own fence and the place from which it goes on; whatever moved
that row meanwhile sends it back to what is stored. Docs: docs/decisions/025-scaled-sink.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from psycopg.pq.abc import PGresult

from cdc.config.load import TargetConfig
from cdc.errors import Halt, Retry
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import TableName
from cdc.postgres.connection import Connection, compact
from cdc.postgres.errors import guarded
from cdc.protocol.applied import Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Copies
from cdc.runtime import crash_points as crash
from cdc.runtime.moments import SteadyClock
from cdc.state.processes import myself
from cdc.state.shards import Share, shards_differ
from cdc.state.store import StateStore
from sinks.postgres.fence import connect_writer, end_holders, fenced, hold_beside, raise_fence, step
from sinks.postgres.owner import Lock
from sinks.postgres.positions import Place, Send, say_pace, say_partitions, say_tables, source_ahead_us
from sinks.postgres.statements import Prepared, StatementQueue, moment
from sinks.postgres.target import PostgresTarget
from sinks.postgres.transaction import Transaction

_LOCK = Prepared(
    "SELECT fence, releases, control_next FROM cdc.shard WHERE pipeline = $1 AND shard = $2 "
    "AND fence = $3::int8 FOR UPDATE"
)
_LOCK_ALL = "SELECT waits_at, position FROM cdc.shard WHERE pipeline = %s ORDER BY shard FOR UPDATE"
_PLACE = Prepared("""
UPDATE cdc.shard SET cut_no = $3, epoch = $4, control_next = $5, position = $6, source_ts = $7, control_mark = $8,
    copies = $9,
 waits_at = $10, clock_offset_us = $11, applied_at = clock_timestamp() WHERE pipeline = $1 AND shard = $2""")
_MOVE_ALL = Prepared("""
UPDATE cdc.shard SET control_next = $2, control_mark = $3, copies = $4, waits_at = NULL WHERE pipeline = $1""")
_POLICIES = Prepared(
    'UPDATE cdc.tables SET schema = $4 WHERE (pipeline, db, "table") = ($1, $2, $3) AND schema <> $4::jsonb'
)
_QUARANTINED = Prepared("""
UPDATE cdc.tables SET state = 'quarantined', changed_at = now()
 WHERE (pipeline, db, "table") = ($1, $2, $3) AND state IN ('catching_up','consistent','quarantined')""")
_WAITING = (
    "SELECT count(*) FILTER (WHERE waits_at = %s), bool_or(shard = %s AND waits_at = %s) FROM cdc.shard "
    "WHERE pipeline = %s"
)
_WIDTHS = "SELECT topic, count(*)::int FROM cdc.partition WHERE pipeline = %s GROUP BY topic"
_PUBLISH = Prepared("SELECT cdc.publish($1)")
_UNDER = "SELECT fence FROM cdc.pipeline WHERE name = %s AND fence = %s FOR SHARE"
_RAISE = """
UPDATE cdc.shard SET fence = fence + %s, owner = %s, opened_at = now() WHERE (pipeline, shard) = (%s, %s)
    RETURNING fence"""
_SPLIT = """
INSERT INTO cdc.shard (pipeline, shard, cut_no, epoch, control_next, position, source_ts, control_mark, copies,
    clock_offset_us, applied_at)
SELECT p.pipeline, n, p.cut_no, p.epoch, p.control_next, p.position, p.source_ts, p.control_mark, p.copies,
    p.clock_offset_us, p.applied_at
  FROM cdc.progress p, generate_series(0, %s - 1) n WHERE p.pipeline = %s"""
_PLACES = "SELECT cut_no, control_next, position FROM cdc.shard WHERE pipeline = %s ORDER BY shard"
_MERGE = """
UPDATE cdc.progress p SET cut_no = s.cut_no, epoch = s.epoch, control_next = s.control_next, position = s.position,
 source_ts = s.source_ts, control_mark = s.control_mark, copies = s.copies, clock_offset_us = s.clock_offset_us,
 applied_at = s.applied_at
  FROM cdc.shard s WHERE p.pipeline = %(pipeline)s AND (s.pipeline, s.shard) = (p.pipeline, 0)"""
_MODE = "UPDATE cdc.pipeline SET shards = %s WHERE name = %s AND fence = %s RETURNING fence"

LEADER = 0
"""The shard whose owner does for all what a meeting is for."""


class Moved(Exception):
    """What is stored of a shard is not what its owner knew: begin from it again."""


class ShardOwner:
    """The one writer of one shard, under the pipeline's fence `generation`."""

    def __init__(self, share: Share, generation: int) -> None:
        self.share, self._generation = share, generation
        self.fence = 0
        self.waits_at: int | None = None
        """Stored with the next commit: the control record before which this shard then waits."""
        self.leads = False
        """Whether what is stored of tables is said for all shards."""
        self._stands: int | None = None

    def take_over(self, connection: Connection, pipeline: str) -> None:
        """End who else writes the shard."""
        self.fence = _raise(connection, pipeline, self.share.shard, self._generation)

    def went_back(self, stored: Stored) -> None:
        """It waits nowhere, and leads nobody."""
        self._stands = stored.progress.control_next if stored.progress else None
        self.waits_at, self.leads = None, False

    def lock(self, pipeline: str, *, shared: bool) -> Lock:
        """The shard's row, by its number and its fence."""
        return _LOCK, [pipeline.encode(), b"%d" % self.share.shard, b"%d" % self.fence]

    def check(self, pipeline: str, result: PGresult) -> None:
        """Retry when another member has the shard, Moved when its place is not the one that we know."""
        if result.ntuples != 1:
            raise taken(pipeline, self.share.shard)
        if int(result.get_value(0, 2) or b"-1") != self._stands:
            raise Moved

    def store(
        self,
        say: Send,
        progress: Progress | None,
        tables: Sequence[TableProgress],
        known: Mapping[Partition, Place],
        clock: SteadyClock,
    ) -> None:
        """Say the shard's place; of tables only a leader says what they are,
        others by which policies they are written."""
        if self.leads:
            say_tables(say, tables)
        for state in () if self.leads else tables:
            say(_POLICIES, state.db, state.table, compact(dict(state.schema)))
        if progress is not None:
            say(_PLACE, self.share.shard, progress.cut_no, progress.epoch, progress.control_next,
            compact(progress.position.to_json()),
                moment(progress.source_ts_us), progress.mark, compact(progress.copies.to_json()), self.waits_at,
                source_ahead_us(progress, clock))  # fmt: skip
            say_partitions(say, progress.partitions, known, progress.since)
            if self.share.shard == LEADER:
                say_pace(say, progress.copies)

    def committed(self, progress: Progress) -> Prepared | None:
        """The pipeline's position is to follow."""
        self._stands = progress.control_next
        return _PUBLISH


class ShardTarget(PostgresTarget):
    """The target of one shard, and what shards that meet there ask and do."""

    def __init__(self, target: TargetConfig, pipeline: str, shard: int, shards: int, generation: int) -> None:
        self.share = Share(shard, shards)
        self._shard = ShardOwner(self.share, generation)
        super().__init__(target, pipeline, self._shard)

    def tables(self) -> Mapping[TableName, TableProgress]:
        """Where the tables stand, as of now."""
        return {state.name: state for state in self.session.state.tables()}

    def hold(self, names: Iterable[TableName]) -> None:
        """In the open transaction: keys of these tables wait from now on."""
        for db, table in names:
            self.session.put(_QUARANTINED, db, table)

    def wait_at(self, offset: int | None) -> None:
        """Store with the next commit that the shard waits before this control record; None: that it waits no more."""
        self._shard.waits_at = offset

    def waiting(self, at: int) -> tuple[bool, bool]:
        """Whether this shard still waits before the control record at this offset, and whether all do."""
        session = self.session

        def work() -> tuple[bool, bool]:
            row = session.connection.execute(_WAITING, [at, self.share.shard, at, self.pipeline]).fetchone()
            return (bool(row[1]), row[0] == self.share.shards) if row else (False, False)

        return session.run("cdc.shard", work)

    def lead(self) -> Mapping[TableName, TableProgress]:
        """From here on states of tables are said for all shards; what they are now. Ends with what is read next."""
        tables = self.read().tables
        self._shard.leads = True
        return tables

    def widths(self) -> dict[str, int]:
        """How many partitions of each topic are known."""
        session = self.session

        def work() -> dict[str, int]:
            return dict(session.connection.execute(_WIDTHS, [self.pipeline]).fetchall())

        return session.run("cdc.partition", work)

    def lock_all(self, transaction: Transaction, at: int) -> list[Position]:
        """Hold every shard where it waits; their positions. Moved when one does not wait at this record."""

        def work(wire: StatementQueue) -> list[Position]:
            wire.flush()
            rows = wire.connection.execute(_LOCK_ALL, [self.pipeline]).fetchall()
            if [row[0] for row in rows] != [at] * self.share.shards:
                raise Moved
            return [Position.from_json(position) for _, position in rows]

        return transaction.within("cdc.shard", work)

    def move_all(
        self,
        transaction: Transaction,
        beyond: tuple[int, str],
        copies: Copies,
        partitions: Mapping[Partition, tuple[int, int]],
        tables: Sequence[TableProgress],
    ) -> None:
        """Move all shards `beyond` the record before this offset, which has this mark, store partitions and tables,
        and commit."""
        session = self.session

        def work(wire: StatementQueue) -> None:
            session.store(None, tables)
            session.put(_MOVE_ALL, *beyond, compact(copies.to_json()))
            say_partitions(session.put, partitions, {}, {})
            wire.flush()

        transaction.within("cdc.shard", work)
        crash.point("shard.meeting")
        transaction.finish()
        crash.point("shard.met")
        session.run_alone(_PUBLISH)


def taken(pipeline: str, shard: int) -> Retry:
    """What a member hears whose shard is another one's."""
    return Retry(
        "shard_taken", f"pipeline {pipeline} shard {shard}", "another member works on it", "the group is asked again"
    )


@guarded("cdc.shard")
def _raise(connection: Connection, pipeline: str, shard: int, generation: int) -> int:
    """Take a shard over: end who else writes it, wait until its transaction is gone; the number that is now ours."""
    place = f"shard {shard} of {pipeline}"
    hold_beside(connection, place)
    end_holders(connection, place)
    crash.point("shard.cleared")
    with connection.transaction():
        if connection.execute(_UNDER, [pipeline, generation]).fetchone() is None:
            raise fenced(pipeline)
        row = connection.execute(_RAISE, [step(), myself(), pipeline, shard]).fetchone()
    if row is None:
        raise fenced(pipeline)
    crash.point("shard.raised")
    return int(row[0])


def join(target: TargetConfig, pipeline: str, shards: int, known: int) -> int:
    """Have the pipeline's partitions dealt out to so many shards; the pipeline's fence, under which they are worked on.

    `known`: what this gave this process before, 0 at first: it is no member any more once that has been raised. Halt
    when nothing was ever applied, Refused when the shards are of another number.
    """
    with closing(connect_writer(target, pipeline, "member", again=known > 0)) as connection:
        state = StateStore(target, pipeline, connection)
        state.migrate()
        fence, found = state.mode()
        if known and (known, shards) != (fence, found):
            raise fenced(pipeline)
        if found == shards:
            return fence
        if found not in (0, -shards):
            raise shards_differ(pipeline, abs(found))
        return _split(connection, pipeline, shards, found)


@guarded("cdc.shard")
def _split(connection: Connection, pipeline: str, shards: int, found: int) -> int:
    fence = raise_fence(connection, pipeline)
    with connection.transaction():
        if connection.execute(_MODE, [shards, pipeline, fence]).fetchone() is None:
            raise fenced(pipeline)
        if not found and connection.execute(_SPLIT, [shards, pipeline]).rowcount != shards:
            raise Halt(
                "not_loaded",
                f"pipeline {pipeline}",
                "the target holds no copy of the tables yet",
                "run cdc snapshot first",
            )
        crash.point("shard.dealt")
    return fence


def gathering(target: PostgresTarget) -> int:
    """For the default sink, which holds the pipeline's fence: how many shards are to be brought together first;
    0: none."""

    @guarded("cdc.shard")
    def work() -> int:
        connection, pipeline = target.session.connection, target.pipeline
        shards = abs(target.session.state.mode()[1])
        if shards and connection.execute(_MODE, [-shards, pipeline, target.fence]).fetchone() is None:
            raise fenced(pipeline)
        connection.execute(
            "UPDATE cdc.shard SET fence = fence + %s WHERE pipeline = %s", [step(), pipeline]
        )  # waits for what is under way
        return shards

    return work()


def furthest(target: PostgresTarget) -> int | None:
    """Up to which control record shards have to go on to stand together; None: they do, and are one again."""

    @guarded("cdc.shard")
    def work() -> int | None:
        connection, pipeline = target.session.connection, target.pipeline
        places = connection.execute(_PLACES, [pipeline]).fetchall()
        if any(place != places[0] for place in places):
            until: int = max(control_next for _, control_next, _ in places)
            return until + all(control_next == until for _, control_next, _ in places)
        with connection.transaction():
            if connection.execute(_MODE, [0, pipeline, target.fence]).fetchone() is None:
                raise fenced(pipeline)
            connection.execute(_MERGE, {"pipeline": pipeline})
            connection.execute("DELETE FROM cdc.shard WHERE pipeline = %s", [pipeline])
            crash.point("shard.gathered")
        return None

    return work()
