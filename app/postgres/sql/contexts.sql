-- $1 tenant
SELECT * FROM contexts WHERE tenant = $1 ORDER BY context_id
