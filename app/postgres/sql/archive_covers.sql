-- What of a tool is covered within some ranges of entries.
-- $1 tenant, $2 tool, $3 partitions, $4, $5 first entries, $6, $7 last entries
SELECT DISTINCT
    c.partition,
    c.first_ms,
    c.first_seq,
    c.last_ms,
    c.last_seq,
    c.newest_ms
FROM
    unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS w (partition, first_ms, first_seq, last_ms, last_seq)
INNER JOIN archive_covered AS c
    ON
        c.tenant = $1 AND c.tool_id = $2 AND c.partition = w.partition
        AND (c.last_ms, c.last_seq) >= (w.first_ms, w.first_seq)
        AND (c.first_ms, c.first_seq) <= (w.last_ms, w.last_seq)
