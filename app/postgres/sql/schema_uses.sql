-- A page of subjects and versions of a schema. $1 tenant, $2 schema, $3 deleted ones too, $4 only of this
-- subject (null: any), $5 how many are passed over, $6 limit
SELECT subject, version FROM schema_versions
WHERE tenant = $1 AND schema_id = $2 AND ($3 OR NOT deleted) AND ($4::text IS NULL OR subject = $4)
ORDER BY subject, version
OFFSET $5 LIMIT $6
