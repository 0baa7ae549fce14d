-- A page of the versions that a template has had, the newest first.
-- $1 tenant, $2 name, $3 before which version, $4 limit
SELECT * FROM template_versions
WHERE tenant = $1 AND name = $2 AND version < $3
ORDER BY version DESC
LIMIT $4
