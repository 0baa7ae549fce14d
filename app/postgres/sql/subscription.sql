-- $1 tenant, $2 context, $3 name
SELECT * FROM subscriptions WHERE tenant = $1 AND context_id = $2 AND name = $3
