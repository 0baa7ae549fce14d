-- What events of tools that move came to here. One that failed before comes again with what it came to;
-- where it works, and who was given it, was said the first time.
-- $1 event, $2 tenant, $3 tool, $4 path, $5 whether old workers get it, $6 ordering key, $7 contexts as
-- JSON (null: not known), $8 stage that dropped it, $9 when, in ms
INSERT INTO path_events (
    event_id, tenant, tool_id, path, copied, ordering_key, contexts, dropped_by, decided_at
)
SELECT
    p.event_id, p.tenant, p.tool_id, p.path, p.copied, p.ordering_key,
    CASE WHEN p.contexts <> 'null' THEN ARRAY(SELECT json_array_elements_text(p.contexts::json)) END,
    p.dropped_by, to_timestamp(p.decided_at_ms / 1000.0)
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[], $8::text[],
    $9::bigint[]
) AS p (
    event_id, tenant, tool_id, path, copied, ordering_key, contexts, dropped_by, decided_at_ms
)
ON CONFLICT (event_id) DO UPDATE SET
    contexts = excluded.contexts, dropped_by = excluded.dropped_by, decided_at = excluded.decided_at
