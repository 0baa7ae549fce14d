-- Make or change a tool; no row where another tenant has its id.
-- $1 tool, $2 tenant, $3 provider, $4 secrets, $5 options, $6 dedup, $7 ordering, $8 ttl, $9 alert,
-- $10 payload schema
INSERT INTO tools (
    tool_id, tenant, provider, secrets, options, dedup, ordering, ttl, alert, payload_schema
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tool_id) DO UPDATE SET
    provider = $3, secrets = $4, options = $5, dedup = $6, ordering = $7, ttl = $8,
    alert = $9, payload_schema = $10, updated_at = now()
WHERE tools.tenant = $2
RETURNING *, created_at = updated_at AS created
