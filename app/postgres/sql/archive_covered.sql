-- Per range of entries the one that the manifest has over its last entry, or the first one after it.
-- $1 tenants, $2 tools, $3 partitions, $4, $5 first entries, $6, $7 last entries
SELECT coalesce((c.first_ms, c.first_seq) <= (w.first_ms, w.first_seq), false) AS covered
FROM
    unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    WITH ORDINALITY
        AS w (tenant, tool_id, partition, first_ms, first_seq, last_ms, last_seq, number)
LEFT JOIN LATERAL (
    SELECT
        a.first_ms,
        a.first_seq
    FROM archive_covered AS a
    WHERE
        a.tenant = w.tenant AND a.tool_id = w.tool_id AND a.partition = w.partition
        AND (a.last_ms, a.last_seq) >= (w.last_ms, w.last_seq)
    ORDER BY a.last_ms, a.last_seq
    LIMIT 1
) AS c ON true
ORDER BY w.number
