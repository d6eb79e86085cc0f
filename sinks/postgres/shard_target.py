"""PostgreSQL as the target of one shard: its rows and its place move in one transaction, under its own fence, beside other shards'.

A transaction locks the shard's row and finds there its own fence and the place from which it goes on; whatever moved that row
meanwhile sends it back to what is stored. Docs: docs/decisions/025-scaled-sink.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from psycopg.pq.abc import PGresult

from cdc.config.load import TargetConfig
from cdc.errors import Halt, Retry
from cdc.model.position import Position
from cdc.postgres.connection import Connection, compact
from cdc.postgres.errors import guarded
from cdc.protocol.applied import Partition, Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Copies
from cdc.runtime import crash_points as crash
from cdc.state.shards import ShardState, mode, shards_differ
from cdc.state.store import StateStore
from sinks.postgres.fence import connect_writer, end_holders, fenced, hold_beside, myself, raise_fence, releases, step
from sinks.postgres.positions import say_pace, say_partitions, source_ahead_us
from sinks.postgres.statements import BEGIN, Prepared, moment
from sinks.postgres.target import PostgresTarget

_LOCK = Prepared("SELECT fence, releases, control_next FROM cdc.shard WHERE pipeline = $1 AND shard = $2 AND fence = $3::int8 FOR UPDATE")
_LOCK_ALL = "SELECT waits_at, position FROM cdc.shard WHERE pipeline = %s ORDER BY shard FOR UPDATE"
_PLACE = Prepared("""
UPDATE cdc.shard SET cut_no = $3, epoch = $4, control_next = $5, position = $6, source_ts = $7, control_mark = $8, copies = $9,
 waits_at = $10, clock_offset_us = $11, applied_at = clock_timestamp() WHERE pipeline = $1 AND shard = $2""")
_MOVE_ALL = Prepared("""
UPDATE cdc.shard SET control_next = $2, control_mark = $3, copies = $4, waits_at = NULL WHERE pipeline = $1""")
_POLICIES = Prepared('UPDATE cdc.tables SET schema = $4 WHERE (pipeline, db, "table") = ($1, $2, $3) AND schema <> $4::jsonb')
_QUARANTINED = Prepared("""
UPDATE cdc.tables SET state = 'quarantined', changed_at = now()
 WHERE (pipeline, db, "table") = ($1, $2, $3) AND state IN ('catching_up','consistent','quarantined')""")
_WAITING = "SELECT count(*) FILTER (WHERE waits_at = %s), bool_or(shard = %s AND waits_at = %s) FROM cdc.shard WHERE pipeline = %s"
_WIDTHS = "SELECT topic, count(*)::int FROM cdc.partition WHERE pipeline = %s GROUP BY topic"
_PUBLISH = Prepared("SELECT cdc.publish($1)")
_UNDER = "SELECT fence FROM cdc.pipeline WHERE name = %s AND fence = %s FOR SHARE"
_RAISE = """
UPDATE cdc.shard SET fence = fence + %s, owner = %s, opened_at = now() WHERE (pipeline, shard) = (%s, %s) RETURNING fence"""
_SPLIT = """
INSERT INTO cdc.shard (pipeline, shard, cut_no, epoch, control_next, position, source_ts, control_mark, copies, clock_offset_us, applied_at)
SELECT p.pipeline, n, p.cut_no, p.epoch, p.control_next, p.position, p.source_ts, p.control_mark, p.copies, p.clock_offset_us, p.applied_at
  FROM cdc.progress p, generate_series(0, %s - 1) n WHERE p.pipeline = %s"""
_PLACES = "SELECT cut_no, control_next, position FROM cdc.shard WHERE pipeline = %s ORDER BY shard"
_MERGE = """
UPDATE cdc.progress p SET cut_no = s.cut_no, epoch = s.epoch, control_next = s.control_next, position = s.position,
 source_ts = s.source_ts, control_mark = s.control_mark, copies = s.copies, clock_offset_us = s.clock_offset_us, applied_at = s.applied_at
  FROM cdc.shard s WHERE p.pipeline = %(pipeline)s AND (s.pipeline, s.shard) = (p.pipeline, 0)"""
_MODE = "UPDATE cdc.pipeline SET shards = %s WHERE name = %s AND fence = %s RETURNING fence"

LEADER = 0
"""The shard whose owner does for all what a meeting is for."""


class Moved(Exception):
    """What is stored of a shard is not what its owner knew: begin from it again."""


class ShardTarget(PostgresTarget):
    """The one writer of one shard, under the pipeline's fence `generation`."""

    def __init__(self, target: TargetConfig, pipeline: str, shard: int, shards: int, generation: int) -> None:
        super().__init__(target, pipeline)
        self.shard, self.shards, self._generation = shard, shards, generation
        self.waits_at: int | None = None
        """Stored with the next commit: the control record before which this shard then waits."""
        self._stands: int | None = None
        self._meeting = False

    def _state(self) -> StateStore:
        return ShardState(self.target, self.pipeline, self.shard, self.shards, self.connection)

    def _take_over(self, connection: Connection) -> None:
        self.fence = _raise(connection, self.pipeline, self.shard, self._generation)

    def read(self) -> Stored:
        """What is stored, as of now."""
        stored = super().read()
        self._stands = stored.progress.control_next if stored.progress else None
        self.waits_at, self._meeting = None, False
        return stored

    def tables(self) -> Mapping[tuple[str, str], TableProgress]:
        """Where the tables stand, as of now."""
        return {state.name: state for state in self._state().tables()}

    # -- batches -----------------------------------------------------------------------------------------------------

    def _begin(self, lock: Prepared) -> None:
        if not self._begun:
            self._begun = True
            self.wire.send(BEGIN)
            self.wire.send(_LOCK, [self.pipeline.encode(), b"%d" % self.shard, b"%d" % self.fence], self._locked)

    def _locked(self, result: PGresult) -> None:
        if result.ntuples != 1:
            raise taken(self.pipeline, self.shard)
        if int(result.get_value(0, 2) or b"-1") != self._stands:
            raise Moved
        self._releases = releases(result)

    def hold(self, names: Iterable[tuple[str, str]]) -> None:
        """In the open transaction: keys of these tables wait from now on."""
        for db, table in names:
            self._send(_QUARANTINED, db, table)

    def _save(self, progress: Progress | None, tables: Sequence[TableProgress]) -> None:
        if self._meeting:
            super()._save(None, tables)
        for state in () if self._meeting else tables:  # of the rest, only a meeting says what it is
            self._send(_POLICIES, state.db, state.table, compact(dict(state.schema)))
        if progress is not None:
            self._send(_PLACE, self.shard, progress.cut_no, progress.epoch, progress.control_next, compact(progress.position.to_json()),
                       moment(progress.source_ts_us), progress.mark, compact(progress.copies.to_json()), self.waits_at,
                       source_ahead_us(progress, self._clock))  # fmt: skip
            say_partitions(self._send, progress.partitions, self._known, progress.since)
            if self.shard == LEADER:
                say_pace(self._send, progress.copies)

    def commit(self, progress: Progress | None, tables: Sequence[TableProgress] = ()) -> Mapping[tuple[str, str, str, str], int]:
        """Store the shard's place, commit, and let the pipeline's position follow."""
        changed = super().commit(progress, tables)
        if progress is not None:
            self._stands = progress.control_next
            self._publish()
        return changed

    def _publish(self) -> None:
        def work() -> None:
            self.wire.send(_PUBLISH, [self.pipeline.encode()])
            self.wire.flush()

        self._do("cdc.progress", work)

    # -- meetings ----------------------------------------------------------------------------------------------------

    def waiting(self, at: int) -> tuple[bool, bool]:
        """Whether this shard still waits before the control record at this offset, and whether all do."""

        def work() -> tuple[bool, bool]:
            row = self.connection.execute(_WAITING, [at, self.shard, at, self.pipeline]).fetchone()
            return (bool(row[1]), row[0] == self.shards) if row else (False, False)

        return self._do("cdc.shard", work)

    def lead(self) -> Mapping[tuple[str, str], TableProgress]:
        """From here on states of tables are said for all shards; what they are now. Ends with what is read next."""
        tables = self.read().tables
        self._meeting = True
        return tables

    def widths(self) -> dict[str, int]:
        """How many partitions of each topic are known."""

        def work() -> dict[str, int]:
            return dict(self.connection.execute(_WIDTHS, [self.pipeline]).fetchall())

        return self._do("cdc.partition", work)

    def lock_all(self, at: int) -> list[Position]:
        """Begin, and hold every shard where it waits; their positions. Moved when one does not wait at this record."""

        def work() -> list[Position]:
            self._begin(_LOCK)
            self.wire.flush()
            rows = self.connection.execute(_LOCK_ALL, [self.pipeline]).fetchall()
            if [row[0] for row in rows] != [at] * self.shards:
                raise Moved
            return [Position.from_json(position) for _, position in rows]

        return self._do("cdc.shard", work)

    def move_all(
        self, beyond: int, mark: str, copies: Copies, partitions: Mapping[Partition, tuple[int, int]], tables: Sequence[TableProgress]
    ) -> None:
        """Move all shards beyond the record, which has this mark, store partitions and tables, and commit."""

        def work() -> None:
            self._save(None, tables)
            self._send(_MOVE_ALL, beyond, mark, compact(copies.to_json()))
            say_partitions(self._send, partitions, {}, {})
            self.wire.flush()

        self._do("cdc.shard", work)
        crash.point("shard.meeting")
        self._commit()
        crash.point("shard.met")
        self._publish()


