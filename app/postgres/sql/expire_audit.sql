-- Delete the oldest rows of each tenant's audit trail, once there are some of a day that is over: each
-- time leaves a row. How many of each.
-- $1 recorded before, $2 the same a day earlier, $3 at most, $4 tenants of which something is held
SELECT h.tenant, audit_expire(h.tenant, $1, $3) AS rows
FROM audit_heads AS h
WHERE NOT h.tenant = ANY($4::text[]) AND (
    SELECT t.recorded_at FROM audit_trail AS t WHERE t.tenant = h.tenant ORDER BY t.seq LIMIT 1
) < $2 COLLATE "C"
