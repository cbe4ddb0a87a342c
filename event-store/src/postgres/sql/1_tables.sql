-- The tables that an append writes have no CHECK: the server would read each one's text anew at every call, a fifth of the call's time.
-- What they would say is among the rules of `PostgresStore::verify`.

-- The head of the order: one row. It is locked by every append before anything is judged, and released by the commit, after the flush of the
-- log: positions are dense and in the order of commits. The low fill factor leaves room for its versions in one page.
CREATE TABLE es_head (
    one boolean PRIMARY KEY DEFAULT true,
    position bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO es_head (position) VALUES (0);

-- Streams of which events were removed: those from first_version on may exist. One of which all were removed goes on there.
CREATE TABLE es_truncated (
    stream text COLLATE "C" PRIMARY KEY,
    first_version bigint NOT NULL
);

-- time: microseconds since 1970-01-01 UTC. tags: sorted, joined by U+001F, which no name holds.
CREATE TABLE es_events (
    position bigint PRIMARY KEY,
    version bigint,
    time bigint NOT NULL,
    event_id uuid NOT NULL,
    schema_version integer NOT NULL,
    stream text COLLATE "C",
    type text COLLATE "C" NOT NULL,
    tags text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    metadata bytea NOT NULL,
    correlation_id uuid,
    causation_id uuid
);
CREATE UNIQUE INDEX es_events_event_id ON es_events (event_id);
CREATE UNIQUE INDEX es_events_stream ON es_events (stream, version) WHERE stream IS NOT NULL;
CREATE INDEX es_events_type ON es_events (type, position);

CREATE TABLE es_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

CREATE TABLE es_snapshots (
    stream text COLLATE "C" PRIMARY KEY,
    aggregate_type bytea NOT NULL,
    version bigint NOT NULL,
    schema_version integer NOT NULL,
    state bytea NOT NULL,
    time bigint NOT NULL
);

-- Versions of projections: how far each has come, null before the first event, and which of a name is the active one.
CREATE TABLE es_checkpoints (
    projection text COLLATE "C",
    version bigint,
    position bigint,
    is_active boolean NOT NULL DEFAULT false,
    PRIMARY KEY (projection, version)
);
CREATE UNIQUE INDEX es_checkpoints_active ON es_checkpoints (projection) WHERE is_active;

-- Events that a version of a projection has gone past without applying them.
CREATE TABLE es_parked (
    projection text COLLATE "C",
    version bigint,
    position bigint,
    type text COLLATE "C" NOT NULL,
    error text NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (projection, version, position)
);
