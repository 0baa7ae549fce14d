-- The state that the registry is in, and whether the log tells all that has changed since another one.
-- $1 version, $2 token of that
SELECT
    v.version, v.token,
    EXISTS (
        SELECT FROM registry_changes AS c
        WHERE c.version = $1 AND c.token = $2 AND c.version < v.version
    ) AS logged
FROM registry_version AS v
