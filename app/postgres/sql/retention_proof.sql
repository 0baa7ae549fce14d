-- What a policy has deleted, the newest run first. $1 tenant, $2 policy, $3 below which run, $4 limit
SELECT
    run_id, policy_id, rule, at, tier, tool_id, deleted, first_event, last_event, ids_sha256
FROM retention_proof
WHERE tenant = $1 AND policy_id = $2 AND ($3::bigint IS NULL OR run_id < $3)
ORDER BY run_id DESC
LIMIT $4
