-- Which partitions these claims still write the event log of: until the end of this transaction nobody
-- else is let. $1 partitions, $2 nonces
SELECT c.partition
FROM event_log_claims AS c
INNER JOIN unnest($1::integer[], $2::text[]) AS w (partition, nonce) USING (partition, nonce)
ORDER BY c.partition
FOR UPDATE OF c
