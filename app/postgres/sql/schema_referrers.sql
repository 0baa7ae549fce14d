-- Ids of the schemas that refer to a version and are themselves some subject's.
-- $1 tenant, $2 subject, $3 version.
SELECT DISTINCT s.schema_id
FROM schemas AS s
INNER JOIN schema_versions AS v ON v.schema_id = s.schema_id AND NOT v.deleted
WHERE s.tenant = $1
    AND s.refs @> jsonb_build_array(
        jsonb_build_object('subject', $2::text, 'version', $3::integer)
    )
ORDER BY s.schema_id
