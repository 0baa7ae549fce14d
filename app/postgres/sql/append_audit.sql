-- Append records to the audit trail, in their order: each once (`entry`), and one that is to be the
-- only one of its call (`alone`) unless the call has left others.
-- $1 tenants, $2 records as JSON texts (both of one length)
SELECT audit_append(tenant, record - 'alone')
FROM (
    SELECT r.tenant, r.record::jsonb AS record
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS r (tenant, record, n)
    WHERE
        NOT EXISTS (SELECT FROM audit_trail AS t WHERE t.entry = r.record::jsonb ->> 'entry')
        AND (
            NOT r.record::jsonb ? 'alone'
            OR NOT EXISTS (SELECT FROM audit_trail AS t WHERE t.call = r.record::jsonb ->> 'call')
        )
    ORDER BY r.n
) AS fresh
