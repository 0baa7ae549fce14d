-- Rows of some events lose what is personal. $1 tenant, $2 events, $3 whether it is a trial
WITH wanted AS (
    SELECT event_id, tool_id, delivery_id FROM events
    WHERE tenant = $1 AND event_id = ANY($2::uuid[]) AND status <> 'erased'
),

erased AS (
    UPDATE events SET
        status = 'erased', message_id = '', delivery_id = '', error = '', schema_errors = '{}',
        enrichment = '', payload_bytes = 0, gone_by = 'erasure'
    WHERE NOT $3::boolean AND event_id IN (SELECT event_id FROM wanted)
),

-- what a tool's move knows of them: an ordering key is a sender's word, hashed
moved AS (
    DELETE FROM path_events
    WHERE NOT $3::boolean AND event_id IN (SELECT event_id FROM wanted)
),

told AS (
    DELETE FROM old_results AS r
    USING wanted AS w
    WHERE
        NOT $3::boolean AND r.tenant = $1 AND r.tool_id = w.tool_id
        AND r.ref IN (
            'e:' || w.event_id::text, 'd:' || w.event_id::text, 'd:' || nullif(w.delivery_id, '')
        )
)

SELECT count(*) AS found FROM wanted
