-- Rows of some events lose what is personal. $1 tenant, $2 events, $3 whether it is a trial
WITH wanted AS (
    SELECT event_id FROM events
    WHERE tenant = $1 AND event_id = ANY($2::uuid[]) AND status <> 'erased'
),

erased AS (
    UPDATE events SET
        status = 'erased', message_id = '', delivery_id = '', error = '', schema_errors = '{}',
        enrichment = '', payload_bytes = 0, gone_by = 'erasure'
    WHERE NOT $3::boolean AND event_id IN (SELECT event_id FROM wanted)
)

SELECT count(*) AS found FROM wanted
