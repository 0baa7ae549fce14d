-- The highest number that the event log has of each context.
SELECT c.tenant, c.context_id, d.seq
FROM contexts AS c
CROSS JOIN LATERAL (
    SELECT d.seq FROM deliveries AS d
    WHERE d.tenant = c.tenant AND d.context_id = c.context_id
    ORDER BY d.seq DESC
    LIMIT 1
) AS d
