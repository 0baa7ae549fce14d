-- A page of a tenant's subjects. $1 tenant, $2 how their names begin, $3 'live' (with a version that is not
-- deleted), 'deleted' (without one) or 'all', $4 how many are passed over, $5 limit
SELECT subject FROM schema_versions
WHERE tenant = $1 AND starts_with(subject, $2)
GROUP BY subject
HAVING CASE $3 WHEN 'live' THEN bool_or(NOT deleted) WHEN 'deleted' THEN bool_and(deleted) ELSE true END
ORDER BY subject
OFFSET $4 LIMIT $5