def taken(pipeline: str, shard: int) -> Retry:
    """What a member hears whose shard is another one's."""
    return Retry("shard_taken", f"pipeline {pipeline} shard {shard}", "another member works on it", "the group is asked again")


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

    `known`: what this gave this process before, 0 at first: it is no member any more once that has been raised. Halt when nothing was
    ever applied, Refused when the shards are of another number.
    """
    with closing(connect_writer(target, pipeline, "member", again=known > 0)) as connection:
        state = StateStore(target, pipeline, connection)
        state.migrate()
        fence, found = mode(state)
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
            raise Halt("not_loaded", f"pipeline {pipeline}", "the target holds no copy of the tables yet", "run cdc snapshot first")
        crash.point("shard.dealt")
    return fence


def gathering(target: PostgresTarget) -> int:
    """For the default sink, which holds the pipeline's fence: how many shards are to be brought together first; 0: none."""

    @guarded("cdc.shard")
    def work() -> int:
        connection, pipeline = target.connection, target.pipeline
        shards = abs(mode(StateStore(target.target, pipeline, connection))[1])
        if shards and connection.execute(_MODE, [-shards, pipeline, target.fence]).fetchone() is None:
            raise fenced(pipeline)
        connection.execute("UPDATE cdc.shard SET fence = fence + %s WHERE pipeline = %s", [step(), pipeline])  # waits for what is under way
        return shards

    return work()


def furthest(target: PostgresTarget) -> int | None:
    """Up to which control record shards have to go on to stand together; None: they do, and are one again."""

    @guarded("cdc.shard")
    def work() -> int | None:
        connection, pipeline = target.connection, target.pipeline
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
