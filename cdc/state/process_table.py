"""Who runs, why whoever ended did, and a reset that is not finished: a step of the schema."""

PROCESS = """
CREATE TABLE cdc.process (
    pipeline text NOT NULL,
    number integer NOT NULL,
    command text NOT NULL,
    owner text NOT NULL,
    started_at timestamptz NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    doing jsonb NOT NULL DEFAULT '{}',
    ended_at timestamptz,
    ended jsonb,
    PRIMARY KEY (pipeline, number));
COMMENT ON TABLE cdc.process IS
 'The last processes of a pipeline. Whoever runs holds an advisory lock of its number; a row alone proves nothing.';

ALTER TABLE cdc.pipeline ADD COLUMN reset jsonb;
COMMENT ON COLUMN cdc.pipeline.reset IS
 'What cdc reset has begun to take away and has not finished: nothing starts before it has.';
"""
