"""What copies that are made while streaming do to the target beside writing rows: second tables, and a record of each outcome.

A second table takes the rows of a copy while the first stays as it is shown; when the copy ends, the first is made equal to it by
deleting what is gone or different and inserting what is new. Readers never wait, and a snapshot taken before sees all the old rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import replace

from cdc import crash
from cdc.copies import Ended
from sinks.batch import FRAME
from sinks.contract import Plan
from sinks.postgres_schema import Place, names, quoted
from sinks.postgres_wire import Statement, Wire
from sinks.quarantine import Records

_RECORD = Statement("""
INSERT INTO cdc.copy (pipeline, request, db, "table", kind, outcome, rows, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (pipeline, request, db, "table") DO UPDATE SET kind = EXCLUDED.kind, outcome = EXCLUDED.outcome, rows = EXCLUDED.rows,
 reason = EXCLUDED.reason, at = now()""")


def record(wire: Wire, pipeline: str, ended: Ended) -> None:
    """Keep what became of a copy that somebody asked for."""
    if ended.request:
        wire.say(_RECORD, pipeline, ended.request, ended.db, ended.table, ended.kind, ended.outcome, ended.rows, ended.reason)


def shadow_of(place: Place) -> Place:
    """The second table of a table: in its schema, under a name that no source table has by chance."""
    return replace(place, table=f"cdc_copy_{hashlib.sha256(place.table.encode()).hexdigest()[:16]}")


def copied_beside(records: Records, shadow: str, again: Container[bytes]) -> Iterator[tuple[str, Records]]:
    """What goes into a table and, where there is a second one, into that: changes into both, rows that were read into the second alone.

    But the rows of keys that waited in quarantine and are free `again` go into both: the first table is shown, and lacks what waited.
    """
    if not shadow:
        yield "", records
        return
    changes = [at for at, opened in enumerate(records.opened) if opened[2] != "r" or (records.keys[at] or b"")[FRAME:] in again]
    if changes:
        yield (
            "",
            Records([records.keys[at] for at in changes], [records.values[at] for at in changes], [records.opened[at] for at in changes]),
        )
    yield shadow, records


def make_shadow(wire: Wire, place: Place) -> None:
    """Make the second table, empty and like the first, in place of an earlier one."""
    shadow = shadow_of(place)
    wire.send(Statement(f"DROP TABLE IF EXISTS {shadow.sql}"))
    wire.send(Statement(f"CREATE TABLE {shadow.sql} (LIKE {place.sql} INCLUDING ALL)"))
    wire.flush()


def resolve_shadow(wire: Wire, place: Place, plan: Plan, done: bool) -> None:
    """Make the first table equal to the second if that is complete, and drop the second."""
    shadow = shadow_of(place)
    if done:
        columns = [column.name for column in plan.columns]
        same = " AND ".join(f"s.{quoted(columns[at])} = t.{quoted(columns[at])}" for at in plan.key)
        mine, other = (", ".join(f"{side}.{quoted(one)}" for one in columns) for side in "ts")
        equal = f"ROW({mine})::record OPERATOR(pg_catalog.*=) ROW({other})::record"
        wire.send(Statement(f"ANALYZE {shadow.sql}"))
        wire.send(Statement(f"DELETE FROM {place.sql} t WHERE NOT EXISTS (SELECT FROM {shadow.sql} s WHERE {same} AND {equal})"))
        wire.send(Statement(
            f"INSERT INTO {place.sql} ({names(columns)}) SELECT {names(columns)} FROM {shadow.sql} s"
            f" WHERE NOT EXISTS (SELECT FROM {place.sql} t WHERE {same})"
        ))  # fmt: skip
    wire.send(Statement(f"DROP TABLE IF EXISTS {shadow.sql}"))
    wire.flush()
    crash.point("apply.swapped")
