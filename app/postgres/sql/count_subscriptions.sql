-- $1 tenant, $2 context
SELECT count(*) AS used FROM subscriptions WHERE tenant = $1 AND context_id = $2
