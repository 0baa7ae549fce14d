-- What the event log has of a context that is gone: what was delivered to it, and its summaries.
-- $1 tenant, $2 context
WITH summaries AS (
    DELETE FROM daily_summaries WHERE tenant = $1 AND context_id = $2
)
DELETE FROM deliveries WHERE tenant = $1 AND context_id = $2
