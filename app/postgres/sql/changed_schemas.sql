-- The newest version of each of some subjects, where a tool's payloads must fit it.
-- $1 tenants, $2 subjects
SELECT DISTINCT ON (v.tenant, v.subject) v.tenant, v.subject, s.*
FROM schema_versions AS v
INNER JOIN schemas AS s USING (schema_id)
INNER JOIN unnest($1::text[], $2::text[]) AS k (tenant, subject)
    ON v.tenant = k.tenant AND v.subject = k.subject
WHERE NOT v.deleted AND EXISTS (
    SELECT FROM tools AS t
    WHERE t.tenant = v.tenant AND t.payload_schema ->> 'subject' = v.subject
)
ORDER BY v.tenant, v.subject, v.version DESC
