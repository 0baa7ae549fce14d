-- Begin to bring in a history, or go on where that of this tool and source was.
-- $1 import, $2 tenant, $3 tool, $4 source, $5 from its beginning.
WITH before AS (
    SELECT status FROM imports WHERE tenant = $2 AND tool_id = $3 AND source = $4
)

INSERT INTO imports AS i (import_id, tenant, tool_id, source)
VALUES ($1::uuid, $2, $3, $4)
ON CONFLICT (tenant, tool_id, source) DO UPDATE SET
    status = 'running', reason = '', finished_at = NULL, updated_at = now(),
    place = CASE WHEN $5::boolean THEN '{}' ELSE i.place END
RETURNING *, (SELECT status FROM before) AS status_before
