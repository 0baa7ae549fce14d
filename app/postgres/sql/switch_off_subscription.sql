-- Unless its condition is another one by now.
-- $1 tenant, $2 context, $3 name, $4 condition, $5 why
UPDATE subscriptions SET switched_off = $5
WHERE tenant = $1 AND context_id = $2 AND name = $3 AND condition = $4 AND switched_off = ''
