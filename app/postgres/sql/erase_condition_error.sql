-- $1 tenant, $2 context, $3 subscription
UPDATE subscription_errors SET error = ''
WHERE tenant = $1 AND context_id = $2 AND name = $3
