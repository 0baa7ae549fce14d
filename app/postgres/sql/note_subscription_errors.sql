-- Add to what went wrong with subscriptions; those that are no more are passed over.
-- $1 tenants, $2 contexts, $3 names, $4 errors since, $5 kinds, $6 texts, $7 when (all of one length)
INSERT INTO subscription_errors AS known (tenant, context_id, name, errors, kind, error, last_at)
SELECT s.tenant, s.context_id, s.name, n.errors, n.kind, n.error, n.last_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
            $7::timestamptz[]) AS n (tenant, context_id, name, errors, kind, error, last_at)
JOIN subscriptions s USING (tenant, context_id, name)
ORDER BY s.tenant, s.context_id, s.name
ON CONFLICT (tenant, context_id, name) DO UPDATE SET
    errors = known.errors + excluded.errors, kind = excluded.kind, error = excluded.error,
    last_at = greatest(known.last_at, excluded.last_at)
