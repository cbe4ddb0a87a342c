-- The head of the order. Its row is locked by every append before anything is judged, and released by the commit, after the flush of the
-- log: positions are dense and in the order of commits. The low fill factor leaves room for its versions in one page.
CREATE TABLE es_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL CHECK (position >= 0)
) WITH (fillfactor = 10);
INSERT INTO es_head (position) VALUES (0);

-- Versions of a stream: those from first_version up to next_version exist. A stream without events keeps its row, so that
-- its versions go on.
CREATE TABLE es_streams (
    name text COLLATE "C" PRIMARY KEY,
    first_version bigint NOT NULL,
    next_version bigint NOT NULL,
    CHECK (0 <= first_version AND first_version <= next_version)
) WITH (fillfactor = 70);

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
    causation_id uuid,
    CHECK ((stream IS NULL) = (version IS NULL))
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
