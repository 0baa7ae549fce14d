-- Delete a context; its feed is deleted by the owner of its partition. Says whether there was one.
-- $1 tenant, $2 context
WITH gone AS (
    DELETE FROM contexts WHERE tenant = $1 AND context_id = $2 RETURNING tenant, context_id
)
INSERT INTO deleted_contexts (tenant, context_id)
SELECT tenant, context_id FROM gone
ON CONFLICT (tenant, context_id) DO UPDATE SET deleted_at = now()
