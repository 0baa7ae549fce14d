-- Delete some of a tenant's contexts; owners of their partitions delete the feeds. $1 tenant, $2 limit
WITH gone AS (
    DELETE FROM contexts
    WHERE tenant = $1 AND context_id IN (
        SELECT context_id FROM contexts WHERE tenant = $1 ORDER BY context_id LIMIT $2
    )
    RETURNING tenant, context_id
),
noted AS (
    INSERT INTO deleted_contexts (tenant, context_id)
    SELECT tenant, context_id FROM gone
    ON CONFLICT (tenant, context_id) DO UPDATE SET deleted_at = now()
)
SELECT count(*) AS contexts FROM gone
