-- Whose events are on record already. $1 their ids.
SELECT event_id, tenant, tool_id FROM events WHERE event_id = ANY($1::uuid[])
