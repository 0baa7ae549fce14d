-- $1 tenants, $2 contexts
SELECT c.*
FROM contexts AS c
INNER JOIN unnest($1::text[], $2::text[]) AS k (tenant, context_id) USING (tenant, context_id)
