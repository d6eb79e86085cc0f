"""Out of quarantine: keys are replayed or discarded by another process than the sink, beside it.

Each key goes in a transaction of its own under the lock that every writing transaction of the pipeline takes, so that
the sink stands before it or after it, never within. `cdc.pipeline.releases` tells the sink that it must read again
which keys are held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from cdc.codec.envelope import PARTIAL
from cdc.config.load import TargetConfig
from cdc.errors import CdcError, Halt, Refused, Retry, RowRefused, RowSuspected
from cdc.model.table import TableName
from cdc.postgres.errors import decide
from cdc.protocol.table_states import TableEvent, TableState, follow
from cdc.runtime import crash_points as crash, timing
from cdc.state.store import StateStore
from sinks.contract import TableBatch
from sinks.fold import FRAME
from sinks.postgres.bisect import as_refused, row_refused
from sinks.postgres.fence import check_held, connect_writer
from sinks.postgres.merge import BatchWriter
from sinks.postgres.statements import ANOMALY, BEGIN, COMMIT, Prepared, StatementQueue, undo
from sinks.postgres.tables import place_of

MakePlan = Callable[[Mapping[str, object], Mapping[str, object] | None], Any]
_LOCK = Prepared("SELECT fence, releases FROM cdc.pipeline WHERE name = $1 FOR UPDATE")
_LOCK_SHARDS = Prepared("SELECT 1 FROM cdc.shard WHERE pipeline = $1 ORDER BY shard FOR UPDATE")
_KEYS = """
SELECT DISTINCT key FROM cdc.quarantine WHERE (pipeline, db, "table", key_hash) = (%s, %s, %s, %s)"""
_WHOLE = f"""
SELECT max(w.id)
  FROM cdc.quarantine w JOIN cdc.quarantine_schema x ON (x.pipeline, x.hash) = (w.pipeline, w.schema_hash)
 WHERE (w.pipeline, w.db, w."table", w.key_hash, w.key) = (q.pipeline, q.db, q."table", q.key_hash, q.key)
   AND (w.op = 'd' OR NOT coalesce(x.value_schema::jsonb -> 'connect.parameters' ? '{PARTIAL}', false))"""
# The last change that says all of its row, and those behind it that say some of it.
_LAST = f"""
SELECT q.op, q.value, s.key_schema, s.value_schema,
 (SELECT sum(CASE op WHEN 'd' THEN -1 ELSE 1 END)::int8 FROM cdc.quarantine n
   WHERE (n.pipeline, n.db, n."table", n.key_hash, n.key) = (q.pipeline, q.db, q."table", q.key_hash, q.key))
 FROM cdc.quarantine q JOIN cdc.quarantine_schema s ON (s.pipeline, s.hash) = (q.pipeline, q.schema_hash)
 WHERE (q.pipeline, q.db, q."table", q.key_hash) = (%s, %s, %s, %s) AND q.key = %s
   AND q.id >= coalesce(({_WHOLE}), 0) ORDER BY q.id"""
_DELETE = 'DELETE FROM cdc.quarantine WHERE (pipeline, db, "table", key_hash) = (%s, %s, %s, %s)'
_COUNT = "UPDATE cdc.pipeline SET releases = releases + 1 WHERE name = %s"
_COUNT_SHARDS = "UPDATE cdc.shard SET releases = releases + 1 WHERE pipeline = %s"
_LEFT = 'SELECT 1 FROM cdc.quarantine WHERE (pipeline, db, "table") = (%s, %s, %s) LIMIT 1'
_STATE = 'SELECT state FROM cdc.tables WHERE (pipeline, db, "table") = (%s, %s, %s)'
_SHADED = """SELECT 1 FROM cdc.tables WHERE (pipeline, db, "table") = (%s, %s, %s) AND schema ? 'shadow'"""
_MOVE = 'UPDATE cdc.tables SET state = %s, changed_at = now() WHERE (pipeline, db, "table") = (%s, %s, %s)'


class Releaser:
    """One connection that takes keys out of quarantine; a new owner of the pipeline ends it like any other writer.

    What was under way for a key is then undone or done, never half, and tried again on a new connection,
    `release_seconds` long.
    """

    def __init__(self, target: TargetConfig, pipeline: str, make_plan: MakePlan) -> None:
        self.target, self.pipeline, self._make_plan = target, pipeline, make_plan
        with StateStore(target, pipeline) as state:
            state.migrate()
        self._open(again=False)

    def _open(self, *, again: bool) -> None:
        self.connection = connect_writer(self.target, self.pipeline, "quarantine", again=again)
        self.wire = StatementQueue(self.connection)

    def close(self) -> None:
        self.connection.close()

    def replay(self, name: TableName, key: str) -> tuple[int, RowRefused | None]:
        """Apply what waits for a key: how many changes that were, or why they stay.
        Several rows of one hash go together."""
        refused: RowRefused | None = None
        try:
            return self._run(name, lambda: self._replay(name, key)), None
        except RowRefused as error:
            refused = error
        return 0, refused

    def discard(self, name: TableName, key: str) -> int:
        """Drop what waits for a key; how many changes that were."""
        return self._run(name, lambda: self._release(name, key))

    def _run(self, name: TableName, work: Callable[[], int]) -> int:
        times = timing.TIMES
        wait = wait_random_exponential(multiplier=times.release_first_seconds, max=times.release_longest_seconds)
        stop = stop_after_delay(times.release_seconds)
        return Retrying(retry=retry_if_exception_type(Retry), wait=wait, stop=stop, reraise=True)(self._try, name, work)

    def _try(self, name: TableName, work: Callable[[], int]) -> int:
        decision: CdcError
        if self.connection.closed:
            self._open(again=True)
        try:
            self.wire.enqueue(BEGIN)
            self.wire.enqueue(_LOCK, [self.pipeline.encode()], lambda result: check_held(self.pipeline, result))
            self.wire.enqueue(_LOCK_SHARDS, [self.pipeline.encode()])
            self.wire.flush()
            done = work()
            self.wire.enqueue(COMMIT)
            self.wire.flush()
            crash.point("quarantine.freed")
            return done
        except psycopg.Error as error:
            decision = decide(error, ".".join(name))
        except CdcError as error:
            decision = error
        undo(self.wire)
        refused = row_refused(decision)
        if refused is None and isinstance(decision, RowSuspected):
            refused = as_refused(decision)  # it waits on, whosever fault it is
        raise refused or decision

    def _replay(self, name: TableName, key: str) -> int:
        place = place_of(self.target, *name)
        if self.connection.execute(_SHADED, [self.pipeline, *name]).fetchone() is not None:
            raise Refused("swap_under_way", ".".join(name), "a copy fills its second table, "
                                                            "which would lack what is replayed now",
                          "replay when the copy is done")  # fmt: skip
        for (identity,) in self.connection.execute(_KEYS, [self.pipeline, *name, key]).fetchall():
            merge = BatchWriter(self.connection, self.wire)
            for op, value, key_schema, value_schema, balance in self._last(name, key, identity):
                batch = self._batch(self._make_plan(value_schema, key_schema), identity, op, value, int(balance))
                merge.merge_batch(batch, place)
            for what, times in merge.changed.items():
                self.wire.say(ANOMALY, self.pipeline, *what, times)
        self.wire.flush()
        crash.point("quarantine.replayed")
        return self._release(name, key)

    def _last(self, name: TableName, key: str, identity: bytes) -> Any:
        rows = self.connection.execute(_LAST.encode(), [self.pipeline, *name, key, identity]).fetchall()
        if not rows:
            raise Halt(
                "quarantine_changed", ".".join(name), "a queued change has no schema", "this is a defect: report it"
            )
        return rows

    def _batch(self, plan: Any, identity: bytes, op: str, value: bytes, balance: int) -> TableBatch:
        """A change of a key, or, of a row without one, the balance of all that are queued."""
        batch = TableBatch(plan, plan.db, plan.table)
        _, _, _, before, _, after, *_ = plan.open([value])[0]
        key, row = bytes(FRAME) + identity, (value, before if op == "d" else after)
        if plan.key and op == "d":
            batch.deletes = [key]
        elif plan.key:
            batch.upserts, batch.keys, batch.new = [row], [key], [False]
        elif balance > 0:
            batch.adds = [row] * balance
        elif balance < 0:
            batch.removes = [(row, -balance)]
        return batch

    def _release(self, name: TableName, key: str) -> int:
        """Take a key out; a table without any left is to be shown as consistent at its next ceiling."""
        table = [self.pipeline, *name]
        count = self.connection.execute(_DELETE, [*table, key]).rowcount
        self.connection.execute(_COUNT, [self.pipeline])
        self.connection.execute(_COUNT_SHARDS, [self.pipeline])
        state = self.connection.execute(_STATE, table).fetchone()
        if (
            state is not None
            and state[0] == TableState.QUARANTINED
            and self.connection.execute(_LEFT, table).fetchone() is None
        ):
            self.connection.execute(_MOVE, [follow(".".join(name), state[0], TableEvent.KEYS_RELEASED), *table])
        crash.point("quarantine.released")
        return count
