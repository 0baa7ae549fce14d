-- $1 tenant, $2 tool, $3 partitions, $4, $5 first entries, $6, $7 last entries, $8 newest receipts
INSERT INTO archive_covered (
    tenant, tool_id, partition, first_ms, first_seq, last_ms, last_seq, newest_ms
)
SELECT
    $1,
    $2,
    w.partition,
    w.first_ms,
    w.first_seq,
    w.last_ms,
    w.last_seq,
    w.newest_ms
FROM
    unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
        AS w (partition, first_ms, first_seq, last_ms, last_seq, newest_ms)
