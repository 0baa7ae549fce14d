-- Events that went before their tool's time. $1 tenant, $2 events, $3 by what
UPDATE events SET gone_by = $3
WHERE tenant = $1 AND event_id = ANY($2::uuid[]) AND gone_by IS NULL
