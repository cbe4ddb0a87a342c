-- Who owns executions, one row a process. All times of leases are this function's.
CREATE FUNCTION wf_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE TABLE wf_lease (
    owner uuid PRIMARY KEY,
    -- 1 as long as the lease is its owner's; one more each time that somebody takes it over.
    epoch bigint NOT NULL,
    -- Counts renewals: what does not change is not alive.
    beats bigint NOT NULL DEFAULT 0,
    -- '-infinity': its owner has ended in order.
    expires_at timestamptz NOT NULL
);
