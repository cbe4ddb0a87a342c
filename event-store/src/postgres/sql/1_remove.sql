-- Removes the events of a stream below version p_before, all of them if it is null, and returns how many there were. The head is locked, so
-- that removals and appends have an order. A stream that has no events left loses its snapshot.
CREATE FUNCTION es_remove_1(p_lock_timeout text, p_stream text, p_before bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_ignored text := set_config('lock_timeout', p_lock_timeout, true);
    v_first bigint;
    v_next bigint;
    v_before bigint;
    v_removed bigint;
BEGIN
    PERFORM FROM es_head h WHERE h.one FOR UPDATE;
    SELECT min(e.version), max(e.version) + 1 INTO v_first, v_next FROM es_events e WHERE e.stream = p_stream;
    v_before := least(coalesce(p_before, v_next), v_next);
    IF v_first IS NULL OR v_before <= v_first THEN
        RETURN 0;
    END IF;
    WITH removed AS (
        DELETE FROM es_events e WHERE e.stream = p_stream AND e.version < v_before RETURNING e.position, e.tags
    ), untagged AS (
        DELETE FROM es_tags t USING removed r
            WHERE t.position = r.position AND t.tag = ANY (string_to_array(r.tags, E'\x1f'))
    )
    SELECT count(*) INTO v_removed FROM removed;
    INSERT INTO es_truncated (stream, first_version) VALUES (p_stream, v_before)
        ON CONFLICT (stream) DO UPDATE SET first_version = excluded.first_version;
    IF v_before = v_next THEN
        DELETE FROM es_snapshots WHERE stream = p_stream;
    END IF;
    RETURN v_removed;
END
$$;
