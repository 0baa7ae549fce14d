-- How far a deletion has come; no row where another process has it now. $1 tenant, $2 who,
-- $3 seconds, $4 step, $5 how many were found of what, to be added, $6 what is in its way, $7 passes
UPDATE tenant_deletions SET
    lease_until = now() + make_interval(secs => $3),
    step = $4,
    deleted = (
        SELECT coalesce(jsonb_object_agg(kind, number), '{}')
        FROM (
            SELECT kind, sum(number::bigint) AS number
            FROM (
                SELECT * FROM jsonb_each_text(deleted) AS before (kind, number)
                UNION ALL
                SELECT * FROM jsonb_each_text($5::jsonb) AS more (kind, number)
            ) AS counted
            GROUP BY kind
        ) AS summed
    ),
    error = $6,
    passes = passes + $7
WHERE tenant_id = $1 AND owner = $2 AND finished_at IS NULL
RETURNING tenant_id
