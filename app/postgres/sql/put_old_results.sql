-- What old workers say that they have done; what they have said before is passed over. How many are new.
-- $1 tenant, $2 tool, $3 event or delivery, $4 when, $5 contexts as JSON (null: not said), $6 error
WITH said AS (
    INSERT INTO old_results (tenant, tool_id, ref, finished_at, contexts, error)
    SELECT
        $1, $2, r.ref, r.finished_at,
        CASE
            WHEN r.contexts <> 'null' THEN ARRAY(SELECT json_array_elements_text(r.contexts::json))
        END,
        r.error
    FROM unnest($3::text[], $4::timestamptz[], $5::text[], $6::text[])
        AS r (ref, finished_at, contexts, error)
    ON CONFLICT (tenant, tool_id, ref, finished_at) DO NOTHING
    RETURNING 1
)

SELECT count(*) AS taken FROM said
