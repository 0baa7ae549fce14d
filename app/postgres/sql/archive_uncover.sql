-- Ranges that one takes the place of. $1 tenant, $2 tool, $3 partitions, $4, $5 their last entries
DELETE FROM archive_covered AS c
USING unnest($3::integer[], $4::bigint[], $5::bigint[]) AS w (partition, last_ms, last_seq)
WHERE
    c.tenant = $1 AND c.tool_id = $2 AND c.partition = w.partition
    AND c.last_ms = w.last_ms AND c.last_seq = w.last_seq
