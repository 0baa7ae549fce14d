-- A deletion that nobody works on, now the caller's. $1 who, $2 seconds
UPDATE tenant_deletions SET owner = $1, lease_until = now() + make_interval(secs => $2)
WHERE tenant_id = (
    SELECT tenant_id FROM tenant_deletions
    WHERE finished_at IS NULL AND (lease_until <= now() OR owner = $1)
    ORDER BY asked_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING *
