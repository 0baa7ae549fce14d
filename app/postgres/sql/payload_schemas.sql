-- The newest version of each subject that a tool's payloads must fit.
SELECT DISTINCT ON (v.tenant, v.subject) v.tenant, v.subject, s.*
FROM schema_versions AS v
INNER JOIN schemas AS s USING (schema_id)
WHERE NOT v.deleted AND (v.tenant, v.subject) IN (
    SELECT tenant, payload_schema ->> 'subject' FROM tools WHERE payload_schema IS NOT NULL
)
ORDER BY v.tenant, v.subject, v.version DESC
