-- Tools with secrets that are not sealed by the key of now. $1 how those that are begin, $2 limit, $3 tools that are passed over
SELECT tool_id, tenant, secrets, learnt_secret FROM tools
WHERE EXISTS (
    SELECT FROM unnest(array_append(secrets, learnt_secret)) AS secret
    WHERE NOT starts_with(secret, $1)
) AND tool_id <> ALL ($3::text[])
ORDER BY tool_id
LIMIT $2
