-- Versions of a subject, deleted ones among them, the oldest first. $1 tenant, $2 subject.
SELECT v.subject, v.version, v.deleted, s.*
FROM schema_versions AS v
INNER JOIN schemas AS s USING (schema_id)
WHERE v.tenant = $1 AND v.subject = $2
ORDER BY v.version
