-- Which entry of its stream each of these events is on record with, and whose it is.
-- $1 event ids.
SELECT event_id, tenant, tool_id, partition, entry_id, status
FROM events WHERE event_id = ANY($1::uuid[])
