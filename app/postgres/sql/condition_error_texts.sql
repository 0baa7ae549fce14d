-- What was wrong with a tenant's conditions. $1 tenant
SELECT context_id, name, error FROM subscription_errors
WHERE tenant = $1 AND error <> ''
