-- A learnt secret, once. $1 tool, $2 tenant
WITH learnt AS (
    SELECT tool_id, learnt_secret FROM tools
    WHERE tool_id = $1 AND tenant = $2 AND learnt_secret IS NOT NULL
    FOR UPDATE
)
UPDATE tools SET learnt_secret = NULL FROM learnt WHERE tools.tool_id = learnt.tool_id
RETURNING learnt.learnt_secret
