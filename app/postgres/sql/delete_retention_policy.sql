-- $1 tenant, $2 policy
DELETE FROM retention_policies
WHERE tenant = $1 AND policy_id = $2
