"""The step that gives dbt and the like a time per table, in the target's own clock, right for quiet tables too."""

from __future__ import annotations

LOADED_AT = """
CREATE VIEW cdc.loaded_at AS
SELECT t.target_schema, t.target_table, t.pipeline, t.state,
       CASE WHEN t.state = 'consistent' THEN cdc.believed(p.source_ts, p.applied_at, p.clock_offset_us)
            WHEN t.state = 'quarantined' AND cdc.covers(p.position, t.ceiling) THEN least(
                cdc.believed(p.source_ts, p.applied_at, p.clock_offset_us),
                (SELECT min(q.source_ts) FROM cdc.quarantine q
                  WHERE (q.pipeline, q.db, q."table") = (t.pipeline, t.db, t."table") AND q.source_ts > 'epoch'))
       END - make_interval(secs => p.clock_offset_us / 1e6) AS loaded_at
  FROM cdc.tables t LEFT JOIN cdc.progress p USING (pipeline);
COMMENT ON VIEW cdc.loaded_at IS
    'Per target table: up to when it has all changes of the source, by this server''s clock;'
    ' with rows in quarantine up to the oldest of them; null while it is not known to be complete.';
"""
