-- Make or change a context; no row while what one of this name had is still being deleted, or where
-- the tenant has $9 contexts (0: any number) and this is none of them. One at a time of a tenant.
-- $1 tenant, $2 context, $3 name, $4 priority, $5 rate, $6 token budget, $7 daily, $8 retention, $9 most
-- contexts
INSERT INTO contexts (tenant, context_id, name, priority, rate, token_budget, daily, retention)
SELECT $1, $2, $3, $4, $5::jsonb, $6::integer, $7::jsonb, $8::jsonb
WHERE NOT EXISTS (SELECT FROM deleted_contexts AS d WHERE d.tenant = $1 AND d.context_id = $2)
    AND (
        $9::bigint = 0
        OR EXISTS (SELECT FROM contexts WHERE tenant = $1 AND context_id = $2)
        OR (SELECT count(*) FROM contexts WHERE tenant = $1) < $9::bigint
    )
ON CONFLICT (tenant, context_id) DO UPDATE SET
    name = $3, priority = $4, rate = $5, token_budget = $6, retention = $8, updated_at = now(),
    -- a rule that stays the same is as old as it was: what is due already is still told
    daily = CASE
        WHEN contexts.daily - '{since,token_budget}'::text[] = $7 - '{since,token_budget}'::text[]
            THEN $7 || jsonb_build_object('since', contexts.daily -> 'since')
        ELSE $7
    END
RETURNING *, created_at = updated_at AS created
