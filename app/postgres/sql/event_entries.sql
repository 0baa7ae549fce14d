-- Which entry of its stream each of these events was recorded with.
-- $1 event ids.
SELECT event_id, tenant, tool_id, entry_id FROM events WHERE event_id = ANY($1::uuid[])
