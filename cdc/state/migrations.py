"""The SQL that makes schema `cdc` in the target, one step per version; a released step is never edited, only followed."""

from __future__ import annotations

from cdc.state.loaded_at import LOADED_AT
from cdc.state.process_table import PROCESS

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
    # 2: waiting for a position, from SQL
    r"""
CREATE FUNCTION cdc.mysql_gtids(gtids text) RETURNS TABLE (source text, first bigint, last bigint)
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog AS $$
DECLARE item text; part text; uuid text;
BEGIN
    FOREACH item IN ARRAY string_to_array(lower(regexp_replace(gtids, '\s', '', 'g')), ',') LOOP
        uuid := NULL;
        FOREACH part IN ARRAY string_to_array(item, ':') LOOP
            IF uuid IS NULL THEN
                uuid := part; source := part;
            ELSIF part ~ '^[0-9]+(-[0-9]+)?$' THEN
                first := split_part(part, '-', 1); last := coalesce(nullif(split_part(part, '-', 2), ''), split_part(part, '-', 1));
                RETURN NEXT;
            ELSE
                source := uuid || ':' || part;
            END IF;
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION cdc.mariadb_gtids(gtids text) RETURNS TABLE (domain bigint, number numeric)
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog AS $$
    SELECT split_part(item, '-', 1)::bigint, split_part(item, '-', 3)::numeric
      FROM unnest(string_to_array(regexp_replace(gtids, '\s', '', 'g'), ',')) item WHERE item <> ''
$$;

CREATE FUNCTION cdc.covers(have jsonb, want jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
DECLARE
    here text := coalesce(have->>'file', ''); there text := coalesce(want->>'file', '');
    series constant text := '^(.*)\.([0-9]+)$';
    gtids text := coalesce(want->>'gtids', ''); held text := coalesce(have->>'gtids', '');
BEGIN
    IF have IS NULL OR want IS NULL OR have->>'flavour' IS DISTINCT FROM want->>'flavour' THEN RETURN false; END IF;
    IF have->>'server' = want->>'server' AND here ~ series AND there ~ series
       AND (regexp_match(here, series))[1] = (regexp_match(there, series))[1]
       AND NOT ((regexp_match(here, series))[2]::numeric = (regexp_match(there, series))[2]::numeric
                AND coalesce((have->>'file_created')::numeric, 0) <> 0 AND coalesce((want->>'file_created')::numeric, 0) <> 0
                AND (have->>'file_created')::numeric <> (want->>'file_created')::numeric) THEN
        RETURN ((regexp_match(here, series))[2]::numeric, coalesce((have->>'offset')::numeric, 0))
            >= ((regexp_match(there, series))[2]::numeric, coalesce((want->>'offset')::numeric, 0));
    END IF;
    IF gtids = '' THEN RETURN there = '' OR have->>'flavour' = 'mariadb'; END IF;
    IF have->>'flavour' = 'mariadb' THEN
        RETURN NOT EXISTS (SELECT FROM cdc.mariadb_gtids(gtids) w WHERE NOT EXISTS
            (SELECT FROM cdc.mariadb_gtids(held) h WHERE h.domain = w.domain AND h.number >= w.number));
    END IF;
    RETURN NOT EXISTS (SELECT FROM cdc.mysql_gtids(gtids) w WHERE NOT EXISTS
        (SELECT FROM cdc.mysql_gtids(held) h WHERE h.source = w.source AND h.first <= w.first AND h.last >= w.last));
END $$;
COMMENT ON FUNCTION cdc.covers(jsonb, jsonb) IS 'Whether every transaction of the second position is included in the first.';

CREATE FUNCTION cdc.wait_for(want jsonb, timeout_seconds double precision DEFAULT 60, of_pipeline text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
DECLARE
    until constant timestamptz := clock_timestamp() + make_interval(secs => timeout_seconds);
    chosen text := of_pipeline;
BEGIN
    IF chosen IS NULL THEN SELECT name INTO STRICT chosen FROM cdc.pipeline; END IF;
    LOOP
        IF EXISTS (SELECT FROM cdc.progress p WHERE p.pipeline = chosen AND cdc.covers(p.position, want))
           AND NOT EXISTS (SELECT FROM cdc.tables t WHERE t.pipeline = chosen AND t.state IN ('new','copying','catching_up','quarantined'))
        THEN RETURN true; END IF;
        IF clock_timestamp() >= until THEN RETURN false; END IF;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
COMMENT ON FUNCTION cdc.wait_for(jsonb, double precision, text) IS
    'True once the target holds everything up to a position and every table is consistent; false after the timeout. READ COMMITTED only.';

CREATE FUNCTION cdc.wait_for(gtids text, timeout_seconds double precision DEFAULT 60, of_pipeline text DEFAULT NULL) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT cdc.wait_for(jsonb_build_object('gtids', $1, 'server', '', 'file', '',
        'flavour', CASE WHEN $1 ~ '^\s*[0-9]+-[0-9]+-[0-9]+\s*(,|$)' THEN 'mariadb' ELSE 'mysql' END), $2, $3)
$$;
COMMENT ON FUNCTION cdc.wait_for(text, double precision, text) IS 'The same for a GTID text as the source prints it.';
""",
    # 3: quarantine by key
    """
ALTER TABLE cdc.pipeline ADD COLUMN releases bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN cdc.pipeline.releases IS 'Grows when somebody else than the sink releases keys: it then reads again which ones wait.';

CREATE TABLE cdc.quarantine_schema (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    hash text NOT NULL,
    key_schema json,
    value_schema json NOT NULL,
    PRIMARY KEY (pipeline, hash));
COMMENT ON TABLE cdc.quarantine_schema IS 'The Avro schemas of queued records, so that they can be replayed without the topics.';

ALTER TABLE cdc.quarantine
    ALTER COLUMN key SET NOT NULL,
    ALTER COLUMN value SET NOT NULL,
    ADD COLUMN sqlstate text NOT NULL,
    ADD COLUMN rule text NOT NULL,
    ADD COLUMN epoch bigint NOT NULL,
    ADD COLUMN seq bigint NOT NULL,
    ADD COLUMN source_transaction text NOT NULL,
    ADD COLUMN source_ts timestamptz NOT NULL,
    ADD COLUMN schema_id bigint NOT NULL,
    ADD COLUMN schema_hash text NOT NULL,
    ADD FOREIGN KEY (pipeline, schema_hash) REFERENCES cdc.quarantine_schema;
COMMENT ON TABLE cdc.quarantine IS 'Changes of keys whose row the target refused, in the order of their ids: cdc quarantine list.';
""",
    # 4: a load may be asked to rest
    """
ALTER TABLE cdc.pipeline ADD COLUMN load_paused_at timestamptz;
COMMENT ON COLUMN cdc.pipeline.load_paused_at IS 'Since when the initial load is to rest: cdc snapshot --pause, --resume.';
""",
    # 5: which control record was applied last
    """
ALTER TABLE cdc.progress ADD COLUMN control_mark text NOT NULL DEFAULT '';
COMMENT ON COLUMN cdc.progress.control_mark IS 'Digest of the control record before control_next: a broker may lose what it acknowledged.';
""",
    # 6: copies while the log is followed
    """
ALTER TABLE cdc.progress ADD COLUMN copies jsonb;
COMMENT ON COLUMN cdc.progress.copies IS 'How far requests and the copy under way are, as of this cut.';

CREATE TABLE cdc.request (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    number bigint NOT NULL,
    signal jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, number));
COMMENT ON TABLE cdc.request IS 'What capture is asked for where there is no broker: signals in Debezium''s form, numbered without gaps.';

CREATE TABLE cdc.copy (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    request text NOT NULL,
    db text NOT NULL,
    "table" text NOT NULL,
    kind text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done','stopped','refused')),
    rows bigint NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, request, db, "table"));
COMMENT ON TABLE cdc.copy IS 'What became of each copy that was asked for, stored with the cut that ends it.';
""",
    # 7: how fast such a copy goes
    """
CREATE TABLE cdc.copy_pace (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    copy text NOT NULL,
    rows bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline, copy, rows));
COMMENT ON TABLE cdc.copy_pace IS 'Of the last minute: when the copy that is made while the log is followed had come to so many rows.';
""",
    # 8: a sink of several processes
    """
ALTER TABLE cdc.pipeline ADD COLUMN shards integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN cdc.pipeline.shards IS
    'How many shards its partitions are dealt out to; 0: one process applies all. Below 0: they are being brought together.';

CREATE TABLE cdc.shard (
    pipeline text NOT NULL REFERENCES cdc.pipeline,
    shard integer NOT NULL,
    fence bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL DEFAULT now(),
    releases bigint NOT NULL DEFAULT 0,
    waits_at bigint,
    cut_no bigint NOT NULL,
    epoch bigint NOT NULL,
    control_next bigint NOT NULL,
    position jsonb NOT NULL,
    source_ts timestamptz NOT NULL,
    control_mark text NOT NULL,
    copies jsonb,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline, shard)) WITH (fillfactor = 40);
COMMENT ON TABLE cdc.shard IS
    'Scaled mode: per shard its fence, and how far its partitions are applied, moved in the transaction of their rows.';
COMMENT ON COLUMN cdc.shard.waits_at IS 'The control record at which it waits for the other shards.';

CREATE FUNCTION cdc.publish(of_pipeline text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
DECLARE one cdc.tables; reached text;
BEGIN
    UPDATE cdc.progress p SET cut_no = s.cut_no, epoch = s.epoch, control_next = s.control_next, position = s.position,
           source_ts = s.source_ts, control_mark = s.control_mark, copies = s.copies, applied_at = clock_timestamp()
      FROM (SELECT l.* FROM cdc.shard l WHERE l.pipeline = of_pipeline AND NOT EXISTS
                (SELECT FROM cdc.shard o
                  WHERE o.pipeline = of_pipeline AND o.position <> l.position AND NOT cdc.covers(o.position, l.position))
             ORDER BY l.control_next, l.shard LIMIT 1) s
     WHERE p.pipeline = of_pipeline AND p.control_next <= s.control_next
       AND (p.control_next, p.cut_no, p.source_ts) IS DISTINCT FROM (s.control_next, s.cut_no, s.source_ts);
    FOR one IN SELECT * FROM cdc.tables WHERE pipeline = of_pipeline AND state IN ('catching_up','quarantined')
               ORDER BY db, "table" FOR UPDATE SKIP LOCKED LOOP
        CONTINUE WHEN EXISTS (SELECT FROM cdc.quarantine q WHERE (q.pipeline, q.db, q."table") = (one.pipeline, one.db, one."table"));
        reached := CASE WHEN one.ceiling IS NOT NULL AND EXISTS (SELECT FROM cdc.shard s WHERE s.pipeline = of_pipeline)
            AND NOT EXISTS (SELECT FROM cdc.shard s WHERE s.pipeline = of_pipeline AND NOT cdc.covers(s.position, one.ceiling))
            THEN 'consistent' ELSE 'catching_up' END;
        UPDATE cdc.tables t SET changed_at = now(), state = reached
         WHERE (t.pipeline, t.db, t."table") = (one.pipeline, one.db, one."table") AND t.state <> reached;
    END LOOP;
END $$;
COMMENT ON FUNCTION cdc.publish(text) IS 'Scaled mode: bring cdc.progress and the states of tables up to what every shard has applied.';
""",
    # 9: what may be believed of the source's time
    """
ALTER TABLE cdc.progress ADD COLUMN clock_offset_us bigint NOT NULL DEFAULT 0;
ALTER TABLE cdc.shard ADD COLUMN clock_offset_us bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN cdc.progress.clock_offset_us IS 'How far the source''s clock was ahead, in microseconds, as capture measured it.';

CREATE FUNCTION cdc.believed(source_ts timestamptz, applied_at timestamptz, clock_offset_us bigint) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN source_ts > 'epoch' THEN least(source_ts, applied_at + make_interval(secs => clock_offset_us / 1e6)) END
$$;
COMMENT ON FUNCTION cdc.believed(timestamptz, timestamptz, bigint) IS
    'Up to which moment of the source a place is consistent: never beyond what the source''s clock showed when that was applied.';

CREATE FUNCTION cdc.behind(source_ts timestamptz, applied_at timestamptz, clock_offset_us bigint) RETURNS double precision
LANGUAGE sql VOLATILE SET search_path = pg_catalog AS $$
    SELECT greatest(extract(epoch FROM clock_timestamp() + make_interval(secs => clock_offset_us / 1e6)
                                       - cdc.believed(source_ts, applied_at, clock_offset_us)), 0)::float8
     WHERE source_ts > 'epoch'
$$;
COMMENT ON FUNCTION cdc.behind(timestamptz, timestamptz, bigint) IS 'How many seconds ago that was; it grows by itself.';

CREATE OR REPLACE VIEW cdc.freshness AS
SELECT t.pipeline, t.db, t."table", t.target_schema, t.target_table, t.state,
       CASE WHEN t.state = 'consistent' THEN cdc.believed(p.source_ts, p.applied_at, p.clock_offset_us) END AS consistent_through,
       CASE WHEN t.state = 'consistent' THEN cdc.behind(p.source_ts, p.applied_at, p.clock_offset_us) END AS seconds_behind,
       p.applied_at,
       (SELECT count(DISTINCT q.key_hash) FROM cdc.quarantine q
         WHERE (q.pipeline, q.db, q."table") = (t.pipeline, t.db, t."table")) AS quarantined,
       t.reason
  FROM cdc.tables t LEFT JOIN cdc.progress p USING (pipeline);

CREATE OR REPLACE FUNCTION cdc.publish(of_pipeline text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
DECLARE one cdc.tables; reached text;
BEGIN
    UPDATE cdc.progress p SET cut_no = s.cut_no, epoch = s.epoch, control_next = s.control_next, position = s.position,
           source_ts = s.source_ts, control_mark = s.control_mark, copies = s.copies, clock_offset_us = s.clock_offset_us,
           applied_at = s.applied_at
      FROM (SELECT l.* FROM cdc.shard l WHERE l.pipeline = of_pipeline AND NOT EXISTS
                (SELECT FROM cdc.shard o
                  WHERE o.pipeline = of_pipeline AND o.position <> l.position AND NOT cdc.covers(o.position, l.position))
             ORDER BY l.control_next, l.shard LIMIT 1) s
     WHERE p.pipeline = of_pipeline AND p.control_next <= s.control_next
       AND (p.control_next, p.cut_no, p.source_ts, p.clock_offset_us)
           IS DISTINCT FROM (s.control_next, s.cut_no, s.source_ts, s.clock_offset_us);
    FOR one IN SELECT * FROM cdc.tables WHERE pipeline = of_pipeline AND state IN ('catching_up','quarantined')
               ORDER BY db, "table" FOR UPDATE SKIP LOCKED LOOP
        reached := CASE
            WHEN EXISTS (SELECT FROM cdc.quarantine q WHERE (q.pipeline, q.db, q."table") = (one.pipeline, one.db, one."table"))
            THEN 'quarantined'
            WHEN one.ceiling IS NOT NULL AND EXISTS (SELECT FROM cdc.shard s WHERE s.pipeline = of_pipeline)
            AND NOT EXISTS (SELECT FROM cdc.shard s WHERE s.pipeline = of_pipeline AND NOT cdc.covers(s.position, one.ceiling))
            THEN 'consistent' ELSE 'catching_up' END;
        UPDATE cdc.tables t SET changed_at = now(), state = reached
         WHERE (t.pipeline, t.db, t."table") = (one.pipeline, one.db, one."table") AND t.state <> reached;
    END LOOP;
END $$;
""",
    # 10: a request's number is given once, whatever becomes of the request
    """
CREATE TABLE cdc.request_number (
    pipeline text PRIMARY KEY REFERENCES cdc.pipeline,
    next bigint NOT NULL);
COMMENT ON TABLE cdc.request_number IS 'The number of the next request: capture hears no number twice, so none is given twice.';
""",
    # 11: a load time per table, for dbt
    LOADED_AT,
    # 12: who runs, why whoever ended did, and a reset that is not finished
    PROCESS,
)

VERSION = len(MIGRATIONS)
