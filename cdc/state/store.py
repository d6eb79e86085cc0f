"""The pipeline's state in the target: schema `cdc`, read and moved with the rows it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from cdc.config.load import TargetConfig
from cdc.errors import Refused
from cdc.model.position import Position
from cdc.model.record import Partition
from cdc.model.table import AnomalyName, TableName
from cdc.postgres.connection import Connection, connect
from cdc.postgres.errors import guarded
from cdc.protocol.applied import LedgerChunk, Progress, Stored, TableProgress
from cdc.protocol.copy_progress import Copies
from cdc.protocol.table_states import TableState
from cdc.runtime import clock, crash_points as crash
from cdc.runtime.moments import SteadyClock
from cdc.state.migrations import MIGRATIONS, VERSION
from cdc.state.shards import ALL, Share

_MIGRATION_LOCK = 7163274401  # any fixed number: who migrates schema `cdc` holds it

_NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_PLACE = (
    "cut_no, epoch, control_next, position,"
    " (coalesce(extract(epoch FROM cdc.believed(source_ts, applied_at, clock_offset_us)), 0) * 1000000)::bigint,"
    " control_mark, copies, clock_offset_us, " + _NOW_US
)
"""How far a sink is, without its partitions: columns of cdc.progress, and of cdc.shard;
last what the target's clock shows."""


def _position(document: Any) -> Position | None:
    return None if document is None else Position.from_json(document)


@guarded("the target's clock")
def clock_of(connection: Connection) -> SteadyClock:
    """The target's clock. What is stored of the source's is stored against it,
    because there it is asked how far the target is behind."""
    [now_us] = connection.execute(f"SELECT {_NOW_US}".encode()).fetchone() or [clock.now_us()]
    return SteadyClock(now_us)


