-- A page of a tenant's contexts. $1 tenant, $2 past which context, $3 limit
SELECT * FROM contexts WHERE tenant = $1 AND context_id > $2 ORDER BY context_id LIMIT $3
