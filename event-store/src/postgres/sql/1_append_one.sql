-- What es_append_1 does, for one event of one stream without a condition: the most frequent call, in a transaction of its own. All that
-- usually speaks for it is done at once, and taken back where something speaks against it.
CREATE FUNCTION es_append_one_1(
    p_lock_timeout text, p_stream text, p_expected integer, p_version bigint, p_id uuid, p_type text, p_schema integer, p_time bigint,
    p_tags text, p_payload bytea, p_metadata bytea, p_correlation uuid, p_causation uuid
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_ignored text := set_config('lock_timeout', p_lock_timeout, true);
    v_position bigint;
    v_version bigint;
    v_first bigint;
    v_next bigint;
    v_taken bigint;
BEGIN
    UPDATE es_head SET position = position + 1 WHERE one RETURNING position INTO STRICT v_position;
    UPDATE es_streams s SET next_version = s.next_version + 1
        WHERE s.name = p_stream AND (p_expected = 0
            OR p_expected = 3 AND s.next_version - 1 = p_version AND s.first_version < s.next_version
            OR p_expected = 1 AND s.first_version = s.next_version
            OR p_expected = 2 AND s.first_version < s.next_version)
        RETURNING s.next_version - 1 INTO v_version;
    IF v_version IS NULL THEN
        SELECT s.first_version, s.next_version INTO v_first, v_next FROM es_streams s WHERE s.name = p_stream;
        SELECT e.position INTO v_taken FROM es_events e WHERE e.event_id = p_id;
        IF v_next IS NOT NULL OR p_expected > 1 OR v_taken IS NOT NULL THEN
            UPDATE es_head SET position = position - 1 WHERE one;
            v_ignored := set_config('synchronous_commit', 'off', true);
            IF v_taken IS NOT NULL THEN
                RETURN ARRAY[5, 0, v_taken, -1];
            END IF;
            RETURN ARRAY[2, 0, CASE WHEN v_first < v_next THEN v_next - 1 ELSE -1 END, -1];
        END IF;
        v_version := 0;
        INSERT INTO es_streams (name, first_version, next_version) VALUES (p_stream, 0, 1);
    END IF;
    INSERT INTO es_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata, correlation_id,
            causation_id)
        VALUES (v_position, v_version, p_time, p_id, p_schema, p_stream, p_type, p_tags, p_payload, p_metadata, p_correlation, p_causation)
        ON CONFLICT (event_id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT e.position INTO v_taken FROM es_events e WHERE e.event_id = p_id;
        UPDATE es_head SET position = position - 1 WHERE one;
        UPDATE es_streams SET next_version = next_version - 1 WHERE name = p_stream;
        v_ignored := set_config('synchronous_commit', 'off', true);
        RETURN ARRAY[5, 0, v_taken, -1];
    END IF;
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
