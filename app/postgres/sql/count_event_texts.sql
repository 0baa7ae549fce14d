-- How many events the event log has of a tenant ($1).
SELECT count(*) FROM events
WHERE tenant = $1
