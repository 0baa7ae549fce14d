-- A page of a context's subscriptions. $1 tenant, $2 context, $3 past which name, $4 limit
SELECT s.*, coalesce(e.errors, 0) AS errors, coalesce(e.kind, '') AS error_kind,
    coalesce(e.error, '') AS error, e.last_at AS last_error_at
FROM subscriptions s LEFT JOIN subscription_errors e USING (tenant, context_id, name)
WHERE tenant = $1 AND context_id = $2 AND name > $3 ORDER BY name LIMIT $4
