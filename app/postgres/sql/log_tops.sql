-- The highest number that the event log has of each of some contexts; 0 for none.
-- $1 tenants, $2 contexts
SELECT
    c.tenant, c.context_id,
    coalesce((
        SELECT d.seq FROM deliveries AS d
        WHERE d.tenant = c.tenant AND d.context_id = c.context_id
        ORDER BY d.seq DESC
        LIMIT 1
    ), 0) AS seq
FROM unnest($1::text[], $2::text[]) AS c (tenant, context_id)
