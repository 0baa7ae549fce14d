-- The same, of a tool, or of all of a tenant. $1 tenant, $2 tool, $3 below which event, $4 limit, $5 trial
WITH wanted AS (
    SELECT event_id, tool_id, delivery_id FROM events
    WHERE
        tenant = $1 AND ($2::text IS NULL OR tool_id = $2) AND event_id < $3::uuid
        AND status <> 'erased'
    LIMIT $4
),

erased AS (
    UPDATE events SET
        status = 'erased', message_id = '', delivery_id = '', error = '', schema_errors = '{}',
        enrichment = '', payload_bytes = 0, gone_by = 'erasure'
    WHERE NOT $5::boolean AND event_id IN (SELECT event_id FROM wanted)
),

-- what a tool's move knows of them: an ordering key is a sender's word, hashed
moved AS (
    DELETE FROM path_events
    WHERE NOT $5::boolean AND event_id IN (SELECT event_id FROM wanted)
),

told AS (
    DELETE FROM old_results AS r
    USING wanted AS w
    WHERE
        NOT $5::boolean AND r.tenant = $1 AND r.tool_id = w.tool_id
        AND r.ref IN (
            'e:' || w.event_id::text, 'd:' || w.event_id::text, 'd:' || nullif(w.delivery_id, '')
        )
)

SELECT count(*) AS found FROM wanted
