-- Whether an erasure of a tenant has begun since. $1 tenant, $2 the newest one that was known then
-- (a UUIDv7: newer ones are above it).
SELECT EXISTS (
    SELECT FROM erasures WHERE tenant = $1 AND erasure_id > $2::uuid AND NOT dry_run
) AS begun
