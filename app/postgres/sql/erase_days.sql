-- $1 tenant, $2 contexts, $3 days, $4 what stands there then
UPDATE daily_summaries AS s SET summary = $4
FROM unnest($2::text[], $3::date[]) AS w (context_id, day)
WHERE s.tenant = $1 AND s.context_id = w.context_id AND s.day = w.day
