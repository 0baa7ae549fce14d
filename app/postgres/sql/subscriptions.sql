-- $1 tenant, $2 context
SELECT * FROM subscriptions WHERE tenant = $1 AND context_id = $2 ORDER BY name
