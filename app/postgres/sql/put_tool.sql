-- Make or change a tool; no row where another tenant has its id, or the tenant has $14 tools (0: any
-- number) and this is none of them. One at a time of a tenant, since it counts.
-- $1 tool, $2 tenant, $3 provider, $4 secrets, $5 options, $6 dedup, $7 ordering, $8 ttl, $9 alert,
-- $10 payload schema, $11 webhooks per second, $12 networks, $13 public URL, $14 most tools,
-- $15 whether it keeps the secrets that it has, unless it becomes another provider's: one that its
-- sender has handed over to a receiver a moment ago is known to nobody else yet; $16 masking,
-- $17 source, $18 the queue that its events are copied into
INSERT INTO tools (
    tool_id, tenant, provider, secrets, options, dedup, ordering, ttl, alert, payload_schema,
    webhooks_per_second, allow_from, public_url, masking, source, forward, forwarded_since
)
SELECT $1, $2, $3, $4::text[], $5::jsonb, $6::jsonb, $7::jsonb, $8::jsonb, $9::jsonb, $10::jsonb,
    $11::double precision, $12::text[], $13::text, $16::jsonb, $17::jsonb, $18::jsonb,
    CASE WHEN $18::jsonb IS NOT NULL THEN now() END
WHERE $14::bigint = 0
    OR EXISTS (SELECT FROM tools WHERE tool_id = $1)
    OR (SELECT count(*) FROM tools WHERE tenant = $2) < $14::bigint
ON CONFLICT (tool_id) DO UPDATE SET
    provider = $3,
    secrets = CASE WHEN $15::boolean AND tools.provider = $3 THEN tools.secrets ELSE $4::text[] END,
    options = $5::jsonb, dedup = $6::jsonb,
    ordering = $7::jsonb, ttl = $8::jsonb, alert = $9::jsonb, payload_schema = $10::jsonb,
    webhooks_per_second = $11::double precision, allow_from = $12::text[],
    public_url = $13::text, masking = $16::jsonb, source = $17::jsonb, forward = $18::jsonb,
    forwarded_since = CASE
        WHEN $18::jsonb IS NULL THEN NULL
        WHEN tools.forward #>> '{sqs,queue_url}' = $18::jsonb #>> '{sqs,queue_url}'
            THEN tools.forwarded_since
        ELSE now()
    END,
    updated_at = now()
WHERE tools.tenant = $2
RETURNING *, created_at = updated_at AS created
