-- The two tables of one version of the projection, in a schema of their own (the search path names it).

CREATE TABLE IF NOT EXISTS workflow_executions (
    correlation_id          text PRIMARY KEY,       -- the execution
    workflow_type           text NOT NULL,
    current_state           text NOT NULL,
    namespace               text NOT NULL,
    session_id              text,
    stamp_id                text,
    file_hash               text,
    file_path               text NOT NULL,
    file_size_bytes         bigint NOT NULL,
    content_type            text NOT NULL,
    workflow_steps          jsonb NOT NULL,         -- an array, in the order in which steps were done
    workflow_steps_executed integer NOT NULL,
    intelligence_data       jsonb,
    hash_generation_time_ms double precision,
    execution_time_ms       double precision,
    error_code              text,
    error_message           text,
    metadata                jsonb NOT NULL,
    created_at              timestamptz NOT NULL,
    started_at              timestamptz,            -- when its steps began
    completed_at            timestamptz,            -- when it ended, well or not
    updated_at              timestamptz NOT NULL
);

CREATE INDEX IF NOT EXISTS workflow_executions_stamp ON workflow_executions (stamp_id) WHERE stamp_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS workflow_executions_session ON workflow_executions (session_id, created_at DESC)
    WHERE session_id IS NOT NULL;
-- A list of pending entries would be read from end to end by each question; nobody waits for the projection's writes.
CREATE INDEX IF NOT EXISTS workflow_executions_steps ON workflow_executions USING gin (workflow_steps jsonb_path_ops)
    WITH (fastupdate = off);
CREATE INDEX IF NOT EXISTS workflow_executions_intelligence ON workflow_executions USING gin (intelligence_data jsonb_path_ops)
    WITH (fastupdate = off) WHERE intelligence_data IS NOT NULL;

-- What the workflows of a namespace that ended within a window come to.
CREATE TABLE IF NOT EXISTS bridge_states (
    bridge_id                  text PRIMARY KEY,    -- the namespace, '@', the window's start in microseconds
    namespace                  text NOT NULL,
    aggregation_type           text NOT NULL,
    window_start               timestamptz NOT NULL,
    window_end                 timestamptz NOT NULL,
    current_fsm_state          text NOT NULL,       -- of the workflow that ended last
    total_workflows_processed  bigint NOT NULL,
    total_items_aggregated     bigint NOT NULL,     -- stamps
    total_size_bytes           bigint NOT NULL,
    unique_file_types          text[] NOT NULL,     -- at most 100 of them
    sample_workflows           text[] NOT NULL,     -- at most 100 of them
    last_aggregation_timestamp timestamptz NOT NULL,
    aggregation_metadata       jsonb NOT NULL,      -- the application's
    configuration              jsonb NOT NULL,      -- the application's
    version                    bigint NOT NULL,     -- one more with each change, whoever makes it
    created_at                 timestamptz NOT NULL,
    updated_at                 timestamptz NOT NULL
);

CREATE INDEX IF NOT EXISTS bridge_states_namespace ON bridge_states (namespace, window_start DESC);
CREATE INDEX IF NOT EXISTS bridge_states_window ON bridge_states (window_start);
