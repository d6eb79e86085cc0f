"""The SQL that makes schema `cdc` in the target, one step per version; a released step is never edited, only followed."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    # 1: fence, positions, tables, ledger of loads, quarantine, anomalies, reports
    """
CREATE TABLE cdc.pipeline (
    name text PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    backend_pid integer,
    owner text NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE cdc.pipeline IS 'One row per pipeline; whoever raised the fence last is the only writer.';

CREATE TABLE cdc.progress (
    pipeline text PRIMARY KEY REFERENCES cdc.pipeline,
    cut_no bigint NOT NULL,
    epoch bigint NOT NULL,
    control_next bigint NOT NULL,
    position jsonb NOT NULL,
    source_ts timestamptz NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()) WITH (fillfactor = 40);
COMMENT ON TABLE cdc.progress IS 'The last consistent cut that is applied, moved in the transaction of its rows.';

CREATE TABLE cdc.partition (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (pipeline, topic, partition)) WITH (fillfactor = 40);

CREATE TABLE cdc.tables (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    db text NOT NULL,
    "table" text NOT NULL,
    target_schema text NOT NULL,
    target_table text NOT NULL,
    state text NOT NULL CHECK (state IN ('new','copying','catching_up','consistent','quarantined','refused','stopped')),
    floor jsonb,
    ceiling jsonb,
    rows_loaded bigint NOT NULL DEFAULT 0,
    load_no integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    schema jsonb NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, db, "table"));
CREATE UNIQUE INDEX tables_target ON cdc.tables (target_schema, target_table) WHERE state <> 'refused';

CREATE TABLE cdc.chunks (
    pipeline text NOT NULL,
    db text NOT NULL,
    "table" text NOT NULL,
    load_no integer NOT NULL,
    chunk_no integer NOT NULL,
    low jsonb,
    high jsonb,
    rows bigint NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, db, "table", load_no, chunk_no),
    FOREIGN KEY (pipeline, db, "table") REFERENCES cdc.tables ON DELETE CASCADE);
COMMENT ON TABLE cdc.chunks IS 'Key ranges of an initial load that are in the target, committed with their rows.';

CREATE TABLE cdc.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    db text NOT NULL,
    "table" text NOT NULL,
    key_hash text NOT NULL,
    key bytea,
    op text NOT NULL,
    value bytea,
    reason text NOT NULL,
    position jsonb,
    at timestamptz NOT NULL DEFAULT now());
CREATE INDEX quarantine_key ON cdc.quarantine (pipeline, db, "table", key_hash, id);

CREATE TABLE cdc.anomaly (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    db text NOT NULL,
    "table" text NOT NULL,
    "column" text NOT NULL,
    reason text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, db, "table", "column", reason));

CREATE TABLE cdc.reconciliation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    differences bigint NOT NULL,
    report jsonb NOT NULL);
CREATE INDEX reconciliation_time ON cdc.reconciliation (pipeline, started_at DESC);

CREATE VIEW cdc.freshness AS
SELECT t.pipeline, t.db, t."table", t.target_schema, t.target_table, t.state,
       CASE WHEN t.state = 'consistent' THEN p.source_ts END AS consistent_through,
       CASE WHEN t.state = 'consistent' THEN greatest(extract(epoch FROM clock_timestamp() - p.source_ts), 0)::float8 END AS seconds_behind,
       p.applied_at,
       (SELECT count(DISTINCT q.key_hash) FROM cdc.quarantine q
         WHERE (q.pipeline, q.db, q."table") = (t.pipeline, t.db, t."table")) AS quarantined,
       t.reason
  FROM cdc.tables t LEFT JOIN cdc.progress p USING (pipeline);
COMMENT ON VIEW cdc.freshness IS 'Per table: consistent as of which moment of the source, and how many seconds ago that was.';
""",
)

VERSION = len(MIGRATIONS)
