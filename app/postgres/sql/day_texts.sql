-- Texts of a tenant's summaries. $1 tenant, $2 what stands where one was erased
SELECT context_id, day, summary FROM daily_summaries
WHERE tenant = $1 AND summary <> $2
