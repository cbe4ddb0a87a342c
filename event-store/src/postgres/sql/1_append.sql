-- The first event behind p_after that carries all of p_tags and is of one of p_types; empty texts ask for nothing.
-- Of several tags the one with the fewest events behind p_after leads, counted up to a hundred.
CREATE FUNCTION es_first_match_1(p_after bigint, p_tags text, p_types text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_separator CONSTANT text := E'\x1f';
    v_tags text[] := string_to_array(p_tags, v_separator);
    v_types text[] := string_to_array(p_types, v_separator);
    v_tag text := v_tags[1];
    v_match bigint;
BEGIN
    IF p_tags = '' AND p_types = '' THEN
        SELECT e.position INTO v_match FROM es_events e WHERE e.position > p_after ORDER BY e.position LIMIT 1;
    ELSIF p_tags = '' THEN
        SELECT min(m.position) INTO v_match FROM unnest(v_types) AS t(name)
            CROSS JOIN LATERAL (SELECT e.position FROM es_events e WHERE e.type = t.name AND e.position > p_after
                ORDER BY e.type, e.position LIMIT 1) m;
    ELSE
        IF cardinality(v_tags) > 1 THEN
            SELECT t.name INTO v_tag FROM unnest(v_tags) AS t(name)
                CROSS JOIN LATERAL (SELECT count(*) AS some FROM (SELECT 1 FROM es_tags c
                    WHERE c.tag = t.name AND c.position > p_after LIMIT 100) counted) n
                ORDER BY n.some LIMIT 1;
        END IF;
        SELECT l.position INTO v_match FROM es_tags l
            WHERE l.tag = v_tag AND l.position > p_after
                AND (cardinality(v_tags) = 1 OR NOT EXISTS (SELECT FROM unnest(v_tags) AS o(name)
                    WHERE NOT EXISTS (SELECT FROM es_tags c WHERE c.tag = o.name AND c.position = l.position)))
                AND (p_types = '' OR (SELECT e.type FROM es_events e WHERE e.position = l.position) = ANY (v_types))
            ORDER BY l.tag, l.position LIMIT 1;
    END IF;
    RETURN v_match;
END
$$;

-- Judges a call's requests one after the other, and writes those that nothing speaks against.
--
-- The head row is locked first: each statement of this function takes its own snapshot (it is VOLATILE, the isolation READ COMMITTED),
-- so all that is looked at is as of a moment after the lock was granted. In a stricter isolation a head that has moved is 40001.
--
-- p_own: whether this call is a transaction of its own. p_requests: (targets, events, the first event whose id an earlier one of the
-- request has, that earlier one), the last two counted from 1 and 0 for none. p_targets: (place in p_streams, what is expected: 0 nothing,
-- 1 no events, 2 events, 3 the version; the version; events; events of the call before its first). Each event: its request and its target, 0 for an event without a stream.
-- p_tag_events, p_tag_names: each tag of each event once more, with its event. p_items, of conditions: (request, 0 boundary or 1 existence, after). p_matches: (request, 0 or 1, an event of the call before the
-- request that matches), ascending.
--
-- Its plans are made once a connection: the planner would take each call's few elements for a reason to plan anew, which takes longer than
-- the call. They do not grow stale with the tables: every look-up is a row at a time, and never by a scan of a table that is small as yet.
-- So the head is found by its key, too: its scan would cost so much on paper that the server would compile it, in 40 ms.
--
-- For each request (verdict, x, y): 0 written from position x on; 1 nothing to write; 2 target x (from 0) is at version y, -1 for none;
-- 3 the event at x matches the boundary, 4 the existence guard; 5 the id of event x (from 0) is taken by the event at y. Then for each target
-- the last version of its stream, -1 for none.
CREATE FUNCTION es_append_1(
    p_own boolean, p_lock_timeout text, p_streams text[], p_requests integer[], p_targets bigint[],
    p_event_requests integer[], p_event_targets integer[], p_ids uuid[], p_types text[], p_schemas integer[], p_times bigint[],
    p_tags text[], p_payloads bytea[], p_metadata bytea[], p_correlations uuid[], p_causations uuid[], p_tag_events integer[],
    p_tag_names text[], p_items bigint[], p_item_tags text[], p_item_types text[], p_matches integer[]
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_requests CONSTANT integer := cardinality(p_requests) / 4;
    v_all_targets CONSTANT integer := cardinality(p_targets) / 5;
    v_all_events CONSTANT integer := cardinality(p_ids);
    v_all_tags CONSTANT integer := cardinality(p_tag_events);
    v_items CONSTANT integer := cardinality(p_items) / 3;
    v_matches CONSTANT integer := cardinality(p_matches) / 3;
    v_setting text;
    v_ignored text;
    v_head bigint;
    v_last bigint;
    v_all_written boolean;
    v_first_versions bigint[];
    v_next_versions bigint[];
    v_taken integer[];
    v_taken_by bigint[];
    -- By request: its first position less the place of its first event in the call; by target: the same of versions. Null if refused.
    v_position_shifts bigint[] := '{}';
    v_version_shifts bigint[] := '{}';
    v_verdicts bigint[] := array_fill(0::bigint, ARRAY[3 * v_requests]);
    v_versions bigint[] := array_fill(-1::bigint, ARRAY[v_all_targets]);
    v_verdict bigint;
    v_x bigint;
    v_y bigint;
    v_events integer;
    v_event integer := 0;
    v_target integer := 0;
    v_last_target integer;
    v_taken_at integer := 1;
    v_item integer := 1;
    v_match integer := 1;
    v_stream integer;
    v_actual bigint;
    v_found bigint;
    v_boundary bigint;
    v_existence bigint;
    v_after bigint;
BEGIN
    IF NOT p_own THEN
        v_setting := current_setting('lock_timeout');
    END IF;
    v_ignored := set_config('lock_timeout', p_lock_timeout, true);
    IF v_all_events > 0 THEN
        UPDATE es_head SET position = es_head.position + v_all_events WHERE one RETURNING es_head.position - v_all_events INTO v_head;
    ELSE
        SELECT h.position INTO v_head FROM es_head h WHERE h.one FOR UPDATE;
    END IF;
    IF v_head IS NULL THEN
        RAISE EXCEPTION 'es_head is empty';
    END IF;
    IF NOT p_own THEN
        v_ignored := set_config('lock_timeout', v_setting, true);
    END IF;

    SELECT s.firsts, s.nexts, i.places, i.positions INTO v_first_versions, v_next_versions, v_taken, v_taken_by
        FROM (SELECT array_agg(CASE WHEN k.next IS NULL THEN coalesce(t.next, 0) ELSE 0 END) AS firsts,
                array_agg(coalesce(k.next, t.next, 0)) AS nexts
            FROM unnest(p_streams) AS u(name)
            LEFT JOIN LATERAL (SELECT e.version + 1 AS next FROM es_events e WHERE e.stream = u.name ORDER BY e.version DESC LIMIT 1) k ON true
            LEFT JOIN LATERAL (SELECT r.first_version AS next FROM es_truncated r WHERE k.next IS NULL AND r.stream = u.name LIMIT 1) t ON true) s
        CROSS JOIN (SELECT array_agg(u.place) AS places, array_agg(k.position) AS positions
            FROM generate_series(1, v_all_events) AS u(place)
            CROSS JOIN LATERAL (SELECT e.position FROM es_events e WHERE e.event_id = p_ids[u.place] LIMIT 1) k) i;
    v_last := v_head;

    FOR v_request IN 1 .. v_requests LOOP
        v_events := p_requests[4 * v_request - 2];
        v_last_target := v_target + p_requests[4 * v_request - 3];
        v_verdict := NULL;
        v_x := 0;
        v_y := 0;

        -- Ids.
        WHILE v_taken[v_taken_at] <= v_event LOOP
            v_taken_at := v_taken_at + 1;
        END LOOP;
        IF v_taken[v_taken_at] <= v_event + v_events THEN
            v_verdict := 5;
            v_x := v_taken[v_taken_at] - v_event - 1;
            v_y := v_taken_by[v_taken_at];
        END IF;
        IF p_requests[4 * v_request - 1] > 0 AND (v_verdict IS NULL OR v_x >= p_requests[4 * v_request - 1]) THEN
            v_verdict := 5;
            v_x := p_requests[4 * v_request - 1] - 1;
            v_y := v_last + p_requests[4 * v_request];
        END IF;

        -- Expected versions. A stream counts as continued until something speaks against the request.
        IF v_verdict IS NULL THEN
            FOR t IN v_target + 1 .. v_last_target LOOP
                v_stream := p_targets[5 * t - 4];
                v_actual := v_next_versions[v_stream] - 1;
                IF v_actual < v_first_versions[v_stream] THEN
                    v_actual := -1;
                END IF;
                IF (CASE p_targets[5 * t - 3]
                    WHEN 0 THEN false
                    WHEN 1 THEN v_actual >= 0
                    WHEN 2 THEN v_actual < 0
                    ELSE v_actual <> p_targets[5 * t - 2]
                END) THEN
                    v_verdict := 2;
                    v_x := t - v_target - 1;
                    v_y := v_actual;
                    v_last_target := t - 1;
                    EXIT;
                END IF;
                v_version_shifts[t] := v_next_versions[v_stream] - p_targets[5 * t] - 1;
                v_next_versions[v_stream] := v_next_versions[v_stream] + p_targets[5 * t - 1];
            END LOOP;
        ELSE
            v_last_target := v_target;
        END IF;

        -- The condition: what is recorded, then what the requests before this one have been granted.
        IF v_items > 0 THEN
            v_boundary := NULL;
            v_existence := NULL;
            v_after := 0;
            WHILE p_items[3 * v_item - 2] = v_request LOOP
                IF v_verdict IS NULL THEN
                    v_found := es_first_match_1(p_items[3 * v_item], p_item_tags[v_item], p_item_types[v_item]);
                    IF p_items[3 * v_item - 1] = 0 THEN
                        v_after := p_items[3 * v_item];
                        v_boundary := least(v_boundary, v_found);
                    ELSE
                        v_existence := least(v_existence, v_found);
                    END IF;
                END IF;
                v_item := v_item + 1;
            END LOOP;
            WHILE p_matches[3 * v_match - 2] = v_request LOOP
                v_found := v_position_shifts[p_event_requests[p_matches[3 * v_match]]] + p_matches[3 * v_match];
                IF v_verdict IS NULL AND v_found IS NOT NULL THEN
                    IF p_matches[3 * v_match - 1] = 1 THEN
                        v_existence := least(v_existence, v_found);
                    ELSIF v_found > v_after THEN
                        v_boundary := least(v_boundary, v_found);
                    END IF;
                END IF;
                v_match := v_match + 1;
            END LOOP;
            IF v_verdict IS NULL AND coalesce(v_boundary, v_existence) IS NOT NULL THEN
                v_verdict := CASE WHEN v_boundary IS NOT NULL THEN 3 ELSE 4 END;
                v_x := coalesce(v_boundary, v_existence);
            END IF;
        END IF;

        IF v_verdict IS NULL THEN
            v_verdict := 1;
            IF v_events > 0 THEN
                v_verdict := 0;
                v_x := v_last + 1;
                v_position_shifts[v_request] := v_last - v_event;
                v_last := v_last + v_events;
            END IF;
            FOR t IN v_target + 1 .. v_last_target LOOP
                v_stream := p_targets[5 * t - 4];
                IF v_next_versions[v_stream] > v_first_versions[v_stream] THEN
                    v_versions[t] := v_next_versions[v_stream] - 1;
                END IF;
            END LOOP;
        ELSE
            FOR t IN v_target + 1 .. v_last_target LOOP
                v_stream := p_targets[5 * t - 4];
                v_next_versions[v_stream] := v_next_versions[v_stream] - p_targets[5 * t - 1];
            END LOOP;
        END IF;
        v_verdicts[3 * v_request - 2] := v_verdict;
        v_verdicts[3 * v_request - 1] := v_x;
        v_verdicts[3 * v_request] := v_y;
        v_target := v_target + p_requests[4 * v_request - 3];
        v_event := v_event + v_events;
    END LOOP;

    IF v_last > v_head THEN
        v_all_written := v_last = v_head + v_all_events;
        INSERT INTO es_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata,
                correlation_id, causation_id)
            SELECT v_position_shifts[p_event_requests[e]] + e, v_version_shifts[p_event_targets[e]] + e, p_times[e], p_ids[e], p_schemas[e],
                    p_streams[p_targets[5 * p_event_targets[e] - 4]], p_types[e], p_tags[e], p_payloads[e], p_metadata[e],
                    p_correlations[e], p_causations[e]
                FROM generate_series(1, v_all_events) AS e
                WHERE v_all_written OR v_position_shifts[p_event_requests[e]] IS NOT NULL;
        IF v_all_tags > 0 THEN
            INSERT INTO es_tags (tag, position)
                SELECT p_tag_names[t], v_position_shifts[p_event_requests[p_tag_events[t]]] + p_tag_events[t]
                    FROM generate_series(1, v_all_tags) AS t
                    WHERE v_all_written OR v_position_shifts[p_event_requests[p_tag_events[t]]] IS NOT NULL;
        END IF;
        IF NOT v_all_written THEN
            UPDATE es_head SET position = v_last WHERE one;
        END IF;
    ELSE
        -- Nothing is written: the head goes back, and nobody has to wait for a flush.
        IF v_all_events > 0 THEN
            UPDATE es_head SET position = v_head WHERE one;
        END IF;
        IF p_own THEN
            v_ignored := set_config('synchronous_commit', 'off', true);
        END IF;
    END IF;
    RETURN v_verdicts || v_versions;
END
$$;
