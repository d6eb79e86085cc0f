"""What moves in the transaction of the rows: places, partitions and the states of tables,
as statements of one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from psycopg.pq.abc import PGresult

from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.postgres.connection import compact
from cdc.protocol.applied import Progress, TableProgress
from cdc.protocol.copy_progress import Copies
from cdc.runtime.moments import SteadyClock
from sinks.postgres.statements import Check, Prepared, moment

Send = Callable[..., None]
"""Queues a statement about the pipeline, with its other parameters; `check` gets its result."""
Place = tuple[int, int]
"""Next offset and last number."""

_PROGRESS = Prepared("""
INSERT INTO cdc.progress AS p
 (pipeline, cut_no, epoch, control_next, position, source_ts, control_mark, copies, clock_offset_us, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
ON CONFLICT (pipeline) DO UPDATE SET cut_no = EXCLUDED.cut_no, epoch = EXCLUDED.epoch, control_next =
    EXCLUDED.control_next,
 position = EXCLUDED.position, source_ts = EXCLUDED.source_ts, applied_at = EXCLUDED.applied_at,
 control_mark = EXCLUDED.control_mark, copies = EXCLUDED.copies, clock_offset_us = EXCLUDED.clock_offset_us""")
_PARTITION = Prepared("""
INSERT INTO cdc.partition (pipeline, topic, partition, next_offset, seq) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (pipeline, topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset, seq = EXCLUDED.seq""")
_GO_ON = Prepared("""
UPDATE cdc.partition SET next_offset = $4, seq = $5
    WHERE (pipeline, topic, partition, next_offset, seq) = ($1, $2, $3, $6, $7)
 AND next_offset <= $4 AND seq <= $5""")
_TABLE = Prepared("""
INSERT INTO cdc.tables (pipeline, db, "table", target_schema, target_table, state, floor, ceiling, rows_loaded, reason,
    schema)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (pipeline, db, "table") DO UPDATE SET target_schema = EXCLUDED.target_schema, target_table =
    EXCLUDED.target_table,
 state = EXCLUDED.state, floor = EXCLUDED.floor, ceiling = EXCLUDED.ceiling, rows_loaded = EXCLUDED.rows_loaded,
 reason = EXCLUDED.reason, schema = EXCLUDED.schema, changed_at = now()""")
_PACE = Prepared("""
WITH old AS (
    DELETE FROM cdc.copy_pace WHERE pipeline = $1 AND (copy <> $2 OR at < clock_timestamp() - interval '1 minute'))
INSERT INTO cdc.copy_pace (pipeline, copy, rows) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING""")


def say_tables(send: Send, tables: Sequence[TableProgress]) -> None:
    """Each table's state, whole."""
    for state in tables:
        send(_TABLE, state.db, state.table, state.target_schema, state.target_table, state.state, _json(state.floor),
             _json(state.ceiling), state.rows_loaded, state.reason, compact(dict(state.schema)))  # fmt: skip


def source_ahead_us(progress: Progress, target: SteadyClock) -> int:
    """How far the source's clock is ahead of the target's; a record tells it of this machine's."""
    return progress.clock_offset_us - target.offset_us()


def say_progress(send: Send, progress: Progress, target: SteadyClock) -> None:
    """The pipeline's place, without its partitions."""
    at = (
        compact(progress.position.to_json()),
        moment(progress.source_ts_us),
        progress.mark,
        compact(progress.copies.to_json()),
    )
    send(_PROGRESS, progress.cut_no, progress.epoch, progress.control_next, *at, source_ahead_us(progress, target))


def say_pace(send: Send, copies: Copies) -> None:
    """When the copy under way had come to so many rows."""
    if copies.active is not None:
        send(_PACE, copies.active.id, copies.active.rows)


def say_partitions(
    send: Send,
    partitions: Mapping[Partition, Place],
    known: Mapping[Partition, Place],
    since: Mapping[Partition, Place | None],
) -> None:
    """The next offset and the last number of those partitions that are not `known` to stand there.

    Where `since` has a place, the commit goes on from it: Halt when the target holds another one, or when it would go
    back.
    """
    for (topic, partition), place in partitions.items():
        if begun := since.get((topic, partition)):
            send(_GO_ON, topic, partition, *place, *begun, check=_goes_on(topic, partition))
        elif known.get((topic, partition)) != place:
            send(_PARTITION, topic, partition, *place)


def _goes_on(topic: str, partition: int) -> Check:
    def check(result: PGresult) -> None:
        if result.command_tuples != 1:
            raise Halt(
                "place_apart",
                f"{topic}:{partition}",
                "the commit goes on from another place than the target has stored",
                "nothing of it is written; this is a defect: report it",
            )

    return check


def _json(position: Position | None) -> str | None:
    return None if position is None else compact(position.to_json())
