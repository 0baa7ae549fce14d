-- $1 tenants, $2 contexts, $3 names
SELECT s.*
FROM subscriptions AS s
INNER JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, context_id, name)
    USING (tenant, context_id, name)
