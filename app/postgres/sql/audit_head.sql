-- Where a tenant's chain ends and begins, and whether a row says that what was before has expired.
-- $1 tenant
SELECT
    h.*,
    EXISTS (
        SELECT FROM audit_trail AS t
        WHERE
            t.tenant = h.tenant AND t.action = 'audit.expired' AND t.object_kind = 'audit'
            AND t.object_id = h.start_seq::text
            AND t.record::jsonb #>> '{after,hash}' = encode(h.start_hash, 'hex')
    ) AS expired
FROM audit_heads AS h WHERE h.tenant = $1
