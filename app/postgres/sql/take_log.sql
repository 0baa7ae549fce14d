-- Let claims write the event log, each if nobody else has been let meanwhile; which partitions that are.
-- $1 partitions, $2 nonces of their claims, $3 nonces that were seen here ('' for none). Waits for what
-- the one before is just writing.
WITH wanted AS (
    SELECT * FROM unnest($1::integer[], $2::text[], $3::text[]) AS w (partition, nonce, seen)
),
made AS (
    INSERT INTO event_log_claims (partition, nonce)
    SELECT partition, nonce FROM wanted WHERE seen = ''
    ON CONFLICT (partition) DO NOTHING
    RETURNING partition
),
taken AS (
    UPDATE event_log_claims AS c SET nonce = w.nonce, taken_at = now()
    FROM wanted AS w
    WHERE c.partition = w.partition AND c.nonce = w.seen
    RETURNING c.partition
)
SELECT partition FROM made
UNION ALL
SELECT partition FROM taken