class StateStore:
    """The stored state of one pipeline, and of the partitions of a share of it;
    owns its connection unless it is handed one."""

    def __init__(
        self, target: TargetConfig, pipeline: str, connection: Connection | None = None, share: Share = ALL
    ) -> None:
        self.target, self.pipeline, self.share = target, pipeline, share
        self.connection = connection or connect(target, f"cdc {pipeline} state")

    def __enter__(self) -> StateStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @guarded("schema cdc")
    def version(self) -> int:
        """The version of schema `cdc`; 0 when there is none."""
        found = self.connection.execute("SELECT to_regclass('cdc.schema_version')").fetchone()
        if found is None or found[0] is None:
            return 0
        row = self.connection.execute("SELECT coalesce(max(version), 0) FROM cdc.schema_version").fetchone()
        return int(row[0]) if row else 0

    def check(self) -> bool:
        """Whether the schema is the one this program knows; a newer one is refused."""
        version = self.version()
        if version > VERSION:
            raise Refused(
                "state_newer",
                "schema cdc",
                f"has version {version}, this program knows {VERSION}",
                "update this program",
            )
        return version == VERSION

    def migrate(self) -> None:
        """Bring schema `cdc` to this program's version and know this pipeline; safe beside others who do the same."""
        if not self.check():
            self._migrate()
            crash.point("migration.done")
        self._register()

    @guarded("schema cdc")
    def _migrate(self) -> None:
        with self.connection.transaction():
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
            if self.version() == 0:
                if self.connection.execute("SELECT to_regnamespace('cdc') IS NULL").fetchone() == (True,):
                    self.connection.execute("CREATE SCHEMA cdc")  # one that is there needs no privilege on the database
                self.connection.execute("CREATE TABLE IF NOT EXISTS cdc.schema_version"
                                        " (version integer PRIMARY KEY, "
                                        "at timestamptz NOT NULL DEFAULT now())")  # fmt: skip
            self.check()
            for number in range(self.version() + 1, VERSION + 1):
                self.connection.execute(MIGRATIONS[number - 1].encode())
                self.connection.execute("INSERT INTO cdc.schema_version (version) VALUES (%s)", [number])
                crash.point("migration.step")

    @guarded("cdc.pipeline")
    def _register(self) -> None:
        self.connection.execute("INSERT INTO cdc.pipeline (name) VALUES (%s) ON CONFLICT DO NOTHING", [self.pipeline])

    @guarded("cdc.pipeline")
    def mode(self) -> tuple[int, int]:
        """The pipeline's fence, and its number of shards: 0 while one process applies all,
        below 0 while that is being brought about."""
        row = self.connection.execute(
            "SELECT fence, shards FROM cdc.pipeline WHERE name = %s", [self.pipeline]
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @guarded("cdc.shard")
    def owners(self) -> dict[int, str]:
        """Who works on each shard, or did last; none where one process applies all."""
        rows = self.connection.execute("SELECT shard, owner FROM cdc.shard WHERE pipeline = %s", [self.pipeline])
        return {int(shard): str(owner) for shard, owner in rows}

    def read(self) -> Stored:
        """Everything stored about this pipeline, at one moment; nothing when the schema is not there yet."""
        return self._read() if self.version() else Stored(None, {})

    @guarded("schema cdc")
    def _read(self) -> Stored:
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return Stored(self._progress(), {state.name: state for state in self._tables()})

    def tables(self) -> list[TableProgress]:
        """The state of each table, in the order of names."""
        return list(self.read().tables.values())

    def _progress(self) -> Progress | None:
        row = self._place()
        if row is None:
            return None
        copies = Copies.from_json(row[6])
        return Progress(row[0], row[1], row[2], Position.from_json(row[3]), row[4], self._partitions(), row[5], copies,
                        clock_offset_us=row[7] + row[8] - clock.now_us())  # fmt: skip

    @guarded("cdc.progress")
    def behind(self) -> float | None:
        """How many seconds the target is behind the source, by the target's clock; None: unknown."""
        row = self.connection.execute(
            "SELECT cdc.behind(source_ts, applied_at, clock_offset_us) FROM cdc.progress WHERE pipeline = %s",
            [self.pipeline],
        ).fetchone()
        return None if row is None else row[0]

    def _place(self) -> Any:
        if self.share == ALL:
            return self.connection.execute(
                f"SELECT {_PLACE} FROM cdc.progress WHERE pipeline = %s".encode(), [self.pipeline]
            ).fetchone()
        of_shard = f"SELECT {_PLACE} FROM cdc.shard WHERE (pipeline, shard) = (%s, %s)"
        return self.connection.execute(of_shard.encode(), [self.pipeline, self.share.shard]).fetchone()

    def _partitions(self) -> Mapping[Partition, tuple[int, int]]:
        rows = self.connection.execute(
            "SELECT topic, partition, next_offset, seq FROM cdc.partition WHERE pipeline = %s", [self.pipeline]
        )
        found = {(topic, partition): (offset, seq) for topic, partition, offset, seq in rows}
        return {partition: at for partition, at in found.items() if self.share.has(partition)}

    @guarded("cdc.tables")
    def table(self, db: str, table: str) -> TableProgress | None:
        """The state of one table, None when it is not known."""
        return next(iter(self._tables((db, table))), None)

    def _tables(self, only: TableName | None = None) -> list[TableProgress]:
        rows = self.connection.execute(
            'SELECT db, "table", target_schema, target_table, state, floor, ceiling, rows_loaded, reason, schema '
            "FROM cdc.tables"
            ' WHERE pipeline = %s AND (%s::text IS NULL OR (db, "table") = (%s, %s)) ORDER BY db, "table"',
            [self.pipeline, only and only[0], *(only or (None, None))],
        )
        return [
            TableProgress(
                db,
                table,
                schema,
                name,
                TableState(state),
                _position(floor),
                _position(ceiling),
                loaded,
                reason,
                document,
            )
            for db, table, schema, name, state, floor, ceiling, loaded, reason, document in rows
        ]

    @guarded("cdc.chunks")
    def chunks(self, db: str, table: str) -> list[LedgerChunk]:
        """The ledger of the table's current load, in the order of numbers."""
        rows = self.connection.execute(
            "SELECT c.chunk_no, c.low, c.high, c.rows FROM cdc.chunks c JOIN cdc.tables t"
            ' USING (pipeline, db, "table", load_no) WHERE (c.pipeline, c.db, c."table") = (%s, %s, %s) '
            "ORDER BY c.chunk_no",
            [self.pipeline, db, table],
        )
        return [LedgerChunk(*row) for row in rows]

    @guarded("cdc.quarantine")
    def quarantined(self) -> dict[TableName, int]:
        """How many keys of each table wait in quarantine."""
        rows = self.connection.execute(
            'SELECT db, "table", count(DISTINCT key_hash) FROM cdc.quarantine WHERE pipeline = %s GROUP BY 1, 2',
            [self.pipeline],
        )
        return {(db, table): count for db, table, count in rows}

    @guarded("cdc.anomaly")
    def anomalies(self) -> dict[AnomalyName, int]:
        """How often each anomaly was met: (db, table, column, reason) -> count."""
        rows = self.connection.execute(
            'SELECT db, "table", "column", reason, count FROM cdc.anomaly WHERE pipeline = %s', [self.pipeline]
        )
        return {(db, table, column, reason): count for db, table, column, reason, count in rows}

    @guarded("cdc.reconciliation")
    def store_reconciliation(self, started_us: int, differences: int, report: Mapping[str, object]) -> int:
        """Keep a report; returns its number."""
        row = self.connection.execute(
            "INSERT INTO cdc.reconciliation (pipeline, started_at, differences, report)"
            " VALUES (%s, 'epoch'::timestamptz + %s * interval '1 microsecond', %s, %s) RETURNING id",
            [self.pipeline, started_us, differences, Jsonb(report)],
        ).fetchone()
        return int(row[0]) if row else 0

    @guarded("cdc.reconciliation")
    def reconciliations(self, limit: int = 30) -> list[dict[str, Any]]:
        """The newest reports first."""
        rows = self.connection.execute(
            "SELECT report FROM cdc.reconciliation WHERE pipeline = %s ORDER BY started_at DESC, id DESC LIMIT %s",
            [self.pipeline, limit],
        )
        return [report for (report,) in rows]
