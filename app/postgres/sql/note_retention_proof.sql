-- $1 tenant, $2 policy, $3 rule, $4 tier, $5 tool, $6 how many, $7, $8 first and last event, $9 hash of ids
INSERT INTO retention_proof (
    tenant, policy_id, rule, tier, tool_id, deleted, first_event, last_event, ids_sha256
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
