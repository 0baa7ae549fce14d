-- A page, the newest first. $1 tenant, $2 context, $3 before which day (null: none), $4 limit
SELECT * FROM daily_summaries
WHERE tenant = $1 AND context_id = $2 AND ($3::date IS NULL OR day < $3)
ORDER BY day DESC
LIMIT $4
