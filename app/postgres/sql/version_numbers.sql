-- A page of the numbers of a subject's versions, without what they say.
-- $1 tenant, $2 subject, $3 deleted ones too, $4 how many are passed over, $5 limit
SELECT version FROM schema_versions
WHERE tenant = $1 AND subject = $2 AND ($3 OR NOT deleted)
ORDER BY version
OFFSET $4 LIMIT $5
