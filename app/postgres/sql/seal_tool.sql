-- Secrets of a tool become others that stand for the same, if nobody has changed them meanwhile.
-- $1 tool, $2 tenant, $3 and $4 secrets and learnt secret as they were, $5 and $6 as they become
UPDATE tools SET secrets = $5::text[], learnt_secret = $6
WHERE tool_id = $1 AND tenant = $2 AND secrets = $3::text[]
    AND learnt_secret IS NOT DISTINCT FROM $4
