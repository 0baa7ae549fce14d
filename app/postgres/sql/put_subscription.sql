-- Make or change a subscription: it begins anew, without errors, and switched on. No row where the
-- tenant has $9 or the context $10 of them (0: any number), and this is none of them. One at a time
-- of a tenant, since it counts.
-- $1 tenant, $2 context, $3 name, $4 tool, $5 types, $6 condition, $7 priority, $8 follow,
-- $9 most of the tenant, $10 most of the context
WITH forgotten AS (
    DELETE FROM subscription_errors WHERE tenant = $1 AND context_id = $2 AND name = $3
)
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types, condition, priority, follow)
SELECT $1, $2, $3, $4, $5::text[], $6, $7, $8
WHERE EXISTS (
        SELECT FROM subscriptions WHERE tenant = $1 AND context_id = $2 AND name = $3
    )
    OR (
        ($9::bigint = 0 OR (SELECT count(*) FROM subscriptions WHERE tenant = $1) < $9::bigint)
        AND (
            $10::bigint = 0
            OR (SELECT count(*) FROM subscriptions WHERE tenant = $1 AND context_id = $2)
                < $10::bigint
        )
    )
ON CONFLICT (tenant, context_id, name) DO UPDATE SET
    tool_id = $4, types = $5, condition = $6, priority = $7, follow = $8, updated_at = now(),
    switched_off = ''
RETURNING *, created_at = updated_at AS created,
    0::bigint AS errors, '' AS error_kind, '' AS error, NULL::timestamptz AS last_error_at
