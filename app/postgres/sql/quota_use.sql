-- How much a tenant has of what has a quota. $1 tenant
SELECT
    (SELECT count(*) FROM tools WHERE tenant = $1) AS tools,
    (SELECT count(*) FROM contexts WHERE tenant = $1) AS contexts,
    (SELECT count(*) FROM api_keys WHERE tenant = $1) AS keys,
    (SELECT count(*) FROM subscriptions WHERE tenant = $1) AS subscriptions,
    (
        SELECT coalesce(max(number), 0)
        FROM (
            SELECT count(*) AS number FROM subscriptions WHERE tenant = $1 GROUP BY context_id
        ) AS each
    ) AS subscriptions_per_context
