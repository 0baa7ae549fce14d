-- $1 tenant, $2 context
SELECT * FROM contexts WHERE tenant = $1 AND context_id = $2
