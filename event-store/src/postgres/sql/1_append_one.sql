-- What es_append_1 does, for one event of one stream without a condition: the most frequent call, in a transaction of its own. The head
-- moves at once, and goes back where something speaks against the event. An id that is taken while the stream is as expected is an error
-- of the index (23505), for which es_append_1 is asked then: to look beforehand takes longer.
CREATE FUNCTION es_append_one_1(
    p_lock_timeout text, p_stream text, p_expected integer, p_version bigint, p_id uuid, p_type text, p_schema integer, p_time bigint,
    p_tags text, p_payload bytea, p_metadata bytea, p_correlation uuid, p_causation uuid
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_ignored text := set_config('lock_timeout', p_lock_timeout, true);
    v_position bigint;
    v_version bigint;
    v_next bigint;
    v_taken bigint;
BEGIN
    UPDATE es_head SET position = position + 1 WHERE one RETURNING position INTO STRICT v_position;
    SELECT e.version + 1 INTO v_next FROM es_events e WHERE e.stream = p_stream ORDER BY e.version DESC LIMIT 1;
    IF v_next IS NULL THEN
        SELECT t.first_version INTO v_version FROM es_truncated t WHERE t.stream = p_stream;
        v_version := coalesce(v_version, 0);
    ELSE
        v_version := v_next;
    END IF;
    IF p_expected = 3 AND v_next - 1 IS DISTINCT FROM p_version OR p_expected = 1 AND v_next IS NOT NULL OR p_expected = 2 AND v_next IS NULL THEN
        UPDATE es_head SET position = position - 1 WHERE one;
        v_ignored := set_config('synchronous_commit', 'off', true);
        SELECT e.position INTO v_taken FROM es_events e WHERE e.event_id = p_id;
        IF v_taken IS NOT NULL THEN
            RETURN ARRAY[5, 0, v_taken, -1];
        END IF;
        RETURN ARRAY[2, 0, coalesce(v_next - 1, -1), -1];
    END IF;
    INSERT INTO es_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata, correlation_id,
            causation_id)
        VALUES (v_position, v_version, p_time, p_id, p_schema, p_stream, p_type, p_tags, p_payload, p_metadata, p_correlation, p_causation);
    IF p_tags <> '' THEN
        IF strpos(p_tags, E'\x1f') = 0 THEN
            INSERT INTO es_tags (tag, position) VALUES (p_tags, v_position);
        ELSE
            INSERT INTO es_tags (tag, position) SELECT t.tag, v_position FROM unnest(string_to_array(p_tags, E'\x1f')) AS t(tag);
        END IF;
    END IF;
    RETURN ARRAY[0, v_position, 0, v_version];
END
$$;
