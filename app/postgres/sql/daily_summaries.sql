-- The newest first. $1 tenant, $2 context, $3 limit
SELECT * FROM daily_summaries WHERE tenant = $1 AND context_id = $2 ORDER BY day DESC LIMIT $3
